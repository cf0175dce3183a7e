"""What the reference computed, case by case: the paper's networks and every 4.x release."""

from dataclasses import replace
from functools import lru_cache

import pytest
import torch

from midflow.nets.ifnet import IFNet
from midflow.nets.prediction import Prediction
from midflow.nets.releases import RELEASES
from midflow.train.losses import distillation_loss
from tests import parity

LEGACY = ("v1.8", "v2.3", "v2.4", "v3.1", "v3.5", "v3.8", "v3.8_retry", "hdv3")
OTHER = ("losses", "losses_cut", "training", "training_m")  # tests/train, tests/evaluate
NAMES = sorted(
    p.stem for p in (parity.FOLDER / "cases").glob("*.npz") if p.stem not in (*LEGACY, *OTHER)
)


@lru_cache(maxsize=2)
def network(name: str) -> IFNet:
    meta = parity.case(name).meta
    config = RELEASES[meta["release"]].config
    net = IFNet(replace(config, teacher=config.refine)).eval()
    net.load_state_dict(parity.state(meta), strict=True)
    return net


def run(net: IFNet, case: parity.Case, run: dict) -> Prediction:
    img0, img1 = case.image("img0", run["padded"]), case.image("img1", run["padded"])
    options = {"flow_scale": run["scale"], "ensemble": run.get("ensemble", False)}
    with torch.inference_mode():
        prediction = net(img0, img1, run["timestep"], **options)
        if run.get("tta"):
            turned = net(img0.flip(2, 3), img1.flip(2, 3), **options).frame.flip(2, 3)
            prediction = prediction._replace(frame=(prediction.frame + turned) / 2)
    return prediction


def assert_matches(case: parity.Case, i: int, prediction: Prediction) -> None:
    assert case.difference(f"frame_{i}", prediction.frame[0]) <= parity.FRAME_TOLERANCE
    assert case.difference(f"flow_{i}", prediction.flow[0]) <= case.flow_tolerance
    if f"mask_{i}" in case.arrays:
        assert case.difference(f"mask_{i}", prediction.weight[0]) <= parity.FRAME_TOLERANCE


def test_all_sixty_cases_are_here() -> None:
    assert len(NAMES) + len(LEGACY) + len(OTHER) == 60


@pytest.mark.parametrize("name", NAMES)
def test_network_returns_what_the_reference_returned(name: str) -> None:
    case = parity.case(name)
    for i, options in enumerate(case.runs):
        assert_matches(case, i, run(network(name), case, options))


@pytest.mark.parametrize("name", ["v4.25", "v4.25.lite", "v4.6", "v4.0", "rife", "rife_2r"])
def test_flow_agrees_after_every_block(name: str) -> None:
    case = parity.case(name)
    padded = case.runs[0]["padded"]
    with torch.inference_mode():
        levels = network(name).levels(case.image("img0", padded), case.image("img1", padded))
    means = torch.stack([level.flow.abs().mean((0, 2, 3)) for level in levels])
    expected = torch.from_numpy(case.arrays["block_flow_0"]).float()
    torch.testing.assert_close(means, expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize("name", ["rife_teacher", "rife_2r_teacher", "rife_m_teacher"])
def test_teacher_and_distillation_loss_agree(name: str) -> None:
    case, net = parity.case(name), network(name)
    for i, options in enumerate(case.runs):
        img0, img1 = case.image("img0"), case.image("img1")
        truth = case.image("gt")
        with torch.inference_mode():
            levels = net.levels(img0, img1, options["timestep"])
            teacher = net.teach(img0, img1, options["timestep"], levels[-1], truth)
            enc0, enc1 = net.encode_frame(img0), net.encode_frame(img1)
            frames = [
                net.render(enc0, enc1, level, refine=False).frame for level in (*levels, teacher)
            ]
        assert case.difference(f"teacher_frame_{i}", frames[-1][0]) <= parity.FRAME_TOLERANCE
        assert case.difference(f"teacher_flow_{i}", teacher.flow[0]) <= parity.FLOW_TOLERANCE
        loss = distillation_loss(
            frames[:-1], [level.flow for level in levels], frames[-1], teacher.flow, truth
        )
        assert float(loss) == pytest.approx(case.meta["values"][f"loss_distill_{i}"], rel=1e-4)


WRONG = {
    "the scales of 4.25 for 4.25.lite": ("v4.25.lite", {"scales": (16, 8, 4, 2, 1)}),
    "the stride of RIFE for 2R": ("rife_2r", {"stride": 4}),
    "no second look at large motion": ("v4.0_retry", {"retry": False}),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_configuration_does_not_pass(what: str) -> None:
    name, change = WRONG[what]
    case = parity.case(name)
    net = IFNet(replace(network(name).config, **change)).eval()
    net.load_state_dict(parity.state(case.meta), strict=True)
    with pytest.raises(AssertionError):
        assert_matches(case, 0, run(net, case, case.runs[0]))


@pytest.mark.parametrize("change", ["weights", "order", "timestep"])
def test_a_small_change_does_not_pass(change: str) -> None:
    case = parity.case("v4.26")
    net, options = network("v4.26"), dict(case.runs[1])
    if change == "weights":
        net = IFNet(net.config).eval()
        state = parity.state(case.meta)
        state["block2.convblock.3.beta"] = state["block2.convblock.3.beta"] * 1.01
        net.load_state_dict(state)
    elif change == "timestep":
        options["timestep"] = 0.301
    elif change == "order":
        case.arrays["img0"], case.arrays["img1"] = case.arrays["img1"], case.arrays["img0"]
    with pytest.raises(AssertionError):
        assert_matches(case, 1, run(net, case, options))
