"""What the bundled model was seen to get wrong once, on pictures with exact truth."""

import math

import pytest
import torch
from torch import Tensor

import midflow

WIDTH, HEIGHT = 256, 192


def board(period: float, shift: float) -> Tensor:
    """A grating on a board before a plain wall, moved by `shift` pixels, (1, 3, H, W)."""
    x = torch.arange(WIDTH, dtype=torch.float32)[None] - shift
    y = torch.arange(HEIGHT, dtype=torch.float32)[:, None]
    waves = torch.sin(x * math.tau / period) * torch.sin(y * math.tau / period)
    grating = 0.1 + 0.8 * (0.5 + 4 * waves).clamp(0, 1)
    inside = (90 - (x - WIDTH / 2).abs()).clamp(0, 1) * (65 - (y - HEIGHT / 2).abs()).clamp(0, 1)
    return torch.lerp(torch.tensor(0.4), grating, inside).expand(1, 3, -1, -1)


def psnr(frame: Tensor, truth: Tensor) -> float:
    return float(-10 * (frame - truth).square().mean().log10())


@pytest.mark.parametrize(("period", "motion"), [(24, 5), (24, 7), (32, 5)])
def test_a_pattern_that_repeats_is_followed(period: float, motion: float) -> None:
    img0, truth, img1 = (board(period, motion * t) for t in (0.0, 0.5, 1.0))
    frame = midflow.Interpolator(midflow.load_model(), "cpu")(img0, img1)
    assert psnr(frame, truth) > 24  # dB; led astray by a period it is below 20
    assert psnr((img0 + img1) / 2, truth) < 20
