"""Wires: thin things that move against their background, found apart and painted apart.

Where a wire will be halfway, both frames show its background, and match. A network that looks for
what matches loses the wire, or draws it twice. So its background is painted without it, and the
wire upon that.

1. Thin: what closing (of dark) or opening (of bright) within `THIN` pixels removes from the luma,
   by `CONTRAST` of white at least.
2. Lone: nothing as thin and at least `LIKE` as strong lies in the other frame, to within a pixel,
   where the background goes or where the network's own flow leads. The background's motion is the
   median of the flow around. What the network follows is left to it.
3. Matched: the lone pixels around are straight (the variance of their places across is below
   `STRAIGHT` of that along) and look, as a picture of themselves, like those of the other frame at
   some motion within `REACH` pixels of the background's: 2 a.b / (a.a + b.b) is above `MATCH` over
   (2 `AROUND` + 1)^2 pixels; of equals the shortest. What of it is across counts: no motion of a
   straight wire along itself can be seen.
4. In company: `COMPANY_SHARE` of the lone pixels around, `COMPANY` at least, are matched alike, to
   within `TOLERANCE` pixels, and `LEAST` in all; hair, grass and noise are not. The mean of their
   motions counts; what has no match of its own follows them if something thin is there.
5. Painted: the background from whichever frame does not show the wire there, at all places where
   the wire is or either frame's copy of it would be; then the wire in the colour of its middle, as
   opaque as its contrast over that of its middle.
"""

from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from midflow.places import (
    draw,
    largest,
    mask_of,
    sampled,
    smallest,
    values_around,
    values_at,
)

# Chosen on drawn lines, and on clips that they must not change (docs/pictures.md).
THIN = 2
CONTRAST = 30  # of 255
LIKE = 0.4
REACH = 32
MATCH = 0.7
AROUND = 3
COMPANY_REACH = 5
COMPANY = 10  # pixels
COMPANY_SHARE = 0.3
TOLERANCE = 2.0
LEAST = 40
MOST = 0.04  # share of the picture; beyond it is texture
STRAIGHT = 0.15

_LUMA = (0.299, 0.587, 0.114)
_LONGER = 0.004  # likeness that a pixel of further motion must make up for
_PASSES = 3
_HALF = 12  # of 5 x 5
_CELL = 8  # pixels of the flow that one place of the background's motion stands for
_PAIRS = 2_000_000  # pixels and motions looked at at once


class Thin(NamedTuple):
    """Thin things of one frame, (1, 1, H, W) uint8 each."""

    bright: Tensor
    """Levels by which a pixel is above what opening leaves."""
    dark: Tensor
    """Levels by which it is below what closing leaves."""

    @property
    def contrast(self) -> Tensor:
        """The larger of both, (1, 1, H, W) float32 in units of white."""
        return torch.maximum(self.bright, self.dark).float().div_(255)

    def picture(self, places: Tensor) -> Tensor:
        """(1, 1, H, W): contrast at some pixels (N, 2), below 0 where it is dark; 0 elsewhere."""
        bright, dark = (values_at(x, places)[:, 0].float() / 255 for x in self)
        column, row = places.long().unbind(1)
        picture = torch.zeros(self.dark.shape, device=places.device)
        picture[0, 0, row, column] = torch.where(bright > dark, bright, -dark)
        return picture


class Wires(NamedTuple):
    """Pixels of the earlier frame that belong to wires."""

    places: Tensor
    """(N, 2) float32, (x, y) in the earlier frame."""
    motion: Tensor
    """(N, 2) pixels to the later one."""
    background: Tensor
    """(N, 2) the same of what is behind."""


def find_thin(image: Tensor) -> Thin:
    """What is thin in a picture (1, 3, H, W) in [0, 1]."""
    weights = image.new_tensor(_LUMA).view(1, 3, 1, 1)
    luma = (image * weights).sum(1, keepdim=True).mul_(255).round_().clamp_(0, 255)
    luma = luma.to(torch.uint8)
    opened = largest(smallest(luma, THIN), THIN)
    closed = smallest(largest(luma, THIN), THIN)
    return Thin(luma - opened, closed - luma)


