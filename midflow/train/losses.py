"""Losses that compare pictures or flows, each a function of tensors and computed in float32.

Pictures are (B, C, H, W) in [0, 1]; flows are (B, 2 or 4, H, W), (dx, dy) in pixels. Functions
named `*_map` return one value per pixel, to be masked or averaged by the caller; the others return
a scalar.

The definitions are those RIFE was trained and compared with (Huang et al., ECCV 2022), so their
values agree with the published code; where such a definition has a weakness, its docstring says so
and names the function to prefer.
"""

import functools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from midflow.errors import OptionError

LAPLACIAN_LEVELS = 5
CHARBONNIER_EPSILON = 1e-3  # a quarter of an 8-bit level: below it the loss is quadratic
ROBUST_EXPONENT, ROBUST_OFFSET = 0.4, 0.01  # PWC-Net (Sun et al., CVPR 2018), equation 3
DISTILLATION_MARGIN = 0.01  # the teacher counts as better from this mean absolute difference on

_BINOMIAL = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)
_LUMA = (0.2989, 0.5870, 0.1140)  # Rec. 601 weights of R, G, B
_CENSUS_RADIUS = 3  # 7 x 7 neighbours
# one of each pair of opposite neighbours in 7 x 7, (dy, dx)
_NEIGHBOURS = [(dy, dx) for dy in range(4) for dx in range(-3, 4) if dy or dx > 0]
_SMALLEST = 1e-20  # under a square root: far below any flow, far above float32's underflow


def laplacian_loss(prediction: Tensor, truth: Tensor, levels: int = LAPLACIAN_LEVELS) -> Tensor:
    """The paper's Laplacian loss: the mean absolute difference of the detail, summed over octaves.

    What remains below the coarsest octave is left out, so a change of brightness costs nothing; use
    `full_laplacian_loss` where brightness matters. H and W must be multiples of 2^levels.
    """
    return torch.stack(laplacian_terms(prediction, truth, levels)[:-1]).sum()


def full_laplacian_loss(
    prediction: Tensor, truth: Tensor, levels: int = LAPLACIAN_LEVELS
) -> Tensor:
    """`laplacian_loss` plus the mean absolute difference of the low-pass rest: sees brightness."""
    return torch.stack(laplacian_terms(prediction, truth, levels)).sum()


def laplacian_terms(
    prediction: Tensor, truth: Tensor, levels: int = LAPLACIAN_LEVELS
) -> list[Tensor]:
    """Mean absolute difference by octave: `levels` scalars, fine to coarse, then the low-pass one.

    Raises:
        OptionError: H and W are not multiples of 2^levels above 2^levels.
    """
    _require_pyramid_size(prediction, levels)
    # The pyramid is linear: the pyramid of a difference is the difference of the pyramids.
    return [part.abs().mean() for part in laplacian_pyramid(prediction.float() - truth, levels)]


def laplacian_pyramid(image: Tensor, levels: int = LAPLACIAN_LEVELS) -> list[Tensor]:
    """Splits (B, C, H, W) into octaves of detail and a low-pass rest (Burt and Adelson, 1983).

    Octave k is (B, C, H / 2^k, W / 2^k); the rest is (B, C, H / 2^levels, W / 2^levels).
    """
    parts = []
    for _ in range(levels):
        coarse = _smooth(image)[..., ::2, ::2]
        spread = image.new_zeros(image.shape)
        spread[..., ::2, ::2] = 4 * coarse
        parts.append(image - _smooth(spread))
        image = coarse
    return [*parts, image]


def end_point_error_map(flow: Tensor, truth: Tensor) -> Tensor:
    """Length of the difference of two flows in pixels, (B, 1, H, W), over all 2 or 4 channels.

    1e-6 under the root keeps the gradient finite, so equal flows give 0.001.
    """
    return ((flow.float() - truth).square().sum(1, keepdim=True) + 1e-6).sqrt()


