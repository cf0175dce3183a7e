"""What an output is called that nobody has named."""

from fractions import Fraction
from pathlib import Path

from midflow.schedule import rate_label

_WRITABLE = (".mp4", ".m4v", ".mkv", ".mov", ".webm")  # kept for an output that is not named


def default_target(source: Path, rate: Fraction, speed: Fraction = Fraction(1)) -> Path:
    """`clip.mkv` at 60 frames/s -> `clip.60fps.mkv`; containers few write become mp4.

    At another speed it is told too: `clip.0.25x.60fps.mkv`.
    """
    suffix = source.suffix if source.suffix.lower() in _WRITABLE else ".mp4"
    pace = "" if speed == 1 else f".{rate_label(speed)}x"
    return source.with_name(f"{source.stem}{pace}.{rate_label(rate)}fps{suffix}")
