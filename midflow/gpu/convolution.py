"""Convolutions by cuDNN, channels last, with bias and activation in one pass behind them."""

import torch
import torch.nn.functional as F
from torch import Tensor

from midflow.gpu.launch import finish
from midflow.native.convolution import with_identity


class Convolution:
    """3 x 3, or transposed 4 x 4 with stride 2.

    Args:
        weight: of the convolution, on the device where it runs.
        bias: one number for each output channel.
        dtype: of the elements.
        stride: of a 3 x 3 convolution.
        leaky: whether a leaky ReLU follows.
        transposed: whether it is a transposed one.
        residual: whether its input is added before the leaky ReLU.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor,
        dtype: torch.dtype,
        *,
        stride: int = 1,
        leaky: bool = True,
        transposed: bool = False,
        residual: bool = False,
    ) -> None:
        weight = with_identity(weight) if residual else weight
        self.weight = weight.to(dtype).contiguous(memory_format=torch.channels_last)
        self.bias = bias.float().contiguous()
        self.stride = stride
        self.leaky = leaky
        self.transposed = transposed

    def __call__(self, x: Tensor) -> Tensor:
        """(B, h, w, C) -> (B, h', w', C'), contiguous."""
        return finish(self.product(x), self.bias, leaky=self.leaky)

    def product(self, x: Tensor) -> Tensor:
        """The same before bias and activation, for a kernel that does these itself."""
        planes = x.permute(0, 3, 1, 2)
        if self.transposed:
            y = F.conv_transpose2d(planes, self.weight, None, 2, 1)
        else:
            y = F.conv2d(planes, self.weight, None, self.stride, 1)
        return y.permute(0, 2, 3, 1).contiguous()
