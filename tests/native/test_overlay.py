"""Still overlays by the kernels are those that torch finds."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from midflow import overlay
from midflow.native import overlay as native
from midflow.native.library import load_library

LIBRARY = load_library()
pytestmark = pytest.mark.skipif(LIBRARY is None, reason="installed without a C compiler")


def pair(height: int, width: int, seed: int, share: float = 0.1) -> tuple[Tensor, Tensor]:
    """A picture that moves, with some blocks on it that do not."""
    draw = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, height // 4 + 3, width // 4 + 3, generator=draw)
    fine = F.interpolate(coarse, scale_factor=4, mode="bicubic").clamp(0, 1)
    is_still = torch.rand(1, 1, height // 3 + 1, width // 3 + 1, generator=draw) < share
    is_still = F.interpolate(is_still.float(), scale_factor=3)[..., :height, :width]
    first, second = fine[..., :height, :width], fine[..., 3 : height + 3, 2 : width + 2]
    return first.lerp(torch.ones(1), is_still), second.lerp(torch.ones(1), is_still)


def by_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "can_run", lambda image: False)


def mostly_same(found: Tensor, expected: Tensor) -> bool:
    """But for a pixel where sums are rounded otherwise, and those it has in company."""
    return found.shape == expected.shape and int((found != expected).sum()) <= 25


@settings(max_examples=60, deadline=None)
@given(height=st.integers(1, 70), width=st.integers(1, 600), seed=st.integers(0, 999))
def test_any_size(height: int, width: int, seed: int) -> None:
    img0, img1 = pair(height, width, seed)
    found = overlay.still_overlay(img0, img1)
    with pytest.MonkeyPatch.context() as patch:
        by_torch(patch)
        assert mostly_same(found, overlay.still_overlay(img0, img1))


def test_every_variant_finds_what_stands_still(
    monkeypatch: pytest.MonkeyPatch, processor: str
) -> None:
    img0, img1 = (
        torch.cat(parts) for parts in zip(pair(90, 333, 1), pair(90, 333, 2), strict=True)
    )
    found = overlay.still_overlay(img0, img1)
    assert not mostly_same(found[:1], found[1:])  # the check can fail
    by_torch(monkeypatch)
    expected = overlay.still_overlay(img0, img1)
    assert 0.01 < float((expected > 0).float().mean()) < 0.6
    assert mostly_same(found, expected)


def test_every_variant_finds_what_is_carried(
    monkeypatch: pytest.MonkeyPatch, processor: str
) -> None:
    torch.manual_seed(0)
    cover = F.interpolate((torch.rand(2, 1, 12, 30) < 0.1).float(), size=(61, 149))
    flow = F.interpolate(12 * torch.randn(2, 4, 4, 8), size=(61, 149), mode="bilinear")
    flow[0, :, 7, 9] = 1e6
    flow[0, :, 7, 10] = -1e6
    found = torch.cat(overlay._carried(cover, flow), 1)
    by_torch(monkeypatch)
    expected = torch.cat(overlay._carried(cover, flow), 1)
    assert 0.01 < float((expected > 0).float().mean()) < 0.5
    assert float((found - expected).abs().max()) < 1e-3


def test_what_is_no_number_reads_inside_of_the_picture() -> None:
    cover, flow = torch.ones(1, 1, 9, 20), torch.full((1, 4, 9, 20), float("nan"))
    cover[..., ::2] = 0
    assert torch.equal(native.carried(cover, flow, 9.0), torch.zeros(1, 2, 9, 20))


def test_pictures_that_lie_otherwise_are_copied_and_other_types_left_to_torch() -> None:
    img0, img1 = pair(40, 80, 3)
    strided = img0.to(memory_format=torch.channels_last)
    assert torch.equal(overlay.still_overlay(strided, img1), overlay.still_overlay(img0, img1))
    assert native.can_run(img0)
    assert not native.can_run(img0.double())
    assert overlay.still_overlay(img0.double(), img1.double()).dtype is torch.float64


def test_as_many_threads_as_there_are_find_the_same() -> None:
    img0, img1 = pair(160, 200, 4)
    before, expected = torch.get_num_threads(), overlay.still_overlay(img0, img1)
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            assert torch.equal(overlay.still_overlay(img0, img1), expected)
    finally:
        torch.set_num_threads(before)
