"""PyramidNet: midflow's own network, one small block used at every level of a picture pyramid.

Like every RIFE network it estimates, coarse to fine, the flows from time t back to each frame and a
blend weight, then warps and blends. Four things differ from the releases:

* The frames are reduced by averages, the same encoder looks at every level, and the same block
  finds the flow there: what it learns at one size of motion serves at all, and more levels reach
  further without being trained for it (as in SPyNet, Ranjan and Black, CVPR 2017, and UPR-Net, Jin
  et al., CVPR 2023).
* A block is told how alike the warped features are under small displacements (`correlation`), and
  sees the pictures as they are beside the warped ones, so that what stands still is found. It says
  how much of a `photometric_step` to take, which is precise where the warped frames nearly meet.
* What moves by less than a pixel of a coarse level is not taken from it but sought afresh on the
  next: patterns that repeat within a few pixels look, reduced, as if they moved in another way.
* The finest level works at half resolution. Flow and mask are enlarged once, and a narrow block
  that sees every pixel of both frames corrects them at edges, lettering and thin lines.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from midflow.errors import OptionError
from midflow.nets.photometric import photometric_step
from midflow.nets.prediction import Encoded, Level, Prediction, one_batch
from midflow.nets.pyramid_blocks import Block, Detail, Encoder
from midflow.nets.pyramid_config import CELL, PyramidConfig
from midflow.nets.warp import resize, warp


class Estimate(NamedTuple):
    """What is known after one level, at that level's size."""

    flow: Tensor
    """(B, 4, H / scale, W / scale) in pixels of that size."""
    logit: Tensor
    """(B, 1, H / scale, W / scale) blend weight of frame 0 before the sigmoid."""
    scale: int
    """How much smaller than the frame."""


