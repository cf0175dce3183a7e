"""The layers of the releases before 4.0; `legacy.py` says what they compute together.

Attribute names are those of the released checkpoints.
"""

import torch
from torch import Tensor, nn

from midflow.nets.layers import ConvPair, conv

CONTEXT_PLANES = 32  # of the finest context level; every level but the first doubles it
_SQUEEZED = 16  # planes between the two 1 x 1 convolutions that weigh the channels


class SqueezeBlock(nn.Module):
    """A residual block whose channels are weighed by their mean over the whole picture (1.8).

    Those of the flow net have batch norm and a 5 x 5 convolution, those of the other two a stride.
    """

    def __init__(self, cin: int, cout: int, *, stride: int = 1, norm: bool = False) -> None:
        super().__init__()
        is_same = cin == cout and stride == 1
        self.conv0 = nn.Identity() if is_same else nn.Conv2d(cin, cout, 3, stride, 1, bias=False)
        if norm:
            self.conv1 = _norm_conv(cin, cout, stride)
            last = nn.Conv2d(cout, cout, 3, 1, 1, bias=False)
            self.conv2 = nn.Sequential(last, nn.BatchNorm2d(cout))
        else:
            self.conv1 = conv(cin, cout, stride, learned=True)
            self.conv2 = nn.Sequential(nn.Conv2d(cout, cout, 3, 1, 1))
        self.relu1 = nn.PReLU(1)
        self.relu2 = nn.PReLU(cout)
        self.fc1 = nn.Conv2d(cout, _SQUEEZED, 1, bias=False)
        self.fc2 = nn.Conv2d(_SQUEEZED, cout, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, cin, H, W) -> (B, cout, H / stride, W / stride)."""
        skip = self.conv0(x)
        x = self.conv2(self.conv1(x))
        gain = self.relu1(self.fc1(x.mean((2, 3), keepdim=True)))
        return self.relu2(x * torch.sigmoid(self.fc2(gain)) + skip)  # type: ignore[no-any-return]


class SymmetricBlock(nn.Module):
    """The flow block of 1.8: one motion, forward for one frame and backward for the other."""

    def __init__(self, cin: int, channels: int, depth: int) -> None:
        super().__init__()
        self.conv0 = _norm_conv(cin, channels, 2)
        self.depth = depth
        for k in range(depth):
            self.add_module(f"res{k}", SqueezeBlock(channels, channels, norm=True))
        self.conv1 = nn.Conv2d(channels, 8, 3, 1, 1)
        self.up = nn.PixelShuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, cin, h, w) -> dflow (B, 2, h, w), float32."""
        x = self.conv0(x)
        for k in range(self.depth):
            x = self.get_submodule(f"res{k}")(x)
        return self.up(self.conv1(x)).float()  # type: ignore[no-any-return]


