"""The kernels of ifnet_kernels.py as functions of tensors; everything as in launch.py.

`work` is a frame, (B, H, W, 8) float32. `Head` is what a block's last convolution puts out.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from midflow.gpu import launch
from midflow.gpu.ifnet_kernels import (
    add_flow_kernel,
    block_inputs_kernel,
    mix_kernel,
    work_kernel,
)
from midflow.nets.prediction import Prediction

WORK = 8
"""Channels of a frame at work: colours 3, features 4, one to spare."""
HEAD = 16
"""Channels of a head: flow 4, logit, carried features 8, spare."""


class Head(NamedTuple):
    """What a block found, on its own grid."""

    out: Tensor
    """(B, h / 2, w / 2, 4 * 16) before the bias."""
    bias: Tensor
    """(64,) float32."""

    @property
    def size(self) -> tuple[int, int]:
        """Its pixels: width and height."""
        return 2 * self.out.shape[2], 2 * self.out.shape[1]


def work(image: Tensor, encoded: Tensor, bias: Tensor) -> Tensor:
    """A frame at work: (B, 3, H, W), and features of (B, H, W, 8) before the bias (8,)."""
    batch, _, height, width = image.shape
    made = image.new_empty(batch, height, width, WORK, dtype=torch.float32)
    image, count = image.float().contiguous(), height * width
    work_kernel[launch.programs(count, batch, launch.PIXELS)](
        image, encoded, bias, made, count, block=launch.PIXELS
    )
    return made


def block_inputs(
    work0: Tensor,
    work1: Tensor,
    flow: Tensor,
    head: Head | None,
    time: Tensor,
    grid: int,
    dtype: torch.dtype,
) -> Tensor:
    """What a block reads: (B, H / grid, W / grid, 32).

    Args:
        work0: the earlier frame.
        work1: the later one.
        flow: (B, H, W, 4) float32 so far; nothing is read of it at the first block.
        head: of the block before; None at the first.
        time: (B,).
        grid: pixels of the frame for one of the block; 1, or even.
        dtype: of the elements.
    """
    batch, full_height, full_width, _ = work0.shape
    height, width = full_height // grid, full_width // grid
    x = work0.new_empty(batch, height, width, 2 * WORK + HEAD, dtype=dtype)
    out, bias = (flow, flow) if head is None else head
    columns, rows = (width, height) if head is None else head.size
    block_inputs_kernel[launch.programs(height * width, batch, launch.PIXELS)](
        work0, work0.stride(0), work1, work1.stride(0), flow, out, bias, time, x, width, height,
        full_width, full_height, columns, rows, grid, columns / width, is_first=head is None,
        is_whole=grid == 1, block=launch.PIXELS,
    )  # fmt: skip
    return x


def add_flow(head: Head, flow: Tensor, grid: int, *, is_first: bool) -> None:
    """Adds a head's flow, enlarged to the size of the frame, to `flow` (B, H, W, 4) in place."""
    batch, height, width, _ = flow.shape
    add_flow_kernel[launch.programs(height * width, batch, launch.PIXELS)](
        *head, flow, width, height, *head.size, float(grid), 1 / grid, is_first=is_first,
        block=launch.PIXELS,
    )  # fmt: skip


def mix(work0: Tensor, work1: Tensor, flow: Tensor, head: Head, *, only_frame: bool) -> Prediction:
    """Reads both frames along `flow` (B, H, W, 4) and mixes them by the head's logit.

    With `only_frame` flow and weight are left out, and empty.
    """
    batch, height, width, _ = flow.shape
    painted = launch.outputs(flow, batch, height, width, only_frame=only_frame)
    columns, rows = head.size
    mix_kernel[launch.programs(height * width, batch, launch.PIXELS)](
        work0, work0.stride(0), work1, work1.stride(0), flow, *head, *painted, width, height,
        columns, rows, columns / width, only_frame=only_frame, block=launch.PIXELS,
    )  # fmt: skip
    return painted
