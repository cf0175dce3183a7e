"""Clips from standard input, and frames without a header."""

import sys
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import av
from av.container import InputContainer

from midflow.errors import OptionError, VideoError
from midflow.video.limits import decoder_options
from midflow.video.pixel import working_format


def is_pipe(path: str | Path | None) -> bool:
    """Whether a name stands for standard input or output."""
    return str(path) == "-"


@dataclass(frozen=True)
class RawInput:
    """What raw frames do not tell of themselves."""

    width: int
    height: int
    pixel_format: str
    """FFmpeg's name."""
    frame_rate: Fraction


def parse_raw_input(text: str) -> RawInput:
    """`640x480:yuv420p:30000/1001` as its parts.

    Raises:
        OptionError: it is something else.
    """
    try:
        size, form, rate = text.split(":")
        width, height = map(int, size.lower().split("x"))
        working_format(form)
        raw = RawInput(width, height, form, Fraction(rate))
        if width <= 0 or height <= 0 or raw.frame_rate <= 0:
            raise ValueError
    except (ValueError, ZeroDivisionError):
        raise OptionError(
            "raw input is described as WIDTHxHEIGHT:PIXEL_FORMAT:RATE, such as"
            f" 640x480:yuv420p:30000/1001, got {text!r}"
        ) from None
    return raw


def open_raw(path: Path, raw: RawInput) -> InputContainer:
    """Frames without a header, from a file or standard input.

    Raises:
        FFmpegError: they cannot be read.
    """
    options = {
        **decoder_options(),
        "video_size": f"{raw.width}x{raw.height}",
        "pixel_format": raw.pixel_format,
        "framerate": str(raw.frame_rate),
    }
    source = standard_input() if is_pipe(path) else str(path.absolute())
    return av.open(source, "r", format="rawvideo", options=options)


def standard_input() -> BinaryIO:
    """Where a clip named - is read from.

    Raises:
        VideoError: it is a terminal.
    """
    if sys.stdin.isatty():
        raise VideoError("standard input is a terminal: pipe a clip in, or give a file")
    return sys.stdin.buffer
