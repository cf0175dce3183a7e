"""Decoding real files: exact times, all pixel layouts, trimming, damage."""

import logging
import os
from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
import pytest

from midflow.errors import OptionError, VideoError
from midflow.video.pixel import working_format
from midflow.video.reader import VideoReader, probe
from tests.video.clips import Recipe, decoded, make_clip, noise, picture

NTSC = Fraction(24000, 1001)


def read(path, **trim):
    with VideoReader(path, **trim) as reader:
        return reader.info, list(reader)


def lossless(pixel_format, codec="ffv1", size=(36, 22)):
    return Recipe(frames=3, size=size, pixel_format=pixel_format, codec=codec)


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_times_are_exact_fractions(suffix, tmp_path):
    info, frames = read(make_clip(tmp_path / f"a{suffix}", Recipe(frames=30, rate=NTSC)))
    assert [f.pts for f in frames] == [k / NTSC for k in range(30)]
    assert {f.duration for f in frames} == {1 / NTSC}
    assert (info.frame_rate, info.start, info.frame_count) == (NTSC, 0, 30)
    assert info.duration == 30 / NTSC


@pytest.mark.parametrize("rate", [NTSC, Fraction(60000, 1001), Fraction(30)])
def test_rounding_of_matroska_does_not_change_the_nominal_rate(rate, tmp_path):
    info, frames = read(make_clip(tmp_path / "a.mkv", Recipe(frames=30, rate=rate)))
    assert info.frame_rate == rate
    assert all(abs(f.pts - k / rate) <= Fraction(1, 2000) for k, f in enumerate(frames))


def test_variable_rate_keeps_every_time_and_gap(tmp_path):
    times = [Fraction(t, 90000) for t in (0, 3003, 3100, 9000, 9001, 45000, 90000)]
    _, frames = read(make_clip(tmp_path / "a.mp4", Recipe(times=times)))
    assert [f.pts for f in frames] == times
    gaps = [b - a for a, b in pairwise(times)]
    assert [f.duration for f in frames][:-1] == gaps


def test_avi_with_reordered_frames_is_read_in_order(tmp_path):
    recipe = Recipe(frames=12, options={"preset": "medium", "bf": "3"})
    _, frames = read(make_clip(tmp_path / "a.avi", recipe))
    assert [f.pts for f in frames] == [Fraction(k, 25) for k in range(12)]


def test_reordered_frames_of_mp4_begin_at_zero(tmp_path):
    recipe = Recipe(frames=12, options={"preset": "medium", "bf": "3"})
    info, frames = read(make_clip(tmp_path / "a.mp4", recipe))
    assert info.start == 0
    assert [f.pts for f in frames] == [Fraction(k, 25) for k in range(12)]


def test_pictures_that_begin_after_the_sound_do_so_at_their_time(tmp_path):
    times = [Fraction(1, 2) + Fraction(k, 25) for k in range(12)]
    info, frames = read(make_clip(tmp_path / "a.mp4", Recipe(times=times, audio=("eng",))))
    assert abs(info.start - Fraction(1, 2)) <= Fraction(1, 1000)  # MP4 delays by milliseconds
    assert info.origin <= 0
    assert [f.pts - info.start for f in frames] == [Fraction(k, 25) for k in range(12)]


def test_interlaced_clips_are_read_with_a_warning(tmp_path, caplog):
    recipe = Recipe(options={"preset": "ultrafast", "flags": "+ildct+ilme", "x264-params": "tff=1"})
    info, _ = read(make_clip(tmp_path / "a.mp4", recipe))
    assert info.is_interlaced
    assert "is interlaced" in caplog.text


def test_a_late_start_is_kept_as_the_start(tmp_path):
    times = [Fraction(3, 2) + Fraction(k, 25) for k in range(5)]
    info, frames = read(make_clip(tmp_path / "a.ts", Recipe(times=times)))
    assert info.start == frames[0].pts
    assert [f.pts - info.start for f in frames] == [Fraction(k, 25) for k in range(5)]


def test_one_frame_lasts_as_long_as_the_file_says(tmp_path):
    info, frames = read(make_clip(tmp_path / "a.mp4", Recipe(frames=1)))
    assert len(frames) == 1
    assert frames[0].duration == Fraction(1, 25)
    assert info.duration == Fraction(1, 25)


