import json
import logging
import os
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import midflow
from midflow.errors import CheckpointError, MidflowError, OptionError
from midflow.train import journal
from midflow.train.batch import Batch, Material
from midflow.train.config import LearningRate, LossWeights, Stage, TrainConfig
from midflow.train.learner import Learner, build_network, parameter_groups, update_average
from midflow.train.processes import Processes
from midflow.train.recipes import debug, paper
from midflow.train.state import RunFolder, State, read_log
from midflow.train.trainer import (
    flow_fading,
    learning_rate,
    run_share,
    train,
    train_on,
    warmup_share,
)
from tests.train.blobs import Blobs

CPU = torch.device("cpu")


def short(folder: Path, steps: int | None = 4, **changes: object) -> TrainConfig:
    return replace(debug(folder), **{"steps": steps, "batch": 2, "log_every": 1, **changes})


def content(folder: Path) -> dict[str, object]:
    return torch.load(folder / "checkpoint.pt", weights_only=True)


def assert_same(a: object, b: object, where: str = "") -> None:
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            if key not in ("seconds", "config"):
                assert_same(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, list):
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{where}[{i}]")
    else:
        assert a == b, where


class KilledError(Exception):
    pass


class KilledAt(Blobs):
    """Breaks off when a step is asked for."""

    def __init__(self, step: int) -> None:
        super().__init__()
        object.__setattr__(self, "last", step)

    def batch(self, step: int, *args: int, **kwargs: object) -> Batch:
        if step == self.last:
            raise KilledError
        return super().batch(step, *args, **kwargs)


class Poisoned(Blobs):
    """Pictures of one step, or of all from there on, are not numbers."""

    def __init__(self, steps: Sequence[int]) -> None:
        super().__init__()
        object.__setattr__(self, "steps", steps)

    def batch(self, step: int, *args: int, **kwargs: object) -> Batch:
        batch = super().batch(step, *args, **kwargs)
        return replace(batch, truth=batch.truth * float("nan")) if step in self.steps else batch


def test_loss_of_the_debug_recipe_falls_and_psnr_rises(tmp_path: Path) -> None:
    progress = []
    held = [Blobs(seed=9).batch(0, 2, 64, device=CPU)]
    result = train(debug(tmp_path), Blobs(), progress.append, held)
    assert [p.step for p in progress] == list(range(5, 45, 5))
    assert progress[-1].loss < 0.8 * progress[0].loss
    assert progress[-1].eta_seconds == 0
    assert progress[0].samples_per_second > 0
    looks = [
        line["psnr"]
        for line in read_log(tmp_path / "log.jsonl")
        if "kind" in line and line["kind"] == "validation"
    ]
    assert len(looks) == 2
    assert result.psnr == looks[-1]
    model = midflow.load_model(result.weights)
    assert model.config == debug(tmp_path).network


