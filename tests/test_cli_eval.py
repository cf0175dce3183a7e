"""`midflow eval`: what it prints, writes, refuses, and how it goes on after Ctrl-C."""

import json
import logging
from dataclasses import fields
from inspect import signature
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import midflow
from midflow import cli, cli_eval
from midflow.display import Display
from midflow.evaluate.baselines import BASELINES
from midflow.evaluate.run import DATASETS, EvalOptions
from midflow.evaluate.scores import METRICS
from midflow.video.image import read_image, write_image
from tests.crossfade import CrossFade, write_clock

SCENES = ("Beanbags", "Venus", "Walking")


@pytest.fixture(autouse=True)
def quick_model(monkeypatch):
    """Every model fades; the one called `other` is another network."""
    monkeypatch.setattr(
        midflow, "load_model", lambda source: CrossFade(has_timestep=source != "other")
    )


@pytest.fixture
def folder(tmp_path):
    """Three Middlebury scenes; the average misses their truth by 2, 4 and 6 levels."""
    for place, scene in enumerate(SCENES, 1):
        levels = {"frame10": 10, "frame10i11": 20 + 2 * place, "frame11": 30}
        for name, level in levels.items():
            path = tmp_path / "set" / scene / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_image(path, torch.full((1, 3, 40, 48), level / 255))
    return tmp_path / "set"


def call(*arguments):
    return CliRunner().invoke(cli.app, ["eval", *map(str, arguments)])


def scored(folder, *arguments):
    """A run on Middlebury beside averaging only."""
    return call(folder, "--dataset", "middlebury", "--baseline", "average", *arguments)


def test_models_and_baselines_stand_side_by_side(folder):
    result = scored(folder, "--model", "4.25", "--model", "other", "--metric", "ie")

    assert result.exit_code == 0, result.output
    assert [line.split() for line in result.stdout.splitlines()[:5]] == [
        ["middlebury:", "3", "samples,", "3", "frames"],
        ["IE"],
        ["4.25", "4.000*"],
        ["other", "4.000*"],
        ["average", "4.000*"],
    ]
    assert "cross-fade, float32, torch on" in result.stderr


def test_json_is_all_that_is_printed(folder):
    result = scored(folder, "--json")
    said = json.loads(result.stdout)
    assert said["means"]["cross-fade"]["ie"] == pytest.approx(4, abs=1e-3)
    assert said["groups"]["average"]["ie"]["Walking"] == pytest.approx(6, abs=1e-3)
    assert len(said["frames"]) == 6


def test_quiet_prints_the_table_only(folder):
    result = scored(folder, "--quiet")
    assert result.stderr == ""
    assert result.stdout.startswith("middlebury: 3 samples")


def test_clips_are_evaluated_without_naming_a_dataset(tmp_path):
    write_clock(tmp_path / "a.mkv", [k / 10 for k in range(9)])
    said = json.loads(call(tmp_path, "--factor", "4", "--per-clip", "all", "--json").stdout)
    assert said["dataset"] == "clips x4"
    assert [row["timestep"] for row in said["frames"][:3]] == ["1/4", "1/2", "3/4"]
    assert {row["sample"] for row in said["frames"]} == {"a.mkv:0", "a.mkv:4"}


def test_the_report_holds_the_page_the_figures_and_the_sheet(folder, tmp_path):
    result = scored(folder, "--report", tmp_path / "report", "--worst", "2", "--limit", "2")
    assert result.exit_code == 0, result.output
    names = sorted(path.name for path in (tmp_path / "report").iterdir())
    assert names == ["records.jsonl", "report.html", "report.json", "worst.png"]
    assert (tmp_path / "report/report.html").read_text().count("<h3>") == 2
    assert read_image(tmp_path / "report/worst.png")[0].shape[1] == 3


def test_the_report_is_the_same_after_an_interruption(folder, tmp_path, monkeypatch):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert scored(folder, "--worst", "1", "--report", whole).exit_code == 0

    def interrupt(display, progress):
        if progress.done == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Display, "evaluation", interrupt)
        result = scored(folder, "--worst", "1", "--report", stopped)
    assert result.exit_code == 130
    assert "records.jsonl keeps what is finished; the same command goes on" in result.stderr

    seen = []
    monkeypatch.setattr(Display, "evaluation", lambda display, progress: seen.append(progress))
    assert scored(folder, "--worst", "1", "--report", stopped).exit_code == 0
    assert seen[-1].resumed == 2
    for name in ("report.json", "report.html", "worst.png"):
        assert (stopped / name).read_bytes() == (whole / name).read_bytes()


def test_an_interrupted_run_without_records_says_how_to_keep_them(folder, monkeypatch):
    def interrupt(display, progress):
        raise KeyboardInterrupt

    monkeypatch.setattr(Display, "evaluation", interrupt)
    result = scored(folder)
    assert result.exit_code == 130
    assert "with --report FOLDER or --records FILE a run can go on" in result.stderr


def test_records_of_another_model_are_noticed_and_not_mixed_in(folder, tmp_path, monkeypatch):
    options = ("--records", tmp_path / "records.jsonl", "--model", "mine")
    assert scored(folder, *options).exit_code == 0
    monkeypatch.setattr(midflow, "load_model", lambda source: CrossFade(has_timestep=False))
    result = scored(folder, *options)
    assert "has mine on middlebury with other weights, options," in result.stderr
    assert "has average on" not in result.stderr
    lines = (tmp_path / "records.jsonl").read_text().splitlines()
    assert len(lines) == 3 * 2 + 3


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (["--dataset", "midlebury"], 2, "dataset must be one of clips, hard, middlebury"),
        (["--dataset", "ucf101"], 2, "this looks like Middlebury OTHER"),
        ([], 2, "this looks like dataset middlebury"),
        (["--dataset", "hard"], 2, "dataset hard is drawn: leave the folder out"),
        (["--dataset", "middlebury", "--factor", "4"], 2, "--factor is for clips"),
        (["--dataset", "middlebury", "--per-clip", "2"], 2, "--per-clip is for clips"),
        (["--per-clip", "few"], 2, "--per-clip must be a number or all, got 'few'"),
        (["--factor", "3"], 2, "factor must be one of (2, 4, 8)"),
        (["--limit", "0"], 2, "limit must be at least 1"),
        (["--dataset", "middlebury", "--model", "average"], 2, "'average' is a baseline"),
    ],
)
def test_wrong_arguments_are_told_what_would_do(folder, arguments, code, reason):
    result = call(folder, *arguments)
    assert result.exit_code == code
    assert reason in result.stderr
    assert result.stdout == ""


def test_a_folder_is_asked_for():
    result = call()
    assert result.exit_code == 2
    assert "dataset clips is read from a folder: say which" in result.stderr


def test_a_missing_opencv_is_told_once(folder, monkeypatch):
    monkeypatch.setattr("midflow.evaluate.baselines.find_spec", lambda name: None)
    result = call(folder, "--dataset", "middlebury")
    assert result.stderr.count("run pip install 'midflow[eval]'") == 1
    assert "average" in result.stdout
    assert logging.getLogger("midflow").handlers == []


def test_every_field_of_the_options_is_an_option_and_every_choice_is_in_the_help():
    parameters = set(signature(cli_eval.evaluate).parameters)
    options = {field.name for field in fields(EvalOptions)}
    assert options <= parameters
    text = "".join(call("--help").output.split())
    assert all(name in text for name in (*DATASETS, *METRICS, *BASELINES))
    assert f"default:{EvalOptions(Path('.')).worst}." in text
