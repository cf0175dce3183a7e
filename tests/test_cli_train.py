import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from midflow import cli
from midflow.train.layouts import LAYOUTS
from midflow.train.recipes import RECIPES
from midflow.train.state import RunFolder, read_log
from tests.train.footage import moving_clip, write_picture

ROOT = Path(__file__).parents[1]
CLIP = ROOT / "examples" / "running.mp4"


def call(*arguments):
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


@pytest.fixture
def clips(tmp_path):
    """Two clips of 64 x 64 pixels."""
    (tmp_path / "clips").mkdir()
    for name in "ab":
        moving_clip(tmp_path / "clips" / f"{name}.mp4")
    return tmp_path / "clips"


def debug(clips, run, *more, steps=2):
    return ("train", clips, "--recipe", "debug", "--out", run, "--steps", steps, *more)


def assert_one_line(result, code, reason):
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    lines = [line for line in result.stderr.splitlines() if line.startswith("midflow: ")]
    assert len(lines) == 1, result.stderr
    assert reason in lines[0]
    assert "Traceback" not in result.stderr


def checkpoint(run):
    return torch.load(run / "checkpoint.pt", weights_only=True)


def test_debug_recipe_learns_and_the_same_command_goes_on(tmp_path):
    run = tmp_path / "run"
    result = call("train", CLIP, "--recipe", "debug", "--out", run)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(f"{run / 'model.safetensors'}: 40 steps in ")
    assert "4 crops of 64 pixels a step, float32 on cpu (asked for)" in result.stderr
    assert "step 40 (100%), loss 0." in result.stderr
    log = read_log(run / "log.jsonl")
    losses = [line["losses"]["charbonnier"] for line in log]
    assert losses == sorted(losses, reverse=True)
    assert log[-1]["loss"] < 0.95 * log[0]["loss"]
    assert log[-1]["psnr"] > log[0]["psnr"] + 0.5

    longer = call(*debug(CLIP, run, steps=45))
    assert longer.exit_code == 0, longer.output
    assert "going on from step 40" in longer.stderr
    assert [line["step"] for line in read_log(run / "log.jsonl")] == list(range(5, 50, 5))


def test_options_and_settings_reach_the_run(clips, tmp_path):
    run, held = tmp_path / "run", tmp_path / "held"
    held.mkdir()
    moving_clip(held / "c.mp4")
    result = call(
        *debug(clips, run, "--batch", 2, "--crop", 64, "--seed", 7, "--device", "cpu"),
        *("--synthetic", 0.5, "--held", held, "--layout", "clips", "--cache", tmp_path / "cache"),
        *("--memory", 1, "--set", "rate.peak=5e-4", "--set", "losses.census=0", "--quiet"),
    )
    assert (result.exit_code, result.output) == (0, "")
    told = json.loads((run / "config.json").read_text())
    assert (told["batch"], told["seed"], told["steps"]) == (2, 7, 2)
    assert (told["rate"]["peak"], told["losses"]["census"]) == (5e-4, 0)
    assert (run / "scenes" / "rendered.json").exists()
    assert len(list((tmp_path / "cache").glob("*.u8"))) == 2
    kinds = [line["kind"] for line in read_log(run / "log.jsonl")]
    assert kinds == ["validation"]


def test_help_names_every_recipe_and_layout():
    text = " ".join(call("train", "--help").output.split())
    for name in (*RECIPES, *LAYOUTS):
        assert name in text


def broken(folder):
    (folder / "a.mp4").write_bytes(b"not a video")


def too_short(folder):
    moving_clip(folder / "a.mp4", frames=2)


def small(folder):
    moving_clip(folder / "a.mp4", size=(48, 48))


def documents(folder):
    (folder / "notes.txt").write_text("dear diary")


