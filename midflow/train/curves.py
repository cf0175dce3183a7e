"""Draws the curves of a run from its log.

draw_curves(Path("runs/mine/log.jsonl"), Path("runs/mine/curves.png"))
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from midflow.diagram import Curve, draw_panel, write_panels
from midflow.errors import OptionError
from midflow.train.state import read_log


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
    return write_panels([draw_panel(panel) for panel in panels], picture)


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


def _curve(name: str, lines: Sequence[dict[str, Any]], key: str, *, is_log: bool = False) -> Curve:
    known = [(line["step"], line[key]) for line in lines if line.get(key) is not None]
    if is_log:
        known = [(step, math.log10(value)) for step, value in known if value > 0]
    return Curve(name, tuple((float(step), float(value)) for step, value in known))
