"""The convolutions all generations are made of."""

import torch
from torch import Tensor, nn


def conv(cin: int, cout: int, stride: int = 1, *, learned: bool = False) -> nn.Sequential:
    """A 3 x 3 convolution and its activation: PReLU where `learned`, else LeakyReLU(0.2)."""
    activation = nn.PReLU(cout) if learned else nn.LeakyReLU(0.2)
    return nn.Sequential(nn.Conv2d(cin, cout, 3, stride, 1), activation)


class ConvPair(nn.Module):
    """Two 3 x 3 convolutions with PReLU, the first with the stride."""

    def __init__(self, cin: int, cout: int, stride: int = 2) -> None:
        super().__init__()
        self.conv1 = conv(cin, cout, stride, learned=True)
        self.conv2 = conv(cout, cout, learned=True)

    def forward(self, x: Tensor) -> Tensor:
        """(B, cin, H, W) -> (B, cout, H / stride, W / stride)."""
        return self.conv2(self.conv1(x))  # type: ignore[no-any-return]


class ResConv(nn.Module):
    """A 3 x 3 convolution with a learned gain per channel, added to its input (4.5 and later)."""

    def __init__(self, channels: int, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, 1, 1, groups=groups)
        self.beta = nn.Parameter(torch.ones(1, channels, 1, 1))
        self.relu = nn.LeakyReLU(0.2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        return self.relu(self.conv(x) * self.beta + x)  # type: ignore[no-any-return]
