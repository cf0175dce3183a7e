"""What goes into a network and what comes out of it."""

from typing import NamedTuple

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
