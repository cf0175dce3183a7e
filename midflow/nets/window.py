"""Means over windows, by adding shifted pictures: on a CPU quicker than `avg_pool2d`."""

import torch
from torch import Tensor


def mean_around(x: Tensor, reach: int) -> Tensor:
    """The mean of what lies in the picture of the pixels within `reach` along both sides, float32.

    Of bytes the sum over a window must be one as well.
    """
    counts = []
    for length in x.shape[-2:]:
        before = torch.arange(length, device=x.device)
        counts.append(before.clamp(max=reach) + before.flip(0).clamp(max=reach) + 1)
    sums = _sums(_sums(x, -1, reach), -2, reach)
    return sums / (counts[0][:, None] * counts[1]).float()


def _sums(x: Tensor, axis: int, reach: int) -> Tensor:
    """Of windows of 2 reach + 1, put together from windows of 1, 2, 4, ... pixels."""
    length, left = x.shape[axis], 2 * reach + 1
    edges = list(x.shape)
    edges[axis] = reach
    windows = torch.cat([x.new_zeros(edges), x, x.new_zeros(edges)], axis)
    found, start, size = torch.zeros_like(x), 0, 1
    while True:
        if left & size:
            found = found + windows.narrow(axis, start, length)
            start += size
        if 2 * size > left:
            return found
        kept = windows.shape[axis] - size
        windows = windows.narrow(axis, 0, kept) + windows.narrow(axis, size, kept)
        size *= 2
