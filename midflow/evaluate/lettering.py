"""Captions on pictures, in a 5 x 7 pixel alphabet: no font and no drawing package is needed."""

import torch
from torch import Tensor

# Seven rows of five pixels a character, each row one number of 0 to 31, the left pixel the highest.
_GLYPHS = {
    "A": "0E 11 11 1F 11 11 11", "B": "1E 11 11 1E 11 11 1E", "C": "0E 11 10 10 10 11 0E",
    "D": "1E 11 11 11 11 11 1E", "E": "1F 10 10 1E 10 10 1F", "F": "1F 10 10 1E 10 10 10",
    "G": "0E 11 10 17 11 11 0F", "H": "11 11 11 1F 11 11 11", "I": "0E 04 04 04 04 04 0E",
    "J": "07 02 02 02 02 12 0C", "K": "11 12 14 18 14 12 11", "L": "10 10 10 10 10 10 1F",
    "M": "11 1B 15 15 11 11 11", "N": "11 19 15 13 11 11 11", "O": "0E 11 11 11 11 11 0E",
    "P": "1E 11 11 1E 10 10 10", "Q": "0E 11 11 11 15 12 0D", "R": "1E 11 11 1E 14 12 11",
    "S": "0F 10 10 0E 01 01 1E", "T": "1F 04 04 04 04 04 04", "U": "11 11 11 11 11 11 0E",
    "V": "11 11 11 11 11 0A 04", "W": "11 11 11 15 15 1B 11", "X": "11 11 0A 04 0A 11 11",
    "Y": "11 11 0A 04 04 04 04", "Z": "1F 01 02 04 08 10 1F", "0": "0E 11 13 15 19 11 0E",
    "1": "04 0C 04 04 04 04 0E", "2": "0E 11 01 02 04 08 1F", "3": "1F 02 04 02 01 11 0E",
    "4": "02 06 0A 12 1F 02 02", "5": "1F 10 1E 01 01 11 0E", "6": "06 08 10 1E 11 11 0E",
    "7": "1F 01 02 04 08 08 08", "8": "0E 11 11 0E 11 11 0E", "9": "0E 11 11 0F 01 02 0C",
    ".": "00 00 00 00 00 0C 0C", ",": "00 00 00 00 0C 04 08", ":": "00 0C 0C 00 0C 0C 00",
    "-": "00 00 00 1F 00 00 00", "_": "00 00 00 00 00 00 1F", "/": "00 01 02 04 08 10 00",
    "(": "02 04 08 08 08 04 02", ")": "08 04 02 02 02 04 08", "*": "00 04 15 0E 15 04 00",
    "=": "00 00 1F 00 1F 00 00", "+": "00 04 04 1F 04 04 00", "%": "18 19 02 04 08 13 03",
    " ": "00 00 00 00 00 00 00",
}  # fmt: skip
_UNKNOWN = "1F 11 11 11 11 11 1F"
_ADVANCE, _HEIGHT = 6, 7  # of a character, a column of space included
_MARGIN = 3
LINE = _HEIGHT + 2 * _MARGIN
"""Height of a caption in pixels at size 1."""


def caption(text: str, width: int, size: int = 2) -> Tensor:
    """Black text on white, (3, LINE * size, width) in [0, 1]; cut off where it is too long."""
    room = max(0, (width // size - 2 * _MARGIN) // _ADVANCE)
    strip = torch.ones(LINE, width // size + 1)
    for place, character in enumerate(text.upper()[:room]):
        left = _MARGIN + place * _ADVANCE
        strip[_MARGIN : _MARGIN + _HEIGHT, left : left + 5] = 1 - _pixels(character)
    large = strip.repeat_interleave(size, 0).repeat_interleave(size, 1)
    return large[:, :width].expand(3, -1, -1).contiguous()


def _pixels(character: str) -> Tensor:
    """(7, 5), 1 where ink is."""
    rows = [int(row, 16) for row in _GLYPHS.get(character, _UNKNOWN).split()]
    return torch.tensor([[row >> bit & 1 for bit in range(4, -1, -1)] for row in rows]).float()
