"""The Gauss-Newton step between two frames that nearly meet."""

import pytest
import torch
from torch import Tensor

from midflow.nets.photometric import LONGEST, photometric_step


def waves(shift_x: float, shift_y: float, size: int = 64) -> Tensor:
    """A smooth picture moved right and down by parts of a pixel, (1, 3, size, size)."""
    y = torch.arange(size)[:, None] - shift_y
    x = torch.arange(size)[None] - shift_x
    planes = [
        0.5 + 0.2 * torch.sin(0.35 * x + 0.1 * y + c) + 0.2 * torch.cos(0.3 * y - 0.12 * x - c)
        for c in range(3)
    ]
    return torch.stack(planes)[None]


@pytest.mark.parametrize("t", [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize(("dx", "dy"), [(0.4, 0.0), (-0.25, 0.3), (0.0, -0.6)])
def test_step_is_the_motion_that_is_left(t: float, dx: float, dy: float) -> None:
    """What was missed: frame 0 shows the scene t r early, frame 1 shows it (1 - t) r late."""
    warped0, warped1 = waves(-t * dx, -t * dy), waves((1 - t) * dx, (1 - t) * dy)
    step = photometric_step(warped0, warped1, torch.tensor(t).view(1, 1, 1, 1))
    found = step[..., 8:-8, 8:-8].mean((0, 2, 3))
    assert (found - torch.tensor([dx, dy])).abs().max() < 0.06


def test_nothing_moves_where_the_frames_agree_or_show_nothing() -> None:
    half = torch.full((2, 1, 1, 1), 0.5)
    same = waves(0, 0).expand(2, -1, -1, -1)
    assert photometric_step(same, same, half).abs().max() == 0
    flat = torch.full((2, 3, 32, 32), 0.5)
    assert photometric_step(flat, flat + 0.1, half).abs().max() == 0


def test_no_step_is_longer_than_its_limit() -> None:
    torch.manual_seed(0)
    step = photometric_step(*torch.rand(2, 1, 3, 40, 40), torch.full((1, 1, 1, 1), 0.5))
    length = step.norm(dim=1)
    assert length.max() <= LONGEST + 1e-5
    assert length.max() > 0.5 * LONGEST


def test_step_is_float32_and_passes_no_gradient_under_any_precision() -> None:
    warped0 = waves(0, 0).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        step = photometric_step(warped0, waves(0.3, 0), torch.full((1, 1, 1, 1), 0.5))
    assert step.dtype == torch.float32 and not step.requires_grad
