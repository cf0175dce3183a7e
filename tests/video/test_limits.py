import struct
import zlib
from fractions import Fraction
from pathlib import Path

import pytest
import torch

from midflow.errors import OptionError, VideoError
from midflow.video.image import read_image, write_image
from midflow.video.limits import PIXELS_VARIABLE, believable_hold, max_pixels, stated_size
from midflow.video.reader import VideoReader
from tests.video.clips import Recipe, make_clip


def png(width, height, data=b""):
    """A PNG of so many pixels by its header, whatever it holds."""

    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def bomb(side=60_000, rows=200):
    """Under a megabyte: the header and the first rows of a picture of side x side pixels."""
    return png(side, side, zlib.compress(bytes((1 + 3 * side) * rows), 9))


def peak_bytes():
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) << 10


def forget_peak():
    Path("/proc/self/clear_refs").write_text("5")


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads Linux's /proc")
def test_a_decompression_bomb_is_refused_before_memory_is_taken(tmp_path):
    path = tmp_path / "bomb.png"
    path.write_bytes(bomb())
    assert path.stat().st_size < 1_000_000
    forget_peak()
    before = peak_bytes()
    with pytest.raises(VideoError, match=r"60000x60000 pixels, 134217728 pixels are allowed"):
        read_image(path)
    with pytest.raises(VideoError, match=r"bomb\.png"):
        VideoReader(path)
    assert peak_bytes() - before < 50 << 20


def test_the_limit_can_be_set(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    write_image(path, torch.rand(1, 3, 40, 50))
    monkeypatch.setenv(PIXELS_VARIABLE, "1999")
    with pytest.raises(VideoError, match=f"50x40 .* set {PIXELS_VARIABLE}=2000"):
        read_image(path)
    monkeypatch.setenv(PIXELS_VARIABLE, "2000")
    assert read_image(path)[0].shape == (1, 3, 40, 50)


@pytest.mark.parametrize("wrong", ["many", "-1", "0", "1e9", str(1 << 31)])
def test_a_limit_that_is_no_number_is_refused(wrong, monkeypatch):
    monkeypatch.setenv(PIXELS_VARIABLE, wrong)
    with pytest.raises(OptionError, match=f"{PIXELS_VARIABLE} must be a number of pixels"):
        max_pixels()


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_a_picture_states_its_size(suffix, tmp_path):
    path = tmp_path / f"a{suffix}"
    for quality in (None, 50) if suffix == ".webp" else (None,):
        write_image(path, torch.rand(1, 3, 37, 51), quality=quality, overwrite=True)
        assert stated_size(path.read_bytes()) == (51, 37)


def test_other_files_and_halves_state_no_size(tmp_path):
    clip = make_clip(tmp_path / "a.gif", Recipe(codec="gif", pixel_format="rgb8")).read_bytes()
    assert stated_size(clip) == (64, 48)
    for data in (
        b"",
        b"\xff\xd8",
        b"\xff\xd8\xff\xe0\0",
        b"\x89PNG\r\n\x1a\n",
        b"RIFFabcdWEBPVP8X",
    ):
        assert stated_size(data) is None


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi"])
def test_a_clip_of_large_frames_is_refused(name, tmp_path, monkeypatch):
    path = make_clip(tmp_path / name)
    monkeypatch.setenv(PIXELS_VARIABLE, str(64 * 48 - 1))
    with pytest.raises(VideoError, match=r"has frames of 64x48 pixels, 3071 pixels are allowed"):
        VideoReader(path)


def test_frames_larger_than_the_container_says_are_not_decoded(tmp_path, monkeypatch):
    """The container claims 64 x 48; its H.264 stream holds frames of 512 x 512."""
    large = make_clip(tmp_path / "large.mkv", Recipe(size=(512, 512), frames=3)).read_bytes()
    width, height = b"\xb0\x82\x02\x00", b"\xba\x82\x02\x00"  # PixelWidth, PixelHeight
    assert large.count(width) == large.count(height) == 1
    lie = large.replace(width, b"\xb0\x82\x00\x40").replace(height, b"\xba\x82\x00\x30")
    (tmp_path / "lie.mkv").write_bytes(lie)
    monkeypatch.setenv(PIXELS_VARIABLE, "10000")
    with pytest.raises(VideoError, match=r"frames of 512x512 pixels, 10000 pixels"):
        VideoReader(tmp_path / "lie.mkv")


def times_of(path, max_gap):
    with VideoReader(path, max_gap=max_gap) as reader:
        return [frame.pts for frame in reader]


def test_a_gap_beyond_the_limit_is_an_error_and_one_within_is_not(tmp_path):
    times = [Fraction(t) for t in (0, 1, 21)]
    path = make_clip(tmp_path / "gap.mkv", Recipe(times=times))
    with pytest.raises(
        VideoError, match=r"nothing between 1.000 s and 21.000 s; a gap may have 10"
    ):
        times_of(path, 10)
    assert times_of(path, 20) == times_of(path, None) == times


def test_a_last_frame_that_lasts_forever_is_shown_once(caplog):
    usual, forever = Fraction(1, 25), Fraction(10**12)
    assert believable_hold(Fraction(3), usual, 600, Path("a.mp4")) == 3
    assert believable_hold(forever, usual, None, Path("a.mp4")) == forever
    assert caplog.text == ""
    assert believable_hold(forever, usual, 600, Path("a.mp4")) == usual
    assert "its last frame claims to last 1000000000000 s, it is shown for 0.040 s" in caplog.text
