"""What a run tells: a line of JSON every few steps, TensorBoard events, progress for the caller."""

import json
import logging
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor

from midflow.errors import MissingExtraError
from midflow.flow_picture import flow_to_rgb
from midflow.train.config import TrainConfig
from midflow.train.objective import Outcome
from midflow.train.state import State
from midflow.train.validation import Validation

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Progress:
    """How a run is doing: means over the steps since the last of these."""

    step: int
    """Steps taken."""
    share: float
    """Of the run that is over, in [0, 1]."""
    loss: float
    """The weighted sum."""
    losses: dict[str, float]
    """Each loss before its weight."""
    psnr: float
    """dB of the training crops, from their mean squared error."""
    rate: float
    """Learning rate."""
    samples_per_second: float
    """Over all processes, everything included."""
    seconds: float
    """Time spent in training so far."""
    eta_seconds: float
    """Time until the end, at this speed."""
    skipped: int
    """Steps left out so far because they were not finite."""


class Journal:
    """Collects outcomes and writes them down; a context manager.

    Args:
        path: of the log, which is continued.
        config: of the run.
        is_silent: collects only, as all processes but the first do.
    """

    def __init__(self, path: Path, config: TrainConfig, *, is_silent: bool = False) -> None:
        self.path, self.config, self.is_silent = path, config, is_silent
        self._board: Any = None
        self._clear()

    def __enter__(self) -> Self:
        if self.config.tensorboard and not self.is_silent:
            self._board = _open_board(self.path.parent)
        self._clear()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._tell_board(lambda board: board.close())

    def add(self, outcome: Outcome, samples: int) -> None:
        """Notes one step; nothing is waited for."""
        self._outcomes.append(outcome)
        self._samples += samples

    def summarise(self, state: State, share: float, rate: float) -> Progress:
        """Means since the last summary, written to the log."""
        passed = max(time.monotonic() - self._since, 1e-9)
        progress = Progress(
            step=state.step,
            share=share,
            loss=_finite_mean([o.loss for o in self._outcomes]),
            losses=self._parts(),
            psnr=_decibels(_finite_mean([o.squared_error for o in self._outcomes])),
            rate=rate,
            samples_per_second=self._samples / passed,
            seconds=state.seconds,
            eta_seconds=state.seconds * (1 - share) / share if share else math.inf,
            skipped=state.skipped,
        )
        self._clear()
        if not self.is_silent:
            self._write_line({"kind": "train", **asdict(progress)})
            self._write_scalars(progress)
        return progress

    def write_validation(self, step: int, measured: Validation) -> None:
        """Notes a look at the held-out triplets."""
        self._write_line({"kind": "validation", "step": step, "psnr": measured.psnr})
        self._tell_board(lambda board: _show_validation(board, step, measured))

    def _clear(self) -> None:
        self._outcomes: list[Outcome] = []
        self._samples = 0
        self._since = time.monotonic()

    def _parts(self) -> dict[str, float]:
        names = dict.fromkeys(name for outcome in self._outcomes for name in outcome.parts)
        return {
            name: _finite_mean([o.parts[name] for o in self._outcomes if name in o.parts])
            for name in names
        }

    def _write_line(self, values: dict[str, Any]) -> None:
        whole = {k: _plain(v) for k, v in values.items()}
        try:
            with self.path.open("a") as file:
                file.write(json.dumps(whole) + "\n")
        except OSError as error:  # a full disk must not end a run
            logger.warning("cannot write to %s (%s): a line is lost", self.path, error.strerror)

    def _write_scalars(self, progress: Progress) -> None:
        scalars = {f"loss/{name}": value for name, value in progress.losses.items()}
        scalars |= {
            "loss": progress.loss,
            "psnr": progress.psnr,
            "rate": progress.rate,
            "samples_per_second": progress.samples_per_second,
        }

        def write(board: Any) -> None:
            for name, value in scalars.items():
                board.add_scalar(f"train/{name}", value, progress.step)

        self._tell_board(write)

    def _tell_board(self, tell: Callable[[Any], None]) -> None:
        """Without TensorBoard does nothing; a full disk ends the events, not the run."""
        if self._board is None:
            return
        try:
            tell(self._board)
        except OSError as error:
            logger.warning("no further TensorBoard events: %s", error.strerror or error)
            self._board = None


def _open_board(folder: Path) -> Any:
    """A TensorBoard writer, or None where tensorboard is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        missing = MissingExtraError("tensorboard", "train")
        logger.warning("no TensorBoard events: %s, or set tensorboard to false", missing)
        return None
    return SummaryWriter(str(folder / "tensorboard"))


def _show_validation(board: Any, step: int, measured: Validation) -> None:
    flow = flow_to_rgb(measured.flow)
    board.add_scalar("validation/psnr", measured.psnr, step)
    pictures = {"truth": measured.truth, "frame": measured.frame.clamp(0, 1), "flow": flow}
    for name, picture in pictures.items():
        board.add_image(f"validation/{name}", picture, step)


def _finite_mean(values: list[Tensor]) -> float:
    """Mean of the finite ones; NaN where there is none."""
    together = torch.stack(values).float()
    return together[together.isfinite()].mean().item()


def _decibels(squared_error: float) -> float:
    return -10 * math.log10(squared_error) if squared_error > 0 else math.nan


def _plain(value: Any) -> Any:
    """JSON knows no NaN and no infinity."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
