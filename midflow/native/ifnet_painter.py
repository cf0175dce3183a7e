"""IFNets of the newest releases (4.22.lite, 4.25, 4.26) in kernels between convolutions."""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from midflow.native.convolution import Channels, Layers, filled
from midflow.native.library import Buffers, Job, run, set_outputs
from midflow.native.winograd import AnyConvolution, make_convolution
from midflow.nets.config import IFNetConfig
from midflow.nets.ifnet import IFNet
from midflow.nets.prediction import Encoded, Prediction

_WORK = 8  # channels of a frame at work: colours 3, features 4, one to spare
_HEAD = 16  # channels of a head: flow 4, logit, carried features 8, spare
_INPUTS = 2 * _WORK + _HEAD
_FEATURES, _ENCODED = 8, 4
_TIME = 13  # where the time lies behind both frames


def fits(config: IFNetConfig) -> bool:
    """Whether the kernels are made for such a network.

    What a block reads in the middle of its cells is what the network sees there where the middle
    lies between two columns of the block before, and its cell has 2 x 2 pixels in the middle.
    """
    has_middles = all(before % (2 * after) == 0 for before, after in pairwise(config.scales))
    return (
        has_middles
        and (config.scales[-1] == 1 or config.scales[-1] % 2 == 0)
        and config.encoder == "named"
        and config.encoder_planes == _ENCODED
        and config.features == _FEATURES
        and config.has_timestep
        and not config.has_residual_mask
        and config.trunk == "residual"
        and (config.groups, config.stride, config.head) == (1, 4, "shuffle")
        and config.resolution == 1
        and not config.refine
    )


@dataclass(frozen=True)
class _Block:
    inward: tuple[AnyConvolution, ...]
    lastconv: AnyConvolution


class IFNetPainter:
    """Runs such a network for a batch of one, in one precision.

    Args:
        model: the network, which `fits`; its weights are copied.
        dtype: of the elements that convolutions read, float32 or bfloat16.
    """

    encodes_scale = False
    """Whether a frame is encoded otherwise at another flow scale."""

    def __init__(self, model: IFNet, dtype: torch.dtype) -> None:
        self.config = model.config
        self.dtype = dtype
        self._buffers = Buffers()
        with torch.no_grad():
            layers = Layers(model.state_dict(), dtype, make_convolution)
            self._encoder = (
                layers.conv("encode.cnn0", stride=2),
                layers.conv("encode.cnn1"),
                layers.conv("encode.cnn2"),
                layers.up("encode.cnn3", filled([-1, -1, -1, 0, 1, 2, 3], _WORK)),
            )
            self._blocks = [_block(layers, k, model) for k in range(len(self.config.channels))]

    def encode(self, image: Tensor, flow_scale: float) -> list[Tensor]:
        """The frame at work, (1, H, W, 8) float32."""
        _, _, height, width = image.shape
        self._buffers.fit(image.shape)
        image = image.float().contiguous()
        elements = image.permute(0, 2, 3, 1).to(self.dtype).contiguous()
        for convolution in self._encoder:
            elements = convolution(elements, self._buffers)
        work = torch.empty(1, height, width, _WORK)
        job = Job(height=height, width=width, source=image, x=elements, picture0=work)
        run("work", job, height, self.dtype)
        return [work]

    def paint(
        self, enc0: Encoded, enc1: Encoded, time: float, flow_scale: float, only_frame: bool
    ) -> Prediction:
        """As `IFNet.forward`; with `only_frame` flow and weight are empty."""
        _, _, height, width = enc0.image.shape
        self._buffers.fit(enc0.image.shape)
        job = Job(height=height, width=width, time=time)
        job.update((("picture0", enc0.features[0]), ("picture1", enc1.features[0])))
        flow = self._buffers.get("flow", (height, width, 4))
        head: Tensor | None = None
        for block, scale in zip(self._blocks, self.config.scales, strict=True):
            grid = round(scale / flow_scale)
            shape = 1, height // grid, width // grid
            x = self._buffers.get("x", (*shape, _INPUTS), self.dtype)
            job.update((("grid", grid), ("x", x)))
            if head is not None:
                job.ratio = shape[1] / job.previous_height
            run("block_inputs", job, shape[1], self.dtype)
            for convolution in block.inward:
                x = convolution(x, self._buffers)
            head = block.lastconv(x, self._buffers)
            job.previous_height, job.previous_width = shape[1:]
            job.update((("out", head), ("ratio", float(grid)), ("source", job.state)))
            if block is not self._blocks[-1]:
                job.state = flow.data_ptr()
                run("add_flow", job, height, self.dtype)
        outputs = set_outputs(job, height, width, only_frame)
        run("mix_frames", job, height, self.dtype)
        return outputs


def _block(layers: Layers[AnyConvolution], k: int, model: IFNet) -> _Block:
    name, config = f"block{k}", model.config
    depth = config.trunk_depths[k]
    planes = 5 + config.spare + config.features
    return _Block(
        inward=(
            layers.conv(f"{name}.conv0.0.0", input_channels(k == 0), stride=2),
            layers.conv(f"{name}.conv0.1.0", stride=2),
            *layers.residuals(f"{name}.convblock", depth),
        ),
        lastconv=layers.shuffled(f"{name}.lastconv.0", min(planes, _TIME), _HEAD),
    )


def input_channels(is_first: bool) -> Channels:
    """Colours and features of both frames; flow, logit, features, time (see nets/ifnet.py)."""
    frames = [*range(3), *range(6, 10), -1, *range(3, 6), *range(10, 14), -1]
    time, logit, flow = 14, 15, 16 + _FEATURES
    known = [-1] * _TIME
    if not is_first:
        known = [*range(flow, flow + 4), *range(logit, logit + 1 + _FEATURES)]
    return [*frames, *filled([*known, time], _HEAD)]
