"""The parts of a PyramidNet that hold weights: encoder, the block of every level, the last one."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from midflow.nets.correlation import correlation
from midflow.nets.layers import ResConv, conv
from midflow.nets.pyramid_config import PyramidConfig

PASSING = 3
"""Planes that `passing` gives."""

SHARPNESS = 4.0
"""How much the surest displacement counts before the others."""
NORM_FLOOR = 1e-2
"""Features shorter than this count as nothing to compare."""


class Encoder(nn.Module):
    """(B, 3, H, W) -> (B, width, H / 2, W / 2)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.cnn0 = conv(3, width, 2)
        self.cnn1 = conv(width, width)
        self.cnn2 = nn.Conv2d(width, width, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Makes features of a picture twice the size of its level."""
        return self.cnn2(self.cnn1(self.cnn0(x)))  # type: ignore[no-any-return]


class Block(nn.Module):
    """Warped views of both frames at one level -> update of flow, mask and carried features."""

    def __init__(self, config: PyramidConfig) -> None:
        super().__init__()
        view, channels = 3 + config.width, config.channels
        self.radius = config.radius
        known = 1 + 1 + config.features + 4 + 2 * 3 + 2
        self.entrance = conv(2 * view + known, channels // 2, 2)
        self.matcher = nn.Conv2d(view, config.matched, 3, 2, 1)
        self.merge = conv(channels // 2 + (2 * config.radius + 1) ** 2 + PASSING, channels, 2)
        self.trunk = nn.Sequential(*(ResConv(channels) for _ in range(config.depth)))
        self.lastconv = nn.ConvTranspose2d(channels, 4 * (6 + config.features), 4, 2, 1)

    def forward(self, view0: Tensor, view1: Tensor, known: Tensor) -> Tensor:
        """Finds the update of a level.

        Args:
            view0: (B, 3 + width, h, w), the earlier picture and its features, warped.
            view1: the later one's.
            known: (B, 14 + features, h, w): time, mask logit and features so far, flow so far in
                pixels of the level, both pictures as they are, photometric step.

        Returns:
            (B, 4 + 1 + features + 1, h, w) float32: change of the flow, mask logit, features, share
            of the photometric step to take.
        """
        x = self.entrance(torch.cat((view0, view1, known), 1))
        likeness, passed = self._compare(view0, view1)
        compared = torch.cat((F.leaky_relu(likeness, 0.2), passed), 1)
        x = self.trunk(self.merge(torch.cat((x, compared.to(x.dtype)), 1)))
        return F.pixel_shuffle(self.lastconv(x), 2).float()

    def _compare(self, view0: Tensor, view1: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines of the features, (B, (2 radius + 1)^2, h / 2, w / 2), and what passes by."""
        unit = self.matcher(torch.cat((view0, view1))).float()
        unit = F.normalize(unit - unit.mean(1, keepdim=True), dim=1, eps=NORM_FLOOR)
        unit0, unit1 = unit.chunk(2)
        likeness = correlation(unit0, unit1, self.radius)
        misfit = (unit0 - unit1).square().sum(1, keepdim=True)
        return likeness, passing(likeness, misfit, self.radius)


def passing(likeness: Tensor, misfit: Tensor, radius: int) -> Tensor:
    """What passes by a place: it is alike before and after, and fits its surroundings in neither.

    Where a thin or small thing is in neither frame, its background matches well; that something
    left one place and came to the opposite one is all there is to be seen of it.

    Args:
        likeness: of displaced features as `correlation` gives it, (B, (2 radius + 1)^2, h, w).
        misfit: squared distance of the features where they are, (B, 1, h, w).
        radius: largest displacement.

    Returns:
        (B, 3, h, w): displacement on either side (dx, dy) in pixels of the map, 0 where nothing
        passes, and how surely something does, from 0 to 1.
    """
    surely = SHARPNESS * likeness * correlation(misfit, misfit, radius)
    side = 2 * radius + 1
    share = surely.softmax(1).reshape(len(surely), side, side, *surely.shape[-2:])
    line = torch.arange(-radius, radius + 1, device=share.device, dtype=share.dtype)
    down = (share.sum(2) * line.view(1, -1, 1, 1)).sum(1, keepdim=True)
    across = -(share.sum(1) * line.view(1, -1, 1, 1)).sum(1, keepdim=True)
    most = surely.amax(1, keepdim=True).clamp(max=SHARPNESS) / SHARPNESS
    return torch.cat((across, down, most), 1)


class Detail(nn.Module):
    """Corrects flow and mask at full size, from every pixel of both frames."""

    def __init__(self, config: PyramidConfig) -> None:
        super().__init__()
        channels = config.detail
        self.entrance = conv(4 * (4 * 3 + 2) + 1 + 1 + config.features + 4, channels, 2)
        self.trunk = nn.Sequential(*(ResConv(channels) for _ in range(config.detail_depth)))
        self.lastconv = nn.ConvTranspose2d(channels, 4 * 6, 4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 62 + features, H / 2, W / 2) -> (B, 6, H, W) float32.

        That is the change of flow and logit, and the share of the photometric step to take.
        """
        return F.pixel_shuffle(self.lastconv(self.trunk(self.entrance(x))), 2).float()
