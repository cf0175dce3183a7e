"""Batches out of shots: pieces of film, in memory or as picture files, with their triplets."""

import functools
import logging
import struct
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from midflow.errors import OptionError, VideoError
from midflow.train.augment import Augmentation, augment
from midflow.train.batch import Batch, random_stream
from midflow.train.footage import TILE, Footage
from midflow.train.moments import Moments, TripletOptions, find_moments
from midflow.video.image import read_image

logger = logging.getLogger(__name__)

_PNG_MAGIC, _PNG_HEAD = b"\x89PNG\r\n\x1a\n", struct.Struct(">8sI4sII")
_PLACES = 4  # windows tried for one in which something moves
_PICK, _CHANGE = 11, 12  # random streams: what is shown, how it is changed


T = TypeVar("T")


def spread(values: Sequence[T], count: int) -> list[T]:
    """Up to `count` of them, evenly from all."""
    count = min(count, len(values))
    return [values[(2 * k + 1) * len(values) // (2 * count)] for k in range(count)]


class Window(NamedTuple):
    """A rectangle of a frame in pixels."""

    top: int
    left: int
    side: int


class Shot(Protocol):
    """A piece of film of one size."""

    @property
    def name(self) -> str:
        """What messages call it."""
        ...

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        ...

    @property
    def moments(self) -> Moments:
        """Its triplets."""
        ...

    def cut_out(self, indices: Sequence[int], window: Window) -> Tensor:
        """The window in the frames `indices`: (len(indices), 3, side, side) uint8."""
        ...

    def changes(self, first: int, last: int) -> NDArray[np.int16] | None:
        """Levels by which tiles differ between two frames; None where that is not known."""
        ...


class FilmShot:
    """A shot whose frames are in memory, on a device or mapped from a file."""

    def __init__(self, footage: Footage, options: TripletOptions) -> None:
        self.name = footage.name
        self.frames = footage.frames
        self.size = (footage.frames.shape[2], footage.frames.shape[3])
        self.moments = find_moments(footage.times, footage.runs, options, footage.small)
        self._small = footage.small.astype(np.int16)

    def cut_out(self, indices: Sequence[int], window: Window) -> Tensor:
        """See `Shot`."""
        top, left, side = window
        return torch.stack(
            [self.frames[i, :, top : top + side, left : left + side] for i in indices]
        )

    def changes(self, first: int, last: int) -> NDArray[np.int16]:
        """See `Shot`."""
        difference: NDArray[np.int16] = np.abs(self._small[first] - self._small[last])
        return difference


@dataclass(frozen=True)
class PictureShot:
    """A shot whose frames are picture files, read when they are needed."""

    name: str
    files: tuple[Path, ...]
    moments: Moments

    @functools.cached_property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels, of the first picture."""
        return _picture_size(self.files[0])

    def cut_out(self, indices: Sequence[int], window: Window) -> Tensor:
        """See `Shot`."""
        top, left, side = window
        pieces = []
        for i in indices:
            rgb = read_image(self.files[i])[0]
            if rgb.shape[2:] != self.size:
                raise VideoError(
                    f"all pictures of {self.name} must have one size: {self.files[i]} is "
                    f"{rgb.shape[3]}x{rgb.shape[2]}, the first is {self.size[1]}x{self.size[0]}"
                )
            pieces.append(rgb[0, :, top : top + side, left : left + side])
        return torch.stack(pieces).mul_(255).round_().to(torch.uint8)

    def changes(self, first: int, last: int) -> None:
        """Not known: the pictures are not read ahead."""


class _Pick(NamedTuple):
    """One sample as drawn."""

    shot: Shot
    indices: tuple[int, int, int]
    timestep: float
    window: Window


class Shots:
    """A source of triplets from shots; every shot is drawn alike often.

    Args:
        shots: with at least one triplet each; others are left out.
        seed: another seed, other samples.
        options: which triplets.
        augmentation: how they are changed.
        workers: threads that read; 0 reads in the calling one.

    Raises:
        OptionError: no shot offers a triplet.
    """

    def __init__(
        self,
        shots: Sequence[Shot],
        *,
        seed: int = 0,
        options: TripletOptions | None = None,
        augmentation: Augmentation | None = None,
        workers: int = 0,
    ) -> None:
        self.options = options or TripletOptions()
        self.shots = [shot for shot in shots if shot.moments.suit(self.options)]
        if not self.shots:
            raise OptionError(
                f"none of {len(shots)} clips has three frames of one scene with motion in them: "
                "give other clips, or lower min_change"
            )
        self.seed = seed
        self.augmentation = augmentation or Augmentation()
        self._pool = ThreadPoolExecutor(workers) if workers else None
        self._fitting: dict[int, list[Shot]] = {}

    def __len__(self) -> int:
        return len(self.shots)

    def batch(
        self, step: int, size: int, crop: int, *, device: torch.device, rank: int = 0
    ) -> Batch:
        """See `Source`.

        Raises:
            OptionError: every clip is smaller than the crop.
        """
        picks = self._picks(step, size, crop, rank)
        read = functools.partial(_frames, crop=crop, device=device)
        frames = list((self._pool.map if self._pool else map)(read, picks))
        # one tensor per place in time: (B, 3, crop, crop)
        img0, truth, img1 = torch.stack(frames, 1).div_(255)
        times = torch.tensor([pick.timestep for pick in picks], dtype=torch.float32)
        batch = Batch(img0, img1, truth, times.to(device))
        return augment(batch, self.augmentation, random_stream(self.seed, step, rank, _CHANGE))

    def _picks(self, step: int, size: int, crop: int, rank: int) -> list[_Pick]:
        shots = self._fit(crop)
        random = random_stream(self.seed, step, rank, _PICK)
        numbers = torch.rand(size, 5 + 2 * _PLACES, generator=random, dtype=torch.float64).tolist()
        return [self._pick(shots, crop, row) for row in numbers]

    def _pick(self, shots: list[Shot], crop: int, numbers: list[float]) -> _Pick:
        shot = shots[int(numbers[0] * len(shots))]
        is_central = numbers[1] < self.options.central_share
        row = shot.moments.draw(is_central, numbers[2])
        first, middle, last = map(int, shot.moments.indices[row])
        side = self._side(crop, shot, numbers[3], numbers[4])
        window = self._place(shot, side, shot.changes(first, last), numbers[5:])
        return _Pick(shot, (first, middle, last), float(shot.moments.timesteps[row]), window)

    def _side(self, crop: int, shot: Shot, chance: float, number: float) -> int:
        """Side of the window that becomes the crop, in pixels of the shot."""
        if chance >= self.augmentation.scale:
            return crop
        low, high = self.augmentation.scale_range
        scale = float(low * (high / low) ** number)
        return min(round(crop / scale), *shot.size)

    def _place(
        self, shot: Shot, side: int, changes: NDArray[np.int16] | None, numbers: list[float]
    ) -> Window:
        """The first window with enough motion in it, or the one of the most."""
        height, width = shot.size
        best, most = Window(0, 0, side), -1.0
        for y, x in zip(numbers[::2], numbers[1::2], strict=True):
            window = Window(int(y * (height - side + 1)), int(x * (width - side + 1)), side)
            if changes is None:
                return window
            change = _change_within(changes, window)
            if change >= self.options.min_change:
                return window
            if change > most:
                best, most = window, change
        return best

    def _fit(self, crop: int) -> list[Shot]:
        if crop not in self._fitting:
            fitting = [shot for shot in self.shots if min(shot.size) >= crop]
            if not fitting:
                largest = max(self.shots, key=lambda shot: min(shot.size))
                raise OptionError(
                    f"the crop of {crop} pixels does not fit into any clip: the largest is "
                    f"{largest.name} with {largest.size[1]}x{largest.size[0]}; take a smaller crop"
                )
            if len(fitting) < len(self.shots):
                logger.warning(
                    "%d of %d clips are smaller than the crop of %d pixels and left out",
                    len(self.shots) - len(fitting),
                    len(self.shots),
                    crop,
                )
            self._fitting[crop] = fitting
        return self._fitting[crop]


def _frames(pick: _Pick, crop: int, device: torch.device) -> Tensor:
    """(3, 3, crop, crop) float32 in levels: the earlier, the true and the later frame."""
    pixels = pick.shot.cut_out(pick.indices, pick.window).to(device, non_blocking=True).float()
    if pick.window.side == crop:
        return pixels
    return F.interpolate(pixels, (crop, crop), mode="bilinear", antialias=True)


def _picture_size(path: Path) -> tuple[int, int]:
    """Height and width; of a PNG from its header alone: data sets have ten thousands of them."""
    try:
        with path.open("rb") as file:
            head = file.read(_PNG_HEAD.size)
    except OSError as error:
        raise VideoError(f"{path} cannot be read: {error.strerror}") from error
    if len(head) == _PNG_HEAD.size:
        magic, _, kind, width, height = _PNG_HEAD.unpack(head)
        if (magic, kind) == (_PNG_MAGIC, b"IHDR"):
            return height, width
    height, width = read_image(path)[0].shape[2:]
    return int(height), int(width)


def _change_within(changes: NDArray[np.int16], window: Window) -> float:
    """Mean change of the tiles a window touches."""
    top, left, side = window
    part = changes[
        top // TILE : (top + side - 1) // TILE + 1, left // TILE : (left + side - 1) // TILE + 1
    ]
    return float(part.mean())
