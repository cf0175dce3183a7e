"""Scene cuts: where two neighbouring frames show different scenes, nothing lies between to paint.

Both frames are reduced to 32 x 32 and compared by the structural similarity of the RIFE scripts.
Those reduce by picking pixels and call everything below 0.2 a cut; here each small pixel is the
mean of its area, which ignores grain and fine texture. A pair that only differs in brightness or
contrast (a fade, a flash) is no cut: it is compared again with the second frame at the level of the
first.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from midflow.evaluate.metrics import ssim_matlab

SCENE_CUT_SSIM = 0.3
"""Similarity below which a pair is a cut.

Measured on 24 clips of real and drawn video: neighbouring frames have at least 0.78, frames four
apart 0.52, twelve apart 0.38, neighbours across a halved, fifth or half-burnt exposure 0.52; of two
frames from different clips, 96 % are below.
"""

FILLS = ("hold", "nearest", "blend")
"""What stands between the frames of a cut: the left frame, the closer one, or a cross-fade."""

_SIDE = 32
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
    if threshold <= 0 or float(ssim_matlab(thumbnail0, thumbnail1)) >= threshold:
        return False
    leveled = _at_level_of(thumbnail0, thumbnail1)
    return float(ssim_matlab(thumbnail0, leveled)) < threshold


def fill_cut(mode: str, rgb0: Tensor, rgb1: Tensor, timestep: float) -> Tensor:
    """The frame at `timestep` between two scenes by one of `FILLS`; (1, 3, H, W) each."""
    if mode == "blend":
        return torch.lerp(rgb0, rgb1, timestep)
    return rgb1 if mode == "nearest" and timestep >= 0.5 else rgb0


def _at_level_of(reference: Tensor, thumbnail: Tensor) -> Tensor:
    """`thumbnail` with the mean and standard deviation of `reference`."""
    deviation = thumbnail.std()
    if deviation < _FLAT:
        return thumbnail
    return (thumbnail - thumbnail.mean()) * (reference.std() / deviation) + reference.mean()
