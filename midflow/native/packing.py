"""The weights of a PyramidNet, with channels in the order in which the kernels write them."""

from dataclasses import dataclass

import torch

from midflow.native.convolution import Channels, Convolution, arranged
from midflow.nets.pyramid import PyramidNet
from midflow.nets.pyramid_config import PyramidConfig

VIEW = 8
"""Channels of a warped picture behind its features, of which 3 are used."""
STATE = 16
"""Channels of an estimate: flow 4, logit, carried features, spare."""


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


def _filled(channels: Channels, count: int) -> Channels:
    return channels + [-1] * (count - len(channels))


def pack(model: PyramidNet, dtype: torch.dtype) -> Convolutions:
    """Arranges the weights for elements of `dtype`."""
    config, weights = model.config, model.state_dict()

    def layer(
        name: str, order: Channels | None = None, *, stride: int = 1, leaky: bool = True
    ) -> Convolution:
        weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
        weight = weight if order is None else arranged(weight, order, 1)
        return Convolution(weight, bias, dtype, stride=stride, leaky=leaky)

    def residuals(name: str, count: int) -> tuple[Convolution, ...]:
        """leaky(x + beta conv(x)) as one convolution each: the identity is a kernel too."""
        found = []
        for k in range(count):
            beta = weights[f"{name}.{k}.beta"].flatten()
            weight = weights[f"{name}.{k}.conv.weight"] * beta[:, None, None, None]
            weight[range(len(beta)), range(len(beta)), 1, 1] += 1
            found.append(Convolution(weight, weights[f"{name}.{k}.conv.bias"] * beta, dtype))
        return tuple(found)

    def shuffled(name: str, planes: int, each: int) -> Convolution:
        """Transposed; its output is a pixel's planes side by side, for each of 2 x 2 pixels."""
        channels: Channels = []
        for part in range(4):
            channels += _filled([4 * plane + part for plane in range(planes)], each)
        weight = arranged(weights[f"{name}.weight"], channels, 1)
        bias = arranged(weights[f"{name}.bias"], channels, 0)
        return Convolution(weight, bias, dtype, leaky=False, transposed=True)

    view = 3 + config.width
    own = _filled([*range(3, view), 0, 1, 2], config.width + VIEW)  # features, then the picture
    return Convolutions(
        encoder=(
            layer("encode.cnn0.0", [0, 1, 2, -1], stride=2),
            layer("encode.cnn1.0"),
            layer("encode.cnn2", leaky=False),
        ),
        entrance=layer("block.entrance.0", _entrance_channels(config), stride=2),
        matcher=layer("block.matcher", own, stride=2, leaky=False),
        merge=layer("block.merge.0", stride=2),
        trunk=residuals("block.trunk", config.depth),
        lastconv=shuffled("block.lastconv", 6 + config.features, 16),
        detail=(
            layer("detail.entrance.0", _detail_channels(config), stride=2),
            *residuals("detail.trunk", config.detail_depth),
            shuffled("detail.lastconv", 6, 8),
        ),
    )


def _entrance_channels(config: PyramidConfig) -> Channels:
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
        *_filled(estimate, STATE - 3),
        *(time, missed, missed + 1),
        *(channel for color in colors for channel in _filled([*color], 4)),
    ]


def _detail_channels(config: PyramidConfig) -> Channels:
    """The last block's input: pixel by pixel of 2 x 2, then flow, logit, features, time."""
    order = (0, 1, 2, -1, 3, 4, 5, -1, 6, 7, 8, 12, 9, 10, 11, 13)  # colours, parts of the step
    pixels = [4 * plane + part if plane >= 0 else -1 for part in range(4) for plane in order]
    time, logit = 56, 57
    flow = logit + 1 + config.features
    estimate = [*range(flow, flow + 4), *range(logit, logit + 1 + config.features)]
    return [*pixels, *_filled(estimate, STATE - 1), time]