@pytest.mark.parametrize(
    ("make", "code", "reason"),
    [
        (documents, 2, "has not the layout of clips"),
        (broken, 1, "none of the clips can be read"),
        (too_short, 2, "none of 1 clips has three frames of one scene with motion"),
        (small, 2, "the crop of 64 pixels does not fit into any clip: the largest is a.mp4"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_clips_that_cannot_be_used_are_one_line(tmp_path, make, code, reason):
    (tmp_path / "data").mkdir()
    make(tmp_path / "data")
    assert_one_line(call(*debug(tmp_path / "data", tmp_path / "run")), code, reason)
    assert not (tmp_path / "run" / "checkpoint.pt").exists()


def test_one_bad_clip_among_good_ones_is_a_warning(clips, tmp_path):
    broken(clips)
    result = call(*debug(clips, tmp_path / "run"))
    assert result.exit_code == 0, result.output
    assert "warning: left out: " in result.stderr
    assert "a.mp4" in result.stderr


@pytest.mark.parametrize(
    ("more", "code", "reason"),
    [
        (["--set", "rate.peek=1"], 2, "there is no field rate.peek: choose one of rate.peak"),
        (["--set", "batch=6", "--batch", "4"], 2, "batch is given twice, by --batch and by --set"),
        (["--seconds", "5", "--hours", "1"], 2, "--seconds and --hours exclude each other"),
        (["--steps", "0"], 2, "a run must be longer"),
        (["--crop", "100"], 2, "crop must be a multiple of"),
        (["--recipe", "best"], 2, "recipe must be one of debug"),
        (["--layout", "imagenet"], 2, "layout must be one of auto, clips"),
        (["--layout", "vimeo_triplet"], 2, "has not the layout of Vimeo90K triplets"),
        (["--synthetic", "2"], 2, "synthetic must be a share"),
        (["--device", "abacus"], 2, "device must be auto"),
        (["--init", "5.0"], 1, "no model is called '5.0'"),
        (
            ["--init", "midflow-2"],
            1,
            "midflow-2 holds another network (PyramidConfig there, IFNetConfig here)",
        ),
        (["--report", "elsewhere"], 2, "give it without DATA and --out"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_option_is_one_line(clips, tmp_path, more, code, reason):
    assert_one_line(call(*debug(clips, tmp_path / "run", *more)), code, reason)


def test_data_and_folder_are_required(clips, tmp_path):
    assert_one_line(call("train", clips), 2, "train takes DATA... and --out RUN")
    assert_one_line(call("train", "--out", tmp_path), 2, "train takes DATA... and --out RUN")


def test_run_of_another_network_is_refused_and_kept(clips, tmp_path):
    run = tmp_path / "run"
    assert call(*debug(clips, run)).exit_code == 0
    before = (run / "checkpoint.pt").read_bytes()
    refused = call(*debug(clips, run, "--set", "network.channels=16,8"))
    assert_one_line(refused, 1, "network.channels = [8, 8] there, [16, 8] here")
    assert (run / "checkpoint.pt").read_bytes() == before


def test_two_runs_in_one_folder_are_refused_before_anything_is_read(clips, tmp_path):
    broken(clips)
    with RunFolder(tmp_path / "run").lock():
        result = call(*debug(clips, tmp_path / "run"))
    assert_one_line(result, 2, f"belongs to a run in progress (process {os.getpid()})")
    assert "left out" not in result.stderr


def test_full_disk_is_an_error_and_the_last_checkpoint_stays(clips, tmp_path, monkeypatch):
    run = tmp_path / "run"
    assert call(*debug(clips, run)).exit_code == 0
    weights = (run / "model.safetensors").read_bytes()

    real, calls = os.fsync, []

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) > 1:  # the configuration is written first
            raise OSError(28, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    failed = call(*debug(clips, run, steps=4))
    assert_one_line(failed, 1, "No space left on device); the one before is kept: make room")
    assert checkpoint(run)["state"]["step"] == 2
    assert (run / "model.safetensors").read_bytes() == weights
    monkeypatch.undo()
    assert call(*debug(clips, run, steps=4)).exit_code == 0
    assert checkpoint(run)["state"]["step"] == 4


def test_interrupt_says_how_to_go_on(clips, tmp_path, monkeypatch):
    from midflow.train import sources

    def stopped(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(sources, "open_material", stopped)
    result = call(*debug(clips, tmp_path / "run"))
    assert result.exit_code == 130
    assert "midflow: interrupted: the same command goes on from the last" in result.stderr


def test_report_draws_the_curves(clips, tmp_path):
    run = tmp_path / "run"
    assert_one_line(call("train", "--report", run), 2, "is it the log of a run?")
    assert call(*debug(clips, run, "--set", "log_every=1", steps=3)).exit_code == 0
    result = call("train", "--report", run)
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{run / 'curves.png'}\n"
    assert (run / "curves.png").stat().st_size > 1000


def test_list_of_triplets_is_learnt_from(tmp_path):
    names = [write_picture(tmp_path / f"{k}.png", k, (64, 64)).name for k in range(3)]
    (tmp_path / "list.txt").write_text(" ".join(names))
    result = call(*debug(tmp_path / "list.txt", tmp_path / "run"))
    assert result.exit_code == 0, result.output


def test_data_check_reports_clips(clips):
    moving_clip(clips / "c.mp4", frames=2)
    (clips / "d.mp4").write_bytes(b"not a video")
    result = call("data", "check", clips)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].split() == "name size frames/s frames cuts repeated motion problem".split()
    assert lines[1].split()[:6] == ["a.mp4", "64x64", "25", "12", "0", "0"]
    assert float(lines[1].split()[6]) == pytest.approx(2, abs=0.3)
    assert "too short: 2 frames that differ, 3 are required" in lines[3]
    assert lines[-1] == (
        "clips: 4; 2 of 4 can be used; the smallest side is 64 pixels: no crop should be larger"
    )
    told = json.loads(call("data", "check", clips, "--json").stdout)
    assert [row["frames"] for row in told["rows"]] == [12, 12, 2, 0]


def test_data_check_of_what_cannot_be_used_fails(tmp_path):
    assert_one_line(call("data", "check", tmp_path), 2, "has not the layout of clips")
    assert_one_line(call("data", "check", tmp_path / "no"), 1, "cannot be read as a folder")
    (tmp_path / "a.mp4").write_bytes(b"not a video")
    assert call("data", "check", tmp_path).exit_code == 1


def start(*arguments, launcher=("-m", "midflow")):
    command = [sys.executable, *launcher, *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def finish(process):
    said, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    return said, errors


def kill_after_a_checkpoint(process, run):
    """Ends the process that holds the folder as a power cut would."""
    deadline = time.monotonic() + 600
    while not (run / "checkpoint.pt").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(int((run / "lock").read_text()), signal.SIGKILL)
    process.communicate(timeout=600)
    assert process.returncode != 0
    return checkpoint(run)["state"]["step"]


def assert_same_run(one, other):
    assert (one / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes()
    a, b = checkpoint(one), checkpoint(other)
    for part in ("network", "average"):
        assert all(torch.equal(value, b[part][key]) for key, value in a[part].items())
    for ours, theirs in zip(a["optimizers"], b["optimizers"], strict=True):
        for k, moments in ours["state"].items():
            for key, value in moments.items():
                assert torch.equal(value, theirs["state"][k][key])
    assert torch.equal(a["random"], b["random"])
    logs = [[(x["step"], x["loss"]) for x in read_log(run / "log.jsonl")] for run in (one, other)]
    assert logs[0] == logs[1]


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="sends SIGKILL")
@pytest.mark.parametrize("prefetch", [0, 2])
def test_killed_run_goes_on_to_the_bit_where_it_was(clips, tmp_path, prefetch):
    more = ("--synthetic", "0.5", "--set", f"prefetch={prefetch}")
    finish(start(*debug(clips, tmp_path / "whole", *more, steps=100)))
    command = debug(clips, tmp_path / "killed", *more, steps=100)
    step = kill_after_a_checkpoint(start(*command), tmp_path / "killed")
    assert 0 < step < 100
    _, errors = finish(start(*command))
    assert f"going on from step {step}" in errors
    assert_same_run(tmp_path / "whole", tmp_path / "killed")


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="sends SIGKILL")
def test_killed_run_of_two_processes_goes_on_to_the_bit_where_it_was(clips, tmp_path):
    launcher = (
        *("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
        *("-m", "midflow"),
    )
    more = ("--synthetic", "0.5")
    said, errors = finish(
        start(*debug(clips, tmp_path / "whole", *more, steps=100), launcher=launcher)
    )
    assert said.count("100 steps in") == 1
    assert errors.count("2 processes") == 1
    command = debug(clips, tmp_path / "killed", *more, steps=100)
    step = kill_after_a_checkpoint(start(*command, launcher=launcher), tmp_path / "killed")
    assert 0 < step < 100
    finish(start(*command, launcher=launcher))
    assert_same_run(tmp_path / "whole", tmp_path / "killed")
