from fractions import Fraction

import numpy as np
import pytest
import torch
from PIL import Image

from midflow.errors import OptionError
from midflow.interpolator import Interpolator
from tests.test_interpolator import tiny


@pytest.fixture(scope="module")
def interp() -> Interpolator:
    return Interpolator(tiny(), "cpu")


def test_a_tensor_comes_back_as_a_tensor(interp: Interpolator) -> None:
    frames = torch.rand(3, 3, 20, 30)
    result = interp.sequence(frames, 2)
    assert result.shape == (5, 3, 20, 30) and result.dtype == frames.dtype
    assert torch.equal(result[::2], frames)
    assert torch.allclose(result[1:2], interp(frames[:1], frames[1:2]), atol=1e-6)


def test_an_array_comes_back_as_an_array(interp: Interpolator) -> None:
    rng = np.random.default_rng(0)
    for dtype, largest in ((np.uint8, 255), (np.uint16, 65535)):
        frames = rng.integers(0, largest, (3, 20, 30, 3), endpoint=True).astype(dtype)
        result = interp.sequence(frames, 3)
        assert result.shape == (7, 20, 30, 3) and result.dtype == dtype
        assert np.array_equal(result[::3], frames)
        images = torch.from_numpy(frames[:2].astype(np.float32) / largest).permute(0, 3, 1, 2)
        middle = interp(images[:1], images[1:], [1 / 3, 2 / 3]).permute(0, 2, 3, 1) * largest
        assert np.abs(result[1:3] - middle.numpy()).max() <= 0.5 + largest * 1e-6


def test_images_come_back_as_images(interp: Interpolator) -> None:
    rng = np.random.default_rng(0)
    images = [Image.fromarray(rng.integers(0, 255, (20, 30, 3), np.uint8)) for _ in range(2)]
    result = interp.sequence(images, 4)
    assert [image.size for image in result] == [(30, 20)] * 5
    assert np.array_equal(np.asarray(result[4]), np.asarray(images[1]))


def test_a_fractional_factor_places_frames_evenly(interp: Interpolator) -> None:
    frames = torch.rand(5, 3, 20, 30)
    result = interp.sequence(frames, Fraction(5, 2))
    assert len(result) == 11
    assert torch.equal(result[::5], frames[::2])
    assert torch.allclose(result[3:4], interp(frames[1:2], frames[2:3], 0.2), atol=1e-6)


def test_one_frame_stays_one_frame(interp: Interpolator) -> None:
    frames = torch.rand(1, 3, 20, 30)
    assert torch.equal(interp.sequence(frames, 8), frames)


@pytest.mark.parametrize(
    ("frames", "factor", "message"),
    [
        (torch.rand(2, 3, 8, 8), 0.5, "at least 1"),
        (torch.rand(2, 3, 8, 8), float("nan"), "at least 1"),
        (torch.rand(0, 3, 8, 8), 2, r"\(N, 3, H, W\)"),
        (torch.zeros(2, 3, 8, 8, dtype=torch.int64), 2, "float, uint8 or uint16"),
        (np.zeros((2, 3, 8, 8), np.uint8), 2, r"\(N, H, W, 3\)"),
        ([], 2, "PIL images"),
        ([np.zeros((8, 8, 3))], 2, "PIL images, got ndarray"),
        ("clip.mp4", 2, "got str"),
        ([Image.new("RGB", (8, 8)), Image.new("RGB", (9, 8))], 2, "one size"),
    ],
)
def test_bad_sequences_are_named(interp: Interpolator, frames, factor, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        interp.sequence(frames, factor)
