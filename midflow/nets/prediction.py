"""What goes into a network and what comes out of it."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Encoded(NamedTuple):
    """What a network keeps of one frame, computed once and used for every pair and timestep."""

    image: Tensor
    """(B, 3, H, W) in [0, 1], H and W multiples of the network's `pad_multiple`."""
    features: tuple[Tensor, ...] = ()
    """Whatever the network wants to keep."""

    def expand(self, batch: int) -> "Encoded":
        """The same frame for each of `batch` timesteps, without a copy."""
        image, *features = (x.expand(batch, -1, -1, -1) for x in (self.image, *self.features))
        return Encoded(image, tuple(features))

    def sample(self, i: int) -> "Encoded":
        """Frame `i` of the batch, as a batch of one."""
        image, *features = (x[i : i + 1] for x in (self.image, *self.features))
        return Encoded(image, tuple(features))


class Prediction(NamedTuple):
    """What a network returns for a timestep."""

    frame: Tensor
    """(B, 3, H, W), in [0, 1] for inputs in [0, 1]."""
    flow: Tensor
    """(B, 4, H, W) pixels: [:, :2] from time t to frame 0, [:, 2:] to frame 1, each (dx, dy)."""
    weight: Tensor
    """(B, 1, H, W) blend weight of frame 0, in [0, 1]."""


class Level(NamedTuple):
    """The estimate after one block, at the size of the frame."""

    flow: Tensor
    """(B, 4, H, W) pixels."""
    logit: Tensor
    """(B, 1, H, W) blend weight of frame 0 before the sigmoid."""


def one_batch(
    encode: Callable[[Tensor], Encoded],
    frame0: Tensor | Encoded,
    frame1: Tensor | Encoded,
    timestep: float | Tensor,
) -> tuple[Encoded, Encoded, Tensor]:
    """Encodes what is not encoded yet and brings both frames and the timestep to one batch.

    Returns:
        Two encoded frames of B samples each, and the timesteps (B, 1, 1, 1) float32.
    """
    enc0 = frame0 if isinstance(frame0, Encoded) else encode(frame0)
    enc1 = frame1 if isinstance(frame1, Encoded) else encode(frame1)
    t = torch.as_tensor(timestep, dtype=torch.float32, device=enc0.image.device).view(-1, 1, 1, 1)
    batch = max(len(t), len(enc0.image))
    return enc0.expand(batch), enc1.expand(batch), t.expand(batch, 1, 1, 1)


def one_by_one(
    paint: Callable[[Encoded, Encoded, Tensor], Prediction],
    frame0: Encoded,
    frame1: Encoded,
    timestep: Tensor,
) -> Prediction:
    """What `paint` makes of each pair and time alone, for graphs that know a batch of one only.

    Args:
        paint: takes two frames of a batch of one, and a time (1,).
        frame0: of B pairs, or of one that meets B times.
        frame1: likewise.
        timestep: (B,).
    """
    enc0, enc1 = frame0.expand(len(timestep)), frame1.expand(len(timestep))
    singles = [
        paint(enc0.sample(i), enc1.sample(i), timestep[i : i + 1]) for i in range(len(timestep))
    ]
    return Prediction(*(joined(parts) for parts in zip(*singles, strict=True)))


def joined(parts: Sequence[Tensor]) -> Tensor:
    """One batch of all parts; of a single one no copy."""
    return parts[0] if len(parts) == 1 else torch.cat(tuple(parts))
