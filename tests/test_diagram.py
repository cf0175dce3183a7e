import math

import numpy as np
import pytest

from midflow.diagram import (
    PANEL_HEIGHT,
    PANEL_WIDTH,
    Curve,
    draw_line,
    draw_panel,
    round_numbers,
    write_text,
)


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


def test_names_that_do_not_fit_into_a_line_take_another_and_the_plot_stays_as_high() -> None:
    curves = [Curve(f"a rather long name {k}", ((0.0, 0.0), (1.0, k + 1.0))) for k in range(9)]
    panel = draw_panel(curves, "title", from_zero=True)
    assert panel.shape[0] > PANEL_HEIGHT
    assert panel.shape[1:] == (PANEL_WIDTH, 3)
    assert (panel[:, -10:] == 1).all()  # nothing is written over the edge


def test_a_curve_of_one_point_is_a_mark() -> None:
    empty = draw_panel([Curve("", ((0.0, 1.0), (1.0, 1.0)))])
    panel = draw_panel([Curve("", ((0.0, 1.0),))])
    drawn = (panel[30:, 115:, 0] < 0.5).sum()
    assert 0 < drawn < (empty[30:, 115:, 0] < 0.5).sum()
