"""The drawn scenes: their truth is where the motion says, and drawn again they are the same."""

import pytest
import torch

from midflow.evaluate.hard import SCENES, draw, open_hard

DATASET = open_hard()


def frames(name):
    """First, true middle and last frame of a scene, in levels."""
    sample = next(sample for sample in DATASET if sample.name == name)
    return [(draw(picture) * 255).round() for picture in sample.pictures]


@pytest.mark.parametrize("name", SCENES)
def test_scenes_are_pictures_in_whole_levels_that_differ_from_moment_to_moment(name):
    sample = next(sample for sample in DATASET if sample.name == name)
    first, second = draw(sample.img0), draw(sample.truths[0])
    assert first.shape == (1, 3, 480, 848)
    assert torch.equal((first * 255).round() / 255, first)
    assert 0 <= first.min() < first.max() <= 1
    assert not torch.equal(first, second)
    assert torch.equal(draw(sample.img0), first)


def test_the_truth_of_the_large_motion_lies_half_way():
    first, truth, last = frames("large motion")
    below = slice(340, None)  # the disc ends above
    assert (truth[..., below, 16:] - first[..., below, :-16]).abs().max() <= 1
    assert (last[..., below, 32:] - first[..., below, :-32]).abs().max() <= 1


def test_text_stands_still_while_the_picture_pans():
    first, truth, _ = frames("still text")
    is_white = (first == 255).all(1)[0, 400:] & (truth == 255).all(1)[0, 400:]
    assert is_white.sum() > 5000
    assert (truth[..., 200:300, :-12] - first[..., 200:300, 12:]).abs().max() <= 1


def test_the_small_ball_is_in_the_middle_of_its_way():
    first, truth, last = (image[0, :, 150] for image in frames("small and fast"))
    for line, center in ((first, 200), (truth, 232), (last, 264)):
        white = (line == 255).all(0).nonzero().flatten().float()
        assert white.mean().item() == pytest.approx(center, abs=0.5)