class PyramidNet(nn.Module):
    """The network a `PyramidConfig` describes."""

    def __init__(self, config: PyramidConfig) -> None:
        super().__init__()
        self.config = config
        self.release: str | None = None
        self.encode = Encoder(config.width)
        self.block = Block(config)
        self.detail = Detail(config) if config.detail else None

    def encode_frame(self, image: Tensor) -> Encoded:
        """Computes what depends on one frame only: each level's picture and features.

        Args:
            image: (B, 3, H, W) in [0, 1], H and W multiples of `config.pad_multiple`
                (times 1 / flow_scale where that is below 1).
        """
        return self._encode_at(image, 1.0)

    def forward(
        self,
        frame0: Tensor | Encoded,
        frame1: Tensor | Encoded,
        timestep: float | Tensor = 0.5,
        *,
        flow_scale: float = 1.0,
        ensemble: bool = False,
    ) -> Prediction:
        """Paints the frame at `timestep` between two frames.

        Args:
            frame0: (B, 3, H, W) RGB in [0, 1], or what `encode_frame` made of it.
            frame1: the later frame, likewise.
            timestep: in [0, 1], one for all or (B,); one pair may meet many.
            flow_scale: one of 0.25, 0.5, 1, 2, 4: below 1 the pyramid begins and ends coarser,
                above 1 it ends finer.
            ensemble: must be False.
        """
        if ensemble:
            raise OptionError("this network has no ensemble: its block has no swapped form")
        if flow_scale != 1:  # once a frame, before it is repeated for every timestep
            frame0, frame1 = (self._encode_at(frame, flow_scale) for frame in (frame0, frame1))
        enc0, enc1, t = one_batch(self.encode_frame, frame0, frame1, timestep)
        for estimate in self._run(enc0, enc1, t):
            last = estimate
        return self.render(enc0, enc1, self._full_size(enc0, enc1, t, *last))

    def estimates(
        self, frame0: Tensor | Encoded, frame1: Tensor | Encoded, timestep: float | Tensor = 0.5
    ) -> tuple[list[Estimate], Level]:
        """Flow and mask after each level, coarse to fine, and at the size of the frame."""
        enc0, enc1, t = one_batch(self.encode_frame, frame0, frame1, timestep)
        found = list(self._run(enc0, enc1, t))
        estimates = [
            Estimate(flow, carried[:, :1], scale)
            for (flow, carried), scale in zip(found, self.config.scales, strict=True)
        ]
        return estimates, self._full_size(enc0, enc1, t, *found[-1])

    def render(self, enc0: Encoded, enc1: Encoded, level: Level) -> Prediction:
        """Warps and mixes both frames along `level`."""
        weight = torch.sigmoid(level.logit)
        frame = blend(enc0.image, enc1.image, level.flow, weight)
        return Prediction(frame, level.flow, weight)

    def _encode_at(self, frame: Tensor | Encoded, flow_scale: float) -> Encoded:
        """Picture and features of each level, (B, 3 + width, H / scale, W / scale)."""
        image = frame.image if isinstance(frame, Encoded) else frame
        levels = []
        twice = _reduce(image, self.config.scales[-1] / flow_scale / 2)
        for _ in self.config.scales:
            twice = _whole_cells(twice, 2 * CELL)
            picture = F.avg_pool2d(twice, 2)
            levels.append(torch.cat((picture, self.encode(twice).float()), 1))
            twice = picture
        return Encoded(image, tuple(levels[::-1]))

    def _run(self, enc0: Encoded, enc1: Encoded, t: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields flow, then mask logit and carried features, level by level, at its size."""
        flow: Tensor | None = None
        for number, (view0, view1) in enumerate(zip(enc0.features, enc1.features, strict=True)):
            batch, _, height, width = view0.shape
            still = view0[:, :3], view1[:, :3]
            if flow is None:
                flow = view0.new_zeros(batch, 4, height, width)
                carried = view0.new_zeros(batch, 1 + self.config.features, height, width)
            else:
                if self.config.leaves_slow(number - 1):
                    motion = flow[:, 2:] - flow[:, :2]
                    is_fast = motion.square().sum(1, keepdim=True) >= 1
                    flow, carried = flow * is_fast, carried * is_fast
                flow, carried = (resize(x, 2)[..., :height, :width] for x in (2 * flow, carried))
                view0, view1 = warp(view0, flow[:, :2]), warp(view1, flow[:, 2:])
            missed = photometric_step(view0[:, :3], view1[:, :3], t)
            known = t.expand(batch, 1, height, width), carried, flow, *still, missed
            out = self.block(view0, view1, torch.cat(known, 1))
            flow = flow + out[:, :4] + out[:, -1:] * _both_ways(missed, t)
            carried = out[:, 4:-1]
            yield flow, carried

    def _full_size(
        self, enc0: Encoded, enc1: Encoded, t: Tensor, flow: Tensor, carried: Tensor
    ) -> Level:
        """Brings what the last level found to the size of the frame, and corrects it there."""
        img0, img1 = enc0.image, enc1.image
        factor = img0.shape[-1] / flow.shape[-1]
        full = Level(resize(flow, factor) * factor, resize(carried[:, :1], factor))
        if self.detail is None:
            return full
        half = factor / 2  # from the last level to half of the frame
        known = resize(carried, half), resize(flow, half) * half
        time = t.expand(-1, 1, *known[0].shape[-2:])
        warped = warp(img0, full.flow[:, :2]), warp(img1, full.flow[:, 2:])
        missed = photometric_step(*warped, t)
        pictures = (F.pixel_unshuffle(x, 2) for x in (*warped, img0, img1, missed))
        out = self.detail(torch.cat((*pictures, time, *known), 1))
        corrected = full.flow + out[:, :4] + out[:, 5:] * _both_ways(missed, t)
        return Level(corrected, full.logit + out[:, 4:5])


def blend(img0: Tensor, img1: Tensor, flow: Tensor, weight: Tensor) -> Tensor:
    """Reads both pictures along a flow and mixes them.

    Bicubic: wherever a flow does not end on a pixel, bilinear sampling blurs, and a network taught
    by it learns to end on pixels. What overshoots at edges is cut off at [0, 1], or at the range of
    the pictures where they go beyond.

    Args:
        img0: (B, 3, H, W), the earlier picture.
        img1: the later one.
        flow: (B, 4, H, W) in pixels, from time t to either.
        weight: (B, 1, H, W) in [0, 1], of the earlier.
    """
    warped0, warped1 = warp(img0, flow[:, :2], "bicubic"), warp(img1, flow[:, 2:], "bicubic")
    ends = (1, 2, 3)
    low = torch.minimum(img0.amin(ends, True), img1.amin(ends, True)).clamp(max=0)
    high = torch.maximum(img0.amax(ends, True), img1.amax(ends, True)).clamp(min=1)
    return torch.lerp(warped1, warped0, weight).clamp(low, high)


def _both_ways(motion: Tensor, t: Tensor) -> Tensor:
    """Motion (B, 2, H, W) from frame 0 to frame 1 as flows from time t to both, (B, 4, H, W)."""
    return torch.cat((-t * motion, (1 - t) * motion), 1)


def _whole_cells(image: Tensor, cell: int) -> Tensor:
    """Repeats the last row and column until both sides are multiples of `cell`."""
    missing = [-side % cell for side in (image.shape[-1], image.shape[-2])]
    if not any(missing):
        return image
    return F.pad(image, (0, missing[0], 0, missing[1]), mode="replicate")


def _reduce(image: Tensor, factor: float) -> Tensor:
    """The mean of factor x factor pixels; below 1 bilinear enlargement."""
    if factor < 1:
        return resize(image, 1 / factor)
    return image if factor == 1 else F.avg_pool2d(image, round(factor))
