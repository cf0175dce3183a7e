"""Convolutions by oneDNN or torch, channels last, with what follows them in the same pass."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

C = TypeVar("C")

SLOPE = 0.2  # of the leaky ReLU behind convolutions, as in nets/layers.py

_MOST_PACKED = 16  # sizes for which a kernel is kept

Channels = list[int]
"""For each channel of a buffer, the network's channel it holds, or -1 for none."""


def arranged(weight: Tensor, channels: Channels, dim: int) -> Tensor:
    """A kernel for a buffer whose channels lie otherwise; zeros where it holds none."""
    order = torch.tensor(channels, device=weight.device)
    taken = weight.index_select(dim, order.clamp(min=0))
    shape = [-1 if k == dim else 1 for k in range(weight.dim())]
    return taken * (order >= 0).view(shape)


def with_identity(weight: Tensor) -> Tensor:
    """The kernel of x + conv(x): the identity is a kernel too."""
    weight = weight.clone()
    weight[range(len(weight)), range(len(weight)), 1, 1] += 1
    return weight


@dataclass(frozen=True)
class Form:
    """A kind of convolution: 3 x 3, or transposed 4 x 4 with stride 2."""

    stride: int = 1
    """Of a 3 x 3 one."""
    transposed: bool = False
    residual: bool = False
    """Whether its input is added to what it gives."""
    leaky: bool = True
    """Whether a leaky ReLU follows."""


def has_onednn() -> bool:
    """Whether this build of torch has it: on Apple Silicon it has not."""
    return hasattr(torch.ops.mkldnn, "_convolution_pointwise")


class Convolution:
    """By oneDNN, or what else torch has, in one precision.

    Args:
        weight: as torch's convolutions have it.
        bias: one number for each output channel.
        dtype: of the elements, float32 or bfloat16.
        form: of the convolution.
    """

    def __init__(self, weight: Tensor, bias: Tensor, dtype: torch.dtype, form: Form) -> None:
        weight = with_identity(weight) if form.residual else weight
        self.weight = weight.to(dtype).contiguous(memory_format=torch.channels_last)
        self.bias = bias.to(dtype)
        self.form = form
        self.attribute = ("leaky_relu", [SLOPE]) if form.leaky else ("none", [])
        self._packed: dict[torch.Size, Tensor] = {}

    def __call__(self, x: Tensor, buffers: object, *, keep: bool = False) -> Tensor:
        """(B, h, w, C) -> (B, h', w', C'), contiguous; in memory of its own always."""
        planes = x.permute(0, 3, 1, 2)
        y = self._by_onednn(planes) if has_onednn() else self._by_torch(planes)
        return y.permute(0, 2, 3, 1).contiguous()

    def _by_torch(self, planes: Tensor) -> Tensor:
        if self.form.transposed:
            y = F.conv_transpose2d(planes, self.weight, self.bias, 2, 1)
        else:
            y = F.conv2d(planes, self.weight, self.bias, self.form.stride, 1)
        return F.leaky_relu_(y, SLOPE) if self.form.leaky else y

    def _by_onednn(self, planes: Tensor) -> Tensor:
        attribute, scalars = self.attribute
        pair = [self.form.stride, self.form.stride]
        if self.form.transposed:
            y = torch.ops.mkldnn._convolution_transpose_pointwise(
                planes, self.weight, self.bias, [1, 1], [0, 0], [2, 2], [1, 1], 1, attribute,
                scalars, "",
            )  # fmt: skip
        else:
            y = torch.ops.mkldnn._convolution_pointwise(
                planes, self._packed_for(planes), self.bias, [1, 1], pair, [1, 1], 1, attribute,
                scalars, "",
            )  # fmt: skip
        out: Tensor = y
        return out

    def _packed_for(self, planes: Tensor) -> Tensor:
        """The kernel as oneDNN wants it for this size, once instead of in every call."""
        if planes.shape not in self._packed:
            if len(self._packed) >= _MOST_PACKED:
                self._packed.clear()
            pair = [self.form.stride, self.form.stride]
            self._packed[planes.shape] = torch._C._nn.mkldnn_reorder_conv2d_weight(  # type: ignore[call-arg]
                self.weight.to_mkldnn(), [1, 1], pair, [1, 1], 1, list(planes.shape)
            )
        return self._packed[planes.shape]


def filled(channels: Channels, count: int) -> Channels:
    """`count` channels, the last ones empty."""
    return channels + [-1] * (count - len(channels))


class Layers(Generic[C]):
    """Makes convolutions of the weights of a network, each with its channels in another order.

    Args:
        weights: the network's state dictionary.
        dtype: of the elements.
        make: a class like `Convolution`.
    """

    def __init__(
        self,
        weights: dict[str, Tensor],
        dtype: torch.dtype,
        make: Callable[[Tensor, Tensor, torch.dtype, Form], C],
    ) -> None:
        self.weights = weights
        self.dtype = dtype
        self.make = make

    def conv(
        self, name: str, inputs: Channels | None = None, *, stride: int = 1, leaky: bool = True
    ) -> C:
        """A 3 x 3 convolution of a buffer that holds `inputs`."""
        weight, bias = self._named(name)
        weight = weight if inputs is None else arranged(weight, inputs, 1)
        return self.make(weight, bias, self.dtype, Form(stride=stride, leaky=leaky))

    def residuals(self, name: str, count: int) -> tuple[C, ...]:
        """leaky(x + beta conv(x)) as one convolution each."""
        found = []
        for k in range(count):
            weight, bias = self._named(f"{name}.{k}.conv")
            beta = self.weights[f"{name}.{k}.beta"].flatten()
            weight = weight * beta[:, None, None, None]
            found.append(self.make(weight, bias * beta, self.dtype, Form(residual=True)))
        return tuple(found)

    def up(self, name: str, outputs: Channels) -> C:
        """A transposed 4 x 4 convolution into a buffer that holds `outputs`."""
        weight, bias = self._named(name)
        weight, bias = arranged(weight, outputs, 1), arranged(bias, outputs, 0)
        return self.make(weight, bias, self.dtype, Form(leaky=False, transposed=True))

    def shuffled(self, name: str, planes: int, each: int) -> C:
        """Transposed; its output is a pixel's planes side by side, for each of 2 x 2 pixels."""
        channels: Channels = []
        for part in range(4):
            channels += filled([4 * plane + part for plane in range(planes)], each)
        return self.up(name, channels)

    def _named(self, name: str) -> tuple[Tensor, Tensor]:
        return self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
