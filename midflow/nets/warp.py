"""Sampling pictures along a flow, and resizing, in the conventions every RIFE release shares.

A backward warp reads the source at the place the flow points to:

    warp(image, flow)[y, x] = image[y + flow[1, y, x], x + flow[0, y, x]]

bilinear between pixels (on request bicubic, nearly as sharp between pixels as on them), the border
replicated outside. Resizing is bilinear with pixel areas aligned (`align_corners=False`) and no
antialiasing, so a reduction by an even s reads just the 2 x 2 pixels in the centre of every s x s
cell. `warp_reduced` uses that: of a warped picture that is about to be reduced, only those centre
pixels are ever computed.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Mode = Literal["bilinear", "bicubic"]


def resize(x: Tensor, factor: float) -> Tensor:
    """Resizes (B, C, H, W) by `factor`, bilinear with aligned pixel areas; values are unchanged.

    `factor` times H and W must be whole numbers. Integral reductions read the centres of the cells.
    """
    if factor == 1:
        return x
    if factor < 1 and _is_even(1 / factor):
        x, factor = centers(x, round(1 / factor)), 0.5
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)


def regrid(x: Tensor, source: float, target: float) -> Tensor:
    """The same as `resize(resize(x, source), 1 / target)`, in one step wherever that is exact.

    Between even grids it is: the reduction reads pairs of pixels whose mean lies on the line
    between two neighbours of `x`, which is what enlarging by `source / target` reads.
    """
    ratio = source / target
    if source == 1 or target == 1 or (_is_even(target) and _is_even(ratio)):
        return resize(x, ratio)
    return resize(resize(x, source), 1 / target)


def centers(x: Tensor, step: int) -> Tensor:
    """The 2 x 2 centre pixels of each cell: (B, C, H, W) -> (B, C, 2H / step, 2W / step).

    `step` is even; the mean of each 2 x 2 is exactly the bilinear reduction by `step`.
    """
    if step == 2:
        return x
    batch, planes, height, width = x.shape
    rows, columns, first = height // step, width // step, step // 2 - 1
    cells = x.view(batch, planes, rows, step, columns, step)
    middle = cells[:, :, :, first : first + 2, :, first : first + 2]
    return middle.reshape(batch, planes, 2 * rows, 2 * columns)


def warp(image: Tensor, flow: Tensor, mode: Mode = "bilinear") -> Tensor:
    """Samples `image` (B, C, H, W) where `flow` (B, 2, H, W), (dx, dy) in pixels, points to.

    bicubic (Keys, 1981, with a = -0.75) costs three times as much and may leave the range of the
    image by a few percent at edges.

    Returns (B, C, H, W) in the dtype of `image`; coordinates are float32 under any precision.
    """
    x, y = (_positions(length, flow) for length in (image.shape[-1], image.shape[-2]))
    return _sample(image, flow, x, y, mode)


def read_at(image: Tensor, places: Tensor) -> Tensor:
    """The colours (N, C) of one `image` (1, C, H, W) at `places` (N, 2), (x, y) in pixels.

    What `warp` reads there by its bicubic mode.
    """
    if len(places) == 0:
        return image.new_empty(0, image.shape[1])
    zero = torch.zeros(1, device=image.device)
    row = places.T[None, :, None].float()  # as the flow of a picture of one row at (0, 0)
    return _sample(image, row, zero, zero, "bicubic")[0, :, 0].T


def warp_reduced(image: Tensor, flow: Tensor, step: float) -> Tensor:
    """The same as `resize(warp(image, flow), 1 / step)`, but 4 / step^2 of the work if even.

    Args:
        image: (B, C, H, W).
        flow: (B, 2, H, W), (dx, dy) in pixels of `image`.
        step: reduction; below 1 it enlarges.
    """
    if not _is_even(step):
        return resize(warp(image, flow), 1 / step)
    cell = round(step)
    x = _center_positions(image.shape[-1], cell, flow)
    y = _center_positions(image.shape[-2], cell, flow)
    return resize(_sample(image, centers(flow, cell), x, y), 0.5)


def _sample(image: Tensor, flow: Tensor, x: Tensor, y: Tensor, mode: Mode = "bilinear") -> Tensor:
    height, width = image.shape[-2:]
    to_x, to_y = 2 / max(width - 1, 1), 2 / max(height - 1, 1)
    flow = flow.float()
    grid = torch.stack(
        (
            torch.add(x * to_x - 1, flow[:, 0], alpha=to_x),
            torch.add((y * to_y - 1)[:, None], flow[:, 1], alpha=to_y),
        ),
        -1,
    )
    sampled = F.grid_sample(
        image.float(), grid, mode=mode, padding_mode="border", align_corners=True
    )
    return sampled.to(image.dtype)


def _positions(length: int, like: Tensor) -> Tensor:
    return torch.arange(length, device=like.device, dtype=torch.float32)


def _center_positions(length: int, step: int, like: Tensor) -> Tensor:
    """Coordinates of the pixels `centers` keeps along one side."""
    positions = _positions(length, like).view(-1, step)
    return positions[:, step // 2 - 1 : step // 2 + 1].flatten()


def _is_even(step: float) -> bool:
    return step >= 2 and step % 2 == 0
