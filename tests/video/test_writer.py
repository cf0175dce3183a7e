"""Writing clips: exact times, colour, odd sizes, and a file that is whole or absent."""

import os
from fractions import Fraction

import av
import numpy as np
import pytest

from midflow.errors import OptionError, VideoError
from midflow.video.color import from_rgb, to_rgb
from midflow.video.frame import ColorSpec
from midflow.video.reader import VideoReader
from midflow.video.writer import VideoWriter, WriterOptions
from tests.video.clips import Recipe, make_clip, picture

NTSC60 = Fraction(60000, 1001)
FAST = WriterOptions(preset="ultrafast")
LOSSLESS = WriterOptions(codec="ffv1")


def write(
    path, frames=5, size=(64, 48), rate=NTSC60, pixel_format="yuv420p", options=FAST,
    source=None, color=None, times=None,
):  # fmt: skip
    """Write a moving picture and read it back: (info, frames read, planes written)."""
    planes = []
    with VideoWriter(path, source, *size, rate, color, pixel_format, options) as writer:
        times = times or [k / rate for k in range(frames)]
        for index, time in enumerate(times):
            planes.append(picture(writer.pixel_format, size, index))
            writer.write(planes[-1], time)
    with VideoReader(path) as reader:
        return reader.info, list(reader), planes


def leftovers(folder):
    return sorted(p.name for p in folder.iterdir())


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".avi"])
@pytest.mark.parametrize("rate", [NTSC60, Fraction(24000, 1001), Fraction(50), Fraction(119, 3)])
def test_every_time_is_exact(suffix, rate, tmp_path):
    info, frames, _ = write(tmp_path / f"a{suffix}", frames=20, rate=rate)
    assert [f.pts for f in frames] == [k / rate for k in range(20)]
    assert info.frame_rate == rate


@pytest.mark.parametrize("suffix", [".mkv", ".webm"])
def test_matroska_times_are_exact_to_its_millisecond(suffix, tmp_path):
    options = WriterOptions(codec="vp9", preset="8") if suffix == ".webm" else FAST
    info, frames, _ = write(tmp_path / f"a{suffix}", frames=20, options=options)
    for index, frame in enumerate(frames):
        assert abs(frame.pts - index / NTSC60) <= Fraction(1, 2000)
    assert info.frame_rate == NTSC60


def test_the_length_of_the_last_frame_is_kept(tmp_path):
    path = tmp_path / "a.mp4"
    with VideoWriter(path, None, 64, 48, Fraction(25), options=FAST) as writer:
        for index in range(5):
            planes = picture("yuv420p", (64, 48), index)
            writer.write(planes, Fraction(index, 25), Fraction(1 if index < 4 else 10, 25))
    with VideoReader(path) as reader:
        frames = list(reader)
    assert frames[-1].duration == Fraction(10, 25)
    assert reader.info.duration == Fraction(14, 25)


def test_times_count_from_the_start_of_the_source(tmp_path):
    times = [Fraction(2) + Fraction(k, 25) for k in range(5)]
    source = make_clip(tmp_path / "in.ts", Recipe(times=times))
    with VideoReader(source) as reader:
        info = reader.info
    given = [info.start + k / NTSC60 for k in range(5)]
    _, frames, _ = write(tmp_path / "out.mp4", source=info, times=given)
    assert [f.pts for f in frames] == [k / NTSC60 for k in range(5)]


def test_lossless_output_holds_the_very_samples(tmp_path):
    for pixel_format in ("yuv420p", "yuv420p10le", "yuv422p", "yuv444p16le", "gray", "gbrp"):
        path = tmp_path / f"{pixel_format}.mkv"
        color = ColorSpec("rgb", True) if pixel_format == "gbrp" else None
        info, frames, planes = write(path, pixel_format=pixel_format, options=LOSSLESS, color=color)
        assert info.pixel_format == pixel_format
        for frame, want in zip(frames, planes, strict=True):
            for got, expected in zip(frame.data, want, strict=True):
                np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize(
    ("codec", "suffix", "kept"),
    [
        ("h264", ".mp4", "yuv444p"),
        ("hevc", ".mp4", "yuv444p"),
        ("vp9", ".webm", "yuv420p"),
        ("av1", ".mkv", "yuv420p"),
        ("ffv1", ".mkv", "yuv420p"),
        ("prores", ".mov", "yuv422p10le"),
        ("mjpeg", ".mov", "yuv420p"),
        ("utvideo", ".avi", "yuv444p"),
    ],
)
def test_an_odd_size_is_kept_exactly(codec, suffix, kept, tmp_path):
    """4:2:0 in H.264 and HEVC only comes in even sizes: 4:4:4 keeps every pixel."""
    info, frames, planes = write(
        tmp_path / f"a{suffix}", size=(427, 239), frames=2, options=WriterOptions(codec=codec)
    )
    assert (info.width, info.height) == (427, 239)
    assert info.pixel_format == kept
    error = np.abs(frames[1].data[0].astype(float) - planes[1][0]).mean()
    assert error < (6 if "10" in kept else 2)


