"""Limits for files that claim to be larger or longer than anyone can mean.

A file of a megabyte can describe a picture of 60,000 x 60,000 pixels, and one of a kilobyte a clip
that shows a frame for 30,000 years. What lies beyond a limit is refused before memory is taken.
"""

import logging
import os
import re
import struct
from fractions import Fraction
from pathlib import Path

from midflow.errors import OptionError, VideoError

log = logging.getLogger(__name__)

MAX_PIXELS = 1 << 27
"""Of one frame or picture, 16384 x 8192: a float32 copy in RGB takes 1.6 GB."""
PIXELS_VARIABLE = "MIDFLOW_MAX_PIXELS"
"""Environment variable that sets another limit."""

MAX_GAP = 600
"""Seconds from one frame to the next: recordings of a still screen repeat a frame sooner."""

_LISTS = {"concat", "dash", "hls", "imf", "sdp"}  # FFmpeg's names
_BLOCKS = 1 << 16  # pixels that rounding up adds to the smallest pictures
_MOST_PIXELS = (1 << 31) - 1  # FFmpeg's own limit
_PNG = re.compile(rb"\x89PNG\r\n\x1a\n....IHDR(.{8})", re.S)
_GIF = re.compile(rb"GIF8[79]a(.{4})", re.S)
_WEBP = re.compile(rb"RIFF....WEBP(VP8[ LX])....(.{10})", re.S)
_FRAME_HEADERS = {0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}


def max_pixels() -> int:
    """The most pixels a frame or picture may have.

    Raises:
        OptionError: the environment sets something that is no number of pixels.
    """
    text = os.environ.get(PIXELS_VARIABLE, "")
    if not text:
        return MAX_PIXELS
    if not text.isdecimal() or not 0 < int(text) <= _MOST_PIXELS:
        raise OptionError(f"{PIXELS_VARIABLE} must be a number of pixels, got {text!r}")
    return int(text)


def decoder_options() -> dict[str, str]:
    """Options that keep FFmpeg's decoders from frames far beyond the limit.

    They round sizes up to whole blocks before they compare, so that the limit itself needs room.
    """
    return {"max_pixels": str(min(2 * max_pixels() + _BLOCKS, _MOST_PIXELS))}


def require_size(width: int, height: int, path: Path) -> None:
    """Raises VideoError where frames are larger than the limit."""
    if width * height > (limit := max_pixels()):
        raise VideoError(
            f"{path} has frames of {width}x{height} pixels, {limit} pixels are allowed: "
            f"if that is meant, set {PIXELS_VARIABLE}={width * height}"
        )


def require_clip(kind: str, path: Path) -> None:
    """Raises VideoError for a list of other files: a clip that came by mail must not read them."""
    if kind in _LISTS:
        raise VideoError(
            f"{path} is a list of other files ({kind}), not a video: join them into one file first"
        )


def require_gap(gap: Fraction, start: Fraction, limit: float | Fraction | None, path: Path) -> None:
    """Raises VideoError where `gap` seconds pass between the frame at `start` and the next."""
    if limit is not None and gap > limit:
        raise VideoError(
            f"{path} shows nothing between {float(start):.3f} s and {float(start + gap):.3f} s; "
            f"a gap may have {float(limit):g} s: are its timestamps damaged? "
            "If they are meant, allow more (max_gap)"
        )


def believable_hold(
    stated: Fraction, nominal: Fraction, limit: float | Fraction | None, path: Path
) -> Fraction:
    """Seconds to show the last frame: as stated, or one frame's time if that is beyond belief."""
    if limit is None or stated <= limit:
        return stated or nominal
    log.warning(
        "%s: its last frame claims to last %.0f s, it is shown for %.3f s", path, stated, nominal
    )
    return nominal


def require_regular(path: Path) -> None:
    """Raises VideoError for a pipe, a socket or a device, which have no end or cannot be reread."""
    if path.exists() and not path.is_file():
        raise VideoError(f"{path} is a pipe or a device: copy what it gives to a file first")


def stated_size(data: bytes) -> tuple[int, int] | None:
    """Width and height by the header of a PNG, JPEG, WebP or GIF file; None where it has none."""
    if found := _PNG.match(data):
        width, height = struct.unpack(">II", found[1])
    elif found := _GIF.match(data):
        width, height = struct.unpack("<HH", found[1])
    elif found := _WEBP.match(data):
        width, height = _webp_size(found[1], found[2])
    elif data.startswith(b"\xff\xd8"):
        return _jpeg_size(data)
    else:
        return None
    return width, height


def _webp_size(kind: bytes, fields: bytes) -> tuple[int, int]:
    if kind == b"VP8X":
        return tuple(int.from_bytes(fields[i : i + 3], "little") + 1 for i in (4, 7))  # type: ignore[return-value]
    if kind == b"VP8L":
        bits = int.from_bytes(fields[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = struct.unpack_from("<HH", fields, 6)
    return width & 0x3FFF, height & 0x3FFF


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """From the frame header, which comes after any number of other segments."""
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        if data[at + 1] in _FRAME_HEADERS:
            height, width = struct.unpack_from(">HH", data, at + 5)
            return width, height
        at += 2 + int(struct.unpack_from(">H", data, at + 2)[0])
    return None
