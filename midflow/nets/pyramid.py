"""PyramidNet: midflow's own network, one small block used at every level of a picture pyramid.

Like every RIFE network it estimates, coarse to fine, the flows from time t back to each frame and a
blend weight, then warps and blends. Three things differ from the releases:

* The frames are reduced by averages, the same encoder looks at every level, and the same block
  finds the flow there: what it learns at one size of motion serves at all, and more levels reach
  further without being trained for it (as in SPyNet, Ranjan and Black, CVPR 2017, and UPR-Net, Jin
  et al., CVPR 2023).
* A block is told how alike the warped features are under small displacements (`correlation`), and
  sees the pictures as they are beside the warped ones, so that what stands still is found.
* The finest level works at half resolution; flow and mask are enlarged once at the end.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from midflow.errors import OptionError
from midflow.nets.correlation import correlation
from midflow.nets.layers import ResConv, conv
from midflow.nets.prediction import Encoded, Level, Prediction
from midflow.nets.warp import resize, warp

_NORM_FLOOR = 1e-2  # features shorter than this count as nothing to compare


@dataclass(frozen=True)
class PyramidConfig:
    """Architecture of a PyramidNet.

    Raises:
        OptionError: where the values contradict each other.
    """

    channels: int = 96
    """Channels in the trunk of the block."""
    depth: int = 6
    """Residual convolutions in the trunk."""
    width: int = 24
    """Channels of the frame encoder."""
    features: int = 8
    """Feature planes carried from level to level."""
    matched: int = 24
    """Planes that are compared."""
    radius: int = 3
    """Largest displacement on either side, in pixels of half the level's size."""
    scales: tuple[int, ...] = (16, 8, 4, 2)
    """The levels work at 1 / scale of the frame; each half of the one before."""

    def __post_init__(self) -> None:
        for name in ("channels", "depth", "width", "features", "matched", "radius"):
            if getattr(self, name) < 1:
                raise OptionError(f"{name} must be at least 1, got {getattr(self, name)}")
        halved = tuple(self.scales[0] // 2**k for k in range(len(self.scales)))
        if not self.scales or self.scales != halved or self.scales[-1] < 2:
            raise OptionError(
                f"scales must be powers of two, each half of the one before, down to 2 or more, "
                f"got {self.scales}"
            )

    @property
    def pad_multiple(self) -> int:
        """Frame sides must be multiples of this (at flow_scale 1 or more)."""
        return 4 * max(self.scales)

    @property
    def has_timestep(self) -> bool:
        """True: any time is reached directly."""
        return True

    @property
    def has_ensemble(self) -> bool:
        """False: the carried features have no swapped form."""
        return False


DEFAULT_CONFIG = PyramidConfig()
"""The network that comes with midflow."""


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
        self.encode = _Encoder(config.width)
        self.block = _Block(config)

    def encode_frame(self, image: Tensor) -> Encoded:
        """Computes what depends on one frame only: each level's picture and features.

        Args:
            image: (B, 3, H, W) in [0, 1], H and W multiples of `config.pad_multiple`
                (times 1 / flow_scale where that is below 1).
        """
        return Encoded(image, tuple(self._levels(image, 1.0)))

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
        enc0, enc1, t = self._prepare(frame0, frame1, timestep)
        if flow_scale != 1:
            enc0, enc1 = (
                Encoded(enc.image, tuple(self._levels(enc.image, flow_scale)))
                for enc in (enc0, enc1)
            )
        for estimate in self._run(enc0, enc1, t):
            last = estimate
        return self.render(enc0, enc1, self.full_size(*last, enc0.image))

    def estimates(
        self, frame0: Tensor | Encoded, frame1: Tensor | Encoded, timestep: float | Tensor = 0.5
    ) -> list[Estimate]:
        """Flow and mask after each level, coarse to fine: for training."""
        found = self._run(*self._prepare(frame0, frame1, timestep))
        return [
            Estimate(flow, logit, scale)
            for (flow, logit), scale in zip(found, self.config.scales, strict=True)
        ]

    def full_size(self, flow: Tensor, logit: Tensor, image: Tensor) -> Level:
        """Brings flow (B, 4, h, w) and logit (B, 1, h, w) of a level to the size of the frame."""
        factor = image.shape[-1] / flow.shape[-1]
        return Level(resize(flow, factor) * factor, resize(logit, factor))

    def render(self, enc0: Encoded, enc1: Encoded, level: Level) -> Prediction:
        """Warps and mixes both frames along `level`."""
        warped0, warped1 = warp(enc0.image, level.flow[:, :2]), warp(enc1.image, level.flow[:, 2:])
        weight = torch.sigmoid(level.logit)
        return Prediction(torch.lerp(warped1, warped0, weight), level.flow, weight)

    def _levels(self, image: Tensor, flow_scale: float) -> list[Tensor]:
        """Picture and features of each level, (B, 3 + width, H / scale, W / scale)."""
        levels = []
        twice = _reduce(image, self.config.scales[-1] / flow_scale / 2)
        for _ in self.config.scales:
            picture = F.avg_pool2d(twice, 2)
            levels.append(torch.cat((picture, self.encode(twice).float()), 1))
            twice = picture
        return levels[::-1]

    def _run(self, enc0: Encoded, enc1: Encoded, t: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields flow and mask logit, level by level, at the level's size."""
        flow: Tensor | None = None
        for view0, view1 in zip(enc0.features, enc1.features, strict=True):
            batch, _, height, width = view0.shape
            still = view0[:, :3], view1[:, :3]
            if flow is None:
                flow = view0.new_zeros(batch, 4, height, width)
                carried = view0.new_zeros(batch, 1 + self.config.features, height, width)
            else:
                flow, carried = 2 * resize(flow, 2), resize(carried, 2)
                view0, view1 = warp(view0, flow[:, :2]), warp(view1, flow[:, 2:])
            known = t.expand(batch, 1, height, width), carried, flow, *still
            out = self.block(view0, view1, torch.cat(known, 1))
            flow, carried = flow + out[:, :4], out[:, 4:]
            yield flow, carried[:, :1]

    def _prepare(
        self, frame0: Tensor | Encoded, frame1: Tensor | Encoded, timestep: float | Tensor
    ) -> tuple[Encoded, Encoded, Tensor]:
        """Encodes what is not encoded yet and brings both frames and the timestep to one batch."""
        enc0 = frame0 if isinstance(frame0, Encoded) else self.encode_frame(frame0)
        enc1 = frame1 if isinstance(frame1, Encoded) else self.encode_frame(frame1)
        t = torch.as_tensor(timestep, dtype=torch.float32, device=enc0.image.device).view(
            -1, 1, 1, 1
        )
        batch = max(len(t), len(enc0.image))
        return enc0.expand(batch), enc1.expand(batch), t.expand(batch, 1, 1, 1)


class _Encoder(nn.Module):
    """(B, 3, H, W) -> (B, width, H / 2, W / 2)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.cnn0 = conv(3, width, 2)
        self.cnn1 = conv(width, width)
        self.cnn2 = nn.Conv2d(width, width, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.cnn2(self.cnn1(self.cnn0(x)))  # type: ignore[no-any-return]


class _Block(nn.Module):
    """Warped views of both frames at one level -> update of flow, mask and carried features."""

    def __init__(self, config: PyramidConfig) -> None:
        super().__init__()
        view, channels = 3 + config.width, config.channels
        self.radius = config.radius
        known = 1 + 1 + config.features + 4 + 2 * 3
        self.entrance = conv(2 * view + known, channels // 2, 2)
        self.matcher = nn.Conv2d(view, config.matched, 3, 2, 1)
        self.merge = conv(channels // 2 + (2 * config.radius + 1) ** 2, channels, 2)
        self.trunk = nn.Sequential(*(ResConv(channels) for _ in range(config.depth)))
        self.lastconv = nn.ConvTranspose2d(channels, 4 * (5 + config.features), 4, 2, 1)

    def forward(self, view0: Tensor, view1: Tensor, known: Tensor) -> Tensor:
        """Finds the update of a level.

        Args:
            view0: (B, 3 + width, h, w), the earlier picture and its features, warped.
            view1: the later one's.
            known: (B, 12 + features, h, w): time, mask logit and features so far, flow so far in
                pixels of the level, both pictures as they are.

        Returns:
            (B, 4 + 1 + features, h, w) float32: change of the flow, mask logit, features.
        """
        x = self.entrance(torch.cat((view0, view1, known), 1))
        likeness = F.leaky_relu(self._compare(view0, view1), 0.2)
        x = self.trunk(self.merge(torch.cat((x, likeness.to(x.dtype)), 1)))
        return F.pixel_shuffle(self.lastconv(x), 2).float()

    def _compare(self, view0: Tensor, view1: Tensor) -> Tensor:
        """Cosines of the features, (B, (2 radius + 1)^2, h / 2, w / 2)."""
        unit = self.matcher(torch.cat((view0, view1))).float()
        unit = F.normalize(unit - unit.mean(1, keepdim=True), dim=1, eps=_NORM_FLOOR)
        unit0, unit1 = unit.chunk(2)
        return correlation(unit0, unit1, self.radius)


def _reduce(image: Tensor, factor: float) -> Tensor:
    """The mean of factor x factor pixels; below 1 bilinear enlargement."""
    if factor < 1:
        return resize(image, 1 / factor)
    return image if factor == 1 else F.avg_pool2d(image, round(factor))
