"""IFNet: every RIFE network of the paper and of the 4.x releases, and midflow's own, in one class.

From two frames and a timestep t the blocks estimate, coarse to fine, the flows from time t back
to each frame and a blend weight; the frames are warped and blended:

    frame = weight * warp(img0, flow[:, :2]) + (1 - weight) * warp(img1, flow[:, 2:])

Block k works at 1 / scales[k] of the frame: what it sees is reduced (flow in size and value), what
it finds is enlarged (flow in size and value) and added to the flow so far. The forward pass here is
exact and avoids most full-size work: pictures are warped only where the reduction will look, mask
and carried features go from block to block directly. `plain.py` is the same step by step.

Huang et al., "Real-Time Intermediate Flow Estimation for Video Frame Interpolation", ECCV 2022.
"""

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from midflow.errors import OptionError
from midflow.nets.blocks import Block, build_encoder
from midflow.nets.config import IFNetConfig
from midflow.nets.prediction import Encoded, Level, Prediction, one_batch, one_by_one
from midflow.nets.refine import ContextNet, UNet, warp_pyramid
from midflow.nets.warp import regrid, resize, warp, warp_reduced

LARGE_MOTION = 32  # pixels; 4.0 and 4.1 look again at twice the scales above it


class IFNet(nn.Module):
    """The network an `IFNetConfig` describes.

    State-dict keys are those of the released checkpoints without their `module.` prefix.
    """

    def __init__(self, config: IFNetConfig) -> None:
        super().__init__()
        self.config = config
        self.release: str | None = None
        for k, (channels, depth) in enumerate(
            zip(config.channels, config.trunk_depths, strict=True)
        ):
            cin = config.first_inputs if k == 0 else config.later_inputs
            setattr(self, f"block{k}", Block(config, cin, channels, depth))
        if config.teacher:
            self.block_tea = Block(config, config.later_inputs + 3, config.channels[-1], 8)
        if config.encoder != "none":
            self.encode = build_encoder(config)
        if config.refine:
            self.contextnet = ContextNet(full_size=config.stride == 2)
            self.unet = UNet(full_size=config.stride == 2)

    def encode_frame(self, image: Tensor) -> Encoded:
        """Computes what depends on one frame only.

        Args:
            image: (B, 3, H, W) in [0, 1], H and W multiples of `config.pad_multiple`
                (times 1 / flow_scale where that is below 1).
        """
        work = resize(image, 1 / self.config.resolution)
        if self.config.encoder != "none":
            work = torch.cat((work, self.encode(image).float()), 1)
        context = self.contextnet(image) if self.config.refine else ()
        return Encoded(image, (work, *context))

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
            timestep: in [0, 1], one for all or (B,); one pair may meet many. Networks without
                a timestep input make 0.5.
            flow_scale: one of 0.25, 0.5, 1, 2, 4: below 1 the motion is sought at a coarser size.
            ensemble: run each block in both directions and average them (`config.has_ensemble`).
        """
        if ensemble and not self.config.has_ensemble:
            raise OptionError("this network has no ensemble: its blocks have no swapped form")
        enc0, enc1, t = one_batch(self.encode_frame, frame0, frame1, timestep)
        if self.config.retry and len(t) > 1:  # the retry is a decision for each sample
            paint = partial(self, flow_scale=flow_scale, ensemble=ensemble)
            return one_by_one(paint, enc0, enc1, t)
        if self.config.retry and torch.compiler.is_exporting():
            return self._paint_both(enc0, enc1, t, self._steps(flow_scale))
        pair = _Pair.of(enc0, enc1, t)
        for flow, heads in self._run(pair, self._steps(flow_scale), ensemble):
            estimate = flow, heads
        return self.render(enc0, enc1, self._level(*estimate))

    def levels(
        self, frame0: Tensor | Encoded, frame1: Tensor | Encoded, timestep: float | Tensor = 0.5
    ) -> list[Level]:
        """Flow and mask after each block, coarse to fine, at full size: for training."""
        pair = _Pair.of(*one_batch(self.encode_frame, frame0, frame1, timestep))
        return [self._level(*estimate) for estimate in self._run(pair, self._steps(1.0), False)]

    def teach(
        self,
        frame0: Tensor | Encoded,
        frame1: Tensor | Encoded,
        timestep: float | Tensor,
        level: Level,
        truth: Tensor,
    ) -> Level:
        """What the teacher block, which sees the true frame, makes of the last of `levels`.

        Args:
            frame0: as in `forward`.
            frame1: as in `forward`.
            timestep: as in `forward`.
            level: the last of `levels`.
            truth: (B, 3, H, W), the frame at `timestep`.
        """
        pair = _Pair.of(*one_batch(self.encode_frame, frame0, frame1, timestep))
        step = self._head_step(1)
        out = resize(self.block_tea(self._inputs(pair, level.flow, [level.logit, truth], 1)), step)
        return Level(level.flow + out[:, :4] * step, level.logit + out[:, 4:5])

    def render(
        self, enc0: Encoded, enc1: Encoded, level: Level, *, refine: bool = True
    ) -> Prediction:
        """Warps and mixes both frames along `level`; the paper's networks then correct the mix.

        Args:
            enc0: the earlier frame.
            enc1: the later frame.
            level: flow and mask, one of `levels`.
            refine: False leaves the correction out, as training compares the levels.
        """
        warped0, warped1 = warp(enc0.image, level.flow[:, :2]), warp(enc1.image, level.flow[:, 2:])
        weight = torch.sigmoid(level.logit)
        frame = torch.lerp(warped1, warped0, weight)
        if self.config.refine and refine:
            images = enc0.image, enc1.image, warped0, warped1
            x = torch.cat((*images, level.logit, level.flow), 1)
            context0 = warp_pyramid(enc0.features[1:], level.flow[:, :2])
            context1 = warp_pyramid(enc1.features[1:], level.flow[:, 2:])
            frame = (frame + self.unet(x, context0, context1)).clamp(0, 1)
        return Prediction(frame, level.flow, weight)

    def _paint_both(
        self, enc0: Encoded, enc1: Encoded, t: Tensor, steps: list[float]
    ) -> Prediction:
        """Paints with and without the retry and takes one: a graph decides nothing on its way."""
        pair = _Pair.of(enc0, enc1, t)
        once = list(self._run(pair, steps, False, retried=True))
        again = list(self._run(pair, [2 * step for step in steps], False, retried=True))
        small, large = (self.render(enc0, enc1, self._level(*run[-1])) for run in (once, again))
        is_large = _moves_far(once[1][0] - once[0][0])
        return Prediction(*(torch.where(is_large, b, a) for a, b in zip(small, large, strict=True)))

    def _steps(self, flow_scale: float) -> list[float]:
        """The grid of each block, in pixels of the working resolution."""
        return [scale / self.config.resolution / flow_scale for scale in self.config.scales]

    def _head_step(self, step: float) -> float:
        """The grid of what a block at `step` puts out."""
        return step * self.config.stride / (4 if self.config.head == "shuffle" else 2)

    def _run(
        self, pair: "_Pair", steps: list[float], ensemble: bool, *, retried: bool = False
    ) -> Iterator[tuple[Tensor, list["_Head"]]]:
        """Yields the flow at working resolution and the heads so far, block by block."""
        flow: Tensor | None = None
        heads: list[_Head] = []
        for k, step in enumerate(steps):
            grid = self._head_step(step)
            carried = self._carried(heads, step)
            used = 5 + self.config.features * (k + 1 < len(steps))
            out = self._block(k)(self._inputs(pair, flow, carried, step), used)
            if k == 1 and self.config.retry and not retried and _is_large(out, grid):
                yield from self._run(pair, [2 * s for s in steps], ensemble, retried=True)
                return
            if ensemble and not (retried and k == 0):
                back = self._inputs(pair.swapped(), _swap(flow), [-c for c in carried], step)
                out = (out[:, :5] + _swap_head(self._block(k)(back, used))) / 2
            dflow = resize(out[:, :4] * grid, grid)
            flow = dflow if flow is None else flow + dflow
            heads.append(_Head(out[:, 4:], grid))
            yield flow, heads

    def _block(self, k: int) -> nn.Module:
        return self.get_submodule(f"block{k}")

    def _inputs(
        self, pair: "_Pair", flow: Tensor | None, carried: list[Tensor], step: float
    ) -> Tensor:
        """What a block at `step` sees: (B, cin, h / step, w / step)."""
        if flow is None:
            small0, small1 = resize(pair.work0, 1 / step), resize(pair.work1, 1 / step)
        else:
            small0 = warp_reduced(pair.work0, flow[:, :2], step)
            small1 = warp_reduced(pair.work1, flow[:, 2:], step)
        t = pair.timestep.expand(-1, -1, *small0.shape[-2:])
        time = [t] if self.config.has_timestep else []
        if flow is None:
            return torch.cat((*_interleave(small0, small1), *time), 1)
        motion = resize(flow, 1 / step) / step
        if self.config.refine:
            frames = resize(pair.work0, 1 / step), resize(pair.work1, 1 / step)
            return torch.cat((*frames, *time, small0, small1, *carried, motion), 1)
        return torch.cat((*_interleave(small0, small1), *time, *carried, motion), 1)

    def _carried(self, heads: list["_Head"], step: float) -> list[Tensor]:
        """Mask logit and features of the blocks so far, on the grid of a block at `step`."""
        if not heads:
            return []
        if self.config.has_residual_mask:
            return [self._logit(heads, step)]
        planes = heads[-1].planes[:, : 1 + self.config.features]
        return [regrid(planes, heads[-1].step, step)]

    def _logit(self, heads: list["_Head"], step: float) -> Tensor:
        used = heads if self.config.has_residual_mask else heads[-1:]
        masks = [regrid(head.planes[:, :1], head.step, step) for head in used]
        return torch.stack(masks).sum(0) if len(masks) > 1 else masks[0]

    def _level(self, flow: Tensor, heads: list["_Head"]) -> Level:
        """Brings an estimate from the working resolution to the size of the frame."""
        resolution = self.config.resolution
        logit = self._logit(heads, 1)
        return Level(resize(flow * resolution, resolution), resize(logit, resolution))


class _Pair(NamedTuple):
    """Two encoded frames at working resolution and the timesteps between them."""

    work0: Tensor
    work1: Tensor
    timestep: Tensor

    @classmethod
    def of(cls, enc0: Encoded, enc1: Encoded, timestep: Tensor) -> "_Pair":
        return cls(enc0.features[0], enc1.features[0], timestep)

    def swapped(self) -> "_Pair":
        return _Pair(self.work1, self.work0, 1 - self.timestep)


class _Head(NamedTuple):
    """What a block put out beside its flow, and the grid it is on."""

    planes: Tensor
    step: float


def _interleave(a: Tensor, b: Tensor) -> list[Tensor]:
    """Both pictures, then the features of both: the order every release expects."""
    return [a[:, :3], b[:, :3], a[:, 3:], b[:, 3:]]


def _swap(flow: Tensor | None) -> Tensor | None:
    return None if flow is None else torch.cat((flow[:, 2:4], flow[:, :2]), 1)


def _swap_head(out: Tensor) -> Tensor:
    return torch.cat((out[:, 2:4], out[:, :2], -out[:, 4:5]), 1)


def _is_large(out: Tensor, grid: float) -> bool:
    """Whether a block moved something in both directions by more than LARGE_MOTION pixels."""
    return bool(_moves_far(resize(out[:, :4] * grid, grid)))


def _moves_far(dflow: Tensor) -> Tensor:
    far = dflow.abs() > LARGE_MOTION
    return far[:, :2].any() & far[:, 2:].any()
