"""Exact colour conversion: decoded planes to RGB and back, in torch, on any device.

Equations are those of ITU-T H.273 (YCbCr from its luma coefficients Kr and Kb). RGB is float32,
nominally 0..1, and is never clamped in between, so that colours outside the RGB cube survive; the
way back rounds once, to the nearest code.

Chroma is enlarged bilinearly at its true position and reduced with the filter that exactly undoes
that: (-1 2 6 2 -1)/8 for samples that sit on a pixel, (-1 3 3 -1)/4 for samples halfway between two
(Cohen, Daubechies and Feauveau, Biorthogonal bases of compactly supported wavelets, 1992). An
untouched frame therefore returns to its own codes, while a moved one gets smooth chroma instead of
the 2x2 blocks that repeating and averaging would give.
"""

from functools import lru_cache, partial

import numpy as np
import torch
from torch import Tensor

from midflow.video.device_copies import Download, upload
from midflow.video.frame import ClipInfo, ColorSpec, Frame, Plane, Planes
from midflow.video.pixel import PixelLayout, layout

# Kr and Kb of H.273 table 4
LUMA_COEFFICIENTS = {
    "bt709": (0.2126, 0.0722),
    "bt601": (0.299, 0.114),
    "bt2020": (0.2627, 0.0593),
    "smpte240m": (0.212, 0.087),
    "fcc": (0.30, 0.11),
}


def to_rgb(frame: Frame | Planes, info: ClipInfo, device: torch.device | str = "cpu") -> Tensor:
    """Convert one decoded frame to RGB.

    Args:
        frame: a frame of the clip, or its planes.
        info: the clip: pixel format and colour.
        device: where to convert; the planes are uploaded as they are.

    Returns:
        (1, 3, H, W) float32, nominally in [0, 1], not clamped.
    """
    planes = frame.data if isinstance(frame, Frame) else frame
    return planes_to_rgb(planes, info.color, info.pixel_format, device)


def planes_to_rgb(
    planes: Planes, color: ColorSpec, pixel_format: str, device: torch.device | str = "cpu"
) -> Tensor:
    """`to_rgb` for planes whose colour and pixel format are given directly."""
    form = layout(pixel_format)
    samples = upload([_samples(plane, form) for plane in planes[:3]], device)
    luma_scale, luma_zero, chroma_scale, chroma_zero = _code_range(form, color)
    luma = samples[0].to(torch.float32).sub_(luma_zero).div_(luma_scale)
    if form.kind == "gray":
        return luma.expand(1, 3, *luma.shape).contiguous()
    out = torch.empty(1, 3, *luma.shape, device=luma.device)
    if form.kind == "rgb":
        out[0, 1] = luma
        for channel, plane in ((2, samples[1]), (0, samples[2])):
            out[0, channel] = plane
            out[0, channel].sub_(luma_zero).div_(luma_scale)
        return out
    chroma = torch.stack(samples[1:3]).to(torch.float32).sub_(chroma_zero).div_(chroma_scale)
    cb, cr = _enlarge(chroma, form, color.chroma_location, luma.shape)
    kr, kb = LUMA_COEFFICIENTS[color.matrix]
    kg = 1 - kr - kb
    torch.add(luma, cr, alpha=2 * (1 - kr), out=out[0, 0])
    torch.add(luma, cb, alpha=2 * (1 - kb), out=out[0, 2])
    torch.add(luma, cb, alpha=-2 * kb * (1 - kb) / kg, out=out[0, 1])
    out[0, 1].add_(cr, alpha=-2 * kr * (1 - kr) / kg)
    return out


def to_alpha(frame: Frame | Planes, pixel_format: str, device: torch.device | str) -> Tensor | None:
    """How opaque each pixel is, (1, 1, H, W) float32 in [0, 1]; None where the format cannot tell.

    Args:
        frame: a frame, or its planes.
        pixel_format: planar format of the planes.
        device: where to convert.
    """
    form = layout(pixel_format)
    if not form.has_alpha:
        return None
    planes = frame.data if isinstance(frame, Frame) else frame
    (alpha,) = upload([_samples(planes[-1], form)], device)
    return alpha.to(torch.float32).div_((1 << form.bits) - 1)[None, None]


def from_rgb(
    rgb: Tensor, color: ColorSpec, pixel_format: str, alpha: Tensor | None = None
) -> Planes:
    """Convert RGB to planes, rounding once to the nearest code.

    Args:
        rgb: (1, 3, H, W) or (3, H, W), nominally in [0, 1], any device and float type.
        color: matrix, range and chroma position of the planes.
        pixel_format: planar format of the planes.
        alpha: how opaque each pixel is, (1, 1, H, W) in [0, 1], for a format that has it; None for
            opaque pictures.

    Returns:
        Contiguous numpy planes, uint8 or uint16, on the CPU.
    """
    return begin_from_rgb(rgb, color, pixel_format, alpha).wait()


def begin_from_rgb(
    rgb: Tensor, color: ColorSpec, pixel_format: str, alpha: Tensor | None = None
) -> Download:
    """`from_rgb`, whose planes are waited for later: on a GPU they are on their way meanwhile."""
    form = layout(pixel_format)
    planes = _color_planes(rgb, color, form)
    if form.has_alpha:
        opacity = torch.ones_like(rgb[..., :1, :, :]) if alpha is None else alpha
        codes = opacity.reshape(rgb.shape[-2:]).to(torch.float32) * ((1 << form.bits) - 1)
        planes = (*planes, _codes(codes, 0, form))
    return Download(planes, partial(_plane, form))