@pytest.mark.parametrize(
    ("codec", "pixel_format", "kept"),
    [
        (None, "yuv420p", "h264"),
        (None, "yuv420p10le", "hevc"),
        ("h264", "yuv420p10le", "h264"),
        ("av1", "yuv420p10le", "libdav1d"),
        ("prores", "yuv422p10le", "prores"),
    ],
)
def test_ten_bits_in_give_ten_bits_out(codec, pixel_format, kept, tmp_path):
    path = tmp_path / "a.mov" if codec == "prores" else tmp_path / "a.mkv"
    options = WriterOptions(codec=codec)
    info, frames, planes = write(path, pixel_format=pixel_format, options=options)
    assert info.codec == kept
    assert info.pixel_format == pixel_format
    error = np.abs(frames[2].data[0].astype(int) - planes[2][0])
    assert error.mean() < (8 if "10" in pixel_format else 2)


@pytest.mark.parametrize(
    "color", [(1, 1, 1, 1), (6, 1, 6, 6), (9, 1, 9, 16), (1, 2, 1, 13), (2, 0, 2, 2)]
)
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_color_tags_are_written_as_they_were_read(color, suffix, tmp_path):
    spec = ColorSpec("bt709", color[1] == 2, "left", *color)
    info, _, _ = write(tmp_path / f"a{suffix}", color=spec)
    found = info.color
    assert (found.matrix_code, found.range_code, found.primaries, found.transfer) == color
    assert found.full_range == spec.full_range


def test_rgb_becomes_tagged_yuv(tmp_path):
    info, _, _ = write(tmp_path / "a.mp4", pixel_format="gbrp", color=ColorSpec("rgb", True))
    assert info.pixel_format == "yuv420p"
    assert (info.color.matrix, info.color.matrix_code, info.color.range_code) == ("bt601", 6, 1)


def test_a_grey_clip_keeps_its_levels(tmp_path):
    source = make_clip(
        tmp_path / "in.mkv", Recipe(frames=3, pixel_format="gray", codec="ffv1", color=(2, 2, 2, 2))
    )
    path = tmp_path / "out.mp4"
    with (
        VideoReader(source) as reader,
        VideoWriter(
            path, reader.info, 64, 48, Fraction(25), reader.info.color, "gray", FAST
        ) as writer,
    ):
        before = []
        for frame in reader:
            rgb = to_rgb(frame, reader.info)
            before.append(float(rgb.mean()))
            writer.write(from_rgb(rgb, writer.color, writer.pixel_format), frame.pts)
    with VideoReader(path) as reader:
        after = [float(to_rgb(frame, reader.info).mean()) for frame in reader]
    assert after == pytest.approx(before, abs=0.5 / 255)


def test_hdr_metadata_reaches_the_output(tmp_path):
    hdr = {
        "master-display": "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)",
        "max-cll": "1000,400",
    }
    params = ":".join(f"{k}={v}" for k, v in hdr.items())
    options = WriterOptions(encoder_options={"x265-params": params}, preset="ultrafast")
    color = ColorSpec("bt2020", False, "left", 9, 1, 9, 16)
    first, _, _ = write(
        tmp_path / "a.mkv", pixel_format="yuv420p10le", options=options, color=color
    )
    assert first.hdr == hdr
    for codec in ("hevc", "h264", "av1"):
        again, _, _ = write(
            tmp_path / f"{codec}.mkv", pixel_format="yuv420p10le", source=first,
            options=WriterOptions(codec=codec),
        )  # fmt: skip
        assert again.hdr == hdr
        assert again.color.transfer == 16


def test_hevc_in_mp4_carries_the_tag_apple_needs(tmp_path):
    write(tmp_path / "a.mp4", options=WriterOptions(codec="hevc", preset="ultrafast"))
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert container.streams.video[0].codec_tag == "hvc1"


def test_an_existing_file_is_only_replaced_when_allowed(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_text("precious")
    with pytest.raises(VideoError, match="exists already"):
        write(path)
    assert path.read_text() == "precious"
    write(path, options=WriterOptions(preset="ultrafast", overwrite=True))
    assert leftovers(tmp_path) == ["a.mp4"]
    assert path.stat().st_size > 1000


@pytest.mark.parametrize("link", [None, os.symlink, os.link])
def test_the_input_is_never_overwritten(link, tmp_path):
    source = make_clip(tmp_path / "a.mp4")
    before = source.read_bytes()
    out = source
    if link is not None:
        out = tmp_path / "b.mp4"
        link(source, out)
    options = WriterOptions(overwrite=True)
    with pytest.raises(VideoError, match="is the input itself"):
        VideoWriter(out, source, 64, 48, NTSC60, options=options)
    assert source.read_bytes() == before


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, GeneratorExit])
def test_an_interrupted_job_leaves_nothing(error, tmp_path):
    source = make_clip(tmp_path / "in.mp4", Recipe(audio=("eng",)))
    with (
        pytest.raises(error),
        VideoWriter(tmp_path / "out.mp4", source, 64, 48, NTSC60, options=FAST) as writer,
    ):
        writer.write(picture("yuv420p", (64, 48), 0), Fraction(0))
        assert leftovers(tmp_path) == [".out.partial.mp4", "in.mp4"]
        raise error
    assert leftovers(tmp_path) == ["in.mp4"]


