"""midflow's own network: what its forward pass promises, and the way to a file and back."""

from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import midflow
from midflow.errors import OptionError
from midflow.nets.correlation import correlation
from midflow.nets.layout import infer_config
from midflow.nets.prediction import Encoded
from midflow.nets.pyramid import PyramidNet, blend
from midflow.nets.pyramid_blocks import passing
from midflow.nets.pyramid_config import PyramidConfig
from midflow.nets.warp import warp

TINY = PyramidConfig(
    channels=16, depth=1, width=8, features=2, matched=8, radius=2, detail=8, detail_depth=1,
    scales=(4, 2),
)  # fmt: skip
BARE = replace(TINY, detail=0, detail_depth=4)


def tiny(config: PyramidConfig = TINY) -> PyramidNet:
    """Random weights that move things by a few pixels."""
    torch.manual_seed(1)
    net = PyramidNet(config).eval()
    torch.nn.init.normal_(net.block.lastconv.weight, std=0.1)
    if net.detail is not None:
        torch.nn.init.normal_(net.detail.lastconv.weight, std=0.1)
    return net


def frames(height: int = 64, width: int = 96, batch: int = 1) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    small = torch.rand(batch, 3, height // 8, width // 8 + 1)
    wide = F.interpolate(small, (height, width + 8), mode="bicubic").clamp(0, 1)
    return wide[..., 4 : 4 + width], wide[..., :width]


@torch.no_grad()
def test_frames_encoded_before_give_the_same() -> None:
    net, (img0, img1) = tiny(), frames()
    direct = net(img0, img1, 0.3)
    ahead = net(net.encode_frame(img0), net.encode_frame(img1), torch.tensor([0.3]))
    assert torch.equal(direct.frame, ahead.frame)
    assert direct.flow.shape == (1, 4, 64, 96) and direct.weight.shape == (1, 1, 64, 96)
    assert direct.flow.abs().max() > 1  # pixels: there is motion to get wrong


@torch.no_grad()
def test_frame_is_the_mix_of_both_inputs_along_the_flow() -> None:
    net, (img0, img1) = tiny(), frames()
    frame, flow, weight = net(img0, img1)
    warped = warp(img0, flow[:, :2], "bicubic"), warp(img1, flow[:, 2:], "bicubic")
    mixed = weight * warped[0] + (1 - weight) * warped[1]
    torch.testing.assert_close(frame, mixed.clamp(0, 1), rtol=0, atol=1e-6)


def test_a_shift_by_half_a_pixel_stays_sharp() -> None:
    x = torch.arange(64.0)
    wave = (0.5 + 0.4 * torch.sin(x * 2 * torch.pi / 5)).expand(1, 3, 64, 64)
    flow = torch.zeros(1, 4, 64, 64)
    flow[:, ::2] = 0.5
    middle = blend(wave, wave, flow, torch.full((1, 1, 64, 64), 0.5))
    truth = 0.5 + 0.4 * torch.sin((x + 0.5) * 2 * torch.pi / 5)
    error = (middle - truth)[..., 4:-4].abs().max()
    assert error < 0.03 < (warp(wave, flow[:, :2]) - truth)[..., 4:-4].abs().max()


def test_a_frame_keeps_to_the_range_of_its_inputs_and_to_black_and_white() -> None:
    edges = torch.zeros(1, 3, 32, 32)
    edges[..., 16:] = 1
    flow, weight = torch.full((1, 4, 32, 32), 0.4), torch.full((1, 1, 32, 32), 0.5)
    assert warp(edges, flow[:, :2], "bicubic").max() > 1.01
    frame = blend(edges, edges, flow, weight)
    assert 0 <= frame.min() and frame.max() <= 1
    beyond = 1.1 * edges - 0.05  # colours outside the RGB cube, as video may hold them
    frame = blend(beyond, beyond, flow, weight)
    torch.testing.assert_close(frame.aminmax().max, torch.tensor(1.05))
    torch.testing.assert_close(frame.aminmax().min, torch.tensor(-0.05))


@torch.no_grad()
def test_one_pair_meets_many_times() -> None:
    net, (img0, img1) = tiny(), frames()
    together = net(img0, img1, torch.tensor([0.25, 0.75])).frame
    alone = torch.cat([net(img0, img1, t).frame for t in (0.25, 0.75)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)
    assert (together[0] - together[1]).abs().max() > 1e-3


@pytest.mark.parametrize("flow_scale", [0.25, 0.5, 1.0, 2.0, 4.0])
@torch.no_grad()
def test_every_flow_scale_gives_a_frame_of_the_same_size(flow_scale: float) -> None:
    img0, img1 = frames(64, 128)
    prediction = tiny()(img0, img1, flow_scale=flow_scale)
    assert prediction.frame.shape == img0.shape
    assert prediction.frame.isfinite().all()


@torch.no_grad()
def test_coarser_search_is_that_of_the_reduced_frames() -> None:
    net, (img0, img1) = tiny(BARE), frames()
    levels, _ = net.estimates(F.avg_pool2d(img0, 2), F.avg_pool2d(img1, 2))
    expected = 4 * F.interpolate(levels[-1].flow, scale_factor=4, mode="bilinear")
    assert torch.equal(net(img0, img1, flow_scale=0.5).flow, expected)


class Fixed(torch.nn.Module):
    """A block that always finds the same motion along x, and tells what flow it was given."""

    def __init__(self, motion: float, features: int) -> None:
        super().__init__()
        self.motion, self.features = motion, features
        self.given: list[Tensor] = []

    def forward(self, view0: Tensor, view1: Tensor, known: Tensor) -> Tensor:
        self.given.append(known[:, 2 + self.features :][:, :4])
        out = known.new_zeros(len(known), 6 + self.features, *known.shape[-2:])
        out[:, 0], out[:, 2] = -self.motion / 2, self.motion / 2
        return out


@pytest.mark.parametrize(("motion", "is_kept"), [(0.9, False), (1.1, True)])
@torch.no_grad()
def test_motion_below_a_pixel_of_a_coarse_level_is_left_to_the_next(
    motion: float, is_kept: bool
) -> None:
    net = tiny(replace(TINY, scales=(8, 4, 2), coarse=1))
    net.block = fixed = Fixed(motion, TINY.features)  # type: ignore[assignment]
    net(*frames())
    first, second, third = (flow.abs().amax().item() for flow in fixed.given)
    assert first == 0
    assert second == pytest.approx(motion if is_kept else 0)  # twice the pixels, half each way
    assert third >= 0.99 * motion  # beyond the coarse levels everything is handed on


def unit_features(count: int, height: int = 9, width: int = 13) -> Tensor:
    return F.normalize(torch.randn(1, count, height, width), dim=1)


def compare(unit0: Tensor, unit1: Tensor) -> Tensor:
    misfit = (unit0 - unit1).square().sum(1, keepdim=True)
    return passing(correlation(unit0, unit1, 3), misfit, 3)


def test_what_leaves_one_place_and_comes_to_the_opposite_one_passes_between() -> None:
    torch.manual_seed(0)
    background, thing = unit_features(24), unit_features(24, 1, 1)[0, :, 0, 0]
    before, after = background.clone(), background.clone()
    before[0, :, 4, 4] = thing
    after[0, :, 6, 8] = thing
    across, down, surely = compare(before, after)[0, :, 5, 6].tolist()
    assert (across, down) == (pytest.approx(2, abs=0.01), pytest.approx(1, abs=0.01))
    assert surely > 0.9


def test_nothing_passes_where_nothing_moves_or_something_only_goes() -> None:
    torch.manual_seed(0)
    background = unit_features(24)
    assert compare(background, background).abs().max() < 1e-5
    gone = background.clone()
    gone[0, :, 4, 4] = unit_features(24, 1, 1)[0, :, 0, 0]
    assert compare(gone, background)[:, 2].max() < 0.5


def test_levels_end_with_what_is_rendered() -> None:
    net, (img0, img1) = tiny(), frames()
    estimates, last = net.estimates(img0, img1, 0.5)
    assert [e.scale for e in estimates] == [4, 2]
    assert [tuple(e.flow.shape[-2:]) for e in estimates] == [(16, 24), (32, 48)]
    rendered = net.render(Encoded(img0), Encoded(img1), last)
    assert torch.equal(rendered.frame, net(img0, img1, 0.5).frame)


def test_more_levels_need_no_more_weights() -> None:
    deeper = PyramidConfig(**{**asdict(TINY), "scales": (16, 8, 4, 2)})
    assert PyramidNet(deeper).state_dict().keys() == PyramidNet(TINY).state_dict().keys()
    PyramidNet(deeper).load_state_dict(tiny().state_dict())


@torch.no_grad()
def test_last_block_sees_single_pixels() -> None:
    """A dot of one pixel changes the flow at full size, and is lost at half."""
    img0, img1 = frames()
    dotted = img0.clone()
    dotted[..., 20:22, 40:42] += torch.tensor([[0.1, -0.1], [-0.1, 0.1]])  # of mean 0
    for config, is_seen in ((TINY, True), (BARE, False)):
        net = tiny(config)
        with_dot = net.encode_frame(img0)._replace(image=dotted)
        changed = net(with_dot, net.encode_frame(img1)).flow - net(img0, img1).flow
        assert (changed.abs().max() > 1e-4) == is_seen


@pytest.mark.parametrize("config", [TINY, BARE], ids=["with detail", "without"])
def test_weights_go_to_a_file_and_back(tmp_path: Path, config: PyramidConfig) -> None:
    net, (img0, img1) = tiny(config), frames()
    loaded = midflow.load_model(midflow.save_model(net, tmp_path / "net.safetensors"))
    assert loaded.config == config
    with torch.no_grad():
        assert torch.equal(loaded(img0, img1).frame, net(img0, img1).frame)
    inferred = infer_config(net.state_dict())
    ours = {"scales": TINY.scales}
    assert asdict(inferred) | ours == asdict(config)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"scales": (16, 8, 2)}, "each half of the one before"),
        ({"scales": (4, 2, 1)}, "down to 2 or more"),
        ({"scales": ()}, "powers of two"),
        ({"radius": 0}, "radius must be at least 1, got 0"),
        ({"detail": 8, "detail_depth": 0}, "detail_depth at least 1"),
    ],
)
def test_wrong_shapes_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        PyramidConfig(**values)  # type: ignore[arg-type]


def test_there_is_no_ensemble() -> None:
    img0, img1 = frames()
    with pytest.raises(OptionError, match="no ensemble"):
        tiny()(img0, img1, ensemble=True)
