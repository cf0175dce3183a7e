"""The folder of a run: one process at a time, checkpoints that are whole, and what they hold.

checkpoint.pt      everything a resumed run needs
model.safetensors  the averaged weights, for `load_model`
config.json        the configuration, for people
log.jsonl          one line every few steps
lock               held while a process trains here
"""

import io
import json
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import IO, Any

import torch

from midflow.errors import CheckpointError, OptionError
from midflow.train.config import TrainConfig, as_values, flat_values

logger = logging.getLogger(__name__)

# What may differ when a run goes on: how long it lasts, where it runs and what it tells.
FREE = frozenset(
    "folder steps seconds device compile graphs prefetch checkpoint_minutes checkpoint_steps "
    "log_every validate_every patience tensorboard".split()
)


@dataclass
class State:
    """Where a run stands, beside its tensors."""

    step: int = 0
    """Steps taken, the skipped ones included."""
    seconds: float = 0.0
    """Time spent in training, over all resumed parts."""
    skipped: int = 0
    """Steps left out because their gradient was not finite."""
    skipped_in_a_row: int = 0
    """Of those, the latest without a good one between."""


class RunFolder:
    """The files of one run.

    Args:
        path: made if need be.

    Raises:
        OptionError: it is a file, or cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoint = path / "checkpoint.pt"
        self.weights = path / "model.safetensors"
        self.log = path / "log.jsonl"
        self.config = path / "config.json"
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            reason = error.strerror or error
            raise OptionError(f"{path} cannot be a folder for the run: {reason}") from error

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Holds the folder; the system lets go of it when the process ends, however it ends.

        Raises:
            OptionError: another run holds it, or it cannot be written to.
        """
        with self._open_lock() as file:
            if not _try_lock(file):
                file.seek(0)
                raise OptionError(
                    f"{self.path} belongs to a run in progress (process {file.read().strip()}): "
                    "wait for it, stop it, or give another folder"
                )
            with suppress(OSError):  # a full disk; the number is for people only
                file.truncate(0)
                file.write(str(os.getpid()))
                file.flush()
            yield

    def _open_lock(self) -> IO[str]:
        try:
            return (self.path / "lock").open("a+")
        except OSError as error:
            raise OptionError(f"{self.path} cannot be written to: {error.strerror}") from error

    def read(self, config: TrainConfig) -> dict[str, Any] | None:
        """The checkpoint, checked against the configuration; None where there is none.

        Raises:
            CheckpointError: it is damaged, or of a run with another configuration.
        """
        if not self.checkpoint.exists():
            return None
        try:
            content: dict[str, Any] = torch.load(
                self.checkpoint, map_location="cpu", weights_only=True
            )
            stored = json.loads(content["config"])
        except (OSError, RuntimeError, UnpicklingError, EOFError, LookupError, ValueError) as error:
            raise CheckpointError(
                f"{self.checkpoint} is damaged ({error}): restore it, or begin in another folder"
            ) from error
        self._require_same(stored, config)
        return content

    def write(self, content: dict[str, Any], config: TrainConfig) -> None:
        """Replaces the checkpoint by `content`, whole or not at all.

        Raises:
            CheckpointError: it cannot be written; the one before is as it was.
        """
        buffer = io.BytesIO()
        torch.save(content | {"config": json.dumps(as_values(config))}, buffer)
        self._replace(self.checkpoint, buffer.getvalue())

    def write_config(self, config: TrainConfig) -> None:
        """Writes the configuration for people to read.

        Raises:
            CheckpointError: it cannot be written.
        """
        self._replace(self.config, json.dumps(as_values(config), indent=2).encode())

    def trim_log(self, step: int) -> None:
        """Drops lines after `step`, which a resumed run writes again, and a line cut short.

        Raises:
            CheckpointError: the log cannot be written.
        """
        if self.log.exists():
            kept = [json.dumps(line) + "\n" for line in read_log(self.log) if line["step"] <= step]
            self._replace(self.log, "".join(kept).encode())

    def _require_same(self, stored: dict[str, Any], config: TrainConfig) -> None:
        old, new = flat_values(stored), flat_values(as_values(config))
        different = [
            f"{key} = {old.get(key)} there, {new.get(key)} here"
            for key in sorted(old.keys() | new.keys())
            if old.get(key) != new.get(key) and key not in FREE
        ]
        if different:
            raise CheckpointError(
                f"{self.path} holds a run with another configuration ({'; '.join(different)}): "
                "give it back, or begin in another folder"
            )
        for key in ("steps", "seconds"):
            if old.get(key) != new.get(key):
                logger.info("%s of the run: %s, was %s", key, new.get(key), old.get(key))

    def _replace(self, path: Path, data: bytes) -> None:
        partial = path.with_name(f".{path.name}.partial")
        try:
            try:
                with partial.open("wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())  # a rename must not reach the disk before the data
                partial.replace(path)
            finally:
                partial.unlink(missing_ok=True)
        except OSError as error:
            kept = "; the one before is kept" if path.exists() else ""
            raise CheckpointError(
                f"cannot write {path} ({error.strerror or error}){kept}: make room"
            ) from error


def read_log(path: Path) -> list[dict[str, Any]]:
    """The lines of a log that are whole, in order.

    Raises:
        OptionError: there is no such log.
    """
    try:
        text = path.read_text()
    except OSError as error:
        raise OptionError(f"{path} cannot be read: is it the log of a run?") from error
    lines = []
    for line in text.splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue  # cut short when the process was killed
        if isinstance(entry, dict) and "step" in entry:
            lines.append(entry)
    return lines


def _try_lock(file: IO[str]) -> bool:
    """Takes the system's lock on an open file; False where another holds it."""
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
