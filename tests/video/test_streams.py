"""What else is in a file reaches the output: compared packet by packet."""

import logging
from fractions import Fraction

import av
import pytest

from midflow.errors import VideoError
from midflow.video.reader import VideoReader
from midflow.video.writer import VideoWriter, WriterOptions
from tests.video.clips import QUARTER_TURN, Recipe, make_clip, packets

FAST = WriterOptions(preset="ultrafast")


def copy(source, target, options=FAST, factor=2, **trim):
    """Write every frame of a clip again, at `factor` times its rate, and give its info."""
    with VideoReader(source, **trim) as reader:
        info = reader.info
        rate = info.frame_rate * factor
        with VideoWriter(
            target, info, info.width, info.height, rate, options=options,
            pixel_format=info.pixel_format,
        ) as writer:  # fmt: skip
            for frame in reader:
                writer.write(frame.data, frame.pts, frame.duration)
    return info


def kinds(path):
    with av.open(str(path)) as container:
        return [s.type for s in container.streams]


def tags(path):
    with av.open(str(path)) as container:
        return [dict(s.metadata) for s in container.streams]


def index_of(path, kind, number=0):
    return [i for i, k in enumerate(kinds(path)) if k == kind][number]


@pytest.fixture(scope="module")
def rich_mkv(tmp_path_factory):
    return make_clip(
        tmp_path_factory.mktemp("clips") / "rich.mkv",
        Recipe(
            frames=50, audio=("eng", "fra"), subtitles=("deu",), chapters=("one", "two"),
            metadata={"title": "A clip", "comment": "made here"}, display_matrix=QUARTER_TURN,
            aspect=Fraction(4, 3), color=(1, 1, 1, 1), attachment=b"not a font", cover=True,
        ),
    )  # fmt: skip


@pytest.fixture(scope="module")
def rich_mp4(tmp_path_factory):
    return make_clip(
        tmp_path_factory.mktemp("clips") / "rich.mp4",
        Recipe(
            frames=50, audio=("eng", "fra"), subtitles=("deu",), subtitle_codec="mov_text",
            chapters=("one", "two"), metadata={"title": "A clip"}, display_matrix=QUARTER_TURN,
            aspect=Fraction(4, 3), color=(9, 1, 9, 16), cover=True,
        ),
    )  # fmt: skip


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".mov"])
@pytest.mark.parametrize("source", ["rich_mkv", "rich_mp4"])
def test_sound_is_bit_exact_and_in_time(source, suffix, tmp_path, request):
    path, out = request.getfixturevalue(source), tmp_path / f"out{suffix}"
    copy(path, out)
    video_shift = packets(out, 0)[0][0] - packets(path, 0)[0][0]
    for number in (0, 1):
        before = packets(path, index_of(path, "audio", number))
        after = packets(out, index_of(out, "audio", number))
        assert [data for _, data in before] == [data for _, data in after]
        assert len(before) > 50
        for (old, _), (new, _) in zip(before, after, strict=True):
            assert abs(new - old - video_shift) <= Fraction(1, 1000)


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
@pytest.mark.parametrize("source", ["rich_mkv", "rich_mp4"])
def test_languages_titles_chapters_and_tags_are_kept(source, suffix, tmp_path, request):
    path, out = request.getfixturevalue(source), tmp_path / f"out{suffix}"
    copy(path, out)
    sounds = [t for t, k in zip(tags(out), kinds(out), strict=True) if k == "audio"]
    assert [t["language"] for t in sounds] == ["eng", "fra"]
    assert [t.get("title", t.get("name")) for t in sounds] == ["sound eng", "sound fra"]
    with av.open(str(out)) as container:
        assert container.metadata["title"] == "A clip"
        found = [
            (c["metadata"]["title"], c["start"] * c["time_base"]) for c in container.chapters()
        ]
        assert found == [("one", 0), ("two", Fraction(1, 5))]


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".mov"])
@pytest.mark.parametrize("source", ["rich_mkv", "rich_mp4"])
def test_rotation_aspect_and_color_tags_are_kept(source, suffix, tmp_path, request):
    path, out = request.getfixturevalue(source), tmp_path / f"out{suffix}"
    before = copy(path, out)
    with VideoReader(out) as reader:
        after = reader.info
    assert before.rotation == after.rotation == -90
    assert before.sample_aspect_ratio == after.sample_aspect_ratio == Fraction(4, 3)
    assert before.color == after.color
    assert after.color.matrix_code in (1, 9)


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".mov"])
@pytest.mark.parametrize("source", ["rich_mkv", "rich_mp4"])
def test_subtitles_keep_words_times_and_language(source, suffix, tmp_path, request):
    path, out = request.getfixturevalue(source), tmp_path / f"out{suffix}"
    copy(path, out)
    shift = packets(out, 0)[0][0] - packets(path, 0)[0][0]
    found = []
    with av.open(str(out)) as container:
        stream = container.streams.subtitles[0]
        assert stream.language == ("ger" if suffix == ".mov" else "deu")
        for packet in container.demux(stream):
            text = b"".join(rect.dialogue for rect in packet.decode()) if packet.size > 2 else b""
            if text:
                found.append((text.strip(), packet.pts * packet.time_base, packet.duration))
    assert [(text, start - shift) for text, start, _ in found] == [
        (b"line 0", 0),
        (b"line 1", 1),
    ]
    assert {duration for *_, duration in found} == {400}