def find_wires(thin0: Thin, thin1: Thin, flow: Tensor, time: float) -> Wires | None:
    """Finds wires in a pair; None where there are none.

    Args:
        thin0: of the earlier frame.
        thin1: of the later one.
        flow: (1, 4, H, W) in pixels, from `time` to either.
        time: in [0, 1].
    """
    motion = _Motion(flow, time)
    lone0 = _lone(thin0, thin1, motion, 1)
    if len(lone0) < LEAST:
        return None
    lone1 = _lone(thin1, thin0, motion, -1)
    if len(lone1) < LEAST or max(len(lone0), len(lone1)) > MOST * thin0.dark.numel():
        return None
    picture0, picture1 = thin0.picture(lone0), thin1.picture(lone1)
    behind = motion.behind(lone0)
    near = values_around(mask_of(lone0, picture0.shape[-2:]), lone0, COMPANY_REACH)
    ahead, is_straight = _direction(near)
    likeness, found = torch.zeros_like(lone0[:, 0]), torch.zeros_like(lone0)
    some = lone0[is_straight], picture0, picture1, behind[is_straight]
    likeness[is_straight], found[is_straight] = _match(*some)
    # along a straight wire no motion can be seen: what is across is taken
    across = found - behind
    found = found - (across * ahead).sum(1, keepdim=True) * ahead
    is_matched = likeness > MATCH
    is_wire, found = _in_company(lone0, found, is_matched, near.sum(1), picture0, picture1)
    if int(is_wire.sum()) < LEAST:
        return None
    return Wires(lone0[is_wire], found[is_wire], behind[is_wire])


class _Motion:
    """Motion from the earlier frame to the later one: the network's, and of what is behind."""

    def __init__(self, flow: Tensor, time: float) -> None:
        self._flow = flow[:, 2:] - flow[:, :2]
        self._time = time

    @cached_property
    def _middle(self) -> Tensor:
        return median_flow(self._flow)

    def behind(self, places: Tensor, time: float = 0.0) -> Tensor:
        """(N, 2) pixels, of the background, at places (N, 2) of the frame at `time`."""
        near = places + (self._time - time) * between_cells(self._middle, places)
        return between_cells(self._middle, near)

    def own(self, places: Tensor, behind: Tensor, time: float) -> Tensor:
        """(N, 2), what the network found where the background of these places is."""
        return values_at(self._flow, places + (self._time - time) * behind)


