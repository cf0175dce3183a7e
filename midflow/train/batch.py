"""What a training step sees, and where it comes from."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Protocol, Self, runtime_checkable

import torch
from torch import Tensor

_STREAMS = 1_000_003  # a prime: (seed, step, rank, stream) hardly ever meet in one number
_LARGEST_SEED = 2**63 - 1


@dataclass(frozen=True)
class Batch:
    """B triplets: two frames, the true frame between them, and what is known of the motion.

    Pictures are (B, 3, h, w) float32 RGB in [0, 1]. `flow`, `visible` and `has_flow` are None
    together, where no row has a true flow.
    """

    img0: Tensor
    """The earlier frame."""
    img1: Tensor
    """The later frame."""
    truth: Tensor
    """The frame at `timestep`."""
    timestep: Tensor
    """(B,) float32, in (0, 1): 0 is the time of `img0`, 1 that of `img1`."""
    flow: Tensor | None = None
    """(B, 4, h, w) float32, (dx, dy) in pixels from the middle frame to `img0`, then to `img1`;
    zeros in rows without true flow."""
    visible: Tensor | None = None
    """(B, 2, h, w) float32: 1 where `img0`, then `img1`, shows what the middle frame shows; ones in
    rows without true flow."""
    has_flow: Tensor | None = None
    """(B,) bool: the rows whose `flow` and `visible` are true."""

    def __len__(self) -> int:
        return len(self.img0)

    def to(self, device: torch.device | str) -> Self:
        """The same batch on another device."""
        moved = {k: value.to(device, non_blocking=True) for k, value in self.tensors().items()}
        return replace(self, **moved)

    def clone(self) -> Self:
        """The same batch in memory of its own."""
        return replace(self, **{k: value.clone() for k, value in self.tensors().items()})

    def tensors(self) -> dict[str, Tensor]:
        """What is known, by the names of the fields."""
        named = ((field.name, getattr(self, field.name)) for field in fields(self))
        return {name: value for name, value in named if value is not None}

    def record_stream(self, stream: torch.cuda.Stream) -> None:
        """Keeps the memory of a batch made on another stream until `stream` is done with it."""
        for value in self.tensors().values():
            value.record_stream(stream)

    def with_flow(self) -> Self:
        """The same batch with `flow`, `visible` and `has_flow` filled in where they are None."""
        if self.flow is not None:
            return self
        batch, _, height, width = self.img0.shape
        return replace(
            self,
            flow=self.img0.new_zeros(batch, 4, height, width),
            visible=self.img0.new_ones(batch, 2, height, width),
            has_flow=torch.zeros(batch, dtype=torch.bool, device=self.img0.device),
        )


@runtime_checkable
class Source(Protocol):
    """Gives batches. Everything random in one is a function of the source's seed, step and rank.

    A run that is resumed at a step therefore sees the samples it would have seen.
    """

    def batch(
        self, step: int, size: int, crop: int, *, device: torch.device, rank: int = 0
    ) -> Batch:
        """The samples of one step.

        Args:
            step: counts from 0.
            size: number of samples B.
            crop: height and width in pixels.
            device: where the batch is wanted.
            rank: number of this process among those that train together.
        """
        ...


@dataclass(frozen=True)
class Material:
    """What a run learns from and is measured on."""

    source: Source
    """Of the samples."""
    held: Sequence[Batch] = ()
    """Triplets never trained on, of any sizes."""


def concatenate(batches: Sequence[Batch]) -> Batch:
    """Joins batches of one crop along B; flows are filled in if one of them has flows."""
    batches = [batch for batch in batches if len(batch)]
    if len(batches) == 1:
        return batches[0]
    if any(batch.flow is not None for batch in batches):
        batches = [batch.with_flow() for batch in batches]
    joined = {
        field.name: torch.cat([getattr(batch, field.name) for batch in batches])
        for field in fields(Batch)
        if getattr(batches[0], field.name) is not None
    }
    return Batch(**joined)


def random_stream(
    seed: int, step: int, rank: int, stream: int = 0, device: torch.device | str = "cpu"
) -> torch.Generator:
    """A random generator that depends on its arguments alone.

    Args:
        seed: of the source.
        step: of the run.
        rank: of the process.
        stream: sources and purposes that must differ from one another take different numbers.
        device: where the numbers are drawn; CPU and GPU draw different ones.
    """
    mixed = 0
    for number in (seed, step, rank, stream):
        mixed = _scramble((mixed * _STREAMS + number) % 2**64)
    return torch.Generator(device).manual_seed(mixed & _LARGEST_SEED)


def _scramble(x: int) -> int:
    """SplitMix64's finaliser (Steele, Lea and Flood, 2014): near numbers become unlike ones."""
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) % 2**64
    return x ^ (x >> 31)
