"""What the video code passes around: decoded frames and the description of a clip.

Every time is a `Fraction` of a second on the clip's own time axis, the one its timestamps are
written in.
"""

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

# ITU-T H.273 code points, which are also FFmpeg's numbers.
UNSPECIFIED = 2
RANGE_UNSPECIFIED, RANGE_LIMITED, RANGE_FULL = 0, 1, 2

Plane = NDArray[np.uint8] | NDArray[np.uint16] | NDArray[Any]
Planes = tuple[Plane, ...]


@dataclass(frozen=True)
class ColorSpec:
    """How sample values become RGB: the formula, and the tags that travel with the clip.

    `matrix` and `full_range` are decided (a guess where the clip does not say); the four codes are
    the clip's tags as they were read, so that what was unspecified stays unspecified in the output.
    """

    matrix: str = "bt709"
    """bt601, bt709, bt2020, smpte240m, fcc, or rgb where the samples are RGB already."""
    full_range: bool = False
    """True where black and white are 0 and the largest code, False for 16..235 (at 8 bits)."""
    chroma_location: str = "left"
    """Where a subsampled chroma sample sits in its group of pixels: left, center or topleft."""
    matrix_code: int = UNSPECIFIED
    """Matrix coefficients as tagged."""
    range_code: int = RANGE_UNSPECIFIED
    """0 unspecified, 1 limited, 2 full, as tagged."""
    primaries: int = UNSPECIFIED
    """Colour primaries as tagged."""
    transfer: int = UNSPECIFIED
    """Transfer characteristics as tagged (16 is PQ, 18 is HLG)."""


@dataclass(frozen=True)
class Frame:
    """One decoded picture."""

    data: Planes
    """(H, W) each, uint8 or uint16, in the order of `ClipInfo.pixel_format` (gbrp: G, B, R)."""
    pts: Fraction
    """When it is first shown, in seconds."""
    duration: Fraction
    """How long it is shown, in seconds."""


@dataclass(frozen=True)
class ClipInfo:
    """What is known of a clip before its frames are read. All times are seconds."""

    path: Path
    width: int
    """Width in stored pixels: before rotation, before the sample aspect ratio is applied."""
    height: int
    """Height in stored pixels."""
    pixel_format: str
    """Planar format of `Frame.data`: yuv420p, yuv420p10le, yuv444p, gray, gbrp, gbrp16le, ..."""
    color: ColorSpec
    frame_rate: Fraction
    """Nominal frames per second; the average for a variable rate."""
    start: Fraction
    """Time of the first frame read."""
    duration: Fraction | None = None
    """From the first frame to the end of the last; an estimate, None where it is not known."""
    frame_count: int | None = None
    """Estimate, None where the file does not tell."""
    rotation: int = 0
    """Degrees counter-clockwise that a player turns the picture."""
    display_matrix: tuple[int, ...] | None = None
    """The nine numbers of the container's display matrix, rotation and flips."""
    sample_aspect_ratio: Fraction = Fraction(1)
    codec: str = ""
    source_format: str = ""
    """FFmpeg's name of the format the decoder gives; `pixel_format` holds the same samples."""
    has_audio: bool = False
    has_alpha: bool = False
    """Whether the first frame is transparent anywhere."""
    is_interlaced: bool = False
    stream_index: int = 0
    """Which stream of the file is the video."""
    time_base: Fraction = Fraction(1, 90000)
    """The video stream's own unit of time."""
    is_trimmed: bool = False
    """True where `start` or `duration` were given: other streams are cut to the same range."""
    end: Fraction | None = None
    """Where a trimmed clip ends on the clip's time axis; None for the end of the file."""
    origin: Fraction = Fraction(0)
    """Time that becomes 0 in an output: a player's 0, or the first frame after a given start."""
    is_alone: bool = False
    """Whether nothing but the video can be had from the source: a pipe, or frames alone."""
    plays: int | None = None
    """How often an animated picture plays, 0 for ever; None where the clip is not one."""
    hdr: dict[str, str] = field(default_factory=dict)
    """Mastering display and content light level as x265 writes them; empty for clips without."""


def byte_size(planes: Planes) -> int:
    """Bytes of memory that planes hold."""
    return sum(plane.nbytes for plane in planes)