def median_flow(flow: Tensor) -> Tensor:
    """The median over 5 x 5 places, `_CELL` pixels apart: (1, C, H / _CELL, W / _CELL)."""
    places = flow[..., _CELL // 2 :: _CELL, _CELL // 2 :: _CELL]
    if places.numel() == 0:
        places = flow[..., :1, :1]
    around = F.pad(places, (2,) * 4, mode="replicate").unfold(2, 5, 1).unfold(3, 5, 1)
    around = around.flatten(4)
    if flow.device.type == "cpu":  # a quarter of the time
        return torch.from_numpy(np.partition(around.numpy(), _HALF, -1)[..., _HALF])
    return around.median(-1).values


def _lone(thin: Thin, other: Thin, motion: _Motion, way: int) -> Tensor:
    """(N, 2) thin pixels of a frame that nothing in the other explains; way: 1 to the later."""
    contrast = torch.maximum(thin.bright, thin.dark)[0, 0]
    row, column = (contrast > CONTRAST).nonzero(as_tuple=True)
    places = torch.stack((column, row), 1).float()
    if len(places) < LEAST:
        return places
    time = (1 - way) / 2
    bright, dark = (largest(x, 1) for x in other)
    is_bright = (thin.bright > thin.dark)[0, 0, row, column]
    limit = LIKE * contrast[row, column]
    behind = motion.behind(places, time)
    for own in (False, True):
        to = places + way * (motion.own(places, behind, time) if own else behind)
        likes = torch.where(is_bright, values_at(bright, to)[:, 0], values_at(dark, to)[:, 0])
        kept = likes < limit
        places, behind, is_bright, limit = places[kept], behind[kept], is_bright[kept], limit[kept]
        if len(places) < LEAST:
            return places
    crowd = values_around(mask_of(places, thin.dark.shape[-2:]), places, COMPANY_REACH).sum(1)
    return places[crowd >= COMPANY]


def _match(
    places: Tensor, picture0: Tensor, picture1: Tensor, behind: Tensor
) -> tuple[Tensor, Tensor]:
    """Likeness (N,) and motion (N, 2) of the best match of each place."""
    height, width = picture0.shape[-2:]
    line = torch.arange(-REACH, REACH + 1, device=places.device)
    moves = torch.cartesian_prod(line, line)
    moves = moves[moves.square().sum(1) <= REACH**2]
    longer = _LONGER * moves.float().square().sum(1).sqrt()
    start = behind.round()
    best, found = places.new_full((len(places),), -1), torch.zeros_like(places)
    surroundings = values_around(picture0, places, AROUND)
    energy, own = surroundings.square().sum(1), values_at(picture0, places)
    once = max(1, _PAIRS // len(moves))
    for first in range(0, len(places), once):
        part = slice(first, first + once)
        to = (places[part] + start[part]).long()[:, None] + moves
        column, row = to.unbind(-1)
        inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        there = picture1[0, 0, row.clamp(0, height - 1), column.clamp(0, width - 1)]
        which, move = (there * own[part] * inside > 0).nonzero(as_tuple=True)
        seen = values_around(picture1, to[which, move].float(), AROUND)
        both = (surroundings[part][which] * seen).sum(1)
        whole = energy[part][which] + seen.square().sum(1)
        likeness = 2 * both / whole.clamp(min=1e-6) - longer[move]
        best[part] = best[part].scatter_reduce(0, which, likeness, "amax")
        wins = likeness >= best[part][which]  # of equals the first, on every device
        choice = move.new_full((len(to),), len(moves))
        choice = choice.scatter_reduce(0, which[wins], move[wins], "amin")
        found[part] = moves[choice.clamp(max=len(moves) - 1)].float()
    return best, start + found


def _in_company(
    places: Tensor,
    motion: Tensor,
    is_matched: Tensor,
    crowd: Tensor,
    picture0: Tensor,
    picture1: Tensor,
) -> tuple[Tensor, Tensor]:
    """Which places (N,) have company, and the motion (N, 2) they have in common."""
    size = picture0.shape[-2:]
    bright, dark = largest(picture1.clamp(min=0), 1), largest((-picture1).clamp(min=0), 1)
    is_bright = values_at(picture0, places)[:, 0] > 0
    for _ in range(_PASSES):
        if int(is_matched.sum()) < LEAST:
            break
        known = places[is_matched], motion[is_matched], size
        near = [values_around(x[None, None], places, COMPANY_REACH) for x in draw(*known)]
        is_there = values_around(mask_of(places[is_matched], size), places, COMPANY_REACH) > 0
        parts = [torch.where(is_there, x, torch.nan) for x in near]
        middle = torch.stack([x.nanmedian(1).values for x in parts], 1).nan_to_num()
        apart = [(x - middle[:, k : k + 1]).abs() for k, x in enumerate(near)]
        alike = is_there & (torch.maximum(*apart) <= TOLERANCE)
        count = alike.sum(1)
        sums = torch.stack([(x * alike).sum(1) for x in near], 1)
        motion = sums / count.clamp(min=1)[:, None]
        to = places + motion
        is_seen = torch.where(is_bright, values_at(bright, to)[:, 0], values_at(dark, to)[:, 0]) > 0
        is_matched = (count >= COMPANY) & (count >= COMPANY_SHARE * crowd) & is_seen
    return is_matched, motion


def _direction(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Which way (N, 2) what is around each place extends, and whether it is straight (N,).

    Args:
        mask: (N, (2 `COMPANY_REACH` + 1)^2), 1 where something is.
    """
    line = torch.arange(-COMPANY_REACH, COMPANY_REACH + 1, device=mask.device).float()
    y, x = torch.meshgrid(line, line, indexing="ij")
    x, y = x.flatten(), y.flatten()

    def mean(values: Tensor) -> Tensor:
        return (mask * values).sum(1) / mask.sum(1)

    xx, yy = mean(x * x) - mean(x).square(), mean(y * y) - mean(y).square()
    xy = mean(x * y) - mean(x) * mean(y)
    angle = torch.atan2(2 * xy, xx - yy) / 2
    ahead = torch.stack((angle.cos(), angle.sin()), 1)
    spread = ((xx - yy).square() + 4 * xy.square()).sqrt()
    is_straight = xx + yy - spread < STRAIGHT * (xx + yy + spread)
    return ahead, is_straight


def between_cells(cells: Tensor, places: Tensor) -> Tensor:
    """(N, C) of a map of cells of `_CELL` pixels, bilinear, at places (N, 2) in pixels."""
    return sampled(cells, (places + 0.5) / _CELL, cells.shape)