def test_fonts_and_cover_art_are_kept_in_matroska(rich_mkv, tmp_path):
    copy(rich_mkv, tmp_path / "out.mkv")
    with av.open(str(tmp_path / "out.mkv")) as container:
        (font,) = container.streams.attachments
        assert font.data == b"not a font"
        assert font.metadata["filename"] == "font.ttf"
        cover = container.streams.video[1]
        assert cover.disposition & av.stream.Disposition.attached_pic
    assert packets(tmp_path / "out.mkv", 4)[0][1] == packets(rich_mkv, 4)[0][1]


@pytest.mark.parametrize("source", ["rich_mkv", "rich_mp4"])
def test_cover_art_is_kept_in_mp4(source, tmp_path, request):
    path, out = request.getfixturevalue(source), tmp_path / "out.mp4"
    copy(path, out)
    with av.open(str(out)) as container:
        (index,) = [
            s.index
            for s in container.streams.video
            if s.disposition & av.stream.Disposition.attached_pic
        ]
    assert len(packets(out, index)) == 1


def test_what_a_container_cannot_hold_is_left_out_with_a_warning(rich_mkv, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        copy(rich_mkv, tmp_path / "out.mp4")
    assert "attachment stream" in caplog.text
    assert ".mkv keeps it" in caplog.text
    assert "attachment" not in kinds(tmp_path / "out.mp4")


def test_chapter_titles_are_not_copied_as_a_stream_as_well(rich_mp4, tmp_path):
    copy(rich_mp4, tmp_path / "out.mp4")
    assert sorted(kinds(tmp_path / "out.mp4")) == sorted(kinds(rich_mp4))


def test_sound_that_does_not_fit_is_refused_before_work_begins(tmp_path):
    path = make_clip(tmp_path / "in.mp4", Recipe(frames=3, audio=("eng",)))
    options = WriterOptions(codec="vp9")
    with pytest.raises(VideoError, match=r"webm cannot hold audio stream 1 \(aac.*\.mkv"):
        copy(path, tmp_path / "out.webm", options)
    assert [p.name for p in tmp_path.iterdir()] == ["in.mp4"]


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_a_cut_clip_has_its_sound_chapters_and_subtitles_cut_alike(rich_mkv, suffix, tmp_path):
    out = tmp_path / f"out{suffix}"
    info = copy(rich_mkv, out, start=Fraction(1, 10), duration=Fraction(12, 10))
    assert info.start == info.origin == Fraction(12, 100)
    video, sound = packets(out, 0), packets(out, 1)
    times = sorted(t for t, _ in video)
    assert times[0] == 0
    assert len(video) == 30  # frames at 0.12, 0.16, ... 1.28
    original = [(t, d) for t, d in packets(rich_mkv, 1) if info.origin <= t < Fraction(13, 10)]
    assert [d for _, d in sound] == [d for _, d in original]
    for (new, _), (old, _) in zip(sound, original, strict=True):
        assert abs(new - (old - info.origin)) <= Fraction(1, 1000)
    with av.open(str(out)) as container:
        chapters = [
            (c["start"] * c["time_base"], c["end"] * c["time_base"]) for c in container.chapters()
        ]
        assert [float(s) for s, _ in chapters] == pytest.approx([0, 0.08])
        assert float(chapters[0][1]) == pytest.approx(0.08)
        stream = container.streams.subtitles[0]
        lines = [
            (float(p.pts * p.time_base), float(p.duration * p.time_base))
            for p in container.demux(stream)
            if p.size > 2
        ]
    assert lines == [pytest.approx((0, 0.28)), pytest.approx((0.88, 0.4))]


def test_simultaneous_subtitles_do_not_stop_the_muxer(tmp_path):
    path = make_clip(tmp_path / "in.mkv", Recipe(frames=50, subtitles=("eng", "eng")))
    with av.open(str(path)) as source, av.open(str(tmp_path / "twice.mkv"), "w") as output:
        streams = {s.index: output.add_stream_from_template(s, opaque=True) for s in source.streams}
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = streams[min(packet.stream_index, 1)]  # both in one stream
                output.mux(packet)
    copy(tmp_path / "twice.mkv", tmp_path / "out.mp4")
    lines = [data for _, data in packets(tmp_path / "out.mp4", 1) if len(data) > 2]
    assert len(lines) == 4


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_sound_of_transport_streams_loses_only_its_framing(suffix, tmp_path):
    path = make_clip(tmp_path / "in.ts", Recipe(frames=50, audio=("eng",)))
    out = tmp_path / f"out{suffix}"
    info = copy(path, out)
    before, after = packets(path, 1), packets(out, 1)
    frames = b"".join(data for _, data in before)
    assert all(data in frames for _, data in after)  # without the header of each frame
    tick = Fraction(1, 1000) if suffix == ".mkv" else Fraction(1, 10000)
    assert abs(after[0][0] - (before[0][0] - info.origin)) < tick
    assert abs(packets(out, 0)[0][0] - (info.start - info.origin)) < tick
    with av.open(str(out)) as container:
        sound = container.streams.audio[0]
        assert sound.codec_context.sample_rate == 48000
        assert sum(f.samples for f in container.decode(sound)) >= 48000 * 2


def test_tags_of_phones_are_kept_in_quicktime(tmp_path):
    path = tmp_path / "in.mov"
    tags = {"com.apple.quicktime.make": "Apple", "com.apple.quicktime.model": "iPhone"}
    with av.open(str(path), "w", container_options={"movflags": "use_metadata_tags"}) as output:
        output.metadata.update(tags)
        stream = output.add_stream("libx264", rate=25)
        stream.width, stream.height = 64, 48
        for _ in range(3):
            output.mux(stream.encode(av.VideoFrame(64, 48, "yuv420p")))
        output.mux(stream.encode(None))
    copy(path, tmp_path / "out.mov")
    with av.open(str(tmp_path / "out.mov")) as container:
        assert tags.items() <= container.metadata.items()


def test_text_subtitles_become_webvtt_in_webm(tmp_path):
    path = make_clip(tmp_path / "in.mkv", Recipe(frames=10, subtitles=("deu",)))
    copy(path, tmp_path / "out.webm", WriterOptions(codec="vp9", preset="8"))
    with av.open(str(tmp_path / "out.webm")) as container:
        assert container.streams.subtitles[0].codec_context.name == "webvtt"
    assert packets(tmp_path / "out.webm", 1)[0][1] == b"line 0"


def test_timecode_is_written_once(tmp_path):
    path = tmp_path / "in.mov"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=25)
        stream.width, stream.height = 64, 48
        stream.metadata["timecode"] = "01:00:00:00"
        for _ in range(3):
            output.mux(stream.encode(av.VideoFrame(64, 48, "yuv420p")))
        output.mux(stream.encode(None))
    assert kinds(path) == ["video", "data"]
    for factor in (2, Fraction(119, 75)):
        copy(path, tmp_path / f"{factor.numerator}.mov", factor=factor)
        assert kinds(tmp_path / f"{factor.numerator}.mov") == ["video", "data"]
        assert tags(tmp_path / f"{factor.numerator}.mov")[0]["timecode"] == "01:00:00:00"


def test_sound_is_written_along_with_the_pictures(tmp_path):
    """Interleaved, so that players need not seek: never more than a second apart in the file."""
    path = make_clip(tmp_path / "in.mkv", Recipe(frames=150, audio=("eng",)))
    copy(path, tmp_path / "out.mkv")
    latest = {0: Fraction(0), 1: Fraction(0)}
    with av.open(str(tmp_path / "out.mkv")) as container:
        for packet in container.demux():
            if packet.dts is not None:
                latest[packet.stream_index] = packet.dts * packet.time_base
                assert abs(latest[0] - latest[1]) < 1


def test_a_damaged_packet_of_sound_does_not_stop_the_job(tmp_path, caplog):
    path = make_clip(tmp_path / "in.ts", Recipe(frames=50, audio=("eng",)))
    data = path.read_bytes()
    _, payload = packets(path, 1)[60]
    position = data.index(payload[:100])  # the frame's header and the first of its bits
    path.write_bytes(data[:position] + bytes(4) + data[position + 4 :])
    copy(path, tmp_path / "out.mp4")
    assert "1 packets of sound or text are lost" in caplog.text
    assert len(packets(tmp_path / "out.mp4", 1)) >= len(packets(path, 1)) - 8
