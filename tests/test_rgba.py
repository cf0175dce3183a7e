"""Transparency: opacity moves with the colours, and what is transparent colours nothing."""

import logging
from fractions import Fraction

import numpy as np
import pytest
import torch

from midflow.interpolator import Interpolator
from midflow.options import VideoOptions
from midflow.pipeline import interpolate_video
from midflow.rgba import Rgba, blend_rgba, paint_rgba
from midflow.video.encoders import WriterOptions
from midflow.video.frame import ColorSpec
from midflow.video.pixel import layout
from midflow.video.reader import VideoReader
from midflow.video.writer import VideoWriter
from tests.crossfade import CrossFade
from tests.translation import Translation

RED, GREEN = (0.8, 0.1, 0.1), (0.0, 1.0, 0.0)


def sprite(left, opacity=1.0):
    """A red square of 16 pixels at column `left`; what is transparent is green in the file."""
    color = torch.tensor(GREEN).view(1, 3, 1, 1).repeat(1, 1, 32, 64)
    alpha = torch.zeros(1, 1, 32, 64)
    color[..., 8:24, left : left + 16] = torch.tensor(RED).view(3, 1, 1)
    alpha[..., 8:24, left : left + 16] = opacity
    return color, alpha


def paint(net, first, second, times):
    interp = Interpolator(net, device="cpu")
    pair = [Rgba(interp.encode(color), alpha) for color, alpha in (first, second)]
    return list(paint_rgba(interp, *pair, times))


@pytest.mark.parametrize("has_timestep", [True, False])
@pytest.mark.parametrize("opacity", [1.0, 0.5])
def test_a_sprite_moves_without_a_fringe(opacity, has_timestep):
    net = Translation(4, has_timestep=has_timestep)
    if not has_timestep:
        net.pixels = 4
    ((color, alpha),) = paint(net, sprite(20, opacity), sprite(24, opacity), [0.5])
    wanted, wanted_alpha = sprite(22, opacity)
    torch.testing.assert_close(alpha, wanted_alpha, atol=1e-5, rtol=0)
    inside = (wanted_alpha > 0).expand_as(color)
    torch.testing.assert_close(color[inside], wanted[inside], atol=1e-5, rtol=0)


def test_an_edge_between_pixels_is_half_there_and_has_the_sprites_color():
    ((color, alpha),) = paint(Translation(2), sprite(20), sprite(22), [0.25])
    row = alpha[0, 0, 16]
    assert row[19:23].tolist() == pytest.approx([0, 0.5, 1, 1], abs=1e-4)
    assert row[35:38].tolist() == pytest.approx([1, 0.5, 0], abs=1e-4)
    for column in (20, 21, 36):
        assert color[0, :, 16, column].tolist() == pytest.approx(RED, abs=1e-4)


def test_straight_colors_would_have_a_fringe():
    """The negative control: without premultiplying, green comes in at the edge."""
    (first, _), (second, _) = sprite(20), sprite(22)
    frame = Interpolator(Translation(2), device="cpu")(first, second, 0.25)
    assert frame[0, 1, 16, 20] > 0.4


def test_opaque_pictures_are_what_the_network_paints():
    random = torch.Generator().manual_seed(0)
    first, second = (torch.rand(1, 3, 32, 64, generator=random) * 0.8 for _ in range(2))
    opaque = torch.ones(1, 1, 32, 64)
    net = Translation(3.3, adds=0.1)
    ((color, alpha),) = paint(net, (first, opaque), (second, opaque), [0.3])
    frame = Interpolator(net, device="cpu")(first, second, 0.3)
    torch.testing.assert_close(color, frame, atol=1e-5, rtol=0)
    assert float(alpha.min()) > 1 - 1e-5


def test_blending_weighs_colors_by_their_opacity():
    red, green = (torch.tensor(c).view(1, 3, 1, 1) for c in (RED, GREEN))
    half, quarter = torch.full((1, 1, 1, 1), 0.5), torch.full((1, 1, 1, 1), 0.25)
    color, alpha = blend_rgba(red, half, green, quarter, 0.5)
    assert float(alpha) == pytest.approx(0.375)
    assert color.flatten().tolist() == pytest.approx([0.8 * 2 / 3, 0.1 * 2 / 3 + 1 / 3, 0.2 / 3])
    nothing = torch.zeros(1, 1, 1, 1)
    color, alpha = blend_rgba(red, nothing, red, nothing, 0.5)
    assert float(alpha) == 0
    assert color.flatten().tolist() == pytest.approx(RED)


