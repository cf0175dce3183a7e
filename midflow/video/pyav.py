"""What differs between releases of PyAV: 18, the last for Python 3.11, and 19."""

from fractions import Fraction
from typing import Any, BinaryIO

import av
from av.codec.hwaccel import HWAccel
from av.container import InputContainer

# From 19 on metadata that is no UTF-8 keeps its bytes, as surrogates.
_READING: dict[str, Any] = (
    {"metadata_errors": "replace"} if int(av.__version__.partition(".")[0]) < 19 else {}
)


def open_input(
    file: str | BinaryIO, options: dict[str, str], hwaccel: HWAccel | None = None
) -> InputContainer:
    """`av.open` for files of others, whose metadata need not be text."""
    container: InputContainer = av.open(file, "r", options=options, hwaccel=hwaccel, **_READING)
    return container


def fraction(value: Any) -> Fraction | None:
    """A ratio of PyAV's, or None where it is not known.

    Up to 18 it is that already; from 19 on a type of PyAV's, 0 where it is not known.
    """
    return Fraction(value.numerator, value.denominator) if value else None
