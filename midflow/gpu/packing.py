"""The weights of a PyramidNet, with channels in the order in which the GPU's kernels write them."""

import torch

from midflow.gpu.convolution import AnyConvolution, MakeConvolution
from midflow.gpu.launch import COLORS, PASSING_SLOTS, slots
from midflow.native.convolution import Channels, Layers, filled
from midflow.native.packing import Convolutions, arrange
from midflow.nets.pyramid import PyramidNet
from midflow.nets.pyramid_blocks import PASSING
from midflow.nets.pyramid_config import PyramidConfig


def pack(
    model: PyramidNet, dtype: torch.dtype, make: MakeConvolution
) -> Convolutions[AnyConvolution]:
    """Arranges the weights, which stay on their device, for elements of `dtype`."""
    layers = Layers(model.state_dict(), dtype, make)
    colors, merged = filled([0, 1, 2], COLORS), _merge_channels(model.config)
    return arrange(layers, model.config, colors, merged)


def _merge_channels(config: PyramidConfig) -> Channels:
    """The entrance's channels; each row of displacements, and what passes, with some to spare."""
    entered, side = config.channels // 2, 2 * config.radius + 1
    after = entered + side * side
    passing = filled([*range(after, after + PASSING)], PASSING_SLOTS)
    starts = range(entered, after, side)
    rows = (filled([*range(start, start + side)], slots(config.radius)) for start in starts)
    return [*range(entered), *(channel for row in rows for channel in row), *passing]