def _color_planes(rgb: Tensor, color: ColorSpec, form: PixelLayout) -> tuple[Tensor, ...]:
    red, green, blue = rgb.reshape(3, *rgb.shape[-2:]).to(torch.float32)
    luma_scale, luma_zero, chroma_scale, chroma_zero = _code_range(form, color)
    if form.kind == "rgb":
        return tuple(_codes(plane * luma_scale, luma_zero, form) for plane in (green, blue, red))
    kr, kb = LUMA_COEFFICIENTS.get(color.matrix, LUMA_COEFFICIENTS["bt709"])
    luma = torch.mul(green, 1 - kr - kb).add_(red, alpha=kr).add_(blue, alpha=kb)
    if form.kind == "gray":
        return (_codes(luma.mul_(luma_scale), luma_zero, form),)
    chroma = torch.empty(2, *luma.shape, device=luma.device)
    torch.sub(blue, luma, out=chroma[0]).mul_(chroma_scale / (2 * (1 - kb)))
    torch.sub(red, luma, out=chroma[1]).mul_(chroma_scale / (2 * (1 - kr)))
    cb, cr = _reduce(chroma, form, color.chroma_location)
    return (
        _codes(luma.mul_(luma_scale), luma_zero, form),
        _codes(cb, chroma_zero, form),
        _codes(cr, chroma_zero, form),
    )


@lru_cache(maxsize=64)
def _code_range(form: PixelLayout, color: ColorSpec) -> tuple[float, float, float, float]:
    """Codes from black to white and black itself; codes from -0.5 to 0.5 of chroma and its zero."""
    unit = 1 << (form.bits - 8)
    largest = (1 << form.bits) - 1
    if color.full_range:
        return largest, 0, largest, 128 * unit
    return 219 * unit, 16 * unit, 224 * unit, 128 * unit


def _samples(plane: Plane, form: PixelLayout) -> Tensor:
    """Samples as a type that every device knows: uint8, int16, or int32 for 16 bits."""
    if form.bits == 8:
        return torch.from_numpy(plane)
    return torch.from_numpy(plane.view(np.int16) if form.bits < 16 else plane.astype(np.int32))


def _codes(values: Tensor, zero: float, form: PixelLayout) -> Tensor:
    """Shift by the zero code (in place), round half to even, clamp to the codes there are.

    The type is that of `_samples`.
    """
    codes = values.add_(zero).round_().clamp_(0, (1 << form.bits) - 1)
    if form.bits == 8:
        return codes.to(torch.uint8)
    return codes.to(torch.int16 if form.bits < 16 else torch.int32)


def _plane(form: PixelLayout, codes: Tensor) -> Plane:
    """What `_samples` was made of."""
    plane: np.ndarray = codes.numpy()
    if form.bits == 8:
        return plane
    return plane.view(np.uint16) if form.bits < 16 else plane.astype(np.uint16)


def _centered(location: str) -> tuple[bool, bool]:
    """Whether chroma sits between two pixels, across and down."""
    return location == "center", location != "topleft"


def _enlarge(chroma: Tensor, form: PixelLayout, location: str, size: torch.Size) -> Tensor:
    """(2, h, w) chroma to (2, H, W) of the luma `size`."""
    across, down = _centered(location)
    for axis, times, centered in ((2, form.shift_x, across), (1, form.shift_y, down)):
        for level in reversed(range(times)):
            length = -(-size[axis - 1] >> level)
            chroma = _double(chroma, axis, length, centered)
    return chroma


def _reduce(chroma: Tensor, form: PixelLayout, location: str) -> Tensor:
    """(2, H, W) chroma to (2, h, w): undoes `_enlarge`."""
    across, down = _centered(location)
    for axis, times, centered in ((1, form.shift_y, down), (2, form.shift_x, across)):
        for _ in range(times):
            chroma = _halve(chroma, axis, centered)
    return chroma


def _double(x: Tensor, axis: int, length: int, centered: bool) -> Tensor:
    """Twice as many samples along `axis`, cut to `length`, bilinear, edges repeated."""
    n = x.shape[axis]
    before = torch.cat((x.narrow(axis, 0, 1), x.narrow(axis, 0, n - 1)), axis)
    after = torch.cat((x.narrow(axis, 1, n - 1), x.narrow(axis, n - 1, 1)), axis)
    even = torch.lerp(x, before, 0.25) if centered else x
    odd = torch.lerp(x, after, 0.25 if centered else 0.5)
    shape = list(x.shape)
    shape[axis] = 2 * n
    return torch.stack((even, odd), axis + 1).view(shape).narrow(axis, 0, length)


def _halve(x: Tensor, axis: int, centered: bool) -> Tensor:
    """Half as many samples along `axis`: the exact inverse of `_double`."""
    length = x.shape[axis]
    n = -(-length // 2)
    last = x.narrow(axis, length - 1, 1)
    if centered and length % 2 and length > 1:
        # the last sample's second pixel was cut off: what it held follows from the two pixels
        # before
        last = last * 1.5 - x.narrow(axis, length - 2, 1) * 0.5
    tail = [last] * (2 * n + 2 - length)
    head = [x.narrow(axis, 0, 1)] * (1 if centered else 2)
    padded = torch.cat((*head, x, *tail), axis)

    def tap(k: int) -> Tensor:
        return padded[(slice(None),) * axis + (slice(k, k + 2 * n - 1, 2),)]

    if centered:
        return (tap(1) + tap(2)).mul_(0.75).sub_(tap(0) + tap(3), alpha=0.25)
    return (tap(1) + tap(3)).mul_(0.25).add_(tap(2), alpha=0.75).sub_(tap(0) + tap(4), alpha=0.125)
