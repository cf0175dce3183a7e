"""What an evaluation runs over: samples that name their pictures, and a way to read those.

A sample is two input frames and the true frames between them. Nothing is decoded until a sample is
loaded, so that a set of any size can be listed, and a finished part of it skipped.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import torch
from torch import Tensor

from midflow.errors import OptionError
from midflow.video.image import read_image

MIDDLE = (Fraction(1, 2),)


@dataclass(frozen=True)
class Picture:
    """A frame that can be read."""

    path: Path
    """The picture, or the clip that holds it."""
    index: int = 0
    """Number of the frame in its file, where the file holds several."""


@dataclass(frozen=True)
class Sample:
    """Two frames and what truly lies between them."""

    name: str
    """Unique in its dataset."""
    group: str
    """Clip or scene: scores are averaged over each group, then over the groups."""
    img0: Picture
    """The earlier frame."""
    img1: Picture
    """The later frame."""
    truths: tuple[Picture, ...]
    """The true frames between them."""
    timesteps: tuple[Fraction, ...] = MIDDLE
    """Position of each true frame, in (0, 1)."""

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """Every frame in order of time."""
        return (self.img0, *self.truths, self.img1)


@dataclass(frozen=True)
class Frames:
    """The pictures of one sample, (1, 3, H, W) float32 RGB in [0, 1] on the CPU."""

    img0: Tensor
    img1: Tensor
    truths: tuple[Tensor, ...]


def read_picture(picture: Picture) -> Tensor:
    """(1, 3, H, W) of a picture file.

    Raises:
        VideoError: the file cannot be read.
    """
    return read_image(picture.path)[0]


@dataclass(frozen=True)
class Dataset:
    """Samples in a fixed order, and how their frames are read."""

    name: str
    folder: Path
    samples: tuple[Sample, ...]
    metrics: tuple[str, ...]
    """What the papers report on it, most important first; names of `scores.METRICS`."""
    read: Callable[[Picture], Tensor] = field(default=read_picture, repr=False)
    """Frame to (1, 3, H, W) in whole 8-bit levels."""
    notes: tuple[str, ...] = ()
    """What a reader of the figures should know: an incomplete set, a definition."""

    def __len__(self) -> int:
        return len(self.samples)

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.samples)

    def load(self, sample: Sample) -> Frames:
        """Reads the frames of a sample, in order of time.

        Raises:
            VideoError: one cannot be read.
            OptionError: they differ in size.
        """
        img0, *truths, img1 = (self.read(picture) for picture in sample.pictures)
        sizes = {tuple(image.shape[-2:]) for image in (img0, *truths, img1)}
        if len(sizes) > 1:
            raise OptionError(
                f"the frames of a sample must have one size, those of {sample.name} in "
                f"{self.folder} have {sorted(sizes)}: is the set complete and unaltered?"
            )
        return Frames(img0, img1, tuple(truths))

    def spread(self, count: int | None) -> "Dataset":
        """The same with `count` samples, spread evenly over the set; None for all of them."""
        if count is None or count >= len(self):
            return self
        chosen = torch.linspace(0, len(self) - 1, count, dtype=torch.float64).long().tolist()
        note = f"{count} of {len(self)} samples"
        return Dataset(
            self.name,
            self.folder,
            tuple(self.samples[index] for index in chosen),
            self.metrics,
            self.read,
            (*self.notes, note),
        )


def to_levels(image: Tensor) -> Tensor:
    """Rounds to whole 8-bit levels in [0, 1], as a picture file would hold them."""
    return image.mul(255).round_().clamp_(0, 255).div_(255)
