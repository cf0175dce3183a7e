"""Scene cuts: where two neighbouring frames show different scenes, nothing lies between to paint.

Both frames are reduced to 32 x 32 and compared by the structural similarity of the RIFE scripts.
Those reduce by picking pixels and call everything below 0.2 a cut; here each small pixel is the
mean of its area, which ignores grain and fine texture. A pair that only differs in brightness or
contrast (a fade, a flash) is no cut: it is compared again with the second frame at the level of the
first. Neither is a quick pan: what is left of one frame in the other, moved by up to half of its
width and a quarter of its height, is found again there.
"""

from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from midflow.evaluate.metrics import ssim_matlab

SCENE_CUT_SSIM = 0.4
"""Similarity below which a pair is a cut, unless one frame is found again in the other.

Measured by benchmarks/scene_cuts.py, on 24 clips of real and drawn video.
"""

PAN_CORRELATION = 0.7
"""Correlation from which on a part of one frame is found again in the other; measured likewise."""

FILLS = ("hold", "nearest", "blend")
"""What stands between the frames of a cut: the left frame, the closer one, or a cross-fade."""

_SIDE = 32
_REACH = 4, 8  # of the shifts that are looked at, down and across
_FADE_STEP = 0.25  # of white, on average: a fade from white to black takes four frames at least
_FLAT = 1e-3  # standard deviation below which a frame has no structure to compare


def thumbnail(rgb: Tensor) -> Tensor:
    """(1, 3, H, W) RGB in [0, 1] -> (1, 3, 32, 32), each value the mean of its area."""
    return F.interpolate(rgb, (_SIDE, _SIDE), mode="area").clamp_(0, 1)


def is_cut(thumbnail0: Tensor, thumbnail1: Tensor, threshold: float = SCENE_CUT_SSIM) -> bool:
    """Whether the scene changes between two neighbouring frames.

    Args:
        thumbnail0: of the left frame, (1, 3, 32, 32).
        thumbnail1: of the right frame.
        threshold: similarity below which it does, 0 to 1; 0 finds no cuts.
    """
    if threshold <= 0 or similarity(thumbnail0, thumbnail1) >= threshold:
        return False
    if _is_fade_step(thumbnail0, thumbnail1):
        return False
    return moved_correlation(thumbnail0, thumbnail1) < PAN_CORRELATION


def similarity(thumbnail0: Tensor, thumbnail1: Tensor) -> float:
    """How alike two thumbnails are, at most 1; the better of as they are and at one level."""
    leveled = _at_level_of(thumbnail0, thumbnail1)
    return max(float(ssim_matlab(thumbnail0, other)) for other in (thumbnail1, leveled))


def moved_correlation(thumbnail0: Tensor, thumbnail1: Tensor) -> float:
    """The highest correlation of what two thumbnails have in common under any shift.

    Shifts are whole pixels of 16 x 16, up to 8 to either side and 4 up and down.
    """
    half0, half1 = (F.avg_pool2d(x, 2)[0] for x in (thumbnail0, thumbnail1))
    side, (high, wide) = _SIDE // 2, _REACH
    best = -1.0
    for down, across in product(range(-high, high + 1), range(-wide, wide + 1)):
        rows, columns = side - abs(down), side - abs(across)
        y0, x0, y1, x1 = max(0, down), max(0, across), max(0, -down), max(0, -across)
        part0 = half0[:, y0 : y0 + rows, x0 : x0 + columns].flatten(1)
        part1 = half1[:, y1 : y1 + rows, x1 : x1 + columns].flatten(1)
        best = max(best, _correlation(part0, part1))
    return best


def _correlation(part0: Tensor, part1: Tensor) -> float:
    """Of (3, N) each, every colour about its own mean; 0 where there is no structure."""
    centred = [part - part.mean(1, keepdim=True) for part in (part0, part1)]
    lengths = float(centred[0].norm() * centred[1].norm())
    return float((centred[0] * centred[1]).sum()) / (lengths + _FLAT)


def fill_cut(mode: str, rgb0: Tensor, rgb1: Tensor, timestep: float) -> Tensor:
    """The frame at `timestep` between two scenes by one of `FILLS`; (1, 3, H, W) each."""
    if mode == "blend":
        return torch.lerp(rgb0, rgb1, timestep)
    return rgb1 if mode == "nearest" and timestep >= 0.5 else rgb0


def _is_fade_step(thumbnail0: Tensor, thumbnail1: Tensor) -> bool:
    """Whether one frame is plain and the other not far from it: the end or beginning of a fade."""
    is_plain = min(float(thumbnail0.std()), float(thumbnail1.std())) < _FLAT
    return is_plain and float((thumbnail0 - thumbnail1).abs().mean()) < _FADE_STEP


def _at_level_of(reference: Tensor, thumbnail: Tensor) -> Tensor:
    """`thumbnail` with the mean and standard deviation of `reference`."""
    deviation = thumbnail.std()
    if deviation < _FLAT:
        return thumbnail
    return (thumbnail - thumbnail.mean()) * (reference.std() / deviation) + reference.mean()
