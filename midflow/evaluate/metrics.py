"""How close a predicted picture is to the true one, by the definitions the papers used.

Pictures are (B, C, H, W) in [0, 1]. Every metric returns (B,), one value per picture.

Three families are easily confused, so each has its own name:

    ssim              the usual 2-D structural similarity (Wang et al., 2004), channel by channel
    ssim_matlab       what RIFE and its relatives report as SSIM: a 3-D window that mixes channels
    msssim_standard   multi-scale SSIM (Wang et al., 2003)
    msssim_reference  the form in the lineage's code: the coarsest factor is applied four times
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from midflow.errors import OptionError

_WINDOW, _SIGMA = 11, 1.5
_C1, _C2 = 0.01**2, 0.03**2  # for pictures in [0, 1]
_MSSSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # fine to coarse, Wang et al., 2003


def psnr(prediction: Tensor, truth: Tensor, *, rounded: bool = True) -> Tensor:
    """Peak signal-to-noise ratio in dB over all pixels and channels; infinite for equal pictures.

    `rounded` first brings the prediction to whole 8-bit levels, as a file would hold it and as the
    RIFE paper measures; without it the values are compared as they are.
    """
    prediction = _round_to_levels(prediction) / 255 if rounded else prediction
    return -10 * (prediction - truth).square().mean((1, 2, 3)).log10()


def interpolation_error(prediction: Tensor, truth: Tensor) -> Tensor:
    """IE: mean absolute error in levels of 0 to 255, the prediction rounded to whole levels."""
    return (_round_to_levels(prediction) - 255 * truth).abs().mean((1, 2, 3))


def ssim(prediction: Tensor, truth: Tensor, *, is_bordered: bool = True) -> Tensor:
    """2-D structural similarity with an 11 x 11 Gaussian window (sigma 1.5), mean over channels.

    `is_bordered` judges every pixel, the border replicated (the lineage's code); without it only
    windows that lie inside the picture count (Wang's own code, scikit-image).
    """
    similarity, _ = ssim_and_contrast(prediction, truth, is_bordered=is_bordered)
    return similarity


def ssim_and_contrast(
    prediction: Tensor, truth: Tensor, *, is_bordered: bool = True
) -> tuple[Tensor, Tensor]:
    """`ssim` and its contrast-structure factor, (B,) each."""
    border = _WINDOW // 2 if is_bordered else 0
    return _similarity(prediction, truth, (2, 3), border)


def dssim(prediction: Tensor, truth: Tensor) -> Tensor:
    """Structural dissimilarity, (1 - ssim) / 2: 0 for equal pictures."""
    return (1 - ssim(prediction, truth)) / 2


def ssim_matlab(prediction: Tensor, truth: Tensor) -> Tensor:
    """The lineage's SSIM: an 11 x 11 x 11 window over rows, columns and channels.

    The border is replicated. It is not comparable with `ssim`; report it under its own name.
    """
    similarity, _ = _similarity(prediction, truth, (1, 2, 3), _WINDOW // 2)
    return similarity


def msssim_standard(prediction: Tensor, truth: Tensor) -> Tensor:
    """Multi-scale SSIM over five octaves: contrast of the four finer ones, ssim of the coarsest.

    Raises:
        OptionError: a side is below 16 pixels, too small to be halved four times.
    """
    contrasts, coarsest = _msssim_factors(prediction, truth)
    return contrasts.prod(0) * coarsest


def msssim_reference(prediction: Tensor, truth: Tensor) -> Tensor:
    """`msssim_standard` with the coarsest factor to the fourth power, as the lineage's code has it.

    Raises:
        OptionError: a side is below 16 pixels, too small to be halved four times.
    """
    contrasts, coarsest = _msssim_factors(prediction, truth)
    return (contrasts * coarsest).prod(0)


def _msssim_factors(prediction: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted contrast factors (4, B), fine to coarse, and the weighted ssim of the coarsest (B,).

    Negative factors, which have no real power, count as 0.
    """
    smallest = 2 ** (len(_MSSSIM_WEIGHTS) - 1)
    if min(prediction.shape[-2:]) < smallest:
        raise OptionError(
            f"multi-scale SSIM needs sides of at least {smallest} pixels, "
            f"got {tuple(prediction.shape[-2:])}: use ssim"
        )
    factors = []
    for weight in _MSSSIM_WEIGHTS[:-1]:
        _, contrast = ssim_and_contrast(prediction, truth)
        factors.append(contrast.clamp(min=0) ** weight)
        prediction, truth = F.avg_pool2d(prediction, 2), F.avg_pool2d(truth, 2)
    return torch.stack(factors), ssim(prediction, truth).clamp(min=0) ** _MSSSIM_WEIGHTS[-1]


def _similarity(x: Tensor, y: Tensor, axes: tuple[int, ...], border: int) -> tuple[Tensor, Tensor]:
    """Mean similarity and mean contrast-structure factor per picture, (B,) each.

    The Gaussian window spans `axes` of (B, C, H, W), the border replicated by `border` pixels.
    """
    taps = _gaussian(min(_WINDOW, *x.shape[-2:]), x)

    def local_mean(values: Tensor) -> Tensor:
        for axis in axes:
            values = _filter(values, taps, axis, border)
        return values

    x, y = x.float(), y.float()
    mean_x, mean_y = local_mean(x), local_mean(y)
    variance_x = local_mean(x * x) - mean_x * mean_x
    variance_y = local_mean(y * y) - mean_y * mean_y
    covariance = local_mean(x * y) - mean_x * mean_y
    contrast = (2 * covariance + _C2) / (variance_x + variance_y + _C2)
    luminance = (2 * mean_x * mean_y + _C1) / (mean_x * mean_x + mean_y * mean_y + _C1)
    return (luminance * contrast).mean((1, 2, 3)), contrast.mean((1, 2, 3))


def _filter(values: Tensor, taps: Tensor, axis: int, border: int) -> Tensor:
    """Correlates (B, C, H, W) with `taps` along `axis`, the ends replicated by `border`."""
    lines = values.movedim(axis, -1)
    shape = lines.shape
    lines = F.pad(lines.reshape(1, -1, shape[-1]), (border, border), mode="replicate")
    return F.conv1d(lines.movedim(0, 1), taps[None, None]).view(*shape[:-1], -1).movedim(-1, axis)


def _gaussian(size: int, like: Tensor) -> Tensor:
    offsets = torch.arange(size, device=like.device, dtype=torch.float32) - size // 2
    weights = (-offsets.square() / (2 * _SIGMA**2)).exp()
    return weights / weights.sum()


def _round_to_levels(picture: Tensor) -> Tensor:
    """Pictures as whole 8-bit levels, 0 to 255, still float."""
    return (255 * picture).round().clamp(0, 255)
