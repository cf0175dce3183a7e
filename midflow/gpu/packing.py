"""The weights of a PyramidNet, with channels in the order in which the GPU's kernels write them."""

from dataclasses import dataclass

import torch

from midflow.gpu.convolution import Convolution
from midflow.gpu.launch import COLORS, PASSING_SLOTS, slots
from midflow.native.convolution import Channels, Layers, filled
from midflow.native.packing import STATE, VIEW, detail_channels, entrance_channels
from midflow.nets.pyramid import PyramidNet
from midflow.nets.pyramid_blocks import PASSING
from midflow.nets.pyramid_config import PyramidConfig


@dataclass(frozen=True)
class Convolutions:
    """The weights of a PyramidNet as the kernels' buffers want them."""

    encoder: tuple[Convolution, ...]
    entrance: Convolution
    matcher: Convolution
    merge: Convolution
    trunk: tuple[Convolution, ...]
    lastconv: Convolution
    detail: tuple[Convolution, ...]


def pack(model: PyramidNet, dtype: torch.dtype) -> Convolutions:
    """Arranges the weights, which stay on their device, for elements of `dtype`."""
    config, layers = model.config, Layers(model.state_dict(), dtype, Convolution)
    own = filled([*range(3, 3 + config.width), 0, 1, 2], config.width + VIEW)
    return Convolutions(
        encoder=(
            layers.conv("encode.cnn0.0", filled([0, 1, 2], COLORS), stride=2),
            layers.conv("encode.cnn1.0"),
            layers.conv("encode.cnn2", leaky=False),
        ),
        entrance=layers.conv("block.entrance.0", entrance_channels(config), stride=2),
        matcher=layers.conv("block.matcher", own, stride=2, leaky=False),
        merge=layers.conv("block.merge.0", _merge_channels(config), stride=2),
        trunk=layers.residuals("block.trunk", config.depth),
        lastconv=layers.shuffled("block.lastconv", 6 + config.features, STATE),
        detail=(
            layers.conv("detail.entrance.0", detail_channels(config), stride=2),
            *layers.residuals("detail.trunk", config.detail_depth),
            layers.shuffled("detail.lastconv", 6, 8),
        ),
    )


def _merge_channels(config: PyramidConfig) -> Channels:
    """The entrance's channels; each row of displacements, and what passes, with some to spare."""
    entered, side = config.channels // 2, 2 * config.radius + 1
    after = entered + side * side
    passing = filled([*range(after, after + PASSING)], PASSING_SLOTS)
    starts = range(entered, after, side)
    rows = (filled([*range(start, start + side)], slots(config.radius)) for start in starts)
    return [*range(entered), *(channel for row in rows for channel in row), *passing]