def test_resumed_run_equals_an_uninterrupted_one_bit_for_bit(tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(short(whole, 6, checkpoint_steps=2), Blobs())
    with pytest.raises(KilledError):
        train(short(parts, 6, checkpoint_steps=2), KilledAt(5))
    assert content(parts)["state"]["step"] == 4
    result = train(short(parts, 6, checkpoint_steps=2), Blobs())
    assert result.step == 6
    assert_same(content(parts), content(whole))
    assert (parts / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    for folder in (whole, parts):
        steps = [line["step"] for line in read_log(folder / "log.jsonl")]
        assert steps == [1, 2, 3, 4, 5, 6]


def test_finished_run_takes_no_further_step_and_may_be_made_longer(tmp_path: Path) -> None:
    train(short(tmp_path, 2), Blobs())
    assert train(short(tmp_path, 2), KilledAt(2)).step == 2
    assert train(short(tmp_path, 3), Blobs()).step == 3


def test_samples_made_ahead_and_accumulated_parts_change_nothing(tmp_path: Path) -> None:
    train(short(tmp_path / "a", 3), Blobs())
    train(short(tmp_path / "b", 3, prefetch=2), Blobs())
    assert_same(content(tmp_path / "a"), content(tmp_path / "b"))
    train(short(tmp_path / "c", 3, accumulate=2), Blobs())
    a, c = content(tmp_path / "a")["network"], content(tmp_path / "c")["network"]
    for key in a:
        torch.testing.assert_close(a[key], c[key], atol=1e-4, rtol=1e-2)


def test_run_of_seconds_ends_in_time_and_goes_through_its_stages(tmp_path: Path) -> None:
    crops = []

    class Watched(Blobs):
        def batch(self, step: int, size: int, crop: int, **kwargs: object) -> Batch:
            crops.append((crop, size))
            return super().batch(step, size, crop, **kwargs)

    stages = (Stage(0.5, 96, 1),)
    result = train(short(tmp_path, None, seconds=1.0, stages=stages), Watched())
    assert 1.0 <= result.seconds < 5
    assert result.step == len(crops)
    assert crops[0] == (64, 2)
    train(short(tmp_path / "steps", 4, stages=stages), Watched())
    assert crops[-4:] == [(64, 2), (64, 2), (96, 1), (96, 1)]


def test_step_that_is_not_finite_is_skipped_and_counted(tmp_path: Path) -> None:
    result = train(short(tmp_path, 4), Poisoned([1]))
    assert (result.step, result.skipped) == (4, 1)
    state = midflow.load_model(result.weights).state_dict()
    assert all(value.isfinite().all() for value in state.values())
    assert [line["loss"] is None for line in read_log(tmp_path / "log.jsonl")] == [
        False, True, False, False,
    ]  # fmt: skip


def test_run_that_keeps_failing_stops_with_an_error_and_keeps_its_checkpoint(
    tmp_path: Path,
) -> None:
    config = short(tmp_path, 40, patience=3, checkpoint_steps=2)
    with pytest.raises(MidflowError, match=r"3 steps in a row .* lower the learning rate"):
        train(config, Poisoned(range(3, 40)))
    assert content(tmp_path)["state"]["step"] == 4


def test_folder_of_another_run_is_refused_naming_what_differs(tmp_path: Path) -> None:
    config = short(tmp_path, 1)
    train(config, Blobs())
    before = (tmp_path / "checkpoint.pt").read_bytes()
    with pytest.raises(CheckpointError, match=r"seed = 0 there, 5 here"):
        train(replace(config, seed=5), Blobs())
    wider = replace(config.network, channels=(16, 8))
    with pytest.raises(CheckpointError, match=r"network.channels = \[8, 8\] there, \[16, 8\] here"):
        train(replace(config, network=wider), Blobs())
    assert (tmp_path / "checkpoint.pt").read_bytes() == before


def test_damaged_checkpoint_is_an_error_that_says_which(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(CheckpointError, match=r"checkpoint.pt is damaged"):
        train(short(tmp_path), Blobs())


def test_two_runs_in_one_folder_are_refused(tmp_path: Path) -> None:
    with RunFolder(tmp_path).lock():
        with pytest.raises(OptionError, match=f"in progress .process {os.getpid()}"):
            train(short(tmp_path), Blobs())
    assert train(short(tmp_path, 1), Blobs()).step == 1


def test_folder_that_is_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OptionError, match="cannot be a folder"):
        train(short(tmp_path / "file"), Blobs())


def test_full_disk_keeps_the_last_good_checkpoint_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    config = short(tmp_path, 6, checkpoint_steps=2)
    real, calls = os.fsync, []

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 3:  # configuration, checkpoint at 2, checkpoint at 4
            assert content(tmp_path)["state"]["step"] == 2
            raise OSError(28, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with caplog.at_level(logging.WARNING):
        assert train(config, Blobs()).step == 6
    assert "no checkpoint at step 4" in caplog.text
    assert "No space left on device); the one before is kept" in caplog.text
    assert content(tmp_path)["state"]["step"] == 6
    assert not list(tmp_path.glob(".*partial"))


def test_full_disk_at_the_end_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder(tmp_path)
    folder.write({"step": 1}, short(tmp_path))

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match="the one before is kept: make room"):
        folder.write({"step": 2}, short(tmp_path))
    assert content(tmp_path)["step"] == 1


def test_rate_warms_up_holds_and_decays() -> None:
    rate = LearningRate(peak=1.0e-3, floor=1e-5, warmup_steps=10, hold=0.5)
    assert learning_rate(rate, 0, 0.0) == 0
    assert learning_rate(rate, 5, 0.05) == pytest.approx(5e-4)
    assert learning_rate(rate, 10, 0.1) == learning_rate(rate, 50, 0.5) == 1e-3
    assert learning_rate(rate, 75, 0.75) == pytest.approx((1e-3 + 1e-5) / 2)
    assert learning_rate(rate, 100, 1.0) == pytest.approx(1e-5)
    linear = replace(rate, decay="linear")
    assert learning_rate(linear, 62, 0.625) == pytest.approx(1e-3 - 0.25 * (1e-3 - 1e-5))


def test_rate_of_the_paper_is_that_of_its_code() -> None:
    config = paper(Path("run"))
    for step in (0, 1999, 2000, 100_000, 228_299):
        share = run_share(config, step, 0)
        progress = (step - 2000) / (config.steps - 2000)
        cosine = torch.tensor(progress * torch.pi, dtype=torch.float64).cos().item() * 0.5 + 0.5
        code = 3e-4 * step / 2000 if step < 2000 else (3e-4 - 3e-6) * cosine + 3e-6
        assert learning_rate(config.rate, step, share, warmup_share(config)) == pytest.approx(
            code, rel=1e-9
        )


def test_share_of_a_run_is_by_steps_or_by_time_whichever_is_further() -> None:
    config = replace(debug(Path("run")), steps=100, seconds=50.0)
    assert run_share(config, 10, 20.0) == 0.4
    assert run_share(config, 60, 20.0) == 0.6
    assert run_share(config, 200, 20.0) == 1.0


def test_flow_loss_fades_over_its_part_of_the_run() -> None:
    assert [flow_fading(0.5, s) for s in (0, 0.25, 0.5, 0.9)] == [1, 0.5, 0, 0]
    assert flow_fading(0, 0.9) == 1


def test_average_moves_towards_the_weights_by_its_decay() -> None:
    average, network = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)
    for module, value in ((average, 1.0), (network, 3.0)):
        torch.nn.init.constant_(module.weight, value)
        torch.nn.init.constant_(module.bias, value)
    update_average(average, network, 0.75)
    assert average.weight.item() == 1.5
    assert network.weight.item() == 3


def test_average_follows_closely_at_first(tmp_path: Path) -> None:
    learner = Learner(short(tmp_path, ema=0.999), CPU)
    for parameter in learner.network.parameters():
        parameter.grad = torch.ones_like(parameter)
    before = learner.average.block0.lastconv[0].weight.clone()
    learner.step(1e-2)
    after = learner.network.block0.lastconv[0].weight
    expected = before + 0.9 * (after - before)
    torch.testing.assert_close(learner.average.block0.lastconv[0].weight, expected)


def test_fresh_network_averages_both_frames(tmp_path: Path) -> None:
    network = build_network(short(tmp_path))
    batch = Blobs().batch(0, 1, 64, device=CPU)
    frame = network(batch.img0, batch.img1, batch.timestep).frame
    torch.testing.assert_close(frame, (batch.img0 + batch.img1) / 2)


def test_only_kernels_decay_unless_everything_shall(tmp_path: Path) -> None:
    network = build_network(short(tmp_path))
    decayed, free = parameter_groups(dict(network.named_parameters()), short(tmp_path))
    assert decayed["weight_decay"] == 1e-3
    assert free["weight_decay"] == 0
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    kept = {names[id(parameter)] for parameter in free["params"]}
    assert "block0.convblock.0.beta" in kept
    assert "encode.cnn0.bias" in kept
    assert all(names[id(p)].endswith("weight") for p in decayed["params"])
    (everything,) = parameter_groups(
        dict(network.named_parameters()), short(tmp_path, decay_everything=True)
    )
    assert len(everything["params"]) == len(names)


def test_run_starts_from_given_weights(tmp_path: Path) -> None:
    first = train(short(tmp_path / "a", 2), Blobs())
    network = build_network(short(tmp_path / "b", init=str(first.weights)))
    assert_same(dict(network.state_dict()), dict(midflow.load_model(first.weights).state_dict()))
    other = replace(debug(tmp_path).network, channels=(16, 8))
    with pytest.raises(CheckpointError, match=r"channels = \(8, 8\) there, \(16, 8\) here"):
        build_network(short(tmp_path / "c", init=str(first.weights), network=other))


def test_feature_loss_counts_in_the_last_part_only(tmp_path: Path) -> None:
    progress = []
    losses = LossWeights(features=0.1, features_start=0.5)
    train(short(tmp_path, 4, losses=losses), Blobs(), progress.append)
    assert ["features" in p.losses for p in progress] == [False, False, True, True]


def test_board_gets_scalars_and_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {}

    class Board:
        def add_scalar(self, name: str, value: float, step: int) -> None:
            seen[name] = step

        def add_image(self, name: str, picture: torch.Tensor, step: int) -> None:
            seen[name] = tuple(picture.shape)

        def close(self) -> None:
            seen["closed"] = True

    monkeypatch.setattr(journal, "_open_board", lambda folder: Board())
    held = [Blobs(seed=9).batch(0, 1, 64, device=CPU)]
    result = train(short(tmp_path, 2, tensorboard=True), Blobs(), held=held)
    assert result.psnr is not None
    assert seen["train/loss"] == seen["train/loss/census"] == seen["validation/psnr"] == 2
    assert seen["validation/flow"] == seen["validation/frame"] == (3, 64, 64)
    assert seen["closed"]


def test_full_disk_ends_the_events_and_not_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Board:
        def add_scalar(self, name: str, value: float, step: int) -> None:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(journal, "_open_board", lambda folder: Board())
    assert train(short(tmp_path, 3, tensorboard=True), Blobs()).step == 3
    assert caplog.text.count("no further TensorBoard events: No space left on device") == 1


def test_missing_board_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    assert train(short(tmp_path, 1, tensorboard=True), Blobs()).step == 1
    assert "tensorboard is not installed: run pip install 'midflow[train]'" in caplog.text


def test_caller_keeps_its_random_numbers(tmp_path: Path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    train(short(tmp_path, 1), Blobs())
    assert torch.equal(torch.rand(2), expected)


def test_making_samples_ready_leaves_the_random_numbers_of_the_run(tmp_path: Path) -> None:
    def prepare(processes: Processes, state: State) -> Material:
        torch.rand(3)
        return Material(Blobs())

    train_on(short(tmp_path / "a", 1), prepare)
    train(short(tmp_path / "b", 1), Blobs())
    assert_same(content(tmp_path / "a"), content(tmp_path / "b"))


def test_log_survives_a_line_cut_short(tmp_path: Path) -> None:
    train(short(tmp_path, 2), Blobs())
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 3, "lo')
    train(short(tmp_path, 3), Blobs())
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3]


@pytest.mark.slow
def test_two_processes_equal_one_on_the_whole_batch(tmp_path: Path) -> None:
    script = tmp_path / "run.py"
    script.write_text(
        textwrap.dedent("""
        import sys
        from pathlib import Path
        import torch
        torch.set_num_threads(1)
        from tests.train.blobs import Blobs
        from tests.train.test_trainer import short
        from midflow.train.trainer import train
        train(short(Path(sys.argv[1]), 3, batch=4), Blobs())
        """)
    )
    root = Path(__file__).parents[2]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2",
                "--master-port=29613", str(script), str(tmp_path / "two")]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(root)}
    subprocess.run(torchrun, check=True, env=environment, cwd=root, timeout=300)
    train(short(tmp_path / "one", 3, batch=4), Blobs())
    one, two = content(tmp_path / "one")["network"], content(tmp_path / "two")["network"]
    for key in one:
        torch.testing.assert_close(one[key], two[key], atol=1e-4, rtol=1e-2)
