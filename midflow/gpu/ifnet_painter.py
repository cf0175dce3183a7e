"""IFNets of the newest releases (4.22.lite, 4.25, 4.26): kernels between convolutions."""

from typing import NamedTuple

import torch
from torch import Tensor

from midflow.gpu import ifnet_launch as launch
from midflow.gpu.convolution import AnyConvolution, MakeConvolution
from midflow.gpu.ifnet_launch import HEAD, WORK, Head
from midflow.gpu.launch import COLORS, interleave
from midflow.native.convolution import Layers, filled
from midflow.native.ifnet_painter import input_channels
from midflow.nets.ifnet import IFNet
from midflow.nets.prediction import Encoded, Prediction

_KNOWN = 13  # channels of a head that are used: flow, logit, features


class _Block(NamedTuple):
    inward: tuple[AnyConvolution, ...]
    lastconv: AnyConvolution


class IFNetPainter:
    """Runs a network for batches of any size, in one precision.

    Args:
        model: the network, on the device; its weights are copied.
        dtype: of the elements that convolutions read.
        make: the class of the convolutions.
    """

    encodes_scale = False
    """Whether a frame is encoded otherwise at another flow scale."""

    def __init__(self, model: IFNet, dtype: torch.dtype, make: MakeConvolution) -> None:
        self.config = model.config
        self.dtype = dtype
        with torch.no_grad():
            layers = Layers(model.state_dict(), dtype, make)
            self._encoder = (
                layers.conv("encode.cnn0", filled([0, 1, 2], COLORS), stride=2),
                layers.conv("encode.cnn1"),
                layers.conv("encode.cnn2"),
            )
            self._features = layers.up("encode.cnn3", filled([-1, -1, -1, 0, 1, 2, 3], WORK))
            self._blocks = [_block(layers, k, model) for k in range(len(self.config.channels))]

    def encode(self, image: Tensor, flow_scale: float) -> Encoded:
        """The frame at work, (B, H, W, 8) float32."""
        _, elements = interleave(image, self.dtype)
        for convolution in self._encoder:
            elements = convolution(elements)
        features = self._features
        work = launch.work(image, features.product(elements), features.bias)
        return Encoded(image, (work,))

    def paint(
        self, enc0: Encoded, enc1: Encoded, time: Tensor, flow_scale: float, only_frame: bool
    ) -> Prediction:
        """As `IFNet.forward`, at times (B,); with `only_frame` flow and weight are empty."""
        (work0,), (work1,) = enc0.features, enc1.features
        flow = work0.new_empty(*work0.shape[:3], 4)
        head: Head | None = None
        for block, scale in zip(self._blocks, self.config.scales, strict=True):
            grid = round(scale / flow_scale)
            x = launch.block_inputs(work0, work1, flow, head, time, grid, self.dtype)
            for convolution in block.inward:
                x = convolution(x)
            is_first, head = head is None, Head(block.lastconv.product(x), block.lastconv.bias)
            launch.add_flow(head, flow, grid, is_first=is_first)
        assert head is not None
        return launch.mix(work0, work1, flow, head, only_frame=only_frame)


def _block(layers: Layers[AnyConvolution], k: int, model: IFNet) -> _Block:
    name, config = f"block{k}", model.config
    planes = 5 + config.spare + config.features
    return _Block(
        inward=(
            layers.conv(f"{name}.conv0.0.0", input_channels(k == 0), stride=2),
            layers.conv(f"{name}.conv0.1.0", stride=2),
            *layers.residuals(f"{name}.convblock", config.trunk_depths[k]),
        ),
        lastconv=layers.shuffled(f"{name}.lastconv.0", min(planes, _KNOWN), HEAD),
    )
