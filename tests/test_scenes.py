from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F

from midflow.evaluate.metrics import ssim_matlab
from midflow.scenes import (
    FILLS,
    PAN_CORRELATION,
    SCENE_CUT_SSIM,
    fill_cut,
    is_cut,
    moved_correlation,
    similarity,
    thumbnail,
)
from tests import parity


def picture(seed, height=90, width=160):
    """Smooth random shapes, (1, 3, H, W) in [0, 1]."""
    coarse = torch.rand(1, 3, 5, 8, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(coarse, (height, width), mode="bicubic", align_corners=False).clamp(0, 1)


def cut(rgb0, rgb1, threshold=SCENE_CUT_SSIM):
    return is_cut(thumbnail(rgb0), thumbnail(rgb1), threshold)


@pytest.mark.parametrize("name", ["losses", "losses_cut"])
def test_similarity_is_the_reference_scene_test(name):
    case = parity.case(name)
    small = [
        F.interpolate(case.image(key), (32, 32), mode="bilinear", align_corners=False)
        for key in ("img0", "img1")
    ]
    expected = case.meta["values"]["scene_ssim_32"]
    assert float(ssim_matlab(*small)) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("seed", range(5))
def test_two_scenes_are_a_cut(seed):
    assert cut(picture(seed), picture(seed + 100))


@pytest.mark.parametrize("seed", range(5))
def test_motion_is_no_cut(seed):
    frame = picture(seed)
    assert not cut(frame, frame.roll((4, 9), (2, 3)))


@pytest.mark.parametrize(
    "change",
    [
        lambda frame: frame * 0.5,
        lambda frame: frame * 0.15,
        lambda frame: frame * 0.3 + 0.7,
        lambda frame: (frame * 1.5 + 0.35).clamp(0, 1),
    ],
    ids=["half", "nearly black", "nearly white", "burnt out"],
)
def test_a_fade_or_a_flash_is_no_cut(change):
    frame = picture(1)
    assert not cut(frame, change(frame))
    assert not cut(change(frame), frame)


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
def test_a_quick_pan_is_no_cut(share):
    wide = picture(3, width=320)
    moved = wide[..., int(share * 160) :][..., :160]
    assert not cut(wide[..., :160], moved)
    assert not cut(moved, wide[..., :160])


def test_a_quick_pan_would_be_a_cut_by_similarity_alone():
    wide = picture(3, width=320)
    first, moved = thumbnail(wide[..., :160]), thumbnail(wide[..., 80:240])
    assert similarity(first, moved) < SCENE_CUT_SSIM
    assert moved_correlation(first, moved) > PAN_CORRELATION
    assert moved_correlation(first, thumbnail(picture(4))) < PAN_CORRELATION


@pytest.mark.parametrize("steps", [4, 8, 24])
@pytest.mark.parametrize("level", [0.0, 1.0])
def test_no_step_of_a_fade_is_a_cut(steps, level):
    frame, plain = picture(2), torch.full((1, 3, 90, 160), level)
    frames = [torch.lerp(frame, plain, k / steps) for k in range(steps + 1)]
    for first, second in pairwise(frames):
        assert not cut(first, second)
        assert not cut(second, first)


def test_no_step_of_a_cross_fade_is_a_cut():
    frames = [torch.lerp(picture(2), picture(7), k / 8) for k in range(9)]
    assert not any(cut(first, second) for first, second in pairwise(frames))


def test_a_change_of_level_would_be_a_cut_by_plain_similarity():
    frame = thumbnail(picture(1))
    assert float(ssim_matlab(frame, thumbnail(picture(1) * 0.15))) < SCENE_CUT_SSIM


def test_grain_is_no_cut():
    grain = torch.randn(2, 3, 360, 640, generator=torch.Generator().manual_seed(0))
    still = torch.full((1, 3, 360, 640), 0.5)
    still[..., 320:] = 0.6
    first, second = (still + 0.1 * noise for noise in grain)
    assert not cut(first, second)


def test_threshold_zero_finds_no_cuts_and_one_finds_many():
    assert not cut(picture(1), picture(2), 0.0)
    assert cut(picture(1), torch.lerp(picture(1), picture(2), 0.6), 1.0)
    assert not cut(picture(1), picture(1), 0.99)


def test_plain_frames_are_compared_without_dividing_by_zero():
    black, white = torch.zeros(1, 3, 64, 64), torch.ones(1, 3, 64, 64)
    assert not cut(black, black)
    assert cut(black, white)
    assert cut(picture(1), black)


def test_tiny_frames_have_thumbnails():
    assert thumbnail(torch.rand(1, 3, 2, 5)).shape == (1, 3, 32, 32)


def test_fills_hold_choose_or_mix():
    left, right = picture(1), picture(2)
    assert FILLS == ("hold", "nearest", "blend")
    assert torch.equal(fill_cut("hold", left, right, 0.9), left)
    assert torch.equal(fill_cut("nearest", left, right, 0.4), left)
    assert torch.equal(fill_cut("nearest", left, right, 0.5), right)
    torch.testing.assert_close(fill_cut("blend", left, right, 0.25), 0.75 * left + 0.25 * right)
