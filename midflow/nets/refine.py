"""The paper's refinement: warped context features of both frames and a U-Net correct the blend.

Huang et al., ECCV 2022. With `full_size` (the 2R network) the first level of both networks works at
the size of the frame instead of half of it.
"""

import torch
from torch import Tensor, nn

from midflow.nets.layers import ConvPair
from midflow.nets.warp import resize, warp

_PLANES = 16  # of the finest context level; every level doubles it


class ContextNet(nn.Module):
    """Four levels of features of one frame, to be warped by the flow."""

    def __init__(self, full_size: bool) -> None:
        super().__init__()
        c = _PLANES
        self.conv1 = ConvPair(3, c, 1 if full_size else 2)
        self.conv2 = ConvPair(c, 2 * c)
        self.conv3 = ConvPair(2 * c, 4 * c)
        self.conv4 = ConvPair(4 * c, 8 * c)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W) -> four feature maps, fine to coarse; they do not depend on the flow."""
        levels = [image]
        for layer in (self.conv1, self.conv2, self.conv3, self.conv4):
            levels.append(layer(levels[-1]))
        return tuple(levels[1:])


def warp_pyramid(levels: tuple[Tensor, ...], flow: Tensor) -> list[Tensor]:
    """Warps each level by `flow` (B, 2, H, W), halved in size and value from level to level."""
    warped = []
    for level in levels:
        if flow.shape[-1] != level.shape[-1]:
            flow = resize(flow, 0.5) * 0.5
        warped.append(warp(level, flow))
    return warped


class UNet(nn.Module):
    """Estimates the correction of the blended frame."""

    def __init__(self, full_size: bool) -> None:
        super().__init__()
        c = _PLANES
        self.down0 = ConvPair(17, 2 * c, 1 if full_size else 2)
        self.down1 = ConvPair(4 * c, 4 * c)
        self.down2 = ConvPair(8 * c, 8 * c)
        self.down3 = ConvPair(16 * c, 16 * c)
        self.up0 = _deconv(32 * c, 8 * c)
        self.up1 = _deconv(16 * c, 4 * c)
        self.up2 = _deconv(8 * c, 2 * c)
        self.up3 = _deconv(4 * c, c)
        self.conv = nn.Conv2d(c, 3, 3, 2 if full_size else 1, 1)

    def forward(self, x: Tensor, context0: list[Tensor], context1: list[Tensor]) -> Tensor:
        """Returns the residual (B, 3, H, W) in [-1, 1].

        Args:
            x: (B, 17, H, W): both frames, both warped frames, mask logit, flow.
            context0: the warped context levels of frame 0, fine to coarse.
            context1: those of frame 1.
        """
        skips = [self.down0(x)]
        for k, down in enumerate((self.down1, self.down2, self.down3)):
            skips.append(down(torch.cat((skips[-1], context0[k], context1[k]), 1)))
        x = self.up0(torch.cat((skips[3], context0[3], context1[3]), 1))
        x = self.up1(torch.cat((x, skips[2]), 1))
        x = self.up2(torch.cat((x, skips[1]), 1))
        x = self.up3(torch.cat((x, skips[0]), 1))
        return torch.sigmoid(self.conv(x)).float() * 2 - 1


def _deconv(cin: int, cout: int) -> nn.Sequential:
    return nn.Sequential(nn.ConvTranspose2d(cin, cout, 4, 2, 1), nn.PReLU(cout))
