import json
from pathlib import Path

import pytest

from midflow.diagram import PANEL_HEIGHT, PANEL_WIDTH
from midflow.errors import OptionError
from midflow.train.curves import curves_of, draw_curves
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


def test_log_that_is_missing_or_too_short_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="cannot be read"):
        draw_curves(tmp_path, tmp_path / "curves.png")
    (tmp_path / "log.jsonl").write_text(json.dumps(line(1)) + "\n")
    with pytest.raises(OptionError, match="fewer than two steps"):
        draw_curves(tmp_path, tmp_path / "curves.png")
