"""The weights of a PyramidNet, with channels in the order in which the kernels write them."""

from dataclasses import dataclass
from typing import Generic

import torch

from midflow.native.convolution import C, Channels, Layers, filled
from midflow.native.winograd import AnyConvolution, make_convolution
from midflow.nets.pyramid import PyramidNet
from midflow.nets.pyramid_config import PyramidConfig

VIEW = 8
"""Channels of a warped picture behind its features, of which 3 are used."""
STATE = 16
"""Channels of an estimate: flow 4, logit, carried features, spare."""


@dataclass(frozen=True)
class Convolutions(Generic[C]):
    """The weights of a PyramidNet as the kernels' buffers want them."""

    encoder: tuple[C, ...]
    entrance: C
    matcher: C
    merge: C
    trunk: tuple[C, ...]
    lastconv: C
    detail: tuple[C, ...]


def pack(model: PyramidNet, dtype: torch.dtype) -> Convolutions[AnyConvolution]:
    """Arranges the weights for elements of `dtype`."""
    layers = Layers(model.state_dict(), dtype, make_convolution)
    return arrange(layers, model.config, [0, 1, 2, -1], None)


def arrange(
    layers: Layers[C], config: PyramidConfig, colors: Channels, merged: Channels | None
) -> Convolutions[C]:
    """All convolutions of a PyramidNet.

    Args:
        layers: makes them.
        config: of the network.
        colors: what the encoder reads.
        merged: what merge reads; None: its channels as the network has them.
    """
    view = 3 + config.width
    own = filled([*range(3, view), 0, 1, 2], config.width + VIEW)  # features, then the picture
    return Convolutions(
        encoder=(
            layers.conv("encode.cnn0.0", colors, stride=2),
            layers.conv("encode.cnn1.0"),
            layers.conv("encode.cnn2", leaky=False),
        ),
        entrance=layers.conv("block.entrance.0", entrance_channels(config), stride=2),
        matcher=layers.conv("block.matcher", own, stride=2, leaky=False),
        merge=layers.conv("block.merge.0", merged, stride=2),
        trunk=layers.residuals("block.trunk", config.depth),
        lastconv=layers.shuffled("block.lastconv", 6 + config.features, STATE),
        detail=(
            layers.conv("detail.entrance.0", detail_channels(config), stride=2),
            *layers.residuals("detail.trunk", config.detail_depth),
            layers.shuffled("detail.lastconv", 6, 8),
        ),
    )


def entrance_channels(config: PyramidConfig) -> Channels:
    """Features of both views; flow, logit, features, time and step; pictures warped and as are."""
    view = 3 + config.width
    time, logit = 2 * view, 2 * view + 1
    flow = logit + 1 + config.features
    still, missed = flow + 4, flow + 10
    estimate = [*range(flow, flow + 4), *range(logit, logit + 1 + config.features)]
    colors = [range(start, start + 3) for start in (0, view, still, still + 3)]
    return [
        *range(3, view),
        *range(view + 3, 2 * view),
        *filled(estimate, STATE - 3),
        *(time, missed, missed + 1),
        *(channel for color in colors for channel in filled([*color], 4)),
    ]


def detail_channels(config: PyramidConfig) -> Channels:
    """The last block's input: pixel by pixel of 2 x 2, then flow, logit, features, time."""
    order = (0, 1, 2, -1, 3, 4, 5, -1, 6, 7, 8, 12, 9, 10, 11, 13)  # colours, parts of the step
    pixels = [4 * plane + part if plane >= 0 else -1 for part in range(4) for plane in order]
    time, logit = 56, 57
    flow = logit + 1 + config.features
    estimate = [*range(flow, flow + 4), *range(logit, logit + 1 + config.features)]
    return [*pixels, *filled(estimate, STATE - 1), time]