def sobel_map(prediction: Tensor, truth: Tensor) -> Tensor:
    """Difference of the horizontal plus of the vertical Sobel gradients, (B, C, H, W).

    Pixels beyond the border count as zero.
    """
    difference = prediction.float() - truth
    slope = difference.new_tensor([[1, 0, -1], [2, 0, -2], [1, 0, -1]])
    kernels = torch.stack((slope, slope.T))[:, None]  # (2, 1, 3, 3)
    with _no_autocast(difference):
        gradients = F.conv2d(difference.flatten(0, 1)[:, None], kernels, padding=1)
    return gradients.abs().sum(1).view_as(difference)


def census_map(prediction: Tensor, truth: Tensor) -> Tensor:
    """Soft census distance of two RGB pictures, (B, 1, H, W) in [0, 1): structure, not brightness.

    Each grey pixel is described by its differences to its 7 x 7 neighbours, squashed to about
    -1, 0, 1 (`Ternary` in the published code). The outermost pixel is 0; neighbours beyond the
    border count as black.
    """
    distance = (_census(prediction.float()) - _census(truth.float())).square()
    distance = (distance / (0.1 + distance)).mean(1, keepdim=True)
    return F.pad(distance[..., 1:-1, 1:-1], (1, 1, 1, 1))


def charbonnier_loss(prediction: Tensor, truth: Tensor) -> Tensor:
    """Mean of sqrt(difference^2 + epsilon^2): absolute difference, smooth at 0."""
    return (prediction.float() - truth).square().add(CHARBONNIER_EPSILON**2).sqrt().mean()


def census_loss(prediction: Tensor, truth: Tensor) -> Tensor:
    """Mean soft census distance, at an eighth of the cost of `losses.census_map`.

    A pair of pixels counts the same from either end, so half of the 7 x 7 neighbours is enough; for
    each of them every other row and column is looked at, in turns, so that all pixels have equal
    parts. Pairs across the border are left out.

    Args:
        prediction: (B, 3, H, W) in [0, 1], sides even and at least 16.
        truth: likewise.
    """
    distance = (_census_signs(prediction.float()) - _census_signs(truth.float())).square()
    return (distance / (0.1 + distance)).mean()


def flow_loss(
    flow: Tensor, truth: Tensor, known: Tensor, exponent: float = ROBUST_EXPONENT
) -> Tensor:
    """Robust end-point error (e + 0.01)^exponent of two flows where known, over all pixels.

    Args:
        flow: (B, 4, H, W) pixels.
        truth: (B, 4, H, W) pixels.
        known: (B, 2, H, W), 1 where the flow to frame 0, to frame 1 is known and visible.
        exponent: 0.4 forgives what is far off (PWC-Net), 1 pulls it in as hard as the rest.
    """
    errors = [end_point_error_map(flow[:, s], truth[:, s]) for s in (slice(0, 2), slice(2, 4))]
    robust = (torch.cat(errors, 1) + ROBUST_OFFSET) ** exponent
    return (robust * known).mean()


def mask_loss(logit: Tensor, visible: Tensor, has_flow: Tensor) -> Tensor:
    """Cross-entropy of the blend weight where exactly one frame shows the pixel, over all pixels.

    Args:
        logit: (B, 1, H, W), above 0 for frame 0.
        visible: (B, 2, H, W), 1 where frame 0, frame 1 shows what the true frame shows.
        has_flow: (B,) bool, rows that count.
    """
    seen0, seen1 = visible[:, :1], visible[:, 1:]
    decides = (seen0 - seen1).abs() * has_flow[:, None, None, None]
    entropy = F.binary_cross_entropy_with_logits(logit.float(), seen0, reduction="none")
    return (entropy * decides).mean()


def decayed_sum(terms: Sequence[Tensor], decay: float) -> Tensor:
    """Sum over k = 1..L of decay^(L - k) times term k."""
    last = len(terms) - 1
    return torch.stack([decay ** (last - k) * term for k, term in enumerate(terms)]).sum()


