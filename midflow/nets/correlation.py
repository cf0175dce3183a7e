"""How alike two feature maps are under every small opposite displacement.

    correlation(a, b, r)[dy, dx][y, x] = sum over planes of a[y - dy, x - dx] * b[y + dy, x + dx]

for |dy|, |dx| <= r: halfway between the frames a point that came from x - d is going to x + d (the
bilateral cost volume of Park et al., "BMBC", ECCV 2020). Outside the map features are 0.

A piece of a row of `a` times the same piece of a row of `b` is one matrix product, of which 2 r + 1
antidiagonals are wanted. That is more arithmetic than needed and far less memory traffic.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_PIECE = 16  # pixels of a row that are multiplied at once


def correlation(a: Tensor, b: Tensor, radius: int) -> Tensor:
    """Compares two feature maps.

    Args:
        a: (B, C, H, W) float32.
        b: the same shape.
        radius: largest displacement on either side, in pixels of the map.

    Returns:
        (B, (2 radius + 1)^2, H, W), row by row of the displacement: dy rising, in each dx falling.
    """
    if torch.compiler.is_compiling():  # or exported: matrices of antidiagonals mean nothing there
        return by_shifts(a, b, radius)
    result: Tensor = _Correlation.apply(a, b, radius)  # type: ignore[no-untyped-call]
    return result


def by_shifts(a: Tensor, b: Tensor, radius: int) -> Tensor:
    """The same in plain operations that every engine knows: products of shifted maps."""
    height, width = a.shape[-2:]
    side, around = 2 * radius + 1, (radius,) * 4
    rows_a, rows_b = F.pad(a, around), F.pad(b, around)
    # (B, side, C, H + 2 radius, W): every shift along x, from left to right and back
    to_right = torch.stack([rows_a[..., j : j + width] for j in range(side)], 1)
    to_left = torch.stack([rows_b[..., j : j + width] for j in reversed(range(side))], 1)
    likeness = [
        (to_right[..., side - 1 - i :, :][..., :height, :] * to_left[..., i : i + height, :]).sum(2)
        for i in range(side)
    ]
    return torch.cat(likeness, 1)


class _Correlation(torch.autograd.Function):
    """The forward and backward pass by matrix products."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, radius: int) -> Tensor:
        batch, _, height, width = a.shape
        side = 2 * radius + 1
        pieces = _Pieces(height, width, radius)
        rows_a, rows_b = pieces.padded(a), pieces.padded(b)
        result = a.new_empty(batch, height, pieces.count * pieces.length, side, side)
        for i in range(side):
            product = pieces.cut(rows_a, side - 1 - i) @ pieces.cut(rows_b, i).transpose(-1, -2)
            found = _antidiagonals(product, radius)
            result[:, :, :, i] = found.reshape(batch, height, -1, side)
        ctx.save_for_backward(rows_a, rows_b)
        ctx.pieces, ctx.radius = pieces, radius
        return result[:, :, :width].flatten(3).movedim(3, 1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        rows_a, rows_b = ctx.saved_tensors
        pieces, radius, side = ctx.pieces, ctx.radius, 2 * ctx.radius + 1
        batch, _, height, width = gradient.shape
        spare = pieces.count * pieces.length - width
        parts = F.pad(gradient, (0, spare)).movedim(1, 3)
        parts = parts.reshape(batch, height, pieces.count, pieces.length, side, side)
        grad_a, grad_b = torch.zeros_like(rows_a), torch.zeros_like(rows_b)
        wide = pieces.length + 2 * radius
        product = gradient.new_zeros(batch, height, pieces.count, wide, wide)
        for i in range(side):
            _antidiagonals(product, radius).copy_(parts[..., i, :])
            j = side - 1 - i
            pieces.add(grad_a, j, product @ pieces.cut(rows_b, i))
            pieces.add(grad_b, i, product.transpose(-1, -2) @ pieces.cut(rows_a, j))
        inner = slice(radius, radius + height), slice(radius, radius + width)
        return grad_a[:, *inner].movedim(3, 1), grad_b[:, *inner].movedim(3, 1), None


class _Pieces:
    """Rows of a map in overlapping pieces: `length` pixels and `radius` more on either side."""

    def __init__(self, height: int, width: int, radius: int) -> None:
        self.height, self.width, self.radius = height, width, radius
        self.length = min(_PIECE, width)
        self.count = -(-width // self.length)

    def padded(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, H + 2 radius, count * length + 2 radius, C), zeros around."""
        r, spare = self.radius, self.count * self.length - self.width
        return F.pad(x, (r, r + spare, r, r)).movedim(1, 3).contiguous()

    def cut(self, rows: Tensor, start: int) -> Tensor:
        """(B, H, count, length + 2 radius, C) of the rows from `start` on."""
        rows = rows[:, start : start + self.height]
        return rows.unfold(2, self.length + 2 * self.radius, self.length).transpose(-1, -2)

    def add(self, rows: Tensor, start: int, values: Tensor) -> None:
        """Adds what `cut` would have cut to where it came from."""
        for k in range(self.count):
            left = k * self.length
            right = left + self.length + 2 * self.radius
            rows[:, start : start + self.height, left:right] += values[:, :, k]


def _antidiagonals(product: Tensor, radius: int) -> Tensor:
    """(..., L', L') as (..., L, 2 radius + 1): entry [x - dx, x + dx], dx from radius down."""
    *outer, wide, _ = product.shape
    *strides, row, column = product.stride()
    return product.as_strided(
        (*outer, wide - 2 * radius, 2 * radius + 1),
        (*strides, row + column, row - column),
        product.storage_offset() + 2 * radius * column,
    )
