"""One frame encoded, pairs painted: a PyramidNet's kernels and convolutions in their order."""

import torch
import torch.nn.functional as F
from torch import Tensor

from midflow.gpu import launch
from midflow.gpu.convolution import MakeConvolution
from midflow.gpu.launch import Level, Whole
from midflow.gpu.packing import pack
from midflow.nets.prediction import Encoded, Prediction
from midflow.nets.pyramid import PyramidNet
from midflow.nets.warp import resize


class PyramidPainter:
    """Runs a network for batches of any size, in one precision.

    Args:
        model: the network, on the device; its weights are copied.
        dtype: of the elements that convolutions read.
        make: the class of the convolutions.
    """

    encodes_scale = True
    """Whether a frame is encoded otherwise at another flow scale."""

    def __init__(self, model: PyramidNet, dtype: torch.dtype, make: MakeConvolution) -> None:
        self.config = model.config
        self.dtype = dtype
        with torch.no_grad():
            self._convolutions = pack(model, dtype, make)

    def encode(self, image: Tensor, flow_scale: float) -> Encoded:
        """Range (at least [0, 1]) and pixels of the picture, each level's picture and features.

        Args:
            image: (B, 3, H, W).
            flow_scale: as in `PyramidNet.forward`.
        """
        full, elements = launch.interleave(image, self.dtype)
        twice = full
        if (factor := self.config.scales[-1] / flow_scale / 2) != 1:
            reduced = resize(image, 1 / factor) if factor < 1 else F.avg_pool2d(image, int(factor))
            twice, elements = launch.interleave(reduced, self.dtype)
        levels: list[Tensor] = []
        for _ in self.config.scales:
            features = elements
            for convolution in self._convolutions.encoder:
                features = convolution(features)
            twice, elements = launch.halve(twice, self.dtype)
            levels = [twice, features, *levels]
        low, high = torch.aminmax(image.float().flatten(1), dim=1)
        ends = torch.stack((low.clamp(max=0), high.clamp(min=1)), 1)
        return Encoded(image, (ends[:, None, None], full, *levels))

    def paint(
        self, enc0: Encoded, enc1: Encoded, time: Tensor, flow_scale: float, only_frame: bool
    ) -> Prediction:
        """As `PyramidNet.forward`, at times (B,); with `only_frame` flow and weight are empty.

        Both frames are of B samples and encoded for `flow_scale`.
        """
        estimate: Tensor | None = None
        for i in range(2, len(enc0.features), 2):
            picture0, features0 = enc0.features[i : i + 2]
            picture1, features1 = enc1.features[i : i + 2]
            level = Level(picture0, features0, picture1, features1, estimate, time)
            slowest = 1.0 if self.config.leaves_slow(i // 2 - 1) else 0.0
            estimate = self._level(level, slowest)
        assert estimate is not None
        ends0, full0 = enc0.features[:2]
        ends1, full1 = enc1.features[:2]
        return self._full_size(Whole(full0, ends0, full1, ends1, estimate, time), only_frame)

    def _level(self, level: Level, slowest: float) -> Tensor:
        """The estimate after a level, where the motion is at least `slowest` pixels."""
        pictures = level.picture0, level.picture1
        if level.estimate is None:
            warped0, warped1 = pictures
        else:
            warped0, warped1 = launch.warp_both(*pictures, level.estimate, 2)
        missed = launch.photometric_step(warped0, warped1, level.time)
        x, views = launch.level_inputs(level, warped0, warped1, missed)
        blocks = self._convolutions
        matched, entered = blocks.matcher.product(views), blocks.entrance.product(x)
        x = launch.match(
            matched, blocks.matcher.bias, entered, blocks.entrance.bias, self.config.radius
        )
        for convolution in (blocks.merge, *blocks.trunk):
            x = convolution(x)
        out, share = blocks.lastconv.product(x), 5 + self.config.features
        return launch.update(out, blocks.lastconv.bias, level, missed, share, slowest)

    def _full_size(self, whole: Whole, only_frame: bool) -> Prediction:
        """Corrects the estimate at the size of the frame, and paints."""
        warped0, warped1 = launch.warp_both(
            whole.picture0, whole.picture1, whole.estimate, whole.ratio
        )
        missed = launch.photometric_step(warped0, warped1, whole.time)
        x = launch.detail_inputs(whole, warped0, warped1, missed, self.dtype)
        *convolutions, lastconv = self._convolutions.detail
        for convolution in convolutions:
            x = convolution(x)
        out = lastconv.product(x)
        return launch.paint(whole, out, lastconv.bias, missed, only_frame=only_frame)
