from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F

from midflow.errors import OptionError
from midflow.evaluate import metrics
from tests import parity

Metric = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@pytest.fixture(params=["losses", "losses_cut"], scope="module")
def example(request: pytest.FixtureRequest) -> parity.Case:
    return parity.case(request.param)


def _random_pair(*shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    first = torch.rand(shape, generator=generator)
    return first, (first + 0.2 * torch.randn(shape, generator=generator)).clamp(0, 1)


def _reduced(picture: torch.Tensor) -> torch.Tensor:
    return F.interpolate(picture, (32, 32), mode="bilinear", align_corners=False)


@pytest.mark.parametrize(
    ("name", "metric"),
    [
        ("psnr", metrics.psnr),
        ("ssim", metrics.ssim),
        ("ssim_cs", lambda a, b: metrics.ssim_and_contrast(a, b)[1]),
        ("dssim", metrics.dssim),
        ("ssim_matlab", metrics.ssim_matlab),
        ("scene_ssim_32", lambda a, b: metrics.ssim_matlab(_reduced(a), _reduced(b))),
        ("msssim_reference", metrics.msssim_reference),
        ("msssim_standard", metrics.msssim_standard),
    ],
)
def test_metric_is_the_published_one(example: parity.Case, name: str, metric: Metric) -> None:
    value = metric(example.image("img0"), example.image("img1")).item()
    assert value == pytest.approx(example.meta["values"][name], rel=1e-4)


def test_interpolation_error_of_one_level_everywhere_is_one() -> None:
    truth = torch.full((1, 3, 4, 4), 100 / 255)
    assert metrics.interpolation_error(truth + 1.3 / 255, truth).item() == pytest.approx(
        1, rel=1e-4
    )


def test_interpolation_error_rounds_to_whole_levels() -> None:
    truth = torch.full((1, 3, 4, 4), 100 / 255)
    assert metrics.interpolation_error(truth + 0.4 / 255, truth).item() == pytest.approx(
        0, abs=1e-4
    )


def test_psnr_of_a_known_error() -> None:
    truth = torch.full((1, 3, 4, 4), 0.5)
    assert metrics.psnr(truth + 0.1, truth, rounded=False).item() == pytest.approx(20, rel=1e-4)


def test_rounded_psnr_forgives_less_than_half_a_level() -> None:
    truth = torch.full((1, 3, 4, 4), 100 / 255)
    prediction = truth + 0.4 / 255
    assert metrics.psnr(prediction, truth).item() > 120
    assert metrics.psnr(prediction, truth, rounded=False).item() == pytest.approx(56.09, abs=0.01)


def test_rounded_psnr_is_that_of_the_picture_in_a_file() -> None:
    prediction, truth = torch.tensor([[1.2]]), torch.tensor([[0.9]])
    clipped = metrics.psnr(prediction[None, None], truth[None, None])
    assert clipped.item() == pytest.approx(20, rel=1e-4)


@pytest.mark.parametrize(
    ("metric", "best"),
    [
        (metrics.ssim, 1),
        (metrics.ssim_matlab, 1),
        (metrics.msssim_standard, 1),
        (metrics.msssim_reference, 1),
        (metrics.dssim, 0),
        (metrics.interpolation_error, 0),
        (metrics.psnr, float("inf")),
    ],
)
def test_equal_pictures_get_the_best_value(metric: Metric, best: float) -> None:
    levels = torch.randint(0, 256, (1, 3, 32, 48), generator=torch.Generator().manual_seed(0))
    assert metric(levels / 255, levels / 255).item() == pytest.approx(best, abs=1e-4)


@pytest.mark.parametrize(
    "metric",
    [
        metrics.psnr,
        metrics.interpolation_error,
        metrics.ssim,
        metrics.ssim_matlab,
        metrics.msssim_standard,
        metrics.msssim_reference,
    ],
)
def test_each_picture_of_a_batch_gets_its_own_value(metric: Metric) -> None:
    first, second = _random_pair(3, 3, 32, 48)
    first[1] = second[1] * 0.9
    one_by_one = torch.cat([metric(first[i : i + 1], second[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(metric(first, second), one_by_one)


def test_ssim_without_border_is_that_of_scikit_image() -> None:
    skimage = pytest.importorskip("skimage.metrics", reason="scikit-image is not installed")
    first, second = _random_pair(1, 3, 40, 56)
    expected = skimage.structural_similarity(
        first[0].numpy(),
        second[0].numpy(),
        data_range=1.0,
        channel_axis=0,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    assert metrics.ssim(first, second, is_bordered=False).item() == pytest.approx(
        expected, rel=1e-4
    )


def test_ssim_matlab_mixes_channels_and_ssim_does_not() -> None:
    first, second = _random_pair(1, 3, 24, 24)
    order = [1, 0, 2]
    swapped = first[:, order], second[:, order]
    torch.testing.assert_close(metrics.ssim(*swapped), metrics.ssim(first, second))
    assert (metrics.ssim_matlab(*swapped) - metrics.ssim_matlab(first, second)).abs() > 1e-4


def test_opposite_pictures_have_a_multi_scale_ssim_of_zero_rather_than_nan() -> None:
    picture, _ = _random_pair(1, 3, 32, 32)
    assert metrics.msssim_standard(picture, 1 - picture) == 0


def test_multi_scale_ssim_of_a_tiny_picture_is_refused() -> None:
    picture = torch.zeros(1, 3, 15, 40)
    with pytest.raises(OptionError, match=r"at least 16 pixels, got \(15, 40\): use ssim"):
        metrics.msssim_standard(picture, picture)
