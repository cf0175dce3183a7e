"""Convolutions by cuDNN, channels last, with bias and activation in one pass behind them."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from midflow.gpu.fused_convolution import FusedConvolution
from midflow.gpu.launch import finish
from midflow.native.convolution import Form, with_identity


class Convolution:
    """A convolution in one precision.

    Args:
        weight: of the convolution, on the device where it runs.
        bias: one number for each output channel.
        dtype: of the elements.
        form: of the convolution.
    """

    def __init__(self, weight: Tensor, bias: Tensor, dtype: torch.dtype, form: Form) -> None:
        weight = with_identity(weight) if form.residual else weight
        self.weight = weight.to(dtype).contiguous(memory_format=torch.channels_last)
        self.bias = bias.float().contiguous()
        self.form = form

    def __call__(self, x: Tensor) -> Tensor:
        """(B, h, w, C) -> (B, h', w', C'), contiguous."""
        return finish(self.product(x), self.bias, leaky=self.form.leaky)

    def product(self, x: Tensor) -> Tensor:
        """The same before bias and activation, for a kernel that does these itself."""
        planes = x.permute(0, 3, 1, 2)
        if self.form.transposed:
            y = F.conv_transpose2d(planes, self.weight, None, 2, 1)
        else:
            y = F.conv2d(planes, self.weight, None, self.form.stride, 1)
        return y.permute(0, 2, 3, 1).contiguous()


AnyConvolution = Convolution | FusedConvolution
MakeConvolution = Callable[[Tensor, Tensor, torch.dtype, Form], AnyConvolution]
"""A class like these: (weight, bias, dtype, form) -> a convolution."""
