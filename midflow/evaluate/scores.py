"""The metrics of an evaluation by name, each a number for one painted frame and the true one.

Every one judges the frame as an 8-bit picture file would hold it, rounded to whole levels.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module

import torch
from torch import Tensor

from midflow.errors import MidflowError, MissingExtraError, OptionError
from midflow.evaluate import metrics
from midflow.evaluate.dataset import to_levels

# PSNR of equal pictures is infinite, which no mean survives: this is a mean square error of 1e-9.
PSNR_CEILING = 10 * math.log10(255**2 / 1e-9)
# Rec. 601 luma, as in the lineage's benchmark on HD video.
_LUMA = (0.299, 0.587, 0.114)

Score = Callable[[Tensor, Tensor], float]


@dataclass(frozen=True)
class Metric:
    """How a score is shown and compared."""

    label: str
    """Heading of its column."""
    digits: int
    """Decimal places."""
    is_higher_better: bool
    meaning: str
    """One line for reports."""


METRICS = {
    "psnr": Metric("PSNR", 2, True, "dB over all pixels and channels of RGB"),
    "psnr_luma": Metric("PSNR-Y", 2, True, "dB of Rec. 601 luma, computed from RGB"),
    "ssim": Metric("SSIM", 4, True, "2-D, 11 x 11 Gaussian, windows inside the picture"),
    "ssim_matlab": Metric(
        "SSIM*", 4, True, "3-D window over rows, columns and channels, as RIFE and relatives"
    ),
    "ie": Metric("IE", 3, False, "mean absolute error in levels, 0 to 255"),
    "lpips": Metric("LPIPS", 4, False, "learned perceptual distance, AlexNet, v0.1"),
}


def psnr_luma(prediction: Tensor, truth: Tensor) -> Tensor:
    """PSNR in dB of the luma of (B, 3, H, W) RGB, (B,)."""
    weights = prediction.new_tensor(_LUMA).view(1, 3, 1, 1)
    error = ((prediction - truth) * weights).sum(1)
    return -10 * error.square().mean((1, 2)).log10()


def build_scores(names: Iterable[str]) -> dict[str, Score]:
    """Functions of a painted and a true frame, (1, 3, H, W) in [0, 1] on the CPU.

    Raises:
        OptionError: a metric of that name does not exist.
        MissingExtraError: lpips is asked for and not installed.
        MidflowError: lpips is installed and cannot be used.
    """
    check_metrics(names)
    return {name: _build(name) for name in names}


def check_metrics(names: Iterable[str]) -> None:
    """Refuses names that are not metrics.

    Raises:
        OptionError: a metric of that name does not exist.
    """
    for name in names:
        if name not in METRICS:
            raise OptionError(f"metrics must be among {', '.join(METRICS)}, got {name!r}")


def _build(name: str) -> Score:
    if name == "lpips":
        return _build_lpips()
    function = {
        "psnr": lambda x, y: metrics.psnr(x, y, rounded=False).clamp(max=PSNR_CEILING),
        "psnr_luma": lambda x, y: psnr_luma(x, y).clamp(max=PSNR_CEILING),
        "ssim": lambda x, y: metrics.ssim(x, y, is_bordered=False),
        "ssim_matlab": metrics.ssim_matlab,
        "ie": metrics.interpolation_error,
    }[name]
    return lambda prediction, truth: function(to_levels(prediction), truth).item()


def _build_lpips() -> Score:
    try:
        lpips = import_module("lpips")
    except ImportError as error:
        raise MissingExtraError("lpips", "lpips") from error
    except RuntimeError as error:  # torchvision's own check
        raise MidflowError(
            f"lpips needs a torchvision built for torch {torch.__version__}: {error}; install the "
            "torchvision that belongs to it from where torch came from"
        ) from error
    try:
        network = lpips.LPIPS(net="alex", verbose=False).eval()
    except OSError as error:
        raise MidflowError(f"lpips fetches its AlexNet once, which failed: {error}") from error
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    return lambda prediction, truth: network(
        2 * to_levels(prediction) - 1, 2 * truth - 1
    ).item()  # it wants [-1, 1]
