"""The parts of an IFNet that hold weights: its blocks and its frame encoder."""

import torch.nn.functional as F
from torch import Tensor, nn

from midflow.nets.config import IFNetConfig
from midflow.nets.layers import ResConv, conv


class Block(nn.Module):
    """One IFBlock: reduced inputs -> update of flow, mask and carried features."""

    def __init__(self, config: IFNetConfig, cin: int, channels: int, depth: int) -> None:
        super().__init__()
        learned = config.trunk == "skip"
        first = 2 if config.stride == 4 else 1
        self.conv0 = nn.Sequential(
            conv(cin, channels // 2, first, learned=learned),
            conv(channels // 2, channels, 2, learned=learned),
        )
        layers = (
            ResConv(channels, config.groups)
            if config.trunk == "residual"
            else conv(channels, channels, learned=learned)
            for _ in range(depth)
        )
        self.convblock = nn.Sequential(*layers)
        planes = 5 + config.spare + config.features
        self.lastconv: nn.Module
        if config.head == "shuffle":
            up = nn.ConvTranspose2d(channels, 4 * planes, 4, 2, 1)
            self.lastconv = nn.Sequential(up, nn.PixelShuffle(2))
        else:
            self.lastconv = nn.ConvTranspose2d(channels, planes, 4, 2, 1)
        self.has_skip = learned

    def forward(self, x: Tensor, planes: int | None = None) -> Tensor:
        """(B, cin, h, w) -> (B, planes, h', w'): dflow, dmask and carried features; float32.

        Only the first `planes` of them are computed; None: all.
        """
        x = self.conv0(x)
        x = self.convblock(x) + x if self.has_skip else self.convblock(x)
        return self._head(x, planes).float()

    def _head(self, x: Tensor, planes: int | None) -> Tensor:
        up, shuffle = self.lastconv, 1
        if isinstance(up, nn.Sequential):
            up, shuffle = up[0], 2
        used = slice(None if planes is None else planes * shuffle**2)
        weight, bias = up.get_parameter("weight"), up.get_parameter("bias")
        return F.pixel_shuffle(F.conv_transpose2d(x, weight[:, used], bias[used], 2, 1), shuffle)


class NamedEncoder(nn.Module):
    """The frame encoder of 4.13 and later; without the last layer it stays at half resolution."""

    def __init__(self, width: int, planes: int, resolution: int) -> None:
        super().__init__()
        self.cnn0 = nn.Conv2d(3, width, 3, 2, 1)
        self.cnn1 = nn.Conv2d(width, width, 3, 1, 1)
        self.cnn2 = nn.Conv2d(width, width, 3, 1, 1)
        self.cnn3 = nn.ConvTranspose2d(width, planes, 4, 2, 1) if resolution == 1 else None
        self.relu = nn.LeakyReLU(0.2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, planes, H / resolution, W / resolution)."""
        for layer in (self.cnn0, self.cnn1, self.cnn2):
            x = self.relu(layer(x))
        return x if self.cnn3 is None else self.cnn3(x)


def build_encoder(config: IFNetConfig) -> nn.Module:
    """The frame encoder a configuration names: (B, 3, H, W) -> (B, encoder_planes, ...)."""
    width, planes = config.encoder_width, config.encoder_planes
    if config.encoder == "named":
        return NamedEncoder(width, planes, config.resolution)
    down, up = nn.Conv2d(3, width, 3, 2, 1), nn.ConvTranspose2d(width, planes, 4, 2, 1)
    if config.encoder == "pair":
        return nn.Sequential(down, up)
    same = [nn.Conv2d(width, width, 3, 1, 1) for _ in range(2)]
    relu = nn.LeakyReLU(0.2)
    return nn.Sequential(down, relu, same[0], relu, same[1], relu, up)
