import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from midflow.errors import OptionError
from midflow.train import losses
from tests import parity


class Example:
    """Two pictures, two flows and what the published losses say of them."""

    def __init__(self, name: str) -> None:
        self.case = parity.case(name)
        self.values: dict[str, Any] = self.case.meta["values"]
        self.img0, self.img1 = self.case.image("img0"), self.case.image("img1")
        coarse = torch.from_numpy(self.case.arrays["coarse_flow"])
        flows = F.interpolate(coarse, self.img0.shape[-2:], mode="bilinear", align_corners=False)
        self.flow0, self.flow1 = flows[:1], flows[1:]


@pytest.fixture(params=["losses", "losses_cut"], scope="module")
def example(request: pytest.FixtureRequest) -> Example:
    return Example(request.param)


def test_laplacian_loss_is_the_published_one(example: Example) -> None:
    assert losses.laplacian_loss(example.img0, example.img1).item() == pytest.approx(
        example.values["lap"], rel=1e-4
    )


def test_each_octave_of_the_laplacian_is_the_published_one(example: Example) -> None:
    terms = losses.laplacian_terms(example.img0, example.img1)
    assert [term.item() for term in terms[:-1]] == pytest.approx(
        example.values["lap_levels"], rel=1e-4
    )


def test_only_the_full_laplacian_loss_sees_a_change_of_brightness(example: Example) -> None:
    brighter = example.img0 + 0.125
    assert losses.laplacian_loss(example.img0, brighter).item() == pytest.approx(
        example.values["lap_shifted_brightness"], abs=1e-6
    )
    assert losses.full_laplacian_loss(example.img0, brighter).item() == pytest.approx(
        0.125, rel=1e-4
    )


def test_full_laplacian_loss_adds_the_low_pass_level(example: Example) -> None:
    terms = losses.laplacian_terms(example.img0, example.img1)
    full = losses.full_laplacian_loss(example.img0, example.img1)
    assert terms[-1] > 0.01
    assert full.item() == pytest.approx(example.values["lap"] + terms[-1].item(), rel=1e-4)


def test_end_point_error_is_the_published_one(example: Example) -> None:
    error = losses.end_point_error_map(example.flow0, example.flow1)
    assert error.mean().item() == pytest.approx(example.values["epe_mean"], rel=1e-4)
    assert example.case.difference("epe", error[0]) <= 1e-4 * example.values["epe_mean"]


def test_masked_end_point_error_is_the_published_one(example: Example) -> None:
    is_bright = example.img0.mean(1, keepdim=True) > 0.4
    error = losses.end_point_error_map(example.flow0[:, :2], example.flow1[:, :2]) * is_bright
    assert error.mean().item() == pytest.approx(example.values["epe_masked_mean"], rel=1e-4)


def test_sobel_difference_is_the_published_one(example: Example) -> None:
    difference = losses.sobel_map(example.img0, example.img1)
    assert difference.mean().item() == pytest.approx(example.values["sobel_mean"], rel=1e-4)
    assert example.case.difference("sobel", difference[0][:, None]) <= 1e-5


def test_sobel_difference_of_a_flow_is_the_published_one(example: Example) -> None:
    difference = losses.sobel_map(example.flow0, torch.zeros_like(example.flow0))
    assert difference.mean().item() == pytest.approx(example.values["sobel_flow_mean"], rel=1e-4)


def test_census_distance_is_the_published_one(example: Example) -> None:
    distance = losses.census_map(example.img0, example.img1)
    assert distance.mean().item() == pytest.approx(example.values["ternary_mean"], rel=1e-4)
    assert example.case.difference("ternary", distance[0]) <= 1e-5


def test_end_point_error_of_a_three_four_five_triangle_is_five() -> None:
    flow = torch.tensor([3.0, -4.0]).view(1, 2, 1, 1)
    assert losses.end_point_error_map(flow, torch.zeros(1, 2, 1, 1)).item() == pytest.approx(5)


def test_census_distance_ignores_brightness_inside_the_picture() -> None:
    picture = torch.rand(1, 3, 20, 20, generator=torch.Generator().manual_seed(0))
    distance = losses.census_map(picture, picture + 0.2)
    assert distance[..., 4:-4, 4:-4].max() < 1e-6


def test_a_flat_picture_has_no_detail_and_is_all_in_the_low_pass_rest() -> None:
    fine, coarse, rest = losses.laplacian_pyramid(torch.full((1, 3, 32, 64), 0.25), 2)
    assert (fine.shape[-2:], coarse.shape[-2:], rest.shape[-2:]) == ((32, 64), (16, 32), (8, 16))
    assert max(fine.abs().max(), coarse.abs().max()) < 1e-6
    assert (rest - 0.25).abs().max() < 1e-6


def test_losses_stay_in_float32_under_autocast() -> None:
    picture = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    other = picture.flip(3)
    expected = losses.laplacian_loss(picture, other), losses.sobel_map(picture, other)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = losses.laplacian_loss(picture, other), losses.sobel_map(picture, other)
    assert torch.equal(actual[0], expected[0])
    assert torch.equal(actual[1], expected[1])


@pytest.mark.parametrize("size", [(96, 100), (32, 64)])
def test_a_size_the_pyramid_cannot_halve_is_refused(size: tuple[int, int]) -> None:
    picture = torch.zeros(1, 3, *size)
    with pytest.raises(OptionError, match=r"multiples of 32, at least 64, got \d+ x \d+"):
        losses.laplacian_loss(picture, picture)


def _distil(
    student_error: float, teacher_error: float, flow: torch.Tensor, teacher_flow: torch.Tensor
) -> torch.Tensor:
    truth = torch.full((1, 3, 4, 4), 0.5)
    return losses.distillation_loss(
        [truth + student_error], [flow], truth - teacher_error, teacher_flow, truth
    )


def test_distillation_is_the_root_mean_square_flow_difference() -> None:
    flow = torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 4, 1, 1).expand(1, 4, 4, 4)
    loss = _distil(0.2, 0.1, flow, torch.zeros(1, 4, 4, 4))
    assert loss.item() == pytest.approx(math.sqrt(30 / 4))


def test_distillation_leaves_pixels_alone_where_the_teacher_is_hardly_better() -> None:
    flow = torch.ones(1, 4, 4, 4)
    assert _distil(0.105, 0.1, flow, torch.zeros(1, 4, 4, 4)) == 0
    assert _distil(0.115, 0.1, flow, torch.zeros(1, 4, 4, 4)) == 1


def test_distillation_adds_up_over_blocks() -> None:
    truth, flow = torch.zeros(1, 3, 4, 4), torch.ones(1, 4, 4, 4)
    loss = losses.distillation_loss([truth + 1] * 3, [flow] * 3, truth, 0 * flow, truth)
    assert loss == 3


def test_distillation_teaches_the_student_and_not_the_teacher() -> None:
    flow = torch.ones(1, 4, 4, 4, requires_grad=True)
    teacher_flow = torch.zeros(1, 4, 4, 4, requires_grad=True)
    _distil(0.2, 0.1, flow, teacher_flow).backward()
    assert flow.grad is not None
    assert flow.grad.abs().min() > 0
    assert teacher_flow.grad is None


def test_distillation_has_a_finite_gradient_where_the_flows_are_equal() -> None:
    flow = torch.ones(1, 4, 4, 4, requires_grad=True)
    _distil(0.2, 0.1, flow, torch.ones(1, 4, 4, 4)).backward()
    assert flow.grad is not None
    assert torch.equal(flow.grad, torch.zeros_like(flow))
