"""GIF, APNG and animated WebP, in and out: pictures, times, transparency and number of plays."""

from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from midflow.errors import VideoError
from midflow.options import VideoOptions
from midflow.pipeline import interpolate_video
from midflow.video.reader import VideoReader
from tests.translation import Translation

SUFFIXES = [".gif", ".apng", ".webp"]


def drawn(index, opacity=255):
    """A red square on nothing that moves 4 pixels a frame, RGBA."""
    image = np.zeros((48, 64, 4), np.uint8)
    image[16:32, 8 + 4 * index : 24 + 4 * index] = (200, 40, 40, opacity)
    return Image.fromarray(image)


def animation(path, durations=(100,) * 5, *, plays=0, **options):
    """Written by Pillow; `durations` in milliseconds."""
    images = [drawn(index) for index in range(len(durations))]
    loop = {} if plays == 1 and path.suffix == ".gif" else {"loop": plays}
    if path.suffix == ".gif" and plays > 1:
        loop = {"loop": plays - 1}
    if path.suffix == ".gif":
        options |= {"disposal": 2, "transparency": 0}
    kind = {".gif": "GIF", ".apng": "PNG", ".webp": "WEBP"}[path.suffix]
    if kind == "WEBP":
        options = {"lossless": True, "exact": True, **options}
    images[0].save(
        path, kind, save_all=True, append_images=images[1:], duration=list(durations), **loop,
        **options,
    )  # fmt: skip
    return path


def read(path):
    with VideoReader(path) as reader:
        return reader.info, list(reader)


def square(frame):
    """First column of what is opaque."""
    return int(np.flatnonzero(frame.data[-1][24] > 127)[0])


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("plays", [0, 1, 4])
def test_times_pictures_and_plays_are_read(tmp_path, suffix, plays):
    path = animation(tmp_path / f"in{suffix}", (100, 50, 300, 100), plays=plays)
    info, frames = read(path)
    assert info.plays == plays
    assert info.has_alpha
    assert [f.pts for f in frames] == [0, Fraction(1, 10), Fraction(15, 100), Fraction(45, 100)]
    assert [f.duration for f in frames][:3] == [Fraction(n, 100) for n in (10, 5, 30)]
    for index, frame in enumerate(frames):
        want = np.asarray(drawn(index))
        green, blue, red, alpha = frame.data
        assert np.array_equal(alpha, want[..., 3])
        inside = alpha > 0
        for got, channel in ((red, 0), (green, 1), (blue, 2)):
            assert np.abs(got[inside].astype(int) - want[..., channel][inside]).max() <= 4


@pytest.mark.parametrize("target", SUFFIXES)
@pytest.mark.parametrize("source", SUFFIXES)
def test_animations_become_animations(tmp_path, source, target):
    path = animation(tmp_path / f"in{source}", plays=3)
    options = VideoOptions(device="cpu", scene_threshold=0)
    out = tmp_path / f"out{target}"
    result = interpolate_video(path, out, model=Translation(4), options=options)
    assert result.frames_out == 10

    info, frames = read(out)
    assert info.plays == 3
    assert sum(f.duration for f in frames) == Fraction(1, 2)
    # writers may show one frame longer in place of two equal ones
    assert [f.pts for f in frames][:9] == [Fraction(k, 20) for k in range(9)]
    assert [square(f) for f in frames][:9] == [8 + 2 * k for k in range(9)]
    _, blue, red, alpha = frames[3].data
    inside = alpha > 127
    assert np.abs(red[inside].astype(int) - 200).max() <= 12
    assert np.abs(blue[inside].astype(int) - 40).max() <= 12


def test_a_gif_becomes_a_video_and_back(tmp_path):
    path = animation(tmp_path / "in.gif")
    fast = VideoOptions(device="cpu", preset="ultrafast")
    interpolate_video(path, tmp_path / "a.mp4", model=Translation(4), options=fast)
    info, frames = read(tmp_path / "a.mp4")
    assert (info.plays, len(frames)) == (None, 10)
    interpolate_video(
        tmp_path / "a.mp4", tmp_path / "b.gif", fps=25, model=Translation(4),
        options=VideoOptions(device="cpu"),
    )  # fmt: skip
    info, frames = read(tmp_path / "b.gif")
    assert info.plays == 0
    assert sum(f.duration for f in frames) == Fraction(13, 25)  # 0.5 s are 12.5 frames


def test_a_gif_has_many_colors(tmp_path):
    y, x = np.mgrid[:48, :64]
    images = [
        Image.fromarray(np.stack((3 * x + k, 4 * y, 255 - 3 * x), -1).astype(np.uint8))
        for k in range(3)
    ]
    images[0].save(
        tmp_path / "in.apng", "PNG", save_all=True, append_images=images[1:], duration=100
    )
    interpolate_video(
        tmp_path / "in.apng", tmp_path / "out.gif", model=Translation(0),
        options=VideoOptions(device="cpu"),
    )  # fmt: skip
    _, frames = read(tmp_path / "out.gif")
    green, blue, red = (plane.astype(int) for plane in frames[0].data[:3])
    assert len(np.unique(red * 65536 + green * 256 + blue)) > 100
    want = np.asarray(images[0]).astype(int)
    assert np.abs(np.stack((red, green, blue), -1) - want).mean() < 8


def test_lossy_webp_with_parts_and_blending_is_composed(tmp_path):
    images = [drawn(k, 255 - 30 * k) for k in range(4)]
    images[0].save(
        tmp_path / "in.webp", save_all=True, append_images=images[1:], duration=40, quality=90,
        allow_mixed=True, minimize_size=True,
    )  # fmt: skip
    _, frames = read(tmp_path / "in.webp")
    assert [square(f) for f in frames] == [8, 12, 16, 20]
    with Image.open(tmp_path / "in.webp") as reference:
        for index, frame in enumerate(frames):
            reference.seek(index)
            want = np.asarray(reference.convert("RGBA")).astype(int)
            assert np.abs(frame.data[-1] - want[..., 3]).max() <= 1
            inside = want[..., 3] > 127
            assert np.abs(frame.data[2][inside] - want[..., 0][inside]).mean() < 6


def test_a_damaged_webp_is_refused(tmp_path):
    data = animation(tmp_path / "in.webp").read_bytes()
    for cut in (40, 60, 100):
        (tmp_path / "cut.webp").write_bytes(data[:cut])
        with pytest.raises(VideoError, match="is it whole"):
            read(tmp_path / "cut.webp")
