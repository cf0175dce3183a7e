"""Few places of a picture: what is there, around them, and pictures drawn from them.

Places are (N, 2) float32, (x, y) in pixels; pictures (1, C, H, W) unless said otherwise.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def mask_of(places: Tensor, size: torch.Size) -> Tensor:
    """(1, 1, H, W): 1 at places (N, 2), rounded, inside of the picture."""
    mask = places.new_zeros(1, 1, *size)
    column, row = places[is_inside(places, size)].round().long().unbind(1)
    mask[0, 0, row, column] = 1
    return mask


def draw(places: Tensor, values: Tensor, size: torch.Size) -> Tensor:
    """(C, H, W) of values (N, C) at places (N, 2), rounded, inside of the picture, 0 elsewhere.

    Of several at one pixel the first counts, on every device.
    """
    inside = is_inside(places, size)
    column, row = places[inside].round().long().unbind(1)
    pixel, order = row * size[1] + column, torch.arange(len(row), device=places.device)
    first = order.new_full((size[0] * size[1],), len(order))
    first = first.scatter_reduce(0, pixel, order, "amin")
    is_first = first[pixel] == order
    drawn = values.new_zeros(values.shape[1], *size)
    drawn[:, row[is_first], column[is_first]] = values[inside][is_first].T
    return drawn


def is_inside(places: Tensor, size: torch.Size) -> Tensor:
    """(N,) whether the nearest pixel lies in a picture of height and width `size`."""
    x, y = places.round().unbind(1)
    return (x >= 0) & (x < size[1]) & (y >= 0) & (y < size[0])


def values_around(picture: Tensor, places: Tensor, reach: int) -> Tensor:
    """(N, (2 reach + 1)^2) values of (1, 1, H, W) around places (N, 2), 0 beyond the border."""
    width = picture.shape[-1] + 2 * reach
    line = torch.arange(2 * reach + 1, device=places.device)
    offsets = (line[:, None] * width + line).flatten()
    column, row = places.long().unbind(1)
    return F.pad(picture, (reach,) * 4).flatten()[(row * width + column)[:, None] + offsets]


def values_at(picture: Tensor, places: Tensor) -> Tensor:
    """(N, C) of (1, C, H, W) at the pixels nearest to places (N, 2), within the picture."""
    height, width = picture.shape[-2:]
    column, row = places.round().long().unbind(1)
    return picture[0, :, row.clamp(0, height - 1), column.clamp(0, width - 1)].T


def read(picture: Tensor, places: Tensor) -> Tensor:
    """The same, bilinear."""
    return sampled(picture, places + 0.5, picture.shape)


def sampled(picture: Tensor, places: Tensor, shape: torch.Size) -> Tensor:
    """(N, C) bilinear, where places count from the corner of the picture, H and W by `shape`."""
    scale = places.new_tensor((2 / shape[-1], 2 / shape[-2]))
    grid = (places * scale - 1)[None, None]
    found = F.grid_sample(picture, grid, padding_mode="border", align_corners=False)
    return found[0, :, 0].T


def largest(x: Tensor, reach: int) -> Tensor:
    """The largest value within `reach` pixels along both sides, inside of the picture."""
    return _extreme(x, reach, torch.maximum)


def smallest(x: Tensor, reach: int) -> Tensor:
    """The smallest, likewise."""
    return _extreme(x, reach, torch.minimum)


def _extreme(x: Tensor, reach: int, choose: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    for axis in (-1, -2):
        first, last = x.narrow(axis, 0, 1), x.narrow(axis, x.shape[axis] - 1, 1)
        x = torch.cat([*[first] * reach, x, *[last] * reach], axis)
        # windows of 1, 2, 4, ... pixels from each on
        size, side = 1, 2 * reach + 1
        while size < side:
            step = min(size, side - size)
            kept = x.shape[axis] - step
            x = choose(x.narrow(axis, 0, kept), x.narrow(axis, step, kept))
            size += step
    return x
