"""IFNetConfig: the values that make one RIFE network out of the class `IFNet`."""

from dataclasses import dataclass
from typing import Literal

from midflow.errors import OptionError

FLOW_SCALES = (0.25, 0.5, 1.0, 2.0, 4.0)


@dataclass(frozen=True)
class IFNetConfig:
    """Architecture of an IFNet; the defaults are the 4.6 release.

    Raises:
        OptionError: where the values contradict each other.
    """

    channels: tuple[int, ...] = (192, 128, 96, 64)
    """Channels of each block, coarse to fine."""
    scales: tuple[int, ...] = (8, 4, 2, 1)
    """Each block works at 1 / scale of the frame; multiples of `resolution`."""
    depths: tuple[int, ...] = ()
    """Convolutions in the trunk of each block; empty: 8 in each."""
    trunk: Literal["residual", "skip", "plain"] = "residual"
    """ResConv (4.5 on) | PReLU convolutions and one outer skip (paper, 4.0) | LeakyReLU (4.2)."""
    head: Literal["shuffle", "deconv"] = "shuffle"
    """Transposed convolution and pixel shuffle to full size | transposed convolution to half."""
    groups: int = 1
    """Groups of the residual convolutions."""
    encoder: Literal["none", "pair", "stack", "named"] = "none"
    """Frame encoder: none | two layers (4.7) | four layers (4.10) | four layers, named (4.13)."""
    encoder_width: int = 0
    """Channels inside the encoder."""
    encoder_planes: int = 0
    """Feature planes the encoder puts out for each frame."""
    spare: int = 1
    """Planes at the end of the head that inference does not use."""
    features: int = 0
    """Feature planes carried from block to block (4.21 on)."""
    has_timestep: bool = True
    """Whether the timestep is an input; without it the network knows t = 0.5 only."""
    refine: bool = False
    """Context net and U-Net after the blocks; the frames are inputs of every block (paper)."""
    stride: Literal[2, 4] = 4
    """Reduction at the entrance of a block (2 in the paper's 2R network)."""
    resolution: Literal[1, 2] = 1
    """2: everything but the last warp works at half resolution (midflow's own network)."""
    retry: bool = False
    """Twice the scales where the second block finds large motion (4.0, 4.1)."""
    teacher: bool = False
    """Build the privileged teacher block (training only)."""

    def __post_init__(self) -> None:
        blocks = len(self.channels)
        if blocks == 0 or len(self.scales) != blocks or len(self.trunk_depths) != blocks:
            raise OptionError(
                "channels, scales and depths must have one entry for each block, "
                f"got {self.channels = }, {self.scales = }, {self.depths = }"
            )
        if any(scale % self.resolution for scale in self.scales):
            raise OptionError(
                f"scales must be multiples of {self.resolution = }, got {self.scales}"
            )
        if self.resolution == 2 and self.encoder != "named":
            raise OptionError(f"resolution 2 needs encoder 'named', got {self.encoder!r}")

    @property
    def trunk_depths(self) -> tuple[int, ...]:
        """Convolutions in the trunk of each block."""
        return self.depths or (8,) * len(self.channels)

    @property
    def pad_multiple(self) -> int:
        """Frame sides must be multiples of this (at flow_scale 1 or more)."""
        least = 16 if self.refine else 1  # four halvings in the U-Net
        return max(least, 4 * max(self.scales) * (2 if self.retry else 1))

    @property
    def has_residual_mask(self) -> bool:
        """Whether blocks add to the mask; from 4.7 on they replace it."""
        return self.encoder == "none"

    @property
    def has_ensemble(self) -> bool:
        """Whether each block can average both directions: not where features are carried."""
        return self.has_timestep and not self.refine and not self.features and self.resolution == 1

    @property
    def first_inputs(self) -> int:
        """Input planes of the first block: frames, their features, timestep."""
        return 6 + 2 * self.encoder_planes + self.has_timestep

    @property
    def later_inputs(self) -> int:
        """Input planes of the other blocks: those, warped, then mask, features and flow."""
        frames = 6 if self.refine else 0
        return frames + self.first_inputs + 1 + self.features + 4


# The class is complete without these.
HALF_CONFIG = IFNetConfig(
    channels=(128, 96, 64, 48),
    scales=(16, 8, 4, 2),
    depths=(8, 8, 8, 6),
    encoder="named",
    encoder_width=24,
    encoder_planes=24,
    spare=0,
    features=8,
    resolution=2,
)
"""The layout of 4.25 at half resolution; the weights of midflow 0.1 had it."""
RIFE_CONFIG = IFNetConfig(
    channels=(240, 150, 90),
    scales=(4, 2, 1),
    trunk="skip",
    head="deconv",
    spare=0,
    has_timestep=False,
    refine=True,
)
"""RIFE as in the paper, without the teacher."""
