"""Forward and backward pass of a step as one CUDA graph.

A step of a small network is some five thousand launches; a GPU is done with most of them sooner
than the processor has made the next. Recorded once for each size of batch, they are started as one.
"""

import logging
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from torch import Tensor, nn

from midflow.recorder import CudaRecorder, Recorder
from midflow.train.batch import Batch
from midflow.train.config import TrainConfig
from midflow.train.objective import Objective, Outcome
from midflow.train.processes import Processes

logger = logging.getLogger(__name__)


class RecordedPass:
    """Looks at a batch and leaves the gradient of its loss in the network, as `pass_of` does.

    The first batch of a size is looked at launch by launch, so that everything is compiled and
    chosen; from the second on the recording is played. Where it cannot be recorded, that is said
    once, and all goes on launch by launch.

    Args:
        objective: on a CUDA device; nothing in it may wait for the device.
        make_recorder: of launches.
    """

    def __init__(
        self, objective: Objective, make_recorder: Callable[[], Recorder] = CudaRecorder
    ) -> None:
        self._objective = objective
        self._make_recorder = make_recorder
        self._known: dict[Hashable, _Recording | None] = {}
        self._has_failed = False

    def __call__(self, batch: Batch, fading: Tensor, encoder: nn.Module | None = None) -> Outcome:
        """See `Objective`; the gradients are those of this batch alone."""
        if self._has_failed or encoder is not None:
            return pass_of(self._objective, batch, fading, encoder)
        key = tuple((name, value.shape) for name, value in batch.tensors().items())
        if key not in self._known:
            self._known = {key: None}  # one size at a time: a recording holds a step's memory
            return pass_of(self._objective, batch, fading)
        try:
            recording = self._known[key]
            if recording is None:
                recording = _record(self._objective, batch, fading, self._make_recorder())
                self._known[key] = recording
            return recording.play(batch, fading)
        except RuntimeError as error:
            self._has_failed = True
            self._known.clear()
            reason = str(error).partition("\n")[0]
            logger.warning("training steps cannot be recorded here: going on without (%s)", reason)
        self._objective.zero_grad(set_to_none=True)
        return pass_of(self._objective, batch, fading)


def is_recorded(config: TrainConfig, processes: Processes) -> bool:
    """Whether steps are played from a CUDA graph: on one GPU, in one part, not compiled."""
    is_alone = processes.count == 1 and config.accumulate == 1
    return config.graphs and processes.device.type == "cuda" and is_alone and not config.compile


def pass_of(
    model: nn.Module, batch: Batch, fading: Tensor, encoder: nn.Module | None = None, parts: int = 1
) -> Outcome:
    """Forward and backward pass; the gradient of the loss over `parts` is added to what is there.

    Args:
        model: an `Objective`, or one that is wrapped.
        batch: see there.
        fading: see there.
        encoder: see there.
        parts: of the step.

    Returns:
        What the objective saw, detached.
    """
    outcome: Outcome = model(batch, fading, encoder)
    (outcome.loss / parts).backward()  # type: ignore[no-untyped-call]
    return outcome._replace(loss=outcome.loss.detach())


@dataclass(frozen=True)
class _Recording:
    """One size, recorded."""

    batch: Batch
    """What the recording reads."""
    fading: Tensor
    """Likewise."""
    replay: Callable[[], object]
    """Plays it."""
    gradients: list[tuple[nn.Parameter, Tensor]]
    """What it writes, beside the outcome."""
    outcome: Outcome

    def play(self, batch: Batch, fading: Tensor) -> Outcome:
        given = batch.tensors()
        for name, kept in self.batch.tensors().items():
            kept.copy_(given[name])
        self.fading.copy_(fading)
        self.replay()
        for parameter, gradient in self.gradients:
            parameter.grad = gradient
        parts = {name: value.clone() for name, value in self.outcome.parts.items()}
        return Outcome(self.outcome.loss.clone(), parts, self.outcome.squared_error.clone())


def _record(objective: Objective, batch: Batch, fading: Tensor, recorder: Recorder) -> _Recording:
    kept, factor = batch.clone(), fading.clone()
    names: list[str] = []

    def work() -> tuple[Tensor, ...]:
        loss, parts, error = pass_of(objective, kept, factor)
        names[:] = parts
        return loss, error, *parts.values()

    objective.zero_grad(set_to_none=True)  # the gradients belong to the recording's memory
    replay, (loss, error, *parts) = recorder.record(work)
    gradients = [(p, p.grad) for p in objective.parameters() if p.grad is not None]
    outcome = Outcome(loss, dict(zip(names, parts, strict=True)), error)
    return _Recording(kept, factor, replay, gradients, outcome)
