"""Planes to RGB and back: exact for an untouched frame, true to the standards, and steady."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from midflow.video.color import LUMA_COEFFICIENTS, from_rgb, planes_to_rgb, to_rgb
from midflow.video.frame import ClipInfo, ColorSpec, Frame
from midflow.video.pixel import layout
from midflow.video.reader import VideoReader
from tests.video.clips import noise, picture

CLIPS = sorted((Path(__file__).parents[3] / "shared/clips/val").glob("*.mp4"))
MATRICES = sorted(LUMA_COEFFICIENTS)


def psnr(a, b, bits):
    error = np.mean((a.astype(np.float64) - b) ** 2)
    return np.inf if error == 0 else 10 * np.log10(((1 << bits) - 1) ** 2 / error)


def round_trip(planes, color, pixel_format):
    return from_rgb(planes_to_rgb(planes, color, pixel_format), color, pixel_format)


@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv420p10le", "yuv422p10le", "yuv444p"])
@pytest.mark.parametrize("make", [picture, noise])
def test_an_untouched_frame_returns_to_its_own_codes(make, pixel_format, matrix, full_range):
    planes = make(pixel_format, (64, 48), 3)
    color = ColorSpec(matrix, full_range)
    for before, after in zip(planes, round_trip(planes, color, pixel_format), strict=True):
        assert psnr(before, after, layout(pixel_format).bits) >= 80
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize(
    "pixel_format", ["gray", "gray10le", "gbrp", "gbrp16le", "yuv420p16le", "yuv411p", "yuv440p"]
)
@pytest.mark.parametrize("location", ["left", "center", "topleft"])
def test_every_layout_and_chroma_position_is_exact(pixel_format, location):
    planes = noise(pixel_format, (38, 22))
    color = ColorSpec("rgb" if pixel_format.startswith("gbr") else "bt709", True, location)
    for before, after in zip(planes, round_trip(planes, color, pixel_format), strict=True):
        np.testing.assert_array_equal(before, after)


@settings(deadline=None, max_examples=40)
@given(
    st.integers(1, 19),
    st.integers(1, 19),
    st.sampled_from(["yuv420p", "yuv422p", "yuv410p", "yuv420p12le"]),
    st.sampled_from(["left", "center", "topleft"]),
)
def test_any_size_is_exact(width, height, pixel_format, location):
    planes = noise(pixel_format, (width, height), width)
    color = ColorSpec("bt601", False, location)
    for before, after in zip(planes, round_trip(planes, color, pixel_format), strict=True):
        assert before.shape == after.shape
        np.testing.assert_array_equal(before, after)


@pytest.mark.skipif(not CLIPS, reason="the reference clips are not on this machine")
@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("matrix", ["bt601", "bt709", "bt2020"])
def test_frames_of_real_clips_survive_at_8_and_10_bits(matrix, full_range):
    for path in CLIPS[::8]:
        with VideoReader(path) as reader:
            planes = next(iter(reader)).data
        wide = tuple(plane.astype(np.uint16) * 4 + 1 for plane in planes)
        for samples, name in ((planes, "yuv420p"), (wide, "yuv420p10le")):
            color = ColorSpec(matrix, full_range)
            for before, after in zip(samples, round_trip(samples, color, name), strict=True):
                assert psnr(before, after, layout(name).bits) >= 50


@pytest.mark.parametrize(
    ("matrix", "full_range", "bits", "codes", "rgb"),
    [  # from the equations of BT.601, BT.709 and BT.2020
        ("bt709", False, 8, (16, 128, 128), (0, 0, 0)),
        ("bt709", False, 8, (235, 128, 128), (1, 1, 1)),
        ("bt709", False, 8, (63, 102, 240), (1, 0, 0)),
        ("bt709", False, 8, (173, 42, 26), (0, 1, 0)),
        ("bt709", False, 8, (32, 240, 118), (0, 0, 1)),
        ("bt601", False, 8, (82, 90, 240), (1, 0, 0)),
        ("bt601", True, 8, (76, 85, 255), (1, 0, 0)),
        ("bt2020", False, 10, (294, 387, 960), (1, 0, 0)),
        ("bt709", True, 10, (1023, 512, 512), (1, 1, 1)),
    ],
)
def test_primary_colors_have_the_codes_of_the_standard(matrix, full_range, bits, codes, rgb):
    name = "yuv444p" if bits == 8 else "yuv444p10le"
    color = ColorSpec(matrix, full_range)
    picture = torch.tensor(rgb, dtype=torch.float32).reshape(1, 3, 1, 1).expand(1, 3, 4, 4)
    written = [int(plane[0, 0]) for plane in from_rgb(picture, color, name)]
    assert written == pytest.approx(codes, abs=1)
    planes = tuple(np.full((4, 4), code, layout(name).dtype) for code in codes)
    read = planes_to_rgb(planes, color, name)[0, :, 0, 0]
    assert read.tolist() == pytest.approx(rgb, abs=1.2 / 128)


def test_rgb_agrees_with_ffmpegs_scaler():
    planes = picture("yuv444p", (64, 48), 0)
    frame = av.VideoFrame(64, 48, "yuv444p")
    for plane, samples in zip(frame.planes, planes, strict=True):
        np.frombuffer(plane, np.uint8).reshape(48, -1)[:, :64] = samples
    for matrix, name in (("bt709", "itu709"), ("bt601", "itu601")):
        theirs = frame.to_ndarray(format="gbrp", src_colorspace=name, interpolation="ACCURATE_RND")
        ours = planes_to_rgb(planes, ColorSpec(matrix), "yuv444p").clamp(0, 1)[0].permute(1, 2, 0)
        assert np.abs(ours.numpy() * 255 - theirs).max() < 2


@pytest.mark.parametrize(("location", "column"), [("left", 20.0), ("center", 20.5)])
def test_chroma_is_placed_where_the_standard_puts_it(location, column):
    chroma = np.full((24, 32), 128, np.uint8)
    chroma[:, 10] = 200  # a line of colour at chroma column 10
    planes = (np.full((48, 64), 120, np.uint8), np.full((24, 32), 128, np.uint8), chroma)
    red = planes_to_rgb(planes, ColorSpec("bt709", False, location), "yuv420p")[0, 0, 24]
    weight = red - red.min()
    assert float((weight * torch.arange(64)).sum() / weight.sum()) == pytest.approx(
        column, abs=1e-3
    )


def test_a_picture_moved_by_one_pixel_keeps_smooth_chroma():
    """Averaging repeated chroma would leave 2x2 steps: twice this error."""
    x = np.arange(128) / 128 * 2 * np.pi * 4
    wide = 128 + 60 * np.sin(x)  # chroma at full resolution
    shifted = np.tile(np.roll(wide, 1), (64, 1))
    planes = tuple(
        np.tile(row, (rows, 1)).round().astype(np.uint8)
        for row, rows in ((np.full(128, 128), 64), (wide[::2], 32), (wide[::2], 32))
    )
    rgb = planes_to_rgb(planes, ColorSpec(), "yuv420p")
    moved = from_rgb(torch.roll(rgb, 1, 3), ColorSpec(), "yuv420p")
    error = np.abs(moved[1][8:24, 4:60].astype(float) - shifted[::2, ::2][8:24, 4:60])
    assert error.max() < 1.5


@pytest.mark.parametrize("bits", [8, 10])
@pytest.mark.parametrize("matrix", ["bt601", "bt709", "bt2020"])
def test_a_static_clip_keeps_its_mean_luma(bits, matrix):
    name = "yuv420p" if bits == 8 else "yuv420p10le"
    planes = noise(name, (64, 48), 7)
    means = []
    current = planes
    for _ in range(5):
        current = round_trip(current, ColorSpec(matrix), name)
        means.append(current[0].mean())
    assert np.ptp([planes[0].mean(), *means]) < 0.1


def test_codes_are_rounded_not_truncated():
    level = torch.full((1, 3, 4, 4), 100.6 / 255)
    (plane,) = from_rgb(level, ColorSpec("bt709", True), "gray")
    assert (plane == 101).all()


def test_values_outside_0_to_1_are_not_clamped_before_the_planes():
    planes = tuple(np.full(s, v, np.uint8) for s, v in (((4, 4), 250), ((2, 2), 20), ((2, 2), 240)))
    rgb = planes_to_rgb(planes, ColorSpec(), "yuv420p")
    assert rgb.max() > 1.2
    assert rgb.min() > -1


def test_to_rgb_takes_frames_and_planes_alike():
    planes = picture("yuv420p", (16, 16), 0)
    info = ClipInfo(Path("a"), 16, 16, "yuv420p", ColorSpec(), Fraction(25), Fraction(0))
    frame = Frame(planes, Fraction(0), Fraction(1, 25))
    assert to_rgb(frame, info).shape == (1, 3, 16, 16)
    assert torch.equal(to_rgb(frame, info), to_rgb(planes, info))


def test_half_precision_rgb_is_accepted():
    planes = picture("yuv420p", (16, 16), 0)
    rgb = planes_to_rgb(planes, ColorSpec(), "yuv420p").half()
    for before, after in zip(planes, from_rgb(rgb, ColorSpec(), "yuv420p"), strict=True):
        assert np.abs(before.astype(int) - after).max() <= 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv420p10le", "gbrp16le"])
def test_a_gpu_gives_the_same_codes(pixel_format):
    planes = noise(pixel_format, (64, 48))
    rgb = planes_to_rgb(planes, ColorSpec(), pixel_format, "cuda")
    for before, after in zip(planes, from_rgb(rgb, ColorSpec(), pixel_format), strict=True):
        np.testing.assert_array_equal(before, after)
