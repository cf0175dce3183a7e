"""The releases before 4.0 against the reference, and what holds for each generation of them."""

import dataclasses

import numpy as np
import pytest
import torch

from midflow.errors import OptionError
from midflow.nets import legacy
from midflow.nets.legacy import build_legacy, legacy_config_from
from midflow.nets.prediction import Prediction
from midflow.nets.warp import warp
from tests import parity

SLOW = {"v1.8", "v2.3", "v2.4"}  # for the many weights to compute


def marked(names):
    return [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in names]


CASES = marked(["v1.8", "v2.3", "v2.4", "v3.1", "v3.5", "v3.8", "v3.8_retry", "hdv3"])
GENERATIONS = marked(["v1.8", "v2.3", "v3.1", "v3.5", "v3.8", "hdv3"])
ENSEMBLES = ["v3.5", "v3.8", "hdv3"]


def merged(states):
    """One state dict as the networks name its keys, without what only training uses."""
    if "contextnet" in states:
        return {f"{file}.{key}": part[key] for file, part in states.items() for key in part}
    return {k: v for k, v in states["flownet"].items() if not k.startswith("block_tea.")}


def load(case, **changes):
    """The network of a case with its weights; `changes` replace values of the configuration."""
    states = parity.state(case.meta)
    net = build_legacy(dataclasses.replace(legacy_config_from(states), **changes))
    net.load_state_dict(merged(states), strict=True)
    return net.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def loaded(request):
    case = parity.case(request.param)
    return load(case), case


def crops(case, count=3, size=64):
    """`count` different pairs of frames, (B, 3, size, size) each, out of the pair of a case."""
    starts = [(8 * i, 16 * i) for i in range(count)]
    return [
        torch.cat([case.image(key)[..., y : y + size, x : x + size] for y, x in starts])
        for key in ("img0", "img1")
    ]


def differences(net, case, i):
    """How far run i of a case is from the reference: frame, mask, flow, flow after each block."""
    run = case.runs[i]
    img0, img1 = (case.image(key, run["padded"]) for key in ("img0", "img1"))
    ensemble = run["ensemble"] and net.config.has_ensemble
    flows = []
    with pytest.MonkeyPatch.context() as patch:
        record_flows(net, flows, patch)
        prediction = net(img0, img1, flow_scale=run["scale"], ensemble=ensemble)
    flow = prediction.flow
    if net.config.has_fusion:
        flow = flows[-1] = net.estimate_flow(img0, img1, run["scale"])
    return {
        "frame": case.difference(f"frame_{i}", prediction.frame[0]),
        "mask": case.difference(f"mask_{i}", prediction.weight[0]),
        "flow": case.difference(f"flow_{i}", flow[0]),
        "block_flow": block_difference(case.arrays[f"block_flow_{i}"], flows),
    }


def record_flows(net, flows, patch):
    name = "refine_flow" if net.config.has_fusion else "refine_motion"
    refine = getattr(net, name)

    def recorded(*args):
        motion = refine(*args)
        flows.append(motion[:, :4])
        return motion

    patch.setattr(net, name, recorded)


def block_difference(expected, flows):
    found = np.array([flow.abs().mean((0, 2, 3)).numpy() for flow in flows])
    assert found.shape == expected.shape
    return float(np.abs(found / expected - 1).max())


def misses(found, case):
    """Names of the results that lie outside the tolerance."""
    limits = {
        "frame": parity.FRAME_TOLERANCE,
        "mask": parity.FRAME_TOLERANCE,
        "flow": case.flow_tolerance,
        "block_flow": 1e-4,  # relative
    }
    return {key for key, limit in limits.items() if not found[key] <= limit}


def assert_equal(found: Prediction, expected: Prediction):
    """Equal but for the order of float32 sums, which depends on batch and layout."""
    torch.testing.assert_close(found.frame, expected.frame, rtol=0, atol=parity.FRAME_TOLERANCE)
    torch.testing.assert_close(found.weight, expected.weight, rtol=0, atol=parity.FRAME_TOLERANCE)
    torch.testing.assert_close(found.flow, expected.flow, rtol=0, atol=parity.FLOW_TOLERANCE)


@pytest.mark.parametrize("loaded", CASES, indirect=True)
def test_release_computes_what_the_reference_computes(loaded):
    net, case = loaded
    for i in range(len(case.runs)):
        found = differences(net, case, i)
        assert not misses(found, case), (i, found)


@pytest.mark.parametrize("loaded", marked(["v1.8"]), indirect=True)
def test_parity_notices_two_frames_moved_the_same_way(loaded, monkeypatch):
    net, case = loaded
    monkeypatch.setattr(legacy, "_both", lambda flow: (flow, flow))
    assert misses(differences(net, case, 0), case) == {"frame", "mask", "flow", "block_flow"}


def test_parity_notices_a_mask_that_keeps_its_sign_in_the_swapped_pass(monkeypatch):
    case = parity.case("hdv3")
    net = load(case)
    swapped = legacy._swapped
    monkeypatch.setattr(legacy, "_swapped", lambda m: torch.cat((swapped(m)[:, :4], m[:, 4:]), 1))
    assert {"frame", "mask"} <= misses(differences(net, case, 0), case)


