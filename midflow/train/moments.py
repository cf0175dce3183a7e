"""Which three frames of a shot make a sample: i < j < k, frame j at its own time between them."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from midflow.errors import OptionError

_CENTRAL = 0.01  # a timestep this close to 0.5 counts as the middle
_SLACK = 1e-6  # seconds; times are rounded to floats


@dataclass(frozen=True)
class TripletOptions:
    """How far apart the frames of a sample may lie, and which ones are left out."""

    max_span: int = 12
    """Most frames from the earlier input to the later one, at least 2."""
    max_seconds: float = 0.27
    """Longest time between the inputs; neighbours but one are always allowed. Motion is hardly ever
    straight for longer."""
    central_share: float = 0.6
    """Share of the samples at the middle, timestep 0.5; the others take any frame between. With 1,
    shots without such a triplet are left out."""
    min_change: float = 2.0
    """Levels of 255 by which the most changed twentieth of a shot (in tiles of 16 x 16 pixels) must
    differ between the inputs; triplets below are near-static and left out. 0 keeps them."""

    def __post_init__(self) -> None:
        if self.max_span < 2:
            raise OptionError(f"max_span must be at least 2 frames, got {self.max_span}")
        if not 0 <= self.central_share <= 1:
            raise OptionError(f"central_share must lie in [0, 1], got {self.central_share}")
        if self.max_seconds <= 0 or self.min_change < 0:
            raise OptionError(
                "max_seconds must be above 0 and min_change at least 0, "
                f"got {self.max_seconds} and {self.min_change}"
            )


@dataclass(frozen=True)
class Moments:
    """The triplets a shot offers. Distances between the inputs are drawn alike often."""

    indices: NDArray[np.int64]
    """(M, 3) frames i < j < k."""
    timesteps: NDArray[np.float32]
    """(M,) where frame j lies between i and k, by their times."""
    _any: NDArray[np.float64] = field(init=False, repr=False)
    _central: NDArray[np.float64] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        spans = self.indices[:, 2] - self.indices[:, 0]
        central = _is_central(self.timesteps)
        object.__setattr__(self, "_any", _cumulative(spans, np.ones(len(self), bool)))
        object.__setattr__(self, "_central", _cumulative(spans, central))

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def central_rows(self) -> list[int]:
        """The triplets at timestep 0.5."""
        rows: list[int] = np.flatnonzero(_is_central(self.timesteps)).tolist()
        return rows

    def suit(self, options: TripletOptions) -> bool:
        """Whether there is a triplet, at the middle where all must be there."""
        return len(self._central if options.central_share == 1 else self._any) > 0

    def draw(self, is_central: bool, number: float) -> int:
        """A row for a random number in [0, 1); any row where none is central."""
        sums = self._central if is_central and len(self._central) else self._any
        return int(np.searchsorted(sums, number * sums[-1], side="right").clip(0, len(self) - 1))


def find_moments(
    times: NDArray[np.float64],
    runs: list[range],
    options: TripletOptions,
    small: NDArray[np.uint8] | None = None,
) -> Moments:
    """All triplets of a shot within the options.

    Args:
        times: (N,) seconds; rising.
        runs: ranges of frames without a cut inside; no triplet crosses from one to another.
        options: limits.
        small: (N, h, w) grey tiles of the frames, to find near-static triplets; None keeps all.
    """
    found = [
        (i, j, k)
        for run in runs
        for i, k in _pairs(times, run, options)
        if small is None or _changed(small[i], small[k]) >= options.min_change
        for j in range(i + 1, k)
    ]
    indices = np.array(found, np.int64).reshape(-1, 3)
    first, middle, last = times[indices].T if len(indices) else np.zeros((3, 0))
    return Moments(indices, ((middle - first) / (last - first)).astype(np.float32))


def _pairs(
    times: NDArray[np.float64], run: range, options: TripletOptions
) -> Iterator[tuple[int, int]]:
    for i in run:
        for k in range(i + 2, min(i + options.max_span, run.stop - 1) + 1):
            if k == i + 2 or times[k] - times[i] <= options.max_seconds + _SLACK:
                yield i, k


def _is_central(timesteps: NDArray[np.float32]) -> NDArray[np.bool_]:
    central: NDArray[np.bool_] = np.abs(timesteps - 0.5) < _CENTRAL
    return central


def _changed(small0: NDArray[np.uint8], small1: NDArray[np.uint8]) -> float:
    """Levels by which the most changed twentieth of the tiles differ at least."""
    difference = np.abs(small0.astype(np.int16) - small1).ravel()
    place = len(difference) - 1 - len(difference) // 20
    return float(np.partition(difference, place)[place])


def _cumulative(spans: NDArray[np.int64], chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Running sum of weights that give each span among the chosen rows one and the same share."""
    if not chosen.any():
        return np.zeros(0)
    counts = np.bincount(spans[chosen])
    return np.cumsum(
        np.where(chosen, 1 / np.maximum(counts, 1)[np.minimum(spans, len(counts) - 1)], 0.0)
    )
