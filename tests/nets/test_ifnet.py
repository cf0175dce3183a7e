"""The fast forward pass against the one step by step, and what one class must do for all."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from midflow.errors import OptionError
from midflow.nets.config import HALF_CONFIG, IFNetConfig
from midflow.nets.ifnet import IFNet
from midflow.nets.plain import plain_forward
from midflow.nets.releases import RELEASES
from midflow.nets.warp import centers, regrid, resize, warp, warp_reduced
from tests import parity

FAST_AGAINST_PLAIN = 2e-4


def frames(size: int = 256) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    small = torch.rand(1, 3, size // 8, size // 8 + 4)
    wide = F.interpolate(small, (size, size + 32), mode="bicubic").clamp(0, 1)
    return wide[..., 5 : 5 + size], wide[..., :size]


@pytest.mark.parametrize("flow_scale", [0.25, 0.5, 1.0, 2.0, 4.0])
@pytest.mark.parametrize("release", ["4.2", "4.6", "4.7", "4.20", "4.25", "4.25.lite"])
def test_fast_forward_is_the_plain_one(release: str, flow_scale: float) -> None:
    case = parity.case(f"v{release}")
    net = IFNet(RELEASES[release].config).eval()
    net.load_state_dict(parity.state(case.meta))
    img0, img1 = frames(int(net.config.pad_multiple * max(1, 1 / flow_scale)))
    with torch.inference_mode():
        fast = net(img0, img1, 0.3, flow_scale=flow_scale)
        plain = plain_forward(net, img0, img1, 0.3, flow_scale)
    assert (fast.frame - plain.frame).abs().max() <= FAST_AGAINST_PLAIN
    assert (fast.flow - plain.flow).abs().max() <= 2e-3
    assert plain.flow.abs().max() > 2  # pixels: there is motion to get wrong


@pytest.mark.parametrize("flow_scale", [0.5, 1.0, 4.0])
def test_fast_forward_is_the_plain_one_at_half_resolution(flow_scale: float) -> None:
    torch.manual_seed(0)
    net = IFNet(HALF_CONFIG).eval()
    for name, weight in net.named_parameters():
        if ".lastconv." in name:
            torch.nn.init.normal_(weight, std=0.2)
    img0, img1 = frames()
    with torch.inference_mode():
        fast = net(img0, img1, 0.7, flow_scale=flow_scale)
        plain = plain_forward(net, img0, img1, 0.7, flow_scale)
    assert (fast.frame - plain.frame).abs().max() <= FAST_AGAINST_PLAIN
    assert plain.flow.abs().max() > 2  # pixels


@settings(max_examples=40, deadline=None)
@given(
    step=st.sampled_from([2, 4, 6, 8, 16, 32]), rows=st.integers(1, 3), columns=st.integers(1, 3)
)
def test_reducing_reads_the_centres(step: int, rows: int, columns: int) -> None:
    x = torch.randn(1, 2, rows * step, columns * step)
    expected = F.interpolate(x, (rows, columns), mode="bilinear", align_corners=False)
    torch.testing.assert_close(resize(x, 1 / step), expected, rtol=0, atol=1e-6)
    assert centers(x, step).shape == (1, 2, 2 * rows, 2 * columns)


@pytest.mark.parametrize("step", [0.25, 0.5, 1, 2, 4, 8, 16, 32])
def test_reduced_warp_is_the_warp_reduced(step: float) -> None:
    torch.manual_seed(0)
    image, flow = torch.rand(2, 3, 64, 96), 20 * torch.randn(2, 2, 64, 96)
    expected = resize(warp(image, flow), 1 / step)
    assert (warp_reduced(image, flow, step) - expected).abs().max() <= 2e-5


@pytest.mark.parametrize("source", [0.25, 0.5, 1, 2, 4, 8, 16])
@pytest.mark.parametrize("target", [0.25, 0.5, 1, 2, 4, 8, 16])
def test_regrid_goes_as_if_through_the_full_size(source: float, target: float) -> None:
    x = torch.randn(1, 2, int(64 / source), int(64 / source))
    expected = F.interpolate(x, (64, 64), mode="bilinear") if source != 1 else x
    size = int(64 / target)
    expected = F.interpolate(expected, (size, size), mode="bilinear") if target != 1 else expected
    torch.testing.assert_close(regrid(x, source, target), expected, rtol=0, atol=2e-6)


def test_warp_reads_where_the_flow_points() -> None:
    image = torch.rand(1, 1, 8, 10)
    flow = torch.zeros(1, 2, 8, 10)
    flow[:, 0], flow[:, 1] = 2, -1
    warped = warp(image, flow)
    torch.testing.assert_close(warped[..., 1:, :-2], image[..., :-1, 2:])
    assert torch.allclose(warped[..., -1], image[..., [0, *range(7)], -1])  # the border replicated


def test_encoding_once_is_the_same_as_every_time() -> None:
    net = IFNet(RELEASES["4.25"].config).eval()
    img0, img1 = frames(64)
    with torch.inference_mode():
        once = net(net.encode_frame(img0), net.encode_frame(img1), torch.tensor([0.2, 0.6]))
        for k, t in enumerate((0.2, 0.6)):
            assert (once.frame[k] - net(img0, img1, t).frame[0]).abs().max() < 1e-5


def test_large_motion_is_decided_for_each_sample() -> None:
    case = parity.case("v4.0_retry")
    net = IFNet(RELEASES["4.0"].config).eval()
    net.load_state_dict(parity.state(case.meta))
    img0, img1 = case.image("img0"), case.image("img1")
    still = torch.full_like(img0, 0.5)
    with torch.inference_mode():
        alone = [net(img0, img1, 0.5), net(still, still, 0.5)]
        batch = net(torch.cat((img0, still)), torch.cat((img1, still)), 0.5)
    for k, single in enumerate(alone):
        assert (batch.frame[k] - single.frame[0]).abs().max() < 1e-5
        assert (batch.flow[k] - single.flow[0]).abs().max() < 5e-3


def test_an_ensemble_where_there_is_none_is_an_error() -> None:
    with pytest.raises(OptionError, match="no ensemble"):
        IFNet(RELEASES["4.25"].config)(*frames(64), 0.5, ensemble=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"channels": (8, 8)}, "one entry for each block"),
        ({"depths": (1, 1)}, "one entry for each block"),
        ({"resolution": 2, "encoder": "named"}, "multiples of self.resolution"),
        ({"resolution": 2, "scales": (16, 8, 4, 2)}, "needs encoder 'named'"),
    ],
)
def test_contradicting_values_are_named(change: dict, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        replace(IFNetConfig(), **change)


def test_training_gradients_reach_every_weight_of_the_blocks() -> None:
    config = replace(
        HALF_CONFIG,
        channels=(8, 8, 8, 8),
        depths=(1, 1, 1, 1),
        encoder_width=4,
        encoder_planes=4,
    )
    net = IFNet(config)
    img0, img1 = frames(64)
    sum(
        level.flow.square().mean() + level.logit.mean() for level in net.levels(img0, img1)
    ).backward()
    missing = [name for name, p in net.named_parameters() if p.grad is None]
    assert missing == []
