"""Draws curves as pictures, without a plotting library.

write_panels([draw_panel([Curve("loss", ((0.0, 1.0), (1.0, 0.5)))])], Path("curves.png"))
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice, pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from midflow.video.image import write_image

Canvas = npt.NDArray[np.float32]
Color = tuple[float, float, float]

PANEL_WIDTH, PANEL_HEIGHT = 900, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 110, 20, 30, 26
_STEPS = 5  # about so many between the numbers of an axis
_INK: Color = (0.15, 0.15, 0.15)
_GRID: Color = (0.88, 0.88, 0.88)
_COLORS: tuple[Color, ...] = (
    (0.12, 0.37, 0.75), (0.85, 0.33, 0.1), (0.18, 0.55, 0.24), (0.5, 0.2, 0.6), (0.7, 0.55, 0.05),
    (0.1, 0.55, 0.6), (0.75, 0.15, 0.3), (0.4, 0.4, 0.4),
)  # fmt: skip
_GLYPH_SCALE = 2
_BETWEEN, _LINE = 40, 16  # pixels between names, and from line to line of them
_FEW = 12  # points of a curve that are marked
# 3 x 5 pixels each, rows from the top, three bits a row
_GLYPHS = {
    "0": 0o75557, "1": 0o26227, "2": 0o71747, "3": 0o71717, "4": 0o55711, "5": 0o74717,
    "6": 0o74757, "7": 0o71122, "8": 0o75757, "9": 0o75717, "-": 0o00700, ".": 0o00002,
    "+": 0o02720, "/": 0o11244, "a": 0o25755, "b": 0o65656, "c": 0o34443, "d": 0o65556,
    "e": 0o74647, "f": 0o74644, "g": 0o34553, "h": 0o55755, "i": 0o72227, "j": 0o11152,
    "k": 0o55655, "l": 0o44447, "m": 0o57755, "n": 0o65555, "o": 0o25552, "p": 0o65644,
    "q": 0o25563, "r": 0o65655, "s": 0o34216, "t": 0o72222, "u": 0o55557, "v": 0o55552,
    "w": 0o55775, "x": 0o55255, "y": 0o55222, "z": 0o71247, ":": 0o02020, " ": 0,
}  # fmt: skip


@dataclass(frozen=True)
class Curve:
    """One line of a panel."""

    name: str
    """Lower-case letters, digits and spaces."""
    points: tuple[tuple[float, float], ...]
    """(step, value), steps rising, values finite."""


def write_panels(panels: Sequence[Canvas], picture: Path) -> Path:
    """Writes diagrams one below the other.

    Args:
        panels: one at least.
        picture: .png, .jpg or .webp; replaced if there.

    Returns:
        `picture`.

    Raises:
        VideoError: the picture cannot be written.
    """
    sheet = np.concatenate(panels)
    write_image(picture, torch.from_numpy(sheet).permute(2, 0, 1)[None], overwrite=True)
    return picture


def draw_panel(curves: Sequence[Curve], title: str = "", *, from_zero: bool = False) -> Canvas:
    """One diagram, (height, PANEL_WIDTH, 3) in [0, 1]: axes, numbers, lines, names.

    Args:
        curves: one at least, with one point at least; colours repeat after eight.
        title: stands before their names, in lower case.
        from_zero: let the upright axis begin at 0.

    Returns:
        PANEL_HEIGHT rows, and more where the names take more than one line.
    """
    colors = list(islice(cycle(_COLORS), len(curves)))
    names = [(title, _INK)] * bool(title)
    names += [(curve.name, color) for curve, color in zip(curves, colors, strict=True)]
    lines = _lines(names)
    top = _TOP + _LINE * (len(lines) - 1)
    canvas = np.ones((PANEL_HEIGHT + top - _TOP, PANEL_WIDTH, 3), np.float32)
    for number, line in enumerate(lines):
        for text, left, color in line:
            write_text(canvas, text, left, 10 + _LINE * number, color)
    points = np.array([point for curve in curves for point in curve.points])
    (x0, y0), (x1, y1) = points.min(0), points.max(0)
    x1 = x1 if x1 > x0 else x0 + 1
    y0 = 0.0 if from_zero else y0
    margin = 0.05 * (y1 - y0) or 0.05 * abs(y0) or 0.5
    y0, y1 = y0 - margin * (not from_zero), y1 + margin
    right, bottom = PANEL_WIDTH - _RIGHT, len(canvas) - _BOTTOM

    def place(x: float, y: float) -> tuple[float, float]:
        across = _LEFT + (x - x0) / (x1 - x0) * (right - _LEFT)
        return across, bottom - (y - y0) / (y1 - y0) * (bottom - top)

    for y in round_numbers(y0, y1):
        row = round(place(x0, y)[1])
        canvas[row, _LEFT:right] = _GRID
        write_text(canvas, _number(y), _LEFT - 8 - text_width(_number(y)), row - 5, _INK)
    for x in round_numbers(x0, x1):
        column = round(place(x, y0)[0])
        canvas[top:bottom, column] = _GRID
        start = min(column - text_width(_number(x)) // 2, right - text_width(_number(x)))
        write_text(canvas, _number(x), start, bottom + 8, _INK)
    for curve, color in zip(curves, colors, strict=True):
        _draw_curve(canvas, [place(*point) for point in curve.points], color)
    return canvas


def _lines(names: Sequence[tuple[str, Color]]) -> list[list[tuple[str, int, Color]]]:
    """Texts with the columns where they begin, in as many lines as they need."""
    lines: list[list[tuple[str, int, Color]]] = [[]]
    across = _LEFT
    for text, color in names:
        if lines[-1] and across + text_width(text) > PANEL_WIDTH - _RIGHT:
            lines.append([])
            across = _LEFT
        lines[-1].append((text, across, color))
        across += text_width(text) + _BETWEEN
    return lines


def _draw_curve(canvas: Canvas, places: Sequence[tuple[float, float]], color: Color) -> None:
    for start, end in pairwise(places):
        draw_line(canvas, start, end, color)
    if len(places) <= _FEW:
        for column, row in places:
            y, x = round(row), round(column)
            canvas[max(0, y - 2) : y + 4, max(0, x - 2) : x + 4] = color


def round_numbers(low: float, high: float) -> list[float]:
    """Three to six multiples of 1, 2 or 5 times a power of ten, from `low` to `high`."""
    rough = (high - low) / _STEPS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    return [step * k for k in range(math.ceil(low / step), math.floor(high / step) + 1)]


def draw_line(
    canvas: Canvas, start: tuple[float, float], end: tuple[float, float], color: Color
) -> None:
    """Draws a line two pixels thick between two (column, row) places inside the canvas."""
    length = max(abs(end[0] - start[0]), abs(end[1] - start[1]))
    count = 2 * math.ceil(length) + 1
    columns = np.linspace(start[0], end[0], count).astype(int)
    rows = np.linspace(start[1], end[1], count).astype(int)
    for down in (0, 1):
        for right in (0, 1):
            canvas[rows + down, columns + right] = color


def write_text(canvas: Canvas, text: str, left: int, top: int, color: Color) -> None:
    """Writes lower-case text in a 3 x 5 face; unknown characters are left blank."""
    for position, character in enumerate(text):
        bits = _GLYPHS.get(character, 0)
        glyph = np.array([bits >> (14 - k) & 1 for k in range(15)]).reshape(5, 3).astype(bool)
        glyph = glyph.repeat(_GLYPH_SCALE, 0).repeat(_GLYPH_SCALE, 1)
        column = left + 4 * _GLYPH_SCALE * position
        area = canvas[top : top + glyph.shape[0], column : column + glyph.shape[1]]
        area[glyph[: area.shape[0], : area.shape[1]]] = color


def text_width(text: str) -> int:
    """Columns `write_text` takes."""
    return 4 * _GLYPH_SCALE * len(text)


def _number(value: float) -> str:
    return f"{value:.6g}"