def test_parity_notices_flow_halves_left_unswapped(monkeypatch):
    case = parity.case("v3.5")
    net = load(case)
    monkeypatch.setattr(legacy, "_swapped", lambda m: torch.cat((m[:, :4], -m[:, 4:]), 1))
    assert {"frame", "flow", "block_flow"} <= misses(differences(net, case, 0), case)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("v3.8_retry", {"retry": False}),
        ("v3.8", {"ensemble": "always"}),
        ("hdv3", {"ensemble": "optional", "retry": True}),
    ],
)
def test_parity_tells_3_8_from_hdv3(name, change):
    case = parity.case(name)
    net = load(case, **change)
    case.runs[0]["ensemble"] = False
    assert {"frame", "flow", "block_flow"} <= misses(differences(net, case, 0), case)


def test_parity_notices_flow_that_3_1_takes_in_pixels_of_the_frame(monkeypatch):
    case = parity.case("v3.1")
    net = load(case)
    monkeypatch.setattr(net, "config", dataclasses.replace(net.config, trunk="plain"))
    assert {"frame", "flow", "block_flow"} <= misses(differences(net, case, 0), case)


@pytest.mark.parametrize("loaded", GENERATIONS, indirect=True)
class TestGeneration:
    def test_batch_equals_one_by_one(self, loaded):
        net, case = loaded
        img0, img1 = crops(case)
        singles = [net(img0[i : i + 1], img1[i : i + 1]) for i in range(len(img0))]
        whole = net(img0, img1)
        assert_equal(whole, Prediction(*map(torch.cat, zip(*singles, strict=True))))
        assert not torch.allclose(whole.flow[0], whole.flow[1], atol=0.1)

    def test_encoded_once_equals_passing_frames(self, loaded):
        net, case = loaded
        img0, img1 = crops(case)
        found = net(net.encode_frame(img0), net.encode_frame(img1))
        assert_equal(found, net(img0, img1))

    def test_one_encoded_frame_serves_several_pairs(self, loaded):
        net, case = loaded
        img0, img1 = crops(case)
        first = net.encode_frame(img0[:1])
        found = net(first.expand(3), img1)
        assert_equal(found, net(img0[:1].expand(3, -1, -1, -1), img1))

    def test_strided_frames_give_what_contiguous_ones_do(self, loaded):
        net, case = loaded
        img0, img1 = crops(case, 1)
        turned = img0.transpose(2, 3).contiguous().transpose(2, 3)
        assert not turned.is_contiguous()
        assert_equal(net(turned, img1), net(img0, img1))

    @pytest.mark.parametrize("flow_scale", [0.25, 0.5, 1, 2, 4])
    def test_identical_frames_fill_every_output(self, loaded, flow_scale):
        net, case = loaded
        size = int(net.config.pad_multiple * max(1, 1 / flow_scale))
        img0 = case.image("img0", (128, 128))[..., :size, :size]
        frame, flow, weight = net(img0, img0, flow_scale=flow_scale)
        assert frame.shape == (1, 3, size, size)
        assert flow.shape == (1, 4, size, size)
        assert weight.shape == (1, 1, size, size)
        assert 0 <= frame.min() < frame.max() <= 1
        assert 0 <= weight.min() <= weight.max() <= 1
        assert flow.isfinite().all()

    def test_flow_stays_float32_under_autocast(self, loaded):
        net, case = loaded
        img0, img1 = crops(case, 1)
        with torch.autocast("cpu", torch.bfloat16):
            found = net(img0, img1)
        assert {plane.dtype for plane in found} == {torch.float32}
        assert (found.flow - net(img0, img1).flow).abs().mean() < 0.5


@pytest.mark.parametrize("name", ENSEMBLES)
def test_ensemble_makes_the_order_of_the_frames_irrelevant(name):
    case = parity.case(name)
    net = load(case)
    img0, img1 = crops(case, 1)
    frame, flow, weight = net(img0, img1, ensemble=True)
    turned = Prediction(frame, flow[:, [2, 3, 0, 1]], 1 - weight)
    assert_equal(net(img1, img0, ensemble=True), turned)


def test_order_matters_without_ensemble():
    case = parity.case("v3.8")
    net = load(case)
    img0, img1 = crops(case, 1)
    assert (net(img0, img1).frame - net(img1, img0).frame).abs().max() > 0.01


def test_retry_is_decided_for_each_sample():
    case = parity.case("v3.8_retry")
    net = load(case)
    img0, img1 = case.image("img0"), case.image("img1")
    img0, img1 = torch.cat((img0, img0 / 8, img1)), torch.cat((img1, img1 / 8, img0))
    assert net.has_large_motion(img0, img1, 4).tolist() == [True, False, True]
    singles = [net(img0[i : i + 1], img1[i : i + 1]) for i in range(3)]
    assert_equal(net(img0, img1), Prediction(*map(torch.cat, zip(*singles, strict=True))))


def test_3_5_warps_whole_frames_at_every_flow_scale():
    # The code of that release warped reduced frames by motion in pixels of the whole frame.
    case = parity.case("v3.5")
    net = load(case)
    img0, img1 = case.image("img0", (128, 128)), case.image("img1", (128, 128))
    frame, flow, weight = net(img0, img1, flow_scale=0.5)
    blend = weight * warp(img0, flow[:, :2]) + (1 - weight) * warp(img1, flow[:, 2:])
    torch.testing.assert_close(frame, blend, rtol=0, atol=1e-5)
    assert (flow - net(img0, img1).flow).abs().mean() > 0.1


def test_ensemble_is_refused_where_blocks_have_no_mask():
    with torch.device("meta"):
        net = build_legacy(legacy_config_from(parity.keys("3.1")))
    assert not net.config.has_ensemble
    frame = torch.zeros(1, 3, 64, 64, device="meta")
    with pytest.raises(OptionError, match=r"ensemble needs release 3\.5 or later.*use tta"):
        net(frame, frame, ensemble=True)
