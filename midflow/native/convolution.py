"""Convolutions by oneDNN, channels last, with what follows them in the same pass."""

import torch
from torch import Tensor

_SLOPE = 0.2  # of the leaky ReLU behind convolutions, as in nets/layers.py

_MOST_PACKED = 16  # sizes for which a kernel is kept

Channels = list[int]
"""For each channel of a buffer, the network's channel it holds, or -1 for none."""


def arranged(weight: Tensor, channels: Channels, dim: int) -> Tensor:
    """A kernel for a buffer whose channels lie otherwise; zeros where it holds none."""
    order = torch.tensor(channels)
    taken = weight.index_select(dim, order.clamp(min=0))
    shape = [-1 if k == dim else 1 for k in range(weight.dim())]
    return taken * (order >= 0).view(shape)


class Convolution:
    """3 x 3, or transposed 4 x 4 with stride 2; float32 or bfloat16."""

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor,
        dtype: torch.dtype,
        *,
        stride: int = 1,
        leaky: bool = True,
        transposed: bool = False,
    ) -> None:
        self.weight = weight.to(dtype).contiguous(memory_format=torch.channels_last)
        self.bias = bias.to(dtype)
        self.stride = stride
        self.attribute = ("leaky_relu", [_SLOPE]) if leaky else ("none", [])
        self.transposed = transposed
        self._packed: dict[torch.Size, Tensor] = {}

    def __call__(self, x: Tensor) -> Tensor:
        """(B, h, w, C) -> (B, h', w', C'), contiguous."""
        attribute, scalars = self.attribute
        planes, pair = x.permute(0, 3, 1, 2), [self.stride, self.stride]
        if self.transposed:
            y = torch.ops.mkldnn._convolution_transpose_pointwise(
                planes, self.weight, self.bias, [1, 1], [0, 0], [2, 2], [1, 1], 1, attribute,
                scalars, "",
            )  # fmt: skip
        else:
            y = torch.ops.mkldnn._convolution_pointwise(
                planes, self._packed_for(planes), self.bias, [1, 1], pair, [1, 1], 1, attribute,
                scalars, "",
            )  # fmt: skip
        out: Tensor = y.permute(0, 2, 3, 1)
        return out.contiguous()

    def _packed_for(self, planes: Tensor) -> Tensor:
        """The kernel as oneDNN wants it for this size, once instead of in every call."""
        if planes.shape not in self._packed:
            if len(self._packed) >= _MOST_PACKED:
                self._packed.clear()
            pair = [self.stride, self.stride]
            self._packed[planes.shape] = torch._C._nn.mkldnn_reorder_conv2d_weight(  # type: ignore[call-arg]
                self.weight.to_mkldnn(), [1, 1], pair, [1, 1], 1, list(planes.shape)
            )
        return self._packed[planes.shape]