@pytest.mark.parametrize(
    "pixel_format",
    [
        "yuv420p",
        "yuv422p",
        "yuv444p",
        "yuv411p",
        "yuv420p9le",
        "yuv420p10le",
        "yuv422p10le",
        "yuv444p12le",
        "yuv420p16le",
        "yuv444p16le",
        "gray",
        "gray10le",
        "gray16le",
        "gbrp10le",
        "gbrp16le",
    ],
)
@pytest.mark.parametrize("size", [(36, 22), (37, 23)])
def test_planar_samples_arrive_unchanged(pixel_format, size, tmp_path):
    if pixel_format == "yuv411p" and size == (37, 23):
        pytest.skip("FFV1 does not store 4:1:1 at odd sizes")
    path = make_clip(tmp_path / "a.mkv", lossless(pixel_format, size=size))
    info, frames = read(path)
    assert info.pixel_format == pixel_format
    assert (info.width, info.height) == size
    for index, frame in enumerate(frames):
        for got, want in zip(frame.data, picture(pixel_format, size, index), strict=True):
            assert got.flags.c_contiguous
            assert got.dtype == want.dtype
            np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(
    ("coded", "planar"),
    [
        ("nv12", "yuv420p"),
        ("yuyv422", "yuv422p"),
        ("uyvy422", "yuv422p"),
        ("bgr24", "gbrp"),
        ("rgba", "gbrp"),
        ("rgb48le", "gbrp16le"),
        ("p010le", "yuv420p10le"),
        ("bgr0", "gbrp"),
        ("yuva420p", "yuv420p"),
        ("gbrap", "gbrp"),
        ("gray16be", "gray16le"),
        ("ya8", "gray"),
        ("nv21", "yuv420p"),
        ("nv24", "yuv444p"),
        ("p210le", "yuv422p10le"),
        ("yuv420p10be", "yuv420p10le"),
        ("rgb48be", "gbrp16le"),
        ("yvyu422", "yuv422p"),
    ],
)
def test_other_layouts_of_the_same_samples_are_unpacked_exactly(coded, planar):
    from midflow.video.pixel import unpack

    samples = noise(planar, (38, 22))
    frame = av.VideoFrame(38, 22, planar)
    for plane, want in zip(frame.planes, samples, strict=True):
        rows = np.frombuffer(plane, want.dtype).reshape(plane.height, -1)
        rows[:, : want.shape[1]] = want
    converted = frame.reformat(format=coded, threads=1)  # FFmpeg's own packing is the reference
    assert working_format(coded) == planar
    for got, want in zip(unpack(converted, planar), samples, strict=True):
        np.testing.assert_array_equal(got, want)


def test_a_gif_becomes_its_colors(tmp_path):
    path = tmp_path / "a.gif"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("gif", rate=10)
        stream.width, stream.height, stream.pix_fmt = 16, 16, "rgb8"
        frame = av.VideoFrame.from_ndarray(np.full((16, 16, 3), (255, 0, 0), np.uint8), "rgb24")
        output.mux(stream.encode(frame.reformat(format="rgb8")))
        output.mux(stream.encode(None))
    info, (frame, *_) = read(path)
    assert info.pixel_format == "gbrap"
    assert not info.has_alpha
    green, blue, red, alpha = frame.data
    assert (alpha == 255).all()
    assert (red > 250).all()
    assert (green == 0).all()
    assert (blue == 0).all()


def test_mjpeg_is_full_range_with_centred_chroma(tmp_path):
    path = make_clip(tmp_path / "a.avi", Recipe(codec="mjpeg", pixel_format="yuvj420p"))
    info = probe(path)
    assert info.pixel_format == "yuv420p"
    assert info.color.full_range
    assert info.color.chroma_location == "center"


@pytest.mark.parametrize(
    ("size", "matrix"),
    [((720, 576), "bt601"), ((1024, 576), "bt601"), ((1280, 720), "bt709"), ((480, 600), "bt709")],
)
def test_an_untagged_matrix_is_guessed_from_the_size(size, matrix, tmp_path):
    info = probe(make_clip(tmp_path / "a.mp4", Recipe(frames=1, size=size)))
    assert info.color.matrix == matrix
    assert info.color.matrix_code == 2
    assert not info.color.full_range


@pytest.mark.parametrize(
    ("code", "name"), [(1, "bt709"), (6, "bt601"), (9, "bt2020"), (7, "smpte240m")]
)
def test_tags_decide_matrix_and_range(code, name, tmp_path):
    info = probe(make_clip(tmp_path / "a.mkv", Recipe(frames=1, color=(code, 2, 9, 18))))
    assert info.color.matrix == name
    assert info.color.full_range
    assert (info.color.primaries, info.color.transfer) == (9, 18)


def test_cover_art_is_not_the_video(tmp_path):
    info, frames = read(make_clip(tmp_path / "a.mp4", Recipe(size=(64, 48), cover=True)))
    assert (info.width, info.height, len(frames)) == (64, 48, 10)


