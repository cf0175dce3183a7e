"""Padding to the network's multiple: the only place that pads."""

import math
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Padding:
    """Replicates the right and bottom border until both sides are multiples of `multiple`.

    The reference pads with black, which darkens those two borders after warping.
    """

    height: int
    """Rows of the picture."""
    width: int
    """Columns of the picture."""
    multiple: int
    """What the network needs both sides to be multiples of."""

    @property
    def padded(self) -> tuple[int, int]:
        """Height and width after padding."""
        return self._up(self.height), self._up(self.width)

    def pad(self, x: Tensor) -> Tensor:
        """(B, C, height, width) -> (B, C, *padded)."""
        height, width = self.padded
        if (height, width) == (self.height, self.width):
            return x
        return F.pad(x, (0, width - self.width, 0, height - self.height), mode="replicate")

    def unpad(self, x: Tensor) -> Tensor:
        """(B, C, *padded) -> (B, C, height, width), a view."""
        return x[..., : self.height, : self.width]

    def _up(self, length: int) -> int:
        return math.ceil(length / self.multiple) * self.multiple
