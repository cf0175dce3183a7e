"""Planar pixel formats, and the way between FFmpeg's many layouts and planes of numpy arrays.

A clip is worked on in one of the planar formats named here. Formats that only store the same
samples in another order (NV12, P010, packed RGB, big-endian, palettes) are unpacked to planes
without changing a value.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import av
import numpy as np
from av.video.plane import VideoPlane

from midflow.errors import VideoError
from midflow.video.frame import Plane, Planes
from midflow.video.palette import with_palette

# FFmpeg's scaler writes past the ends of rows, which its threads then leave in each other's way
_SCALER_THREADS = 1
_SUBSAMPLING = {
    "420": (1, 1),
    "422": (1, 0),
    "444": (0, 0),
    "440": (0, 1),
    "411": (2, 0),
    "410": (2, 2),
}
_ALPHA_SUBSAMPLING = ("420", "422", "444")
_DEPTHS = (8, 9, 10, 12, 14, 16)
_PLANAR = re.compile(r"(?:(gray|gbra?p)|yuv(a?)(\d{3})p)(\d+le)?")
# name -> (bits, shift): samples of P010 and its like sit in the high bits
_SEMI_PLANAR = re.compile(r"nv(12|21|16|24|42)|p([024])(10|12|16)(le|be)")
_PACKED_RGB = re.compile(r"([rgba0]{3,4}|rgb|bgr|rgba|bgra)(24|48|64)?(le|be)?")
_PACKED_YUV = {"yuyv422": (0, 1, 3), "uyvy422": (1, 0, 2), "yvyu422": (0, 3, 1)}


@dataclass(frozen=True)
class PixelLayout:
    """A planar format: what its planes hold and how large they are."""

    name: str
    kind: str
    """yuv, gray or rgb."""
    bits: int
    """Bits used of each sample, in the low bits of uint8 or uint16."""
    shift_x: int = 0
    """Chroma is `2 ** shift_x` times narrower."""
    shift_y: int = 0
    """Chroma is `2 ** shift_y` times lower."""
    has_alpha: bool = False
    """Whether a last plane tells how opaque each pixel is, from 0 to the largest code."""

    @property
    def dtype(self) -> np.dtype[np.uint8] | np.dtype[np.uint16]:
        """Sample type of the planes."""
        return np.dtype(np.uint8) if self.bits == 8 else np.dtype("<u2")

    def shapes(self, height: int, width: int) -> tuple[tuple[int, int], ...]:
        """Rows and columns of each plane; odd sizes round chroma up."""
        full = (height, width)
        if self.kind == "gray":
            return (full,)
        chroma = (-(-height >> self.shift_y), -(-width >> self.shift_x))
        return (full, chroma, chroma, full) if self.has_alpha else (full, chroma, chroma)


@lru_cache(maxsize=128)
def layout(name: str) -> PixelLayout:
    """Describe a planar format by FFmpeg's name, such as yuv420p10le.

    Raises:
        VideoError: not a planar YUV, grey or GBR format.
    """
    match = _PLANAR.fullmatch(name)
    if match is None or (match[3] and match[3] not in _SUBSAMPLING):
        raise VideoError(
            f"a planar pixel format is needed (yuv420p, yuv420p10le, gray, gbrp, ...), got {name!r}"
        )
    bits = int(match[4][:-2]) if match[4] else 8
    if match[1]:
        kind = "gray" if match[1] == "gray" else "rgb"
        return PixelLayout(name, kind, bits, has_alpha=match[1] == "gbrap")
    shift_x, shift_y = _SUBSAMPLING[match[3]]
    return PixelLayout(name, "yuv", bits, shift_x, shift_y, bool(match[2]))


def planar_name(
    kind: str, bits: int, shift_x: int = 0, shift_y: int = 0, alpha: bool = False
) -> str:
    """Name of the planar format of that kind with at least that many bits."""
    chroma = next((k for k, v in _SUBSAMPLING.items() if v == (shift_x, shift_y)), "")
    if kind == "gray" and not alpha:
        stem = "gray"
    elif kind != "yuv":  # FFmpeg has no planar grey with alpha
        stem = "gbrap" if alpha else "gbrp"
    elif alpha:
        stem = f"yuva{chroma if chroma in _ALPHA_SUBSAMPLING else '444'}p"
    else:
        stem = f"yuv{chroma}p"
    names = [stem + ("" if depth == 8 else f"{depth}le") for depth in _DEPTHS if depth >= bits]
    return next(filter(_exists, names), f"{stem}16le")


def _exists(name: str) -> bool:
    try:
        return bool(av.VideoFormat(name, 16, 16).components)
    except ValueError:
        return False


@lru_cache(maxsize=128)
def working_format(name: str, keep_alpha: bool = False) -> str:
    """The planar format that holds the samples of any FFmpeg pixel format.

    Args:
        name: FFmpeg's name of the format.
        keep_alpha: whether transparency is among them, where the format has it.
    """
    pixel_format = av.VideoFormat(name, 16, 16)
    colors = [c for c in pixel_format.components if not c.is_alpha]
    bits = max(c.bits for c in colors)
    alpha = keep_alpha and has_alpha(name)
    if pixel_format.is_rgb or pixel_format.has_palette:
        return planar_name("rgb", bits, alpha=alpha)
    if len(colors) == 1:
        return planar_name("gray", bits, alpha=alpha)
    shift_x, shift_y = (16 // n for n in (colors[1].width, colors[1].height))
    return planar_name("yuv", bits, shift_x.bit_length() - 1, shift_y.bit_length() - 1, alpha)


def has_alpha(name: str) -> bool:
    """Whether the format carries transparency."""
    form = av.VideoFormat(name, 16, 16)
    return form.has_palette or any(c.is_alpha for c in form.components)


def is_transparent(frame: av.VideoFrame) -> bool:
    """Whether any pixel of a picture lets through what is behind it."""
    if not has_alpha(frame.format.name):
        return False
    if frame.format.has_palette:
        return bool((_unpack_palette(frame, "gbra")[3] < 255).any())
    alpha = _rows(frame.reformat(format="rgba", threads=_SCALER_THREADS), 0, 4)[..., 3]
    return bool((alpha < 255).any())


def unpack(frame: av.VideoFrame, target: str) -> Planes:
    """Copy a decoded frame into contiguous planes of the planar format `target`.

    `target` is `working_format(frame.format.name)`, with alpha or without, except for clips that
    change format midway: those frames are converted by FFmpeg's scaler.
    """
    name = frame.format.name
    keeps_alpha = layout(target).has_alpha
    if working_format(name, keeps_alpha) != target:
        frame, name = frame.reformat(format=target, threads=_SCALER_THREADS), target
    channels = "gbra" if keeps_alpha else "gbr"
    if frame.format.has_palette:
        return _unpack_palette(frame, channels)
    plain = name.replace("yuvj", "yuv").replace("be", "le")
    if not keeps_alpha:
        plain = plain.replace("yuva", "yuv").replace("gbrap", "gbrp")
    if plain == target:
        return tuple(_rows(frame, i) for i in range(len(layout(target).shapes(2, 2))))
    if match := _SEMI_PLANAR.fullmatch(name):
        return _unpack_semi_planar(
            frame, 16 - int(match[3]) if match[3] else 0, name in ("nv21", "nv42")
        )
    if name in _PACKED_YUV:
        return _unpack_packed_yuv(frame, _PACKED_YUV[name])
    if match := _PACKED_RGB.fullmatch(name):
        return _unpack_packed_rgb(frame, match[1], channels)
    frame = frame.reformat(format=target, threads=_SCALER_THREADS)
    return tuple(_rows(frame, i) for i in range(len(frame.planes)))


def pack(planes: Planes, planar: str, coded: str) -> av.VideoFrame:
    """Put planes of the format `planar` into a frame of an encoder's format `coded`."""
    height, width = planes[0].shape
    if coded == "pal8":
        return with_palette(pack(planes, planar, "bgra"))
    direct = coded.replace("yuvj", "yuv") == planar
    frame = av.VideoFrame(width, height, coded if direct else planar)
    for plane, samples in zip(frame.planes, planes, strict=True):
        rows = _samples(plane, samples.dtype)
        rows[:, : samples.shape[1]] = samples
    return frame if direct else frame.reformat(format=coded, threads=_SCALER_THREADS)


