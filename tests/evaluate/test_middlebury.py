"""One published layout from the files to the means."""

from pathlib import Path

import pytest
import torch

from midflow.errors import MidflowError
from midflow.evaluate.baselines import open_baseline
from midflow.evaluate.benchmarks import open_benchmark
from midflow.evaluate.evaluation import evaluate
from midflow.video.image import write_image

SHELF = Path(__file__).parents[3] / "shared/bench/middlebury"


def test_averaging_is_scored_in_rounded_levels(tmp_path: Path) -> None:
    for scene in ("Beanbags", "Venus"):
        (tmp_path / scene).mkdir()
        for name, level in (("frame10", 10), ("frame10i11", 24), ("frame11", 30)):
            write_image(tmp_path / scene / f"{name}.png", torch.full((1, 3, 40, 48), level / 255))
    methods = {"average": open_baseline("average")}
    result = evaluate(methods, open_benchmark("middlebury", tmp_path))
    assert result.mean("average", "ie") == pytest.approx(4)  # 20 painted, 24 true


def test_a_wrong_folder_says_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(MidflowError, match="frame10"):
        open_benchmark("middlebury", tmp_path)


@pytest.mark.skipif(
    not SHELF.is_dir(), reason="the Middlebury triplets are not beside the checkout"
)
def test_averaging_reaches_its_known_error_on_middlebury() -> None:
    methods = {"average": open_baseline("average")}
    result = evaluate(methods, open_benchmark("middlebury", SHELF))
    assert result.mean("average", "ie") == pytest.approx(5.736, abs=0.001)
