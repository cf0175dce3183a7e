import json
import math
from pathlib import Path

import numpy as np
import pytest

from midflow.errors import OptionError
from midflow.train.curves import (
    PANEL_HEIGHT,
    PANEL_WIDTH,
    Curve,
    curves_of,
    draw_curves,
    draw_line,
    draw_panel,
    round_numbers,
    write_text,
)
from midflow.video.image import read_image


def line(step: int, **values: object) -> dict[str, object]:
    known = {"loss": 10.0**-step, "psnr": 20 + step, "rate": 1e-3, "samples_per_second": 50}
    return {"kind": "train", "step": step, **known, **values}


def test_log_becomes_a_picture_with_a_panel_for_each_quantity(tmp_path: Path) -> None:
    lines = [line(1), line(2), {"kind": "validation", "step": 2, "psnr": 30.0}, line(3)]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in lines))
    picture, _ = read_image(draw_curves(tmp_path, tmp_path / "curves.png"))
    assert picture.shape == (1, 3, 4 * PANEL_HEIGHT, PANEL_WIDTH)
    assert (picture != 1).any(1).reshape(4, -1).any(1).all()


def test_curves_hold_what_the_log_says_and_leave_gaps_out() -> None:
    loss, psnr, _, _ = curves_of([line(1), line(2, loss=None), line(3)])
    assert loss[0].points == ((1, pytest.approx(-1)), (3, pytest.approx(-3)))
    assert [curve.name for curve in psnr] == ["psnr of crops db"]


def test_rising_curve_rises_on_the_panel() -> None:
    panel = draw_panel([Curve("a", ((0.0, 1.0), (10.0, 2.0)))])
    blue = panel[30:, 110:, 2] - panel[30:, 110:, 0] > 0.3
    rows = np.array([np.flatnonzero(column).mean() for column in blue.T if column.any()])
    assert (np.diff(rows) <= 0).all()
    assert rows[0] - rows[-1] > 100


def test_constant_curve_and_single_points_are_drawn_without_complaint() -> None:
    panel = draw_panel([Curve("a", ((0.0, 0.0), (1.0, 0.0))), Curve("b", ((1.0, 0.0),))])
    assert math.isfinite(panel.sum())


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 40, [0, 10, 20, 30, 40]),
        (5, 40, [10, 20, 30, 40]),
        (-0.8, -0.6, [-0.8, -0.75, -0.7, -0.65, -0.6]),
        (19.7, 22.4, [20, 21, 22]),
        (0, 228_300, [0, 50_000, 100_000, 150_000, 200_000]),
    ],
)
def test_axes_have_round_numbers(low: float, high: float, expected: list[float]) -> None:
    assert round_numbers(low, high) == pytest.approx(expected)


def test_line_joins_its_ends() -> None:
    canvas = np.ones((20, 20, 3), np.float32)
    draw_line(canvas, (2, 3), (15, 10), (0, 0, 0))
    assert canvas[3, 2].sum() == canvas[10, 15].sum() == 0
    assert (canvas[..., 0] == 0).any(0)[2:16].all()


def test_text_is_written_in_its_colour() -> None:
    canvas = np.ones((10, 8, 3), np.float32)
    write_text(canvas, "1", 0, 0, (1, 0, 0))
    drawn = canvas[::2, :6:2, 1] == 0
    assert drawn.astype(int).tolist() == [[0, 1, 0], [1, 1, 0], [0, 1, 0], [0, 1, 0], [1, 1, 1]]


def test_log_that_is_missing_or_too_short_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="cannot be read"):
        draw_curves(tmp_path, tmp_path / "curves.png")
    (tmp_path / "log.jsonl").write_text(json.dumps(line(1)) + "\n")
    with pytest.raises(OptionError, match="fewer than two steps"):
        draw_curves(tmp_path, tmp_path / "curves.png")
