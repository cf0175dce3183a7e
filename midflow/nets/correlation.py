"""How alike two feature maps are under every small opposite displacement.

    correlation(a, b, r)[dy, dx][y, x] = sum over planes of a[y - dy, x - dx] * b[y + dy, x + dx]

for |dy|, |dx| <= r: halfway between the frames a point that came from x - d is going to x + d (the
bilateral cost volume of Park et al., "BMBC", ECCV 2020). Outside the map features are 0.

The products of a row of `a` with a row of `b` are one matrix product; what is asked for are 2 r + 1
of its antidiagonals. That is more arithmetic than needed and far less memory traffic.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def correlation(a: Tensor, b: Tensor, radius: int) -> Tensor:
    """Compares two feature maps.

    Args:
        a: (B, C, H, W) float32.
        b: the same shape.
        radius: largest displacement on either side, in pixels of the map.

    Returns:
        (B, (2 radius + 1)^2, H, W), row by row of the displacement: dy rising, in each dx falling.
    """
    result: Tensor = _Correlation.apply(a, b, radius)  # type: ignore[no-untyped-call]
    return result


class _Correlation(torch.autograd.Function):
    """The forward and backward pass by matrix products."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, radius: int) -> Tensor:
        batch, _, height, width = a.shape
        side = 2 * radius + 1
        rows_a, rows_b = _rows(a, radius), _rows(b, radius)
        result = a.new_empty(batch, height, width, side, side)
        for i in range(side):
            product = torch.bmm(
                _shifted(rows_a, side - 1 - i, height),
                _shifted(rows_b, i, height).transpose(1, 2),
            )
            result[:, :, :, i] = _antidiagonals(product, radius).view(batch, height, width, side)
        ctx.save_for_backward(rows_a, rows_b)
        ctx.radius = radius
        return result.flatten(3).movedim(3, 1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        rows_a, rows_b = ctx.saved_tensors
        radius, side = ctx.radius, 2 * ctx.radius + 1
        batch, _, height, width = gradient.shape
        parts = gradient.movedim(1, 3).reshape(batch * height, width, side, side)
        grad_a, grad_b = torch.zeros_like(rows_a), torch.zeros_like(rows_b)
        wide = width + 2 * radius
        product = gradient.new_zeros(batch * height, wide, wide)
        for i in range(side):
            _antidiagonals(product, radius).copy_(parts[:, :, i])
            j = side - 1 - i
            to_a = torch.bmm(product, _shifted(rows_b, i, height))
            to_b = torch.bmm(product.transpose(1, 2), _shifted(rows_a, j, height))
            grad_a[:, j : j + height] += to_a.view(batch, height, wide, -1)
            grad_b[:, i : i + height] += to_b.view(batch, height, wide, -1)
        inner = slice(radius, radius + height), slice(radius, radius + width)
        return grad_a[:, *inner].movedim(3, 1), grad_b[:, *inner].movedim(3, 1), None


def _rows(x: Tensor, radius: int) -> Tensor:
    """(B, C, H, W) -> (B, H + 2 radius, W + 2 radius, C), zeros around."""
    return F.pad(x, (radius, radius, radius, radius)).movedim(1, 3).contiguous()


def _shifted(rows: Tensor, start: int, height: int) -> Tensor:
    """`height` rows from `start` on, each as one matrix: (B * height, W', C)."""
    return rows[:, start : start + height].flatten(0, 1)


def _antidiagonals(product: Tensor, radius: int) -> Tensor:
    """View of (N, W', W') as (N, W, 2 radius + 1): entry [x - dx, x + dx], dx from radius down."""
    wide = product.shape[-1]
    shape = len(product), wide - 2 * radius, 2 * radius + 1
    strides = wide * wide, wide + 1, wide - 1
    return product.as_strided(shape, strides, product.storage_offset() + 2 * radius)