def _samples(plane: VideoPlane, dtype: np.dtype[Any]) -> Plane:
    """The memory of a plane as (H, stride) samples, padding included; writing to it changes it."""
    samples: Plane = np.frombuffer(plane, dtype)  # type: ignore[call-overload]
    return samples.reshape(plane.height, -1)


def _rows(frame: av.VideoFrame, index: int, channels: int = 1) -> Plane:
    """A contiguous copy of plane `index`, (H, W) or (H, W, channels), in native byte order."""
    plane = frame.planes[index]
    wide = max(c.bits for c in frame.format.components) > 8
    dtype = np.dtype(np.uint8 if not wide else (">u2" if frame.format.is_big_endian else "<u2"))
    rows = _samples(plane, dtype)
    if plane.line_size < 0:  # stored bottom-up, the buffer starts at the lowest address
        rows = rows[::-1]
    rows = rows[:, : plane.width * channels]
    if channels > 1:
        rows = rows.reshape(plane.height, plane.width, channels)
    return np.array(rows, dtype=dtype.newbyteorder("="), order="C")


def _unpack_semi_planar(frame: av.VideoFrame, shift: int, swapped: bool) -> Planes:
    luma, chroma = _rows(frame, 0), _rows(frame, 1, 2)
    first, second = (np.ascontiguousarray(chroma[..., i]) for i in ((1, 0) if swapped else (0, 1)))
    return tuple(plane >> shift if shift else plane for plane in (luma, first, second))


def _unpack_packed_yuv(frame: av.VideoFrame, order: tuple[int, int, int]) -> Planes:
    plane = frame.planes[0]
    rows = _samples(plane, np.dtype(np.uint8))
    if plane.line_size < 0:
        rows = rows[::-1]
    groups = rows[:, : -(-frame.width // 2) * 4].reshape(frame.height, -1, 4)
    luma = rows[:, order[0] : order[0] + 2 * frame.width : 2][:, : frame.width]
    return tuple(
        np.ascontiguousarray(p) for p in (luma, groups[..., order[1]], groups[..., order[2]])
    )


def _unpack_packed_rgb(frame: av.VideoFrame, order: str, channels: str) -> Planes:
    pixels = _rows(frame, 0, len(order))
    return tuple(np.ascontiguousarray(pixels[..., order.index(c)]) for c in channels)


def _unpack_palette(frame: av.VideoFrame, channels: str) -> Planes:
    # entries are 0xAARRGGBB in native byte order
    palette = _samples(frame.planes[1], np.dtype(np.uint32))[0]
    indices = _rows(frame, 0)
    shifts = ["bgra".index(c) * 8 for c in channels]
    return tuple((palette >> shift).astype(np.uint8)[indices] for shift in shifts)
