import math

import pytest
import torch

from midflow.errors import OptionError
from midflow.flow_picture import color_wheel, flow_to_rgb


def _color(dx: float, dy: float, max_motion: float = 1) -> list[float]:
    flow = torch.tensor([dx, dy]).view(2, 1, 1)
    return (255 * flow_to_rgb(flow, max_motion)).flatten().tolist()


def test_no_motion_is_white() -> None:
    assert torch.equal(flow_to_rgb(torch.zeros(1, 2, 3, 4)), torch.ones(1, 3, 3, 4))


@pytest.mark.parametrize(
    ("direction", "dx", "dy", "rgb"),
    [
        ("right", 1.0, 0.0, (255, 0, 0)),
        ("right, below zero by a sign only", 1.0, -0.0, (255, 0, 0)),
        ("down", 0.0, 1.0, (255, 229.5, 0)),
        ("left", -1.0, 0.0, (0, 209, 255)),
        ("up", 0.0, -1.0, (88, 0, 255)),
    ],
)
def test_full_motion_has_the_hue_of_its_direction(
    direction: str, dx: float, dy: float, rgb: tuple[float, float, float]
) -> None:
    assert _color(dx, dy) == pytest.approx(rgb, abs=0.01), direction


@pytest.mark.parametrize("index", range(54))
def test_every_color_of_the_wheel_stands_at_its_angle(index: int) -> None:
    angle = 2 * math.pi * index / 54  # clockwise from the right: y points down
    expected = (255 * color_wheel()[index]).tolist()
    assert _color(math.cos(angle), math.sin(angle), 1.0001) == pytest.approx(expected, abs=0.2)


def test_the_wheel_has_the_published_corners() -> None:
    wheel = 255 * color_wheel()
    assert wheel.shape == (55, 3)
    corners = {0: (255, 0, 0), 15: (255, 255, 0), 21: (0, 255, 0)}
    corners |= {25: (0, 255, 255), 36: (0, 0, 255), 49: (255, 0, 255)}
    assert all(wheel[index].tolist() == pytest.approx(rgb) for index, rgb in corners.items())
    assert wheel[16].tolist() == pytest.approx((213, 255, 0))  # 255 - floor(255 / 6)


def test_half_the_motion_is_half_way_to_white() -> None:
    assert _color(0.5, 0) == pytest.approx((255, 127.5, 127.5))


def test_motion_above_the_maximum_is_darkened() -> None:
    assert _color(3, 0) == pytest.approx((255 * 0.75, 0, 0))


def test_the_longest_motion_of_each_picture_gets_full_color_by_default() -> None:
    flow = torch.zeros(2, 2, 1, 2)
    flow[0, 0, 0, 1] = 7
    flow[1, 0, 0, 1] = 0.5
    red = torch.tensor([1.0, 0, 0])
    rgb = flow_to_rgb(flow)
    assert torch.equal(rgb[0, :, 0, 1], red)
    assert torch.equal(rgb[1, :, 0, 1], red)


def test_unknown_motion_is_black_and_does_not_set_the_maximum() -> None:
    flow = torch.tensor([[[math.inf, 2.0, math.nan]], [[0.0, 0.0, 1.0]]])
    rgb = flow_to_rgb(flow)
    assert torch.equal(rgb[:, 0, 0], torch.zeros(3))
    assert torch.equal(rgb[:, 0, 1], torch.tensor([1.0, 0, 0]))
    assert torch.equal(rgb[:, 0, 2], torch.zeros(3))


@pytest.mark.parametrize("shape", [(4, 2, 2), (1, 4, 2, 2), (2, 2)])
def test_a_flow_of_other_than_two_channels_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(OptionError, match=r"flow must be \(B, 2, H, W\) or \(2, H, W\), got"):
        flow_to_rgb(torch.zeros(shape))


@pytest.mark.parametrize("max_motion", [0, -1, math.nan])
def test_a_maximum_that_is_not_a_length_is_refused(max_motion: float) -> None:
    with pytest.raises(OptionError, match="max_motion must be above 0 pixels"):
        flow_to_rgb(torch.zeros(2, 1, 1), max_motion)
