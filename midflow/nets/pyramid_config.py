"""PyramidConfig: the values that make one of midflow's own networks."""

from dataclasses import dataclass

from midflow.errors import OptionError

CELL = 4
"""Sides of a level are multiples of this: its block works at a quarter of them."""


@dataclass(frozen=True)
class PyramidConfig:
    """Architecture of a PyramidNet.

    Raises:
        OptionError: where the values contradict each other.
    """

    channels: int = 96
    """Channels in the trunk of the block."""
    depth: int = 6
    """Residual convolutions in the trunk."""
    width: int = 24
    """Channels of the frame encoder."""
    features: int = 8
    """Feature planes carried from level to level."""
    matched: int = 24
    """Planes that are compared."""
    radius: int = 3
    """Largest displacement on either side, in pixels of half the level's size."""
    detail: int = 32
    """Channels of the block that corrects flow and mask at full size; 0: none."""
    detail_depth: int = 4
    """Residual convolutions in it."""
    scales: tuple[int, ...] = (16, 8, 4, 2)
    """The levels work at 1 / scale of the frame; each half of the one before."""

    coarse: int = 2
    """So many levels, from the first, leave motion of less than one of their pixels to the next."""

    def __post_init__(self) -> None:
        for name in ("channels", "depth", "width", "features", "matched", "radius"):
            if getattr(self, name) < 1:
                raise OptionError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.coarse < 0:
            raise OptionError(f"coarse must be at least 0, got {self.coarse}")
        if self.detail < 0 or (self.detail and self.detail_depth < 1):
            raise OptionError(
                "detail must be at least 0 and detail_depth at least 1, "
                f"got {self.detail = }, {self.detail_depth = }"
            )
        halved = tuple(self.scales[0] // 2**k for k in range(len(self.scales)))
        if not self.scales or self.scales != halved or self.scales[-1] < 2:
            raise OptionError(
                f"scales must be powers of two, each half of the one before, down to 2 or more, "
                f"got {self.scales}"
            )

    def leaves_slow(self, number: int) -> bool:
        """Whether a level, counted from the coarsest, leaves slow motion to the next."""
        return number < min(self.coarse, len(self.scales) - 1)

    @property
    def pad_multiple(self) -> int:
        """Frame sides must be multiples of this (at flow_scale 1 or more).

        That is what the finest level needs; coarser ones repeat their last row and column.
        """
        return CELL * min(self.scales)

    @property
    def has_timestep(self) -> bool:
        """True: any time is reached directly."""
        return True

    @property
    def has_ensemble(self) -> bool:
        """False: the carried features have no swapped form."""
        return False


DEFAULT_CONFIG = PyramidConfig()
"""The network that comes with midflow."""