def planes_of(index, bits):
    """G, B, R and opacity of a clip whose disc of colour moves 4 pixels a frame."""
    top = (1 << bits) - 1
    kind = np.uint8 if bits == 8 else np.uint16
    y, x = np.mgrid[:48, :64]
    inside = np.clip(14 - np.hypot(x - 18 - 4 * index, y - 24), 0, 1)
    colors = [np.full((48, 64), round(v * top)).astype(kind) for v in (0.3, 0.2, 0.7)]
    return (*colors, (inside * top).round().astype(kind))


def clip_with_alpha(path, bits=8, *, is_cut=False, **options):
    form = "gbrap" if bits == 8 else f"gbrap{bits}le"
    color = ColorSpec("rgb", True, matrix_code=0, range_code=2)
    with VideoWriter(
        path, None, 64, 48, Fraction(25), color, form, WriterOptions(**options)
    ) as writer:
        assert writer.pixel_format == form
        for index in range(5):
            *colors, alpha = planes_of(index, bits)
            if is_cut and index % 2:
                colors[1] = colors[1] + np.arange(64, dtype=alpha.dtype)
            writer.write((*colors, alpha), Fraction(index, 25))
    return path


def read(path):
    with VideoReader(path) as reader:
        return reader.info, list(reader)


LOSSLESS = [("out.mkv", "ffv1"), ("out.mov", "png"), ("out.mov", "qtrle"), ("out.apng", None)]
LOSSY = [("out.mov", "prores"), ("out.webm", "vp9"), ("out.mkv", "vp9")]


@pytest.mark.parametrize(("name", "codec"), LOSSLESS + LOSSY)
def test_transparency_goes_through_a_whole_job(tmp_path, name, codec):
    source = clip_with_alpha(tmp_path / "in.mkv", codec="ffv1")
    options = VideoOptions(codec=codec, device="cpu", scene_threshold=0)
    result = interpolate_video(source, tmp_path / name, model=Translation(4), options=options)

    info, frames = read(tmp_path / name)
    assert info.has_alpha
    assert len(frames) == result.frames_out == 10
    is_lossless = (name, codec) in LOSSLESS
    top = (1 << layout(info.pixel_format).bits) - 1
    for k in range(9):  # the last one is held
        wanted = planes_of(k / 2, 8)[-1].astype(float)
        alpha = frames[k].data[-1] * (255 / top)
        error = np.abs(alpha - wanted)
        if k % 2 == 0 and is_lossless:
            assert error.max() == 0
            for got, want in zip(frames[k].data, planes_of(k // 2, 8), strict=True):
                assert np.array_equal(got, want)
        assert error.mean() < (0.2 if is_lossless else 1.5)


@pytest.mark.parametrize("bits", [10, 12, 16])
def test_deep_transparency_stays_deep(tmp_path, bits):
    source = clip_with_alpha(tmp_path / "in.mkv", bits, codec="ffv1")
    options = VideoOptions(codec="ffv1", device="cpu", scene_threshold=0)
    interpolate_video(source, tmp_path / "out.mkv", model=Translation(4), options=options)
    info, frames = read(tmp_path / "out.mkv")
    assert info.pixel_format == f"gbrap{bits}le"
    for k in (0, 2, 4):
        for got, want in zip(frames[k].data, planes_of(k // 2, bits), strict=True):
            assert np.array_equal(got, want)


def test_codecs_without_transparency_leave_it_out_with_a_warning(tmp_path, caplog):
    source = clip_with_alpha(tmp_path / "in.mkv", codec="ffv1")
    for name, codec in (("a.mp4", None), ("b.mp4", "vp9"), ("c.mkv", "hevc")):
        caplog.clear()
        options = VideoOptions(codec=codec, device="cpu", preset=None)
        with caplog.at_level(logging.WARNING):
            interpolate_video(source, tmp_path / name, model=CrossFade(), options=options)
        assert "has transparency (bgra)" in caplog.text
        assert "does not keep" in caplog.text
        assert not read(tmp_path / name)[0].has_alpha


@pytest.mark.parametrize("fill", ["hold", "nearest", "blend"])
def test_a_cut_is_filled_with_its_transparency(tmp_path, fill):
    source = clip_with_alpha(tmp_path / "in.mkv", codec="ffv1", is_cut=True)
    options = VideoOptions(codec="ffv1", device="cpu", scene_threshold=1, scene_fill=fill)
    interpolate_video(source, tmp_path / "out.mkv", factor=4, model=CrossFade(), options=options)
    _, frames = read(tmp_path / "out.mkv")
    first, second = (planes_of(index, 8)[-1].astype(float) for index in (0, 1))
    wanted = {"hold": first, "nearest": second, "blend": 0.25 * first + 0.75 * second}[fill]
    assert np.abs(frames[3].data[-1] - wanted).max() <= 0.5