def test_an_interrupted_job_keeps_the_file_it_would_have_replaced(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_text("precious")
    options = WriterOptions(preset="ultrafast", overwrite=True)
    with (
        pytest.raises(RuntimeError),
        VideoWriter(path, None, 64, 48, NTSC60, options=options) as writer,
    ):
        writer.write(picture("yuv420p", (64, 48), 0), Fraction(0))
        raise RuntimeError
    assert path.read_text() == "precious"
    assert leftovers(tmp_path) == ["a.mp4"]


def test_no_frame_means_no_file(tmp_path):
    with (
        pytest.raises(VideoError, match="no frame was written"),
        VideoWriter(tmp_path / "a.mp4", None, 64, 48, NTSC60, options=FAST),
    ):
        pass
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("codec", ["h264", "hevc", "av1", "vp9", "ffv1"])
def test_the_shortest_clips_are_whole(codec, count, tmp_path):
    suffix = ".mkv" if codec == "ffv1" else ".mp4"
    path = tmp_path / f"a{suffix}"
    info, frames, _ = write(path, frames=count, options=WriterOptions(codec=codec))
    assert len(frames) == count
    if suffix == ".mp4":
        assert info.duration == count / NTSC60


def test_what_cannot_be_written_to_is_told_before_work_begins(tmp_path):
    (tmp_path / "folder.mp4").mkdir()
    for path, message in (
        (tmp_path / "missing" / "a.mp4", "folder of .* does not exist"),
        (tmp_path / "folder.mp4", "is a folder"),
    ):
        with pytest.raises(VideoError, match=message):
            VideoWriter(path, None, 64, 48, NTSC60)
    with pytest.raises(OptionError, match=r"must end in \.mp4, \.mkv.*got a\.xyz"):
        VideoWriter(tmp_path / "a.xyz", None, 64, 48, NTSC60)
    with pytest.raises(OptionError, match="must end in"):
        VideoWriter(tmp_path / "noending", None, 64, 48, NTSC60)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_unwritable_folder_is_told_before_work_begins(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(VideoError, match=r"a\.mp4 cannot be written"):
        VideoWriter(tmp_path / "a.mp4", None, 64, 48, NTSC60)


def test_a_special_file_system_that_refuses_files_is_told(tmp_path):
    with pytest.raises(VideoError, match=r"/proc/a\.mp4 cannot be written \(.*\): choose"):
        VideoWriter("/proc/a.mp4", None, 64, 48, NTSC60)


def test_a_name_too_long_for_the_file_system_is_told(tmp_path):
    long = tmp_path / ("a" * 300 + ".mp4")
    with pytest.raises(VideoError, match=r"cannot be written \(File name too long\)"):
        VideoWriter(long, None, 64, 48, NTSC60)
    with pytest.raises(VideoError, match=r"cannot be opened as a video \(File name too long\)"):
        VideoReader(long)


def test_frames_of_another_size_or_out_of_order_are_refused(tmp_path):
    with VideoWriter(tmp_path / "a.mp4", None, 64, 48, NTSC60, options=FAST) as writer:
        writer.write(picture("yuv420p", (64, 48), 0), Fraction(0))
        with pytest.raises(VideoError, match=r"frames of 64x48 are needed, got 32x48"):
            writer.write(picture("yuv420p", (32, 48), 0), Fraction(1))
        with pytest.raises(VideoError, match="in order"):
            writer.write(picture("yuv420p", (64, 48), 0), Fraction(0))


def test_a_codec_the_container_cannot_hold_is_refused(tmp_path):
    with pytest.raises(OptionError, match=r"\.webm files cannot hold libx264"):
        VideoWriter(tmp_path / "a.webm", None, 64, 48, NTSC60, options=WriterOptions(codec="h264"))
    assert leftovers(tmp_path) == []


def test_a_bad_value_of_an_encoder_option_is_refused_before_work_begins(tmp_path):
    options = WriterOptions(encoder_options={"tune": "nonsense"})
    with pytest.raises(OptionError, match=r"libx264 refuses 64x48 yuv420p with .*tune=nonsense"):
        VideoWriter(tmp_path / "a.mp4", None, 64, 48, NTSC60, options=options)
    assert leftovers(tmp_path) == []