def distillation_loss(
    blends: Sequence[Tensor],
    flows: Sequence[Tensor],
    teacher_blend: Tensor,
    teacher_flow: Tensor,
    truth: Tensor,
) -> Tensor:
    """Pulls each block's flow to the teacher's, only where the teacher's picture is clearly better.

    Args:
        blends: the student's picture after each block, before any refinement, (B, 3, H, W).
        flows: the student's flow after each block, (B, 4, H, W).
        teacher_blend: the teacher's picture, (B, 3, H, W).
        teacher_flow: the teacher's flow, (B, 4, H, W).
        truth: the true frame, (B, 3, H, W).

    Returns:
        Sum over blocks of the mean, over pixels, of the root-mean-square flow difference. No
        gradient reaches the teacher; where the flows are equal the gradient is 0.
    """
    target = teacher_flow.detach().float()
    limit = _error_map(teacher_blend, truth) + DISTILLATION_MARGIN
    total = target.new_zeros(())
    for blend, flow in zip(blends, flows, strict=True):
        is_worse = _error_map(blend, truth) > limit
        squared = (target - flow).square().mean(1, keepdim=True)
        total = total + (squared.clamp(min=_SMALLEST).sqrt() * is_worse).mean()
    return total


def _error_map(picture: Tensor, truth: Tensor) -> Tensor:
    return (picture.detach().float() - truth).abs().mean(1, keepdim=True)


def _smooth(image: Tensor) -> Tensor:
    """Blurs with the 5-tap binomial filter along both axes; the border is mirrored."""
    planes = image.shape[1]
    taps = _constant(_BINOMIAL, image.device).expand(planes, 1, 5)
    image = F.pad(image, (2, 2, 2, 2), mode="reflect")
    with _no_autocast(image):
        image = F.conv2d(image, taps[:, :, None], groups=planes)
        return F.conv2d(image, taps[..., None], groups=planes)


@functools.lru_cache(maxsize=32)
def _constant(values: tuple[float, ...], device: torch.device) -> Tensor:
    """float32 values on a device; copied there once, so that a GPU need not be waited for."""
    with torch.inference_mode(False):
        return torch.tensor(values, device=device)


def _no_autocast(like: Tensor) -> torch.autocast:
    """Keeps convolutions in float32 under the caller's autocast: a loss is a small difference."""
    return torch.autocast(like.device.type, enabled=False)


def _census(image: Tensor) -> Tensor:
    """(B, 3, H, W) -> (B, 49, H, W): squashed differences of a pixel's neighbours to it."""
    gray = (image * _constant(_LUMA, image.device)[:, None, None]).sum(1, keepdim=True)
    side = 2 * _CENSUS_RADIUS + 1
    neighbours = F.unfold(gray, side, padding=_CENSUS_RADIUS)
    difference = neighbours.view(len(image), side * side, *image.shape[-2:]) - gray
    return difference / (0.81 + difference.square()).sqrt()


def _require_pyramid_size(image: Tensor, levels: int) -> None:
    height, width = image.shape[-2:]
    unit = 2**levels
    if height % unit or width % unit or min(height, width) <= unit:
        raise OptionError(
            f"a Laplacian loss of {levels} levels needs sides that are multiples of {unit}, "
            f"at least {2 * unit}, got {height} x {width}: crop the pictures, or pass fewer levels"
        )


def _census_signs(image: Tensor) -> Tensor:
    """(B, 3, H, W) -> (B, 24, H / 2 - 2, W / 2 - 4): squashed differences to neighbours."""
    gray = (image * _constant(_LUMA, image.device)[:, None, None]).sum(1)
    height, width = gray.shape[-2:]
    rows, columns = height - 4, width - 8
    differences = []
    for k, (dy, dx) in enumerate(_NEIGHBOURS):
        y, x = k % 2, 3 + k // 2 % 2
        center = gray[:, y : y + rows : 2, x : x + columns : 2]
        neighbour = gray[:, y + dy : y + dy + rows : 2, x + dx : x + dx + columns : 2]
        differences.append(neighbour - center)
    difference = torch.stack(differences, 1)
    return difference * (0.81 + difference.square()).rsqrt()
