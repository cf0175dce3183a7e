"""The training loop: the same on a CPU, a GPU, or many under torchrun.

    result = train(default_cpu(Path("runs/mine")), source, on_progress=print)

A run found in the folder goes on where its last checkpoint was; N steps in one go and N steps in
parts give the same weights, bit for bit on one machine.
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from midflow.errors import CheckpointError, MidflowError
from midflow.nets.saving import save_model
from midflow.train.batch import Batch, Material, Source
from midflow.train.config import TrainConfig
from midflow.train.journal import Journal, Progress
from midflow.train.learner import Learner
from midflow.train.objective import Objective, Outcome, frozen_encoder
from midflow.train.pace import flow_fading, learning_rate, run_share, warmup_share
from midflow.train.processes import Processes, joined
from midflow.train.recorded import RecordedPass, is_recorded, pass_of
from midflow.train.state import RunFolder, State
from midflow.train.supply import Supply
from midflow.train.validation import Validation, validate

logger = logging.getLogger(__name__)

OnProgress = Callable[[Progress], None]
Prepare = Callable[[Processes, State], Material]


@dataclass(frozen=True)
class TrainResult:
    """What a run came to."""

    weights: Path
    """The averaged weights, for `load_model`."""
    step: int
    """Steps taken, the skipped ones included."""
    seconds: float
    """Time spent in training, over all resumed parts."""
    skipped: int
    """Steps left out because they were not finite."""
    psnr: float | None
    """dB of the averaged weights on the held-out triplets at the end; None without any."""


def train(
    config: TrainConfig,
    source: Source,
    on_progress: OnProgress | None = None,
    held: Sequence[Batch] = (),
) -> TrainResult:
    """Trains a network, or goes on with the run in the folder, until its steps or seconds are over.

    Args:
        config: of the run.
        source: of the samples.
        on_progress: called every `config.log_every` steps, on the first process.
        held: triplets never trained on; the averaged weights are measured on them.

    Raises:
        OptionError: another process trains in the folder, or the device is not there.
        CheckpointError: the folder holds another run, or the end could not be written.
        MidflowError: too many steps in a row were not finite.
    """
    return train_on(config, lambda processes, state: Material(source, held), on_progress)


def train_on(
    config: TrainConfig, prepare: Prepare, on_progress: OnProgress | None = None
) -> TrainResult:
    """The same with samples that take long to make ready, or lie in the folder of the run.

    Args:
        config: of the run.
        prepare: makes them ready once the folder is this run's and its checkpoint is known to fit;
            called in every process.
        on_progress: see `train`.

    Raises:
        OptionError, CheckpointError, MidflowError: see `train`; and what `prepare` raises.
    """
    with joined(config.device) as processes, _own_random_numbers(processes.device):
        folder = RunFolder(config.folder)
        with folder.lock() if processes.is_first else nullcontext():
            return _train(config, prepare, on_progress or (lambda _: None), processes, folder)


def _train(
    config: TrainConfig,
    prepare: Prepare,
    on_progress: OnProgress,
    processes: Processes,
    folder: RunFolder,
) -> TrainResult:
    content = processes.share(folder.read(config) if processes.is_first else None)
    learner = Learner(config, processes.device)
    if content is not None:
        learner.restore(content)
        logger.info("going on from step %d of %s", learner.state.step, folder.path)
    if processes.is_first:
        folder.write_config(config)
        folder.trim_log(learner.state.step)
    with _own_random_numbers(processes.device):
        material = prepare(processes, learner.state)
    objective = Objective(learner.network, config)
    model = processes.wrap(objective)
    supply = Supply(material.source, config, processes)
    clock = _Clock(learner.state.seconds)
    saver = _Saver(config, folder, learner, clock)
    measured: Validation | None = None
    measured_at = -1
    state = learner.state

    silent = not processes.is_first
    run_pass = RecordedPass(objective) if is_recorded(config, processes) else None
    with supply.working(), Journal(folder.log, config, is_silent=silent) as journal:
        while True:
            share = run_share(config, state.step, _common_seconds(config, clock, processes))
            if share >= 1:
                break
            outcome = _backward(model, run_pass, learner, supply, share)
            rate = learning_rate(config.rate, state.step, share, warmup_share(config))
            learner.step(rate)
            state.seconds = clock.seconds
            _require_finite(state.skipped_in_a_row, config.patience)
            journal.add(outcome, config.size_at(share)[1])
            if state.step % config.log_every == 0:
                over = run_share(config, state.step, state.seconds)
                progress = journal.summarise(state, over, rate)
                if processes.is_first:
                    on_progress(progress)
            if material.held and processes.is_first and state.step % config.validate_every == 0:
                measured = validate(learner.average, material.held, processes.device)
                measured_at = state.step
                journal.write_validation(state.step, measured)
            if processes.is_first:
                saver.save_if_due()

        if material.held and processes.is_first and measured_at != state.step:
            measured = validate(learner.average, material.held, processes.device)
            journal.write_validation(state.step, measured)
        if processes.is_first:
            state.seconds = clock.seconds
            saver.save()
    psnr = measured.psnr if measured else None
    return TrainResult(folder.weights, state.step, state.seconds, state.skipped, psnr)


def _backward(
    model: nn.Module,
    run_pass: RecordedPass | None,
    learner: Learner,
    supply: Supply,
    share: float,
) -> Outcome:
    """Leaves the gradient of one step in the network; returns what it saw, averaged."""
    config, weights = learner.config, learner.config.losses
    with_features = weights.features > 0 and share >= weights.features_start
    encoder = frozen_encoder(learner.average) if with_features else None
    parts = supply.parts(learner.state.step, share)
    fading = parts[0].img0.new_tensor(flow_fading(weights.fade, share))
    if run_pass is not None:
        return run_pass(_laid_out(parts[0], config), fading, encoder)
    outcomes = []
    for k, batch in enumerate(parts):
        with _alone(model) if k + 1 < len(parts) else nullcontext():
            outcomes.append(pass_of(model, _laid_out(batch, config), fading, encoder, len(parts)))
    return _mean(outcomes)


def _common_seconds(config: TrainConfig, clock: "_Clock", processes: Processes) -> float:
    """The time by which all processes go; where it decides nothing they need not meet."""
    return processes.share_number(clock.seconds) if config.seconds else clock.seconds


def _alone(model: nn.Module) -> AbstractContextManager[None]:
    """Gradients are summed up here only: the processes need to meet but once a step."""
    if isinstance(model, DistributedDataParallel):
        return model.no_sync()
    return nullcontext()


def _require_finite(skipped_in_a_row: int, patience: int) -> None:
    if skipped_in_a_row >= patience:
        raise MidflowError(
            f"{skipped_in_a_row} steps in a row gave gradients that are not finite: lower the "
            "learning rate, use float32, or check the samples; the last checkpoint is kept"
        )


def _laid_out(batch: Batch, config: TrainConfig) -> Batch:
    """Pictures in the memory format of the network."""
    if not config.channels_last:
        return batch
    pictures = {
        name: getattr(batch, name).contiguous(memory_format=torch.channels_last)
        for name in ("img0", "img1", "truth")
    }
    return replace(batch, **pictures)


def _mean(outcomes: Sequence[Outcome]) -> Outcome:
    if len(outcomes) == 1:
        return outcomes[0]

    def mean(values: Sequence[Tensor]) -> Tensor:
        return torch.stack(list(values)).mean()

    names = list(dict.fromkeys(name for outcome in outcomes for name in outcome.parts))
    parts = {
        name: torch.stack([o.parts[name] for o in outcomes if name in o.parts]).sum()
        / len(outcomes)
        for name in names
    }
    return Outcome(
        mean([o.loss for o in outcomes]), parts, mean([o.squared_error for o in outcomes])
    )


class _Clock:
    """Seconds of training, those before a resumption included."""

    def __init__(self, before: float) -> None:
        self._start = time.monotonic() - before

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._start


class _Saver:
    """Writes checkpoint and weights when it is time."""

    def __init__(
        self, config: TrainConfig, folder: RunFolder, learner: Learner, clock: _Clock
    ) -> None:
        self.config, self.folder, self.learner, self.clock = config, folder, learner, clock
        self.last = clock.seconds

    def save_if_due(self) -> None:
        """A failure is told and tried again an interval later: the checkpoint before is kept."""
        steps, minutes = self.config.checkpoint_steps, self.config.checkpoint_minutes
        is_due = bool(steps) and self.learner.state.step % steps == 0
        is_due |= bool(minutes) and self.clock.seconds - self.last >= 60 * minutes
        if not is_due:
            return
        try:
            self.save()
        except CheckpointError as error:
            logger.warning("no checkpoint at step %d: %s", self.learner.state.step, error)
        self.last = self.clock.seconds

    def save(self) -> None:
        self.folder.write(self.learner.content(), self.config)
        save_model(self.learner.average, self.folder.weights)


@contextmanager
def _own_random_numbers(device: torch.device) -> Iterator[None]:
    """Gives the caller's random state back afterwards."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        yield
