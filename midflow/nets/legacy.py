"""The releases before 4.0, in two classes: flow and a fusion net, or flow and mask together.

All make the frame at t = 0.5 and estimate motion coarse to fine, like `IFNet`; flow is (dx, dy)
from the middle to frame 0 and frame 1.

* `LegacyFusionNet` (1.8, 2.3, 2.4, 3.1) finds the flow at half the size of the frame, warps both
  frames and a pyramid of their features by it, and has a U-Net decide blend weight and correction.
  Released as three files; in one state dict their keys are prefixed `flownet.`, `contextnet.` and
  `unet.`.
* `LegacyTwinNet` (3.5, 3.8, HDv3) finds flow and blend weight together, each block run on the pair
  and on the swapped pair where the config says so. Released as one file, whose keys are kept.

The releases differ in values of `LegacyConfig`, which `legacy_config_from` reads off the weights.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from midflow.errors import OptionError
from midflow.nets.legacy_config import LegacyConfig, legacy_config_from
from midflow.nets.legacy_layer import FlowBlock, FusionUNet, HDContextNet, SymmetricBlock
from midflow.nets.prediction import Encoded, Prediction
from midflow.nets.refine import warp_pyramid
from midflow.nets.warp import resize, warp, warp_reduced

__all__ = [
    "LegacyConfig",
    "LegacyFusionNet",
    "LegacyTwinNet",
    "build_legacy",
    "legacy_config_from",
]

LARGE_MOTION = 16  # pixels at the first block's scale; 3.8 doubles its scales above it


class LegacyFusionNet(nn.Module):
    """The network a `LegacyConfig` with `has_fusion` describes."""

    def __init__(self, config: LegacyConfig) -> None:
        super().__init__()
        self.config = config
        self.release: str | None = None
        is_squeeze = config.trunk == "squeeze"
        planes = 2 if is_squeeze else 4
        blocks = {
            f"block{k}": _block(config, k, 6 + (k > 0) * planes)
            for k in range(len(config.channels))
        }
        self.flownet = nn.ModuleDict(blocks)
        self.contextnet = HDContextNet(has_squeeze=is_squeeze)
        self.unet = FusionUNet(6 + planes, has_squeeze=is_squeeze)

    def encode_frame(self, image: Tensor) -> Encoded:
        """Computes the context features of one frame: (B, 3, H, W) in [0, 1], sides padded."""
        return Encoded(image, self.contextnet(image))

    def forward(
        self,
        frame0: Tensor | Encoded,
        frame1: Tensor | Encoded,
        timestep: float | Tensor = 0.5,
        *,
        flow_scale: float = 1.0,
        ensemble: bool = False,
    ) -> Prediction:
        """Paints the frame halfway between two frames.

        Args:
            frame0: (B, 3, H, W) RGB in [0, 1], or what `encode_frame` made of it.
            frame1: the later frame, likewise.
            timestep: ignored; the network makes t = 0.5.
            flow_scale: one of 0.25, 0.5, 1, 2, 4: size of the frames the motion is sought in.
            ensemble: must be False.

        Raises:
            OptionError: `ensemble` is asked for.
        """
        if ensemble:
            raise OptionError(
                "ensemble needs release 3.5 or later, got one before it: use tta instead"
            )
        enc0, enc1 = _encoded(self, frame0), _encoded(self, frame1)
        half = self.estimate_flow(enc0.image, enc1.image, flow_scale)
        context0, context1 = (
            warp_pyramid(enc.features, motion)
            for enc, motion in zip((enc0, enc1), _both(half), strict=True)
        )
        flow = resize(half, 2) * 2
        flow_t0, flow_t1 = _both(flow)
        warped0, warped1 = warp(enc0.image, flow_t0), warp(enc1.image, flow_t1)
        painted = self.unet(torch.cat((warped0, warped1, flow), 1), context0, context1).sigmoid()
        weight, residual = painted[:, 3:4], painted[:, :3] * 2 - 1
        frame = (torch.lerp(warped1, warped0, weight) + residual).clamp(0, 1)
        return Prediction(frame, torch.cat((flow_t0, flow_t1), 1), weight)

    def estimate_flow(self, img0: Tensor, img1: Tensor, flow_scale: float = 1.0) -> Tensor:
        """The flow net alone: (B, 3, H, W) frames -> (B, 4, H / 2, W / 2) in pixels of that size.

        The symmetric 1.8 returns (B, 2, H / 2, W / 2), the motion to frame 0.
        """
        size = flow_scale * (0.5 if self.config.head == "shuffle" else 1)
        img0, img1 = resize(img0, size), resize(img1, size)
        flow: Tensor | None = None
        for block, scale in zip(self.flownet.values(), self.config.scales, strict=True):
            flow = self.refine_flow(block, scale, img0, img1, flow)
        assert flow is not None
        return resize(flow, 1 / flow_scale) / flow_scale

    def refine_flow(
        self, block: nn.Module, scale: int, img0: Tensor, img1: Tensor, flow: Tensor | None
    ) -> Tensor:
        """The flow after `block`: at half the size of the frames (at theirs in 1.8)."""
        # 3.1 gives a block motion in pixels of its own size, 1.8 and 2.x leave it in the frames'.
        unit = scale if self.config.trunk == "pairs" else 1
        if flow is None:
            return resize(block(resize(torch.cat((img0, img1), 1), 1 / scale)), scale) * unit
        step = self.config.head_step
        large = resize(flow, step) * step
        to0, to1 = _both(large)
        warped = warp_reduced(img0, to0, scale), warp_reduced(img1, to1, scale)
        dflow = block(torch.cat((*warped, resize(large, 1 / scale) / unit), 1))
        return flow + resize(dflow, scale) * unit


class LegacyTwinNet(nn.Module):
    """The network a `LegacyConfig` without `has_fusion` describes."""

    def __init__(self, config: LegacyConfig) -> None:
        super().__init__()
        self.config = config
        self.release: str | None = None
        for k in range(len(config.channels)):
            self.add_module(f"block{k}", _block(config, k, 11))  # two frames, mask, flow

    def encode_frame(self, image: Tensor) -> Encoded:
        """Keeps the frame, (B, 3, H, W) in [0, 1], sides padded: nothing is computed ahead."""
        return Encoded(image, ())

    def forward(
        self,
        frame0: Tensor | Encoded,
        frame1: Tensor | Encoded,
        timestep: float | Tensor = 0.5,
        *,
        flow_scale: float = 1.0,
        ensemble: bool = False,
    ) -> Prediction:
        """Paints the frame halfway between two frames.

        Args:
            frame0: (B, 3, H, W) RGB in [0, 1], or what `encode_frame` made of it.
            frame1: the later frame, likewise.
            timestep: ignored; the network makes t = 0.5.
            flow_scale: one of 0.25, 0.5, 1, 2, 4: divides the scales of the blocks. (The code of
                3.5 reduced the frames instead and warped those by motion of the full frame.)
            ensemble: run each block in both directions and average; 3.5 and HDv3 always do.
        """
        img0, img1 = _encoded(self, frame0).image, _encoded(self, frame1).image
        scales = [scale / flow_scale for scale in self.config.scales]
        ensemble = ensemble or self.config.ensemble == "always"
        if not self.config.retry:
            return self._estimate(img0, img1, scales, ensemble)
        is_large = self.has_large_motion(img0, img1, scales[0])
        if torch.compiler.is_exporting():  # a graph decides nothing on its way: it paints both
            small = self._estimate(img0, img1, scales, ensemble)
            large = self._estimate(img0, img1, [2 * scale for scale in scales], ensemble)
            chosen = is_large.view(-1, 1, 1, 1)
            return Prediction(
                *(torch.where(chosen, b, a) for a, b in zip(small, large, strict=True))
            )
        parts = [
            (chosen, self._estimate(img0[chosen], img1[chosen], [s * f for s in scales], ensemble))
            for chosen, f in ((~is_large, 1), (is_large, 2))
            if chosen.any()
        ]
        return parts[0][1] if len(parts) == 1 else _merged(parts)

    def has_large_motion(self, img0: Tensor, img1: Tensor, scale: float) -> Tensor:
        """(B,) bool: whether the first block, tried at twice its scale, finds large motion."""
        still = torch.zeros_like(img0[:, :1]).expand(-1, 5, -1, -1)
        flow = self._run(self.get_submodule("block0"), 2 * scale, img0, img1, still)[:, :4]
        return flow.abs().amax((1, 2, 3)) > LARGE_MOTION * scale

    def _estimate(
        self, img0: Tensor, img1: Tensor, scales: Sequence[float], ensemble: bool
    ) -> Prediction:
        warped0, warped1 = img0, img1
        motion = torch.zeros_like(img0[:, :1]).repeat(1, 5, 1, 1)
        for k, scale in enumerate(scales):
            block = self.get_submodule(f"block{k}")
            motion = self.refine_motion(block, scale, warped0, warped1, motion, ensemble)
            warped0, warped1 = warp(img0, motion[:, :2]), warp(img1, motion[:, 2:4])
        flow, weight = motion[:, :4], torch.sigmoid(motion[:, 4:])
        return Prediction(torch.lerp(warped1, warped0, weight), flow, weight)

    def refine_motion(
        self,
        block: nn.Module,
        scale: float,
        warped0: Tensor,
        warped1: Tensor,
        motion: Tensor,
        ensemble: bool,
    ) -> Tensor:
        """Motion after `block`, (B, 5, H, W): flow in pixels, then the mask before the sigmoid."""
        update = self._run(block, scale, warped0, warped1, motion)
        if ensemble:
            back = self._run(block, scale, warped1, warped0, _swapped(motion))
            update = (update + _swapped(back)) / 2
        return motion + update

    def _run(
        self, block: nn.Module, scale: float, img0: Tensor, img1: Tensor, motion: Tensor
    ) -> Tensor:
        x = resize(torch.cat((img0, img1, motion[:, 4:], motion[:, :4]), 1), 1 / scale)
        x = torch.cat((x[:, :7], x[:, 7:] / scale), 1)
        step = scale * self.config.head_step
        motion = resize(block(x), step)
        return torch.cat((motion[:, :4] * step, motion[:, 4:]), 1)


def build_legacy(config: LegacyConfig) -> LegacyFusionNet | LegacyTwinNet:
    """The network `config` describes, with random weights."""
    return LegacyFusionNet(config) if config.has_fusion else LegacyTwinNet(config)


def _block(config: LegacyConfig, k: int, cin: int) -> nn.Module:
    channels, depth = config.channels[k], config.depth
    if config.trunk == "squeeze":
        return SymmetricBlock(cin, channels, depth)
    return FlowBlock(cin, channels, depth, has_pairs=config.trunk == "pairs", head=config.head)


def _encoded(net: LegacyFusionNet | LegacyTwinNet, frame: Tensor | Encoded) -> Encoded:
    return frame if isinstance(frame, Encoded) else net.encode_frame(frame)


def _both(flow: Tensor) -> tuple[Tensor, Tensor]:
    """The motions to frame 0 and frame 1; a flow of two planes is opposite for the latter."""
    return (flow, -flow) if flow.shape[1] == 2 else (flow[:, :2], flow[:, 2:])


def _swapped(motion: Tensor) -> Tensor:
    """Flow and mask (B, 5, H, W) seen from the swapped pair of frames."""
    return torch.cat((motion[:, 2:4], motion[:, :2], -motion[:, 4:]), 1)


def _merged(parts: Sequence[tuple[Tensor, Prediction]]) -> Prediction:
    """One batch out of the predictions for the samples each mask (B,) chooses."""
    order = torch.cat([chosen.nonzero()[:, 0] for chosen, _ in parts]).argsort()
    planes = zip(*(prediction for _, prediction in parts), strict=True)
    return Prediction(*(torch.cat(plane)[order] for plane in planes))
