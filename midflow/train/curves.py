"""Draws the curves of a run from its log, without a plotting library.

draw_curves(Path("runs/mine/log.jsonl"), Path("runs/mine/curves.png"))
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from midflow.errors import OptionError
from midflow.train.state import read_log
from midflow.video.image import write_image

Canvas = npt.NDArray[np.float32]
Color = tuple[float, float, float]

PANEL_WIDTH, PANEL_HEIGHT = 900, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 110, 20, 30, 26
_STEPS = 5  # about so many between the numbers of an axis
_INK: Color = (0.15, 0.15, 0.15)
_GRID: Color = (0.88, 0.88, 0.88)
_COLORS: tuple[Color, ...] = ((0.12, 0.37, 0.75), (0.85, 0.33, 0.1), (0.18, 0.55, 0.24))
_GLYPH_SCALE = 2
# 3 x 5 pixels each, rows from the top, three bits a row
_GLYPHS = {
    "0": 0o75557, "1": 0o26227, "2": 0o71747, "3": 0o71717, "4": 0o55711, "5": 0o74717,
    "6": 0o74757, "7": 0o71122, "8": 0o75757, "9": 0o75717, "-": 0o00700, ".": 0o00002,
    "+": 0o02720, "/": 0o11244, "a": 0o25755, "b": 0o65656, "c": 0o34443, "d": 0o65556,
    "e": 0o74647, "f": 0o74644, "g": 0o34553, "h": 0o55755, "i": 0o72227, "j": 0o11152,
    "k": 0o55655, "l": 0o44447, "m": 0o57755, "n": 0o65555, "o": 0o25552, "p": 0o65644,
    "q": 0o25563, "r": 0o65655, "s": 0o34216, "t": 0o72222, "u": 0o55557, "v": 0o55552,
    "w": 0o55775, "x": 0o55255, "y": 0o55222, "z": 0o71247, " ": 0,
}  # fmt: skip


@dataclass(frozen=True)
class Curve:
    """One line of a panel."""

    name: str
    """Lower-case letters, digits and spaces."""
    points: tuple[tuple[float, float], ...]
    """(step, value), steps rising, values finite."""


def draw_curves(log: Path, picture: Path) -> Path:
    """Draws loss, PSNR, learning rate and speed over the steps.

    Args:
        log: `log.jsonl` of a run, or its folder.
        picture: .png, .jpg or .webp; replaced if there.

    Returns:
        `picture`.

    Raises:
        OptionError: there is no log, or too little in it for a curve.
        VideoError: the picture cannot be written.
    """
    log = log / "log.jsonl" if log.is_dir() else log
    panels = [panel for panel in curves_of(read_log(log)) if any(len(c.points) > 1 for c in panel)]
    if not panels:
        raise OptionError(f"{log} holds fewer than two steps to draw: let the run go on")
    sheet = np.concatenate([draw_panel(panel) for panel in panels])
    write_image(picture, torch.from_numpy(sheet).permute(2, 0, 1)[None], overwrite=True)
    return picture


def curves_of(lines: Sequence[dict[str, Any]]) -> list[list[Curve]]:
    """The panels a log makes: loss, its parts, PSNR, rate, speed."""
    steps = [line for line in lines if line.get("kind") == "train"]
    looks = [line for line in lines if line.get("kind") == "validation"]
    psnr = [_curve("psnr of crops db", steps, "psnr"), _curve("held out db", looks, "psnr")]
    return [
        [_curve("log10 loss", steps, "loss", is_log=True)],
        [curve for curve in psnr if curve.points],
        [_curve("log10 rate", steps, "rate", is_log=True)],
        [_curve("samples / s", steps, "samples_per_second")],
    ]


def draw_panel(curves: Sequence[Curve]) -> Canvas:
    """One diagram, (PANEL_HEIGHT, PANEL_WIDTH, 3) in [0, 1]: axes, numbers, lines, names."""
    canvas = np.ones((PANEL_HEIGHT, PANEL_WIDTH, 3), np.float32)
    points = np.array([point for curve in curves for point in curve.points])
    (x0, y0), (x1, y1) = points.min(0), points.max(0)
    x1 = max(x1, x0 + 1)
    margin = 0.05 * (y1 - y0) or 0.05 * abs(y0) or 0.5
    y0, y1 = y0 - margin, y1 + margin
    right, bottom = PANEL_WIDTH - _RIGHT, PANEL_HEIGHT - _BOTTOM

    def place(x: float, y: float) -> tuple[float, float]:
        across = _LEFT + (x - x0) / (x1 - x0) * (right - _LEFT)
        return across, bottom - (y - y0) / (y1 - y0) * (bottom - _TOP)

    for y in round_numbers(y0, y1):
        row = round(place(x0, y)[1])
        canvas[row, _LEFT:right] = _GRID
        write_text(canvas, _number(y), _LEFT - 8 - text_width(_number(y)), row - 5, _INK)
    for x in round_numbers(x0, x1):
        column = round(place(x, y0)[0])
        canvas[_TOP:bottom, column] = _GRID
        start = min(column - text_width(_number(x)) // 2, right - text_width(_number(x)))
        write_text(canvas, _number(x), start, bottom + 8, _INK)
    across = _LEFT
    for curve, color in zip(curves, _COLORS, strict=False):
        placed = [place(*point) for point in curve.points]
        for start_point, end_point in pairwise(placed):
            draw_line(canvas, start_point, end_point, color)
        write_text(canvas, curve.name, across, 10, color)
        across += text_width(curve.name) + 40
    return canvas


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


def _curve(name: str, lines: Sequence[dict[str, Any]], key: str, *, is_log: bool = False) -> Curve:
    known = [(line["step"], line[key]) for line in lines if line.get(key) is not None]
    if is_log:
        known = [(step, math.log10(value)) for step, value in known if value > 0]
    return Curve(name, tuple((float(step), float(value)) for step, value in known))


def _number(value: float) -> str:
    return f"{value:.6g}"
