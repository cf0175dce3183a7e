"""Running methods over a dataset: means, resuming, reports and errors."""

import json
import sys
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from torch import Tensor

from midflow.errors import MidflowError, MissingExtraError, OptionError
from midflow.evaluate.baselines import Average
from midflow.evaluate.benchmarks import open_benchmark
from midflow.evaluate.cases import find_worst, heat
from midflow.evaluate.evaluation import EvalProgress, Evaluation, Row, evaluate
from midflow.evaluate.lettering import caption
from midflow.evaluate.records import identify
from midflow.evaluate.report import format_table
from midflow.evaluate.run import EvalOptions, run
from midflow.evaluate.scores import PSNR_CEILING, build_scores
from midflow.interpolator import Interpolator
from midflow.nets.config import IFNetConfig
from midflow.nets.ifnet import IFNet
from midflow.video.image import read_image, write_image


class Counting:
    """Paints frame 0 and counts how often."""

    def __init__(self, identity: str | None = "counting") -> None:
        self.identity = identity
        self.calls = 0

    def __call__(self, img0: Tensor, img1: Tensor, timestep: float) -> Tensor:
        self.calls += 1
        return img0


@pytest.fixture
def ucf(tmp_path: Path) -> Path:
    """Three triplets; frame 0 misses the truth by 10, 20 and 30 levels."""
    for number in (1, 2, 3):
        folder = tmp_path / f"ucf/{number}"
        folder.mkdir(parents=True)
        for name, level in (("00", 10), ("01_gt", 10 + 10 * number), ("02", 100)):
            write_image(folder / f"frame_{name}.png", torch.full((1, 3, 40, 48), level / 255))
    return tmp_path / "ucf"


def small_network(seed: int) -> Interpolator:
    torch.manual_seed(seed)
    return Interpolator(IFNet(IFNetConfig(channels=(8, 8), scales=(2, 1), depths=(1, 1))), "cpu")


def test_every_frame_is_scored_and_averaged(ucf: Path) -> None:
    result = evaluate({"first": Counting()}, open_benchmark("ucf101", ucf), metrics=("ie",))
    assert [row.scores["ie"] for row in result.rows] == pytest.approx([10, 20, 30], abs=1e-3)
    assert result.mean("first", "ie") == pytest.approx(20, abs=1e-3)


def test_a_clip_counts_once_however_many_samples_it_has() -> None:
    rows = [("a", 1.0), ("a", 3.0), ("b", 8.0)]
    made = tuple(
        Row("m", f"{group}{k}", group, Fraction(1, 2), {"ie": value})
        for k, (group, value) in enumerate(rows)
    )
    result = Evaluation("clips", ("ie",), {"m": "x"}, made)
    assert result.groups("m", "ie") == {"a": 2, "b": 8}
    assert result.mean("m", "ie") == 5


def test_a_stopped_run_goes_on_where_it_was_and_equals_a_whole_one(
    ucf: Path, tmp_path: Path
) -> None:
    dataset, records = open_benchmark("ucf101", ucf), tmp_path / "records.jsonl"
    whole = evaluate({"m": Counting()}, dataset)

    def stop_after_two(progress: EvalProgress) -> None:
        if progress.done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate({"m": Counting()}, dataset, records=records, on_progress=stop_after_two)
    with records.open("a") as file:
        file.write('{"dataset": "ucf101", "sam')  # killed while writing
    method, seen = Counting(), []
    result = evaluate({"m": method}, dataset, records=records, on_progress=seen.append)
    assert method.calls == 1
    assert seen[-1].resumed == 2
    assert result.to_dict() == whole.to_dict()
    assert len(records.read_text().splitlines()) == 3


def test_another_metric_file_or_identity_is_computed_anew(ucf: Path, tmp_path: Path) -> None:
    dataset, records = open_benchmark("ucf101", ucf), tmp_path / "records.jsonl"
    evaluate({"m": Counting()}, dataset, records=records)

    def calls(identity: str = "counting", metrics: tuple[str, ...] = ()) -> int:
        method = Counting(identity)
        evaluate({"m": method}, dataset, records=records, metrics=metrics)
        return method.calls

    assert calls() == 0
    assert calls(metrics=("ie",)) == 3
    assert calls(identity="other") == 3
    write_image(ucf / "1/frame_00.png", torch.rand(1, 3, 40, 48), overwrite=True)
    assert calls() == 1


def test_a_method_that_does_not_say_what_it_is_is_never_resumed(ucf: Path, tmp_path: Path) -> None:
    dataset, records = open_benchmark("ucf101", ucf), tmp_path / "records.jsonl"
    for _ in range(2):
        method = Counting(None)
        evaluate({"m": method}, dataset, records=records)
        assert method.calls == 3


def test_weights_and_options_make_the_identity_of_an_interpolator() -> None:
    one = small_network(0)
    assert identify(one) == identify(small_network(0))
    assert identify(one) != identify(small_network(1))
    assert identify(one) != identify(Interpolator(one.model, "cpu", flow_scale=0.5))


def test_two_runs_of_a_network_agree_to_the_last_bit(ucf: Path) -> None:
    dataset = open_benchmark("ucf101", ucf)
    results = [evaluate({"net": small_network(0)}, dataset).to_dict() for _ in range(2)]
    assert results[0] == results[1]


def test_a_file_that_is_no_record_is_left_alone(ucf: Path, tmp_path: Path) -> None:
    path = tmp_path / "letter.txt"
    path.write_text("dear friend\n")
    with pytest.raises(OptionError, match="is not a record of an evaluation"):
        evaluate({"m": Counting()}, open_benchmark("ucf101", ucf), records=path)
    assert path.read_text() == "dear friend\n"