def test_start_and_duration_choose_the_frames_in_between(tmp_path):
    path = make_clip(tmp_path / "a.mp4", Recipe(frames=100, options={"g": "12"}))
    info, frames = read(path, start=Fraction(1), duration=Fraction(1, 2))
    assert [f.pts for f in frames] == [Fraction(k, 25) for k in range(25, 38)]
    assert sum(f.duration for f in frames) == Fraction(1, 2)
    assert (info.start, info.end, info.is_trimmed) == (1, Fraction(3, 2), True)
    for frame, want in zip(frames, decoded(path)[25:38], strict=True):
        np.testing.assert_array_equal(frame.data[0], want.to_ndarray()[:48])


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi", ".ts", ".h264"])
def test_start_is_exact_whatever_the_container_can_seek(suffix, tmp_path):
    path = make_clip(tmp_path / f"a{suffix}", Recipe(frames=60, options={"g": "30", "bf": "2"}))
    _, whole = read(path)
    _, part = read(path, start=Fraction(6, 5))
    begin = whole[0].pts + Fraction(6, 5)
    assert [f.pts for f in part] == [f.pts for f in whole if f.pts >= begin]
    np.testing.assert_array_equal(part[0].data[0], whole[60 - len(part)].data[0])


@pytest.mark.parametrize("trim", [{"start": -1}, {"duration": 0}, {"duration": -2}])
def test_negative_trims_are_refused(trim, tmp_path):
    with pytest.raises(OptionError, match="must be positive"):
        VideoReader(make_clip(tmp_path / "a.mp4"), **trim)


def test_a_start_behind_the_end_is_refused(tmp_path):
    with pytest.raises(OptionError, match=r"start must lie within the clip, got 9\.0 s"):
        VideoReader(make_clip(tmp_path / "a.mp4"), start=9)


def test_what_is_not_a_video_is_refused_in_one_line(tmp_path):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("not a video" * 100)
    cases = {
        tmp_path / "missing.mp4": "does not exist",
        tmp_path: "is a folder",
        tmp_path / "empty.mp4": "is empty",
        tmp_path / "text.mp4": "cannot be opened as a video",
    }
    for path, message in cases.items():
        with pytest.raises(VideoError, match=message) as error:
            VideoReader(path)
        assert str(path) in str(error.value)
        assert "\n" not in str(error.value)


def test_sound_alone_is_refused(tmp_path):
    path = tmp_path / "a.wav"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), layout="mono")
        frame.sample_rate = 8000
        output.mux(stream.encode(frame))
    with pytest.raises(VideoError, match=r"no video stream \(it holds: audio\)"):
        VideoReader(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_refused(tmp_path):
    path = make_clip(tmp_path / "a.mp4")
    path.chmod(0)
    with pytest.raises(VideoError, match="may not be read"):
        VideoReader(path)


@pytest.mark.parametrize(
    ("suffix", "message"), [(".mp4", "holds: nothing"), (".mkv", "cannot be opened")]
)
def test_a_file_without_frames_is_refused(suffix, message, tmp_path):
    path = make_clip(tmp_path / f"a{suffix}", Recipe(frames=0))
    with pytest.raises(VideoError, match=message):
        VideoReader(path)


def test_a_truncated_file_gives_what_it_holds(tmp_path, caplog):
    path = make_clip(tmp_path / "a.mkv", Recipe(frames=60, size=(160, 120)))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with caplog.at_level(logging.WARNING):
        _, frames = read(path)
    assert 10 < len(frames) < 60
    assert "cut short" in caplog.text


def test_damage_in_the_middle_is_passed_over_and_told_once(tmp_path, caplog):
    path = make_clip(tmp_path / "a.mp4", Recipe(frames=60, size=(160, 120), options={"g": "10"}))
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 1500] = np.random.default_rng(0).bytes(1500)
    path.write_bytes(data)
    with caplog.at_level(logging.WARNING), VideoReader(path) as reader:
        frames = list(reader)
        assert reader.damaged > 0
    assert 40 < len(frames) <= 60
    assert [f.pts for f in frames] == sorted({f.pts for f in frames})
    assert sum("is damaged" in r.message for r in caplog.records) == 1


@pytest.mark.parametrize("form", ["yuva420p", "yuva444p10le", "gbrap12le", "gbrap16le", "bgra"])
def test_transparency_is_a_last_plane(tmp_path, form):
    planar = working_format(form, keep_alpha=True)
    info, frames = read(make_clip(tmp_path / "a.mkv", lossless(form)))
    assert info.has_alpha
    assert info.pixel_format == planar
    for index, frame in enumerate(frames):
        for got, want in zip(frame.data, picture(planar, (36, 22), index), strict=True):
            np.testing.assert_array_equal(got, want)


def test_a_name_with_a_colon_is_a_file(tmp_path):
    assert probe(make_clip(tmp_path / "take:2.mp4").rename(tmp_path / "take:2.mp4")).width == 64


def test_every_val_style_rate_survives_a_long_gap(tmp_path):
    times = [Fraction(0), Fraction(1, 25), Fraction(10)]
    _, frames = read(make_clip(tmp_path / "a.mp4", Recipe(times=times)))
    assert [f.duration for f in frames][:2] == [Fraction(1, 25), Fraction(249, 25)]
