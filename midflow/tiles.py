"""Large pictures in overlapping tiles, mixed where they overlap, so that no seam shows.

All tiles have one size and begin on the network's own grid, so that its pyramid has the same cells
as in the whole picture. Within the outer quarter of an overlap a tile counts nothing: there its
network saw the least. Then its share rises evenly.
"""

import math
from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor

SMALLEST_TILE = 256
OVERLAP = 128  # pixels; motion beyond it leaves the tile
_UNUSED = 0.25  # of the overlap, at either border of a tile

Part = Callable[[Tensor], Tensor]
"""Crops (B, C, H, W) to a tile, (B, C, h, w)."""


def tile_size(wanted: int, multiple: int) -> int:
    """The side of a tile: `wanted` pixels or a little more, a multiple of `multiple`."""
    return multiple * math.ceil(max(wanted, SMALLEST_TILE) / multiple)


def in_tiles(work: Callable[[Part], Tensor], shape: tuple[int, int], side: int) -> Tensor:
    """Puts a picture together from what `work` makes of its tiles.

    Args:
        work: given the function that crops to a tile, makes (B, C, h, w) of it.
        shape: H and W of the whole.
        side: of a tile, at most; smaller where the picture is.

    Returns:
        (B, C, H, W), float32.
    """
    height, width = shape
    rows, columns = _spans(height, side), _spans(width, side)
    whole: Tensor | None = None
    for (top, share_y), (left, share_x) in product(rows, columns):
        down, across = slice(top, top + len(share_y)), slice(left, left + len(share_x))
        tile = work(_crop(down, across))
        if whole is None:
            whole = tile.new_zeros(*tile.shape[:2], height, width)
        share = share_y.to(tile)[:, None] * share_x.to(tile)
        whole[..., down, across].addcmul_(tile, share)
    assert whole is not None
    return whole


def _crop(down: slice, across: slice) -> Part:
    return lambda x: x[..., down, across]


def _spans(length: int, side: int) -> list[tuple[int, Tensor]]:
    """First pixel of each tile along one side, and the share of each of its pixels; they sum to 1.

    `length` and `side` are multiples of one number, and so are the first pixels.
    """
    if length <= side:
        return [(0, torch.ones(length))]
    overlap = min(OVERLAP, side // 2)
    firsts = [*range(0, length - side, side - overlap), length - side]
    windows = [_window(side, overlap, first > 0, first + side < length) for first in firsts]
    total = torch.zeros(length)
    for first, window in zip(firsts, windows, strict=True):
        total[first : first + side] += window
    return [(f, w / total[f : f + side]) for f, w in zip(firsts, windows, strict=True)]


def _window(side: int, overlap: int, has_before: bool, has_after: bool) -> Tensor:
    """0 at the borders that meet other tiles, 1 where a tile is alone, even slopes between."""
    unused = _UNUSED * overlap
    place = torch.arange(side) + 0.5
    rise = ((place - unused) / (overlap - 2 * unused)).clamp(0, 1)
    window = torch.ones(side)
    if has_before:
        window = torch.minimum(window, rise)
    return torch.minimum(window, rise.flip(0)) if has_after else window