def test_bad_frames_are_refused_with_the_name_of_the_method(ucf: Path) -> None:
    dataset = open_benchmark("ucf101", ucf)
    with pytest.raises(MidflowError, match="tiny must give a frame of shape"):
        evaluate({"tiny": lambda a, b, t: a[..., :4, :4]}, dataset)
    with pytest.raises(MidflowError, match="broken gave values that are not finite"):
        evaluate({"broken": lambda a, b, t: a / 0}, dataset)
    with pytest.raises(OptionError, match="at least one interpolator"):
        evaluate({}, dataset)


def test_equal_pictures_have_a_finite_psnr_and_rounding_comes_first() -> None:
    truth = torch.full((1, 3, 16, 16), 100 / 255)
    scores = build_scores(("psnr", "psnr_luma", "ssim", "ie"))
    found = {name: score(truth + 0.4 / 255, truth) for name, score in scores.items()}
    assert found["psnr"] == found["psnr_luma"] == pytest.approx(PSNR_CEILING)
    assert found["ssim"] == pytest.approx(1)
    assert found["ie"] == pytest.approx(0, abs=1e-4)


def test_luma_ignores_what_only_colour_loses() -> None:
    truth = torch.full((1, 3, 16, 16), 100 / 255)
    shifted = truth.clone()
    shifted[:, 2] += 10 / 255  # blue: 0.114 of luma
    found = {name: score(shifted, truth) for name, score in build_scores(("psnr_luma",)).items()}
    assert found["psnr_luma"] == pytest.approx(
        20 * torch.tensor(255 / 1.14).log10().item(), abs=1e-3
    )


def test_lpips_names_its_extra_and_unknown_metrics_the_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "lpips", None)
    with pytest.raises(MissingExtraError, match=r"midflow\[lpips\]"):
        build_scores(("lpips",))
    with pytest.raises(OptionError, match="metrics must be among psnr, "):
        build_scores(("vmaf",))


def test_the_worst_frame_comes_first_and_its_window_holds_the_error(ucf: Path) -> None:
    truth = torch.full((1, 3, 40, 48), 40 / 255)
    truth[..., 30:, 36:] = 1
    write_image(ucf / "2/frame_01_gt.png", truth, overwrite=True)
    methods, dataset = {"m": Counting()}, open_benchmark("ucf101", ucf)
    cases = find_worst(evaluate(methods, dataset, metrics=("ie",)), methods, dataset, 2)
    assert [case.name for case in cases] == ["2", "3"]
    top, left, height, width = cases[0].window
    assert (top >= 30, left >= 36) == (True, True)
    assert (height, width) == (8, 9)
    assert cases[0].painted[0].flow is None


def test_error_runs_from_black_to_white() -> None:
    truth = torch.zeros(1, 3, 1, 2)
    painted = torch.tensor([0.0, 1.0]).expand(1, 3, 1, 2)
    assert heat(painted, truth)[0, :, 0].T.tolist() == [[0, 0, 0], [1, 1, 1]]


def test_a_run_writes_a_report_that_needs_nothing_else(ucf: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out/report"
    options = EvalOptions(ucf, "ucf101", baselines=("average",), report=folder, worst=2)
    result = run(options, {"net <1>": small_network(0)})
    page = (folder / "report.html").read_text()
    assert page.count('src="data:image/') == page.count("<img") > 0
    assert "http" not in page
    assert "net &lt;1&gt;" in page
    saved = json.loads((folder / "report.json").read_text())
    assert saved["means"]["average"]["psnr"] == result.mean("average", "psnr")
    sheet, _ = read_image(folder / "worst.png")
    assert sheet.shape[-1] == 5 * 320 + 4 * 4


def test_the_table_marks_the_best_and_keeps_the_notes(ucf: Path) -> None:
    methods = {"first": Counting(), "average": Average()}
    table = format_table(evaluate(methods, open_benchmark("ucf101", ucf), metrics=("ie",)))
    lines = table.splitlines()
    assert lines[0] == "ucf101: 3 samples, 3 frames"
    assert lines[2].split() == ["first", "20.000*"]
    assert lines[3].split() == ["average", "25.000"]
    assert "do not compare with papers" in lines[-1]


def test_a_limit_spreads_over_the_set(ucf: Path) -> None:
    dataset = open_benchmark("ucf101", ucf).spread(2)
    assert [sample.name for sample in dataset] == ["1", "3"]
    assert dataset.notes[-1] == "2 of 3 samples"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dataset": "imagenet"}, "dataset must be one of clips, middlebury"),
        ({"factor": 3}, "factor must be one of"),
        ({"per_clip": 0}, "per_clip must be at least 1"),
        ({"limit": 0}, "limit must be at least 1"),
        ({"worst": 0}, "worst must be at least 1"),
        ({"metrics": ("vmaf",)}, "metrics must be among"),
        ({"baselines": ("magic",)}, "baselines must be among"),
    ],
)
def test_options_outside_their_range_are_refused(options: dict, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        EvalOptions(Path("."), **options)


def test_captions_show_each_character_and_cut_what_does_not_fit() -> None:
    assert torch.equal(caption("psnr", 200), caption("PSNR", 200))
    assert not torch.equal(caption("8", 200), caption("0", 200))
    assert caption("a very long caption", 30).shape == (3, 26, 30)
