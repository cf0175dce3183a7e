from dataclasses import replace

import pytest
import torch

from midflow.errors import OptionError
from midflow.nets.warp import warp
from midflow.train.augment import UNCHANGED, Augmentation, augment, mirror, reverse, transpose
from midflow.train.batch import Batch, random_stream
from midflow.train.synthetic import LayerOptions, Layers
from tests.train.footage import photographs

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def scenes() -> Batch:
    source = Layers(
        photographs(), LayerOptions(max_motion=12, translucent=0), augmentation=UNCHANGED, seed=5
    )
    return source.batch(0, 4, 64, device=CPU)


def warping_error(batch: Batch) -> float:
    """Mean error in levels of both warped frames where they show what the true frame shows."""
    total = 0.0
    for frame, picture in enumerate((batch.img0, batch.img1)):
        visible = batch.visible[:, frame, None]
        warped = warp(picture, batch.flow[:, 2 * frame : 2 * frame + 2], "bicubic")
        total += float(((warped - batch.truth).abs() * visible).sum() / (3 * visible.sum()))
    return 255 * total / 2


@pytest.mark.parametrize(
    "change", [lambda b: mirror(b, 0), lambda b: mirror(b, 1), transpose, reverse]
)
def test_flows_still_fit_the_pictures_after_each_change(scenes: Batch, change) -> None:
    before = warping_error(scenes)
    changed = change(scenes)
    assert warping_error(changed) == pytest.approx(before, abs=0.02)
    # the pictures alone, with the flows left as they were, do not fit
    assert warping_error(replace(changed, flow=scenes.flow)) > 2 * before + 1


def test_flows_still_fit_after_all_changes_together(scenes: Batch) -> None:
    options = Augmentation(jitter=0, ramp=0, sharpen=0, noise=0)
    for step in range(4):
        changed = augment(scenes, options, random_stream(1, step, 0))
        assert warping_error(changed) == pytest.approx(warping_error(scenes), abs=0.05)


def test_doing_a_change_twice_undoes_it(scenes: Batch) -> None:
    for change in (lambda b: mirror(b, 0), lambda b: mirror(b, 1), transpose, reverse):
        twice = change(change(scenes))
        for name in ("img0", "img1", "truth", "flow", "visible"):
            assert torch.equal(getattr(twice, name), getattr(scenes, name))
        assert torch.allclose(twice.timestep, scenes.timestep)


def test_playing_backwards_exchanges_the_inputs_and_the_time(scenes: Batch) -> None:
    backwards = reverse(scenes)
    assert torch.equal(backwards.img0, scenes.img1)
    assert torch.equal(backwards.truth, scenes.truth)
    assert torch.allclose(backwards.timestep, 1 - scenes.timestep)
    assert torch.equal(backwards.flow[:, :2], scenes.flow[:, 2:])


def test_the_batch_that_came_in_is_not_changed(scenes: Batch) -> None:
    before = scenes.img0.clone()
    augment(scenes, Augmentation(jitter=1, noise=1, ramp=1), random_stream(0, 0, 0))
    assert torch.equal(scenes.img0, before)


def test_nothing_changes_with_all_shares_at_zero(scenes: Batch) -> None:
    same = augment(scenes, UNCHANGED, random_stream(0, 0, 0))
    for name in ("img0", "img1", "truth", "timestep", "flow", "visible"):
        assert torch.equal(getattr(same, name), getattr(scenes, name))


def test_colors_change_alike_in_all_three_frames() -> None:
    picture = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    batch = Batch(picture, picture, picture, torch.full((3,), 0.5))
    options = replace(UNCHANGED, jitter=1, swap_colors=0.5)
    changed = augment(batch, options, random_stream(2, 0, 0))
    assert torch.equal(changed.img0, changed.truth)
    assert torch.equal(changed.img0, changed.img1)
    assert not torch.allclose(changed.img0, picture, atol=0.01)


def test_a_ramp_gives_the_true_frame_the_brightness_of_its_time() -> None:
    picture = torch.full((8, 3, 4, 4), 0.5)
    batch = Batch(picture, picture, picture, torch.full((8,), 0.25))
    changed = augment(batch, replace(UNCHANGED, ramp=1), random_stream(3, 0, 0))
    first, last = changed.img0[:, 0, 0, 0], changed.img1[:, 0, 0, 0]
    assert torch.allclose(changed.truth[:, 0, 0, 0], first + 0.25 * (last - first))
    assert float((last - first).abs().max()) > 0.01


def test_sharpening_adds_contrast_to_fine_detail_alike_in_all_frames() -> None:
    picture = 0.25 + 0.5 * torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    batch = Batch(picture, picture, picture, torch.full((4,), 0.5))
    changed = augment(batch, replace(UNCHANGED, sharpen=1), random_stream(5, 0, 0))
    assert torch.equal(changed.img0, changed.truth) and torch.equal(changed.img0, changed.img1)
    assert (changed.img0.std((1, 2, 3)) > picture.std((1, 2, 3))).all()
    assert torch.allclose(changed.img0.mean((1, 2, 3)), picture.mean((1, 2, 3)), atol=0.01)


def test_noise_leaves_the_true_frame_clean() -> None:
    picture = torch.full((8, 3, 16, 16), 0.5)
    batch = Batch(picture, picture, picture, torch.full((8,), 0.5))
    changed = augment(batch, replace(UNCHANGED, noise=1), random_stream(4, 0, 0))
    assert torch.equal(changed.truth, picture)
    noise = changed.img0 - picture
    assert 0 < float(noise.std()) < 0.012
    assert not torch.equal(changed.img0, changed.img1)


def test_a_scale_range_must_hold_the_original_size() -> None:
    with pytest.raises(OptionError, match="scale_range must be a size up to 1"):
        Augmentation(scale_range=(1.5, 2.0))
