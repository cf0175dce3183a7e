"""What a benchmark measures."""

import re
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from midflow.backends import BACKENDS
from midflow.engine import PRECISIONS
from midflow.errors import OptionError
from midflow.nets.cache import BUNDLED

SIZES = ((854, 480), (1280, 720), (1920, 1080), (3840, 2160))
QUICK_SIZES = SIZES[:2]
MORE_FACTORS = (Fraction(4), Fraction(8))
"""Measured at the smallest size too, where no factors are asked for."""
SECONDS, QUICK_SECONDS = 10.0, 3.0
FEWEST_FRAMES = 3
_SMALLEST_SIDE = 16


@dataclass(frozen=True)
class BenchOptions:
    """What is measured: every size with every model, backend, precision and factor.

    Raises:
        OptionError: a value is outside its range.
    """

    clip: Path | None = None
    """Pictures to use, scaled to each size; None: drawn ones."""
    models: tuple[str, ...] = (BUNDLED,)
    """Releases, or paths of weights."""
    backends: tuple[str, ...] = ()
    """What runs the network; empty: everything that is there."""
    precisions: tuple[str, ...] = ("auto",)
    """Of the convolutions."""
    device: str = "auto"
    """As for `Interpolator`."""
    sizes: tuple[tuple[int, int], ...] = SIZES
    """Width and height in pixels."""
    factors: tuple[Fraction, ...] = ()
    """Output frames for each input frame, at least 1; empty: 2, and 4 and 8 at the smallest size.
    """
    frames: int | None = None
    """Input frames of every run; None: as many as take about `seconds`."""
    seconds: float = SECONDS
    """About the time of a stage."""
    codec: str = "h264"
    """Of the output, with its default quality."""
    preset: str | None = None
    """Of the encoder; None: its default."""

    def __post_init__(self) -> None:
        if self.clip is not None and not self.clip.is_file():
            raise OptionError(f"CLIP must be a video file, got {self.clip}: check the name")
        for name, values, choices in (
            ("backend", self.backends, ("auto", *BACKENDS)),
            ("precision", self.precisions, ("auto", *PRECISIONS)),
        ):
            for value in values:
                if value not in choices:
                    raise OptionError(f"{name} must be one of {', '.join(choices)}, got {value!r}")
        if not (self.models and self.sizes and self.precisions):
            raise OptionError("bench needs a model, a size and a precision at least")
        for width, height in self.sizes:
            if min(width, height) < _SMALLEST_SIDE or width % 2 or height % 2:
                raise OptionError(
                    f"size must be even and at least {_SMALLEST_SIDE} pixels a side, as "
                    f"1280x720, got {width}x{height}"
                )
        for factor in self.factors:
            if factor < 1:
                raise OptionError(f"factor must be at least 1, got {factor}")
        if self.frames is not None and self.frames < FEWEST_FRAMES:
            raise OptionError(f"frames must be at least {FEWEST_FRAMES}, got {self.frames}")
        if not self.seconds > 0:
            raise OptionError(f"seconds must be above 0, got {self.seconds}")

    def factors_at(self, size: tuple[int, int]) -> tuple[Fraction, ...]:
        """The factors measured at a size."""
        if self.factors:
            return self.factors
        smallest = min(self.sizes, key=lambda size: size[0] * size[1])
        return (Fraction(2), *MORE_FACTORS) if size == smallest else (Fraction(2),)


def parse_size(text: str) -> tuple[int, int]:
    """Width and height of "1280x720".

    Raises:
        OptionError: it is something else.
    """
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if match is None:
        raise OptionError(f"size must be WIDTHxHEIGHT, as 1280x720, got {text!r}")
    return int(match[1]), int(match[2])
