"""Running methods over a dataset: means, resuming and errors."""

import sys
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from midflow.errors import MidflowError, MissingExtraError, OptionError
from midflow.evaluate import scores
from midflow.evaluate.benchmarks import open_benchmark
from midflow.evaluate.evaluation import EvalProgress, Evaluation, Row, evaluate
from midflow.evaluate.records import identify
from midflow.evaluate.run import EvalOptions
from midflow.evaluate.scores import PSNR_CEILING, build_scores
from midflow.interpolator import Interpolator
from midflow.video.image import write_image
from tests.evaluate.methods import Counting, small_network


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
    assert seen[0].eta_seconds is seen[1].eta_seconds is None
    assert seen[2].eta_seconds == 0
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
    assert identify(one) != identify(Interpolator(one.model, "cpu", protect="off"))
    assert identify(one) != identify(Interpolator(one.model, "cpu", wires="off"))


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


@pytest.mark.parametrize(
    ("trouble", "message"),
    [
        (RuntimeError("operator torchvision::nms does not exist"), "a torchvision built for torch"),
        (OSError("no route to host"), "fetches its AlexNet once, which failed: no route"),
    ],
)
def test_an_lpips_that_is_installed_and_does_not_work_says_why(
    monkeypatch: pytest.MonkeyPatch, trouble: Exception, message: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise trouble

    if isinstance(trouble, RuntimeError):
        monkeypatch.setattr(scores, "import_module", fail)
    else:
        monkeypatch.setitem(sys.modules, "lpips", SimpleNamespace(LPIPS=fail))
    with pytest.raises(MidflowError, match=message):
        build_scores(("lpips",))


def test_a_limit_spreads_over_the_set(ucf: Path) -> None:
    dataset = open_benchmark("ucf101", ucf).spread(2)
    assert [sample.name for sample in dataset] == ["1", "3"]
    assert dataset.notes[-1] == "2 of 3 samples"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dataset": "imagenet"}, "dataset must be one of clips, hard, middlebury"),
        ({"dataset": "hard"}, "dataset hard is drawn: leave the folder out"),
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
