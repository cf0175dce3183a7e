"""Finished samples of an evaluation, kept line by line so that a stopped run can go on.

Each line is JSON: a key and the scores. The key is a digest of everything they depend on: the
weights and options of the method, the frames' names, sizes and times of change, the metrics and the
versions of midflow and torch. Whatever changes, its old lines no longer match and are computed
anew.
"""

import hashlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from midflow import __version__
from midflow.errors import OptionError
from midflow.evaluate.dataset import Dataset, Sample
from midflow.interpolator import Interpolator

log = logging.getLogger(__name__)

Scores = list[dict[str, float]]
"""Scores by metric for each true frame of a sample."""


def identify(method: Any) -> str | None:
    """What the frames of a method depend on, besides the frames; None where that is unknown.

    A method says so itself in an attribute `identity`; for an `Interpolator` it is a digest of the
    weights, the configuration and the options.
    """
    if not isinstance(method, Interpolator):
        identity = getattr(method, "identity", None)
        return None if identity is None else str(identity)
    digest = hashlib.sha256()
    for name, value in sorted(method.model.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    how = method.ensemble, method.tta, str(method.protection), method.wires
    where = (method.device.type, method.backend)
    digest.update(repr((method.config, method.settings, how, where)).encode())
    return digest.hexdigest()


def make_key(
    identity: str | None, dataset: Dataset, sample: Sample, metrics: tuple[str, ...]
) -> str | None:
    """Digest of all that the scores of a sample depend on; None where that is not known."""
    if identity is None:
        return None
    pictures = []
    for picture in sample.pictures:
        state = picture.path.stat()
        pictures.append(
            (str(picture.path.resolve()), picture.index, state.st_size, state.st_mtime_ns)
        )
    content = (identity, dataset.name, pictures, sample.timesteps, metrics)
    versions = (__version__, torch.__version__)
    return hashlib.sha256(repr((content, versions)).encode()).hexdigest()


class Records:
    """Scores that are already known; new ones are written at once.

    Args:
        path: the file, which need not exist; None keeps nothing.

    Raises:
        OptionError: the file is not such a record, or cannot be written.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._known: dict[str, Scores] = {}
        self._subjects: set[tuple[str, str]] = set()  # dataset and method of each line
        if path is None:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a+b") as file:
                file.seek(0)
                content = file.read()
                whole = content[: content.rfind(b"\n") + 1]
                for line in whole.splitlines():
                    self._parse(line)
                file.truncate(len(whole))  # a run that was killed may have left half a line
        except OSError as error:
            raise OptionError(f"{path} cannot be written: {error.strerror}") from error

    def get(self, key: str | None) -> Scores | None:
        """Scores of a finished sample."""
        return None if key is None else self._known.get(key)

    def check_fit(self, dataset: Dataset, method: str, keys: Sequence[str | None]) -> None:
        """Warns where the file has a method on a dataset, and none of it is valid any more."""
        if (dataset.name, method) in self._subjects and not any(map(self.get, keys)):
            log.warning(
                "%s has %s on %s with other weights, options, metrics, frames or versions: "
                "all of it is computed anew",
                self._path,
                method,
                dataset.name,
            )

    def add(self, key: str | None, scores: Scores, about: dict[str, str]) -> None:
        """Keeps the scores of a sample; `about` is for people who read the file.

        Raises:
            OptionError: the disk is full or the file may not be written.
        """
        if key is None or self._path is None:
            return
        self._known[key] = scores
        line = json.dumps({**about, "scores": scores, "key": key})
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
        except OSError as error:
            raise OptionError(f"{self._path} cannot be written: {error.strerror}") from error

    def _parse(self, line: bytes) -> None:
        try:
            record = json.loads(line)
            self._known[record["key"]] = record["scores"]
            self._subjects.add((record["dataset"], record["method"]))
        except (ValueError, KeyError, TypeError) as error:
            raise OptionError(
                f"{self._path} is not a record of an evaluation: give another name"
            ) from error
