"""The correlation by matrix products against the definition."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from midflow.nets.correlation import by_shifts, correlation


def by_definition(a: Tensor, b: Tensor, r: int) -> Tensor:
    height, width = a.shape[-2:]
    a, b = F.pad(a, (r, r, r, r)), F.pad(b, (r, r, r, r))
    planes = [
        (
            a[:, :, r - dy : r - dy + height, r - dx : r - dx + width]
            * b[:, :, r + dy : r + dy + height, r + dx : r + dx + width]
        ).sum(1)
        for dy in range(-r, r + 1)
        for dx in range(r, -r - 1, -1)
    ]
    return torch.stack(planes, 1)


@settings(max_examples=40, deadline=None)
@given(
    batch=st.integers(1, 2),
    planes=st.integers(1, 5),
    height=st.integers(1, 9),
    width=st.integers(1, 40),
    radius=st.integers(1, 3),
)
def test_correlation_is_what_its_definition_says(
    batch: int, planes: int, height: int, width: int, radius: int
) -> None:
    a, b = torch.randn(2, batch, planes, height, width, dtype=torch.double)
    torch.testing.assert_close(correlation(a, b, radius), by_definition(a, b, radius))
    torch.testing.assert_close(by_shifts(a, b, radius), by_definition(a, b, radius))


@pytest.mark.parametrize("width", [5, 16, 21])
def test_gradients_are_those_of_the_definition(width: int) -> None:
    a, b = torch.randn(2, 1, 3, 4, width, dtype=torch.double).unbind()
    a.requires_grad_(), b.requires_grad_()
    weights = torch.randn(1, 25, 4, width, dtype=torch.double)
    ours = torch.autograd.grad((correlation(a, b, 2) * weights).sum(), (a, b))
    theirs = torch.autograd.grad((by_definition(a, b, 2) * weights).sum(), (a, b))
    torch.testing.assert_close(ours, theirs)


def test_the_best_match_tells_half_of_the_motion() -> None:
    torch.manual_seed(0)
    features = F.normalize(torch.randn(1, 16, 20, 40), dim=1)
    moved = features.roll((4, -2), (2, 3))  # from x - d to x + d with d = (-1, 2)
    best = correlation(features, moved, 3)[0, :, 8:-8, 8:-8].flatten(1).mean(1).argmax()
    dy, dx = int(best) // 7 - 3, 3 - int(best) % 7
    assert (dx, dy) == (-1, 2)


def test_memory_formats_do_not_matter() -> None:
    a, b = torch.randn(2, 2, 8, 6, 24)
    strided = a.contiguous(memory_format=torch.channels_last)
    assert torch.equal(correlation(strided, b, 3), correlation(a, b, 3))
