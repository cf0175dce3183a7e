"""A recorded step does what the step does, as far as a CPU can show; on a GPU, really recorded."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from midflow.train.batch import Batch
from midflow.train.learner import Learner
from midflow.train.objective import Objective, Outcome
from midflow.train.recipes import debug
from midflow.train.recorded import RecordedPass, pass_of
from tests.train.blobs import Blobs
from tests.train.test_optimizer import TINY

CPU = torch.device("cpu")


class Replay:
    """Does the work again and writes where a graph would have written."""

    def __init__(self, objective: Objective) -> None:
        self.objective = objective
        self.recorded = 0

    def record(
        self, work: Callable[[], tuple[Tensor, ...]]
    ) -> tuple[Callable[[], object], tuple[Tensor, ...]]:
        self.recorded += 1
        outputs = work()
        memory = {p: p.grad for p in self.objective.parameters()}
        for tensor in (*outputs, *memory.values()):  # a recording computes nothing
            if tensor is not None:
                tensor.fill_(float("nan"))

        def replay() -> None:
            self.objective.zero_grad(set_to_none=True)
            again = work()
            for kept, value in zip(outputs, again, strict=True):
                kept.copy_(value)
            for parameter, kept_gradient in memory.items():
                if kept_gradient is not None and parameter.grad is not None:
                    kept_gradient.copy_(parameter.grad)

        return replay, outputs

    def close(self) -> None:
        pass


def learner(folder: Path, device: torch.device = CPU) -> tuple[Learner, Objective]:
    config = replace(debug(folder), network=TINY, zero_heads=False)
    found = Learner(config, device)
    return found, Objective(found.network, config)


def sample(step: int, size: int = 2, crop: int = 64, device: torch.device = CPU) -> Batch:
    return Blobs().batch(step, size, crop, device=device).to(device)


def gradients(objective: Objective) -> dict[str, Tensor]:
    return {n: p.grad.clone() for n, p in objective.named_parameters() if p.grad is not None}


def expected(
    objective: Objective, batch: Batch, fading: float
) -> tuple[Outcome, dict[str, Tensor]]:
    objective.zero_grad(set_to_none=True)
    outcome = pass_of(objective, batch, batch.img0.new_tensor(fading))
    found = gradients(objective)
    objective.zero_grad(set_to_none=True)
    return outcome, found


def check(objective: Objective, run: RecordedPass, tolerance: float) -> None:
    """Five batches, the fourth of another size; each with a fading of its own."""
    for step, (size, fading) in enumerate([(2, 1.0), (2, 0.7), (2, 0.2), (3, 0.5), (3, 0.1)]):
        batch = sample(step, size, device=next(objective.parameters()).device)
        outcome, wanted = expected(objective, batch, fading)
        found = run(batch, batch.img0.new_tensor(fading))
        assert not found.loss.requires_grad
        torch.testing.assert_close(found, outcome, atol=tolerance, rtol=tolerance)
        torch.testing.assert_close(gradients(objective), wanted, atol=tolerance, rtol=tolerance)
        objective.zero_grad(set_to_none=True)


def test_every_batch_gets_its_own_gradients(tmp_path: Path) -> None:
    _, objective = learner(tmp_path)
    recorders: list[Replay] = []

    def make() -> Replay:
        recorders.append(Replay(objective))
        return recorders[-1]

    check(objective, RecordedPass(objective, make), 0)
    assert [recorder.recorded for recorder in recorders] == [1, 1]


def test_what_cannot_be_recorded_is_done_as_it_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _, objective = learner(tmp_path)

    class Broken(Replay):
        def record(self, work: Callable[[], tuple[Tensor, ...]]) -> None:  # type: ignore[override]
            work()
            raise RuntimeError("operation not permitted\nwhen stream is capturing")

    check(objective, RecordedPass(objective, lambda: Broken(objective)), 0)
    assert caplog.text.count("cannot be recorded here: going on without (operation not perm") == 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_cuda_graph_gives_the_same_gradients(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _, objective = learner(tmp_path, torch.device("cuda"))
    check(objective, RecordedPass(objective), 2e-3)
    assert "cannot be recorded" not in caplog.text