class FlowBlock(nn.Module):
    """The flow block of 2.3 and later: stem at a quarter of the input, trunk, head.

    Args:
        cin: planes of the input.
        channels: channels of the trunk.
        depth: convolutions of a plain trunk, or pairs of them with a skip around each pair.
        has_pairs: which of the two.
        head: "single" flow at half the input; "twin" heads for flow and mask, likewise; "deep" twin
            heads, at the size of the input.
    """

    def __init__(self, cin: int, channels: int, depth: int, *, has_pairs: bool, head: str) -> None:
        super().__init__()
        self.conv0 = nn.Sequential(
            conv(cin, channels // 2, 2, learned=True),
            conv(channels // 2, channels, 2, learned=True),
        )
        self.pairs = depth if has_pairs else 0
        for k in range(self.pairs):
            self.add_module(f"convblock{k}", nn.Sequential(*_same_convs(channels, 2)))
        if not has_pairs:
            self.convblock = nn.Sequential(*_same_convs(channels, depth))
        # The lone layer of a "twin" head is numbered in its name for the flow, not for the mask.
        deep = head == "deep"
        self.conv1 = _deep_head(channels, 4) if deep else _up(channels, 4)
        if head == "twin":
            self.conv1 = nn.Sequential(self.conv1)
        self.conv2 = None if head == "single" else (_deep_head if deep else _up)(channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, cin, h, w) -> dflow and, from twin heads, dmask: (B, 4 or 5, h', w'), float32."""
        x = self.conv0(x)
        for k in range(self.pairs):
            x = self.get_submodule(f"convblock{k}")(x) + x
        if not self.pairs:
            x = self.convblock(x)
        flow: Tensor = self.conv1(x)
        return flow.float() if self.conv2 is None else torch.cat((flow, self.conv2(x)), 1).float()


class HDContextNet(nn.Module):
    """Features of one frame on four levels, at 1/4 to 1/32 of its size, for the flow to warp."""

    def __init__(self, *, has_squeeze: bool) -> None:
        super().__init__()
        c = CONTEXT_PLANES
        self.conv0 = _first(3, c, has_squeeze)
        self.conv1 = _down(c, c, has_squeeze)
        self.conv2 = _down(c, 2 * c, has_squeeze)
        self.conv3 = _down(2 * c, 4 * c, has_squeeze)
        self.conv4 = _down(4 * c, 8 * c, has_squeeze)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W) -> four feature maps, fine to coarse; they do not depend on the flow."""
        levels = [self.conv0(image)]
        for layer in (self.conv1, self.conv2, self.conv3, self.conv4):
            levels.append(layer(levels[-1]))
        return tuple(levels[1:])


class FusionUNet(nn.Module):
    """Estimates blend weight and correction of the warped frames."""

    def __init__(self, cin: int, *, has_squeeze: bool) -> None:
        super().__init__()
        c = CONTEXT_PLANES
        self.conv0 = _first(cin, c, has_squeeze)
        self.down0 = _down(c, 2 * c, has_squeeze)
        self.down1 = _down(4 * c, 4 * c, has_squeeze)
        self.down2 = _down(8 * c, 8 * c, has_squeeze)
        self.down3 = _down(16 * c, 16 * c, has_squeeze)
        self.up0 = _learned_up(32 * c, 8 * c)
        self.up1 = _learned_up(16 * c, 4 * c)
        self.up2 = _learned_up(8 * c, 2 * c)
        self.up3 = _learned_up(4 * c, c)
        self.conv = nn.Conv2d(c, 16, 3, 1, 1) if has_squeeze else _up(c, 4)
        self.up4 = nn.PixelShuffle(2) if has_squeeze else nn.Identity()

    def forward(self, x: Tensor, context0: list[Tensor], context1: list[Tensor]) -> Tensor:
        """Returns (B, 4, H, W) before the sigmoid, float32: correction, weight of frame 0.

        Args:
            x: (B, cin, H, W): both warped frames and the flow.
            context0: the warped context levels of frame 0, fine to coarse.
            context1: those of frame 1.
        """
        skips = [self.down0(self.conv0(x))]
        for k, down in enumerate((self.down1, self.down2, self.down3)):
            skips.append(down(torch.cat((skips[-1], context0[k], context1[k]), 1)))
        x = self.up0(torch.cat((skips[3], context0[3], context1[3]), 1))
        for up, skip in zip((self.up1, self.up2, self.up3), reversed(skips[:3]), strict=True):
            x = up(torch.cat((x, skip), 1))
        return self.up4(self.conv(x)).float()  # type: ignore[no-any-return]


def _norm_conv(cin: int, cout: int, stride: int) -> nn.Sequential:
    layer = nn.Conv2d(cin, cout, 5, stride, 2, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(cout), nn.PReLU(cout))


def _same_convs(channels: int, count: int) -> list[nn.Sequential]:
    return [conv(channels, channels, learned=True) for _ in range(count)]


def _first(cin: int, cout: int, has_squeeze: bool) -> nn.Module:
    """To half the size, without a squeeze in either kind of net."""
    return conv(cin, cout, 2, learned=True) if has_squeeze else ConvPair(cin, cout)


def _down(cin: int, cout: int, has_squeeze: bool) -> nn.Module:
    return SqueezeBlock(cin, cout, stride=2) if has_squeeze else ConvPair(cin, cout)


def _up(cin: int, cout: int) -> nn.Module:
    return nn.ConvTranspose2d(cin, cout, 4, 2, 1)


def _learned_up(cin: int, cout: int) -> nn.Sequential:
    return nn.Sequential(_up(cin, cout), nn.PReLU(cout))


def _deep_head(channels: int, planes: int) -> nn.Module:
    return nn.Sequential(*_learned_up(channels, channels // 2), _up(channels // 2, planes))
