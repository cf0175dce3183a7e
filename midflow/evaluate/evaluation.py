"""Runs interpolators over a dataset and scores what they paint.

methods = {"midflow-2": Interpolator(load_model()), **installed_baselines()}
evaluation = evaluate(methods, open_benchmark("middlebury", folder))
evaluation.mean("midflow-2", "ie")
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from statistics import fmean
from typing import Any, Protocol

import torch
from torch import Tensor

from midflow.errors import MidflowError, OptionError
from midflow.evaluate.dataset import Dataset, Frames, Sample
from midflow.evaluate.records import Records, Scores, identify, make_key
from midflow.evaluate.scores import Score, build_scores
from midflow.interpolator import Interpolator


class Method(Protocol):
    """Anything that paints a frame: an `Interpolator`, a baseline, a function."""

    def __call__(self, img0: Any, img1: Any, timestep: float, /) -> Tensor:
        """(1, 3, H, W) in [0, 1] between two such frames."""


@dataclass(frozen=True)
class EvalProgress:
    """How far an evaluation is."""

    done: int
    """Samples finished, those of earlier runs included."""
    total: int
    sample: str
    """Name of the last one."""
    resumed: int
    """Samples that earlier runs had finished."""
    seconds: float
    """Since the first sample was begun."""

    @property
    def eta_seconds(self) -> float | None:
        """Seconds left at the speed so far; None where that cannot be told."""
        painted = self.done - self.resumed
        return self.seconds / painted * (self.total - self.done) if painted else None


@dataclass(frozen=True)
class Row:
    """The scores of one painted frame."""

    method: str
    sample: str
    group: str
    timestep: Fraction
    scores: dict[str, float]


@dataclass(frozen=True)
class Evaluation:
    """Scores of several methods on one dataset."""

    dataset: str
    metrics: tuple[str, ...]
    """Most important first."""
    methods: dict[str, str]
    """Names, and what identifies each: a digest of weights and options, or a description."""
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()

    def groups(self, method: str, metric: str) -> dict[str, float]:
        """Mean of each clip or scene."""
        found: dict[str, list[float]] = {}
        for row in self.rows:
            if row.method == method:
                found.setdefault(row.group, []).append(row.scores[metric])
        return {group: fmean(values) for group, values in found.items()}

    def mean(self, method: str, metric: str) -> float:
        """Mean over the clips or scenes, each counted once however many samples it has."""
        return fmean(self.groups(method, metric).values())

    def to_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        return {
            "dataset": self.dataset,
            "notes": list(self.notes),
            "methods": self.methods,
            "samples": len({row.sample for row in self.rows}),
            "means": {m: {k: self.mean(m, k) for k in self.metrics} for m in self.methods},
            "groups": {m: {k: self.groups(m, k) for k in self.metrics} for m in self.methods},
            "frames": [
                {
                    "method": row.method,
                    "sample": row.sample,
                    "timestep": str(row.timestep),
                    **row.scores,
                }
                for row in self.rows
            ],
        }


def evaluate(
    methods: Mapping[str, Method],
    dataset: Dataset,
    *,
    metrics: tuple[str, ...] = (),
    records: str | Path | None = None,
    on_progress: Callable[[EvalProgress], None] | None = None,
) -> Evaluation:
    """Paints every true frame of a dataset with every method, and scores it.

    Args:
        methods: name to method. One with an attribute `identity`, and every `Interpolator`, can be
            resumed; others are computed in full.
        dataset: from `open_benchmark` or `open_clips`.
        metrics: names of `scores.METRICS`; empty for the dataset's own.
        records: JSON-lines file of finished samples; a later call with the same file takes from it
            what is still valid.
        on_progress: called after each sample.

    Raises:
        OptionError: no methods, an unknown metric, a record file that is none.
        VideoError: a frame cannot be read.
        MidflowError: a method gives a frame of another size, or values that are not finite.
    """
    if not methods:
        raise OptionError("methods must name at least one interpolator, got none")
    metrics = metrics or dataset.metrics
    scores = build_scores(metrics)
    known = Records(None if records is None else Path(records))
    identities = {name: identify(method) for name, method in methods.items()}
    keys_of = {
        sample: {name: make_key(one, dataset, sample, metrics) for name, one in identities.items()}
        for sample in dataset
    }
    for name in methods:
        known.check_fit(dataset, name, [keys[name] for keys in keys_of.values()])
    rows: list[Row] = []
    resumed = 0
    start = time.monotonic()
    for done, (sample, keys) in enumerate(keys_of.items(), 1):
        found = {name: known.get(key) for name, key in keys.items()}
        frames = None if all(found.values()) else dataset.load(sample)
        resumed += frames is None
        for name, method in methods.items():
            values = found[name]
            if values is None:
                assert frames is not None
                values = _score(name, method, sample, frames, scores)
                about = {"dataset": dataset.name, "sample": sample.name, "method": name}
                known.add(keys[name], values, about)
            rows += [
                Row(name, sample.name, sample.group, timestep, score)
                for timestep, score in zip(sample.timesteps, values, strict=True)
            ]
        if on_progress is not None:
            seconds = time.monotonic() - start
            on_progress(EvalProgress(done, len(dataset), sample.name, resumed, seconds))
    described = {name: identity or "not known" for name, identity in identities.items()}
    return Evaluation(dataset.name, metrics, described, tuple(rows), dataset.notes)


def paint(method: Method, frames: Frames, timesteps: tuple[Fraction, ...]) -> list[Tensor]:
    """The frames a method puts at the timesteps, (1, 3, H, W) each, on the CPU."""
    img0: Any = frames.img0
    img1: Any = frames.img1
    if isinstance(method, Interpolator):  # each frame is encoded once for all timesteps
        img0, img1 = method.encode(img0), method.encode(img1)
    with torch.inference_mode():
        return [method(img0, img1, float(timestep)).float().cpu() for timestep in timesteps]


def _score(
    name: str, method: Method, sample: Sample, frames: Frames, scores: dict[str, Score]
) -> Scores:
    values = []
    for painted, truth in zip(paint(method, frames, sample.timesteps), frames.truths, strict=True):
        if painted.shape != truth.shape:
            raise MidflowError(
                f"{name} must give a frame of shape {tuple(truth.shape)}, "
                f"gave {tuple(painted.shape)} on {sample.name}"
            )
        if not painted.isfinite().all():
            raise MidflowError(f"{name} gave values that are not finite on {sample.name}")
        with torch.inference_mode():
            values.append({metric: score(painted, truth) for metric, score in scores.items()})
    return values
