import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from midflow import compat
from midflow.nets.config import IFNetConfig
from midflow.nets.ifnet import IFNet
from midflow.nets.prediction import Level, Prediction
from midflow.train.batch import Batch
from midflow.train.config import LossWeights, TrainConfig
from midflow.train.learner import build_network
from midflow.train.losses import census_map, full_laplacian_loss
from midflow.train.objective import (
    Objective,
    census_loss,
    charbonnier_loss,
    deep_charbonnier_loss,
    feature_loss,
    flow_loss,
    mask_loss,
    motion_losses,
    picture_losses,
    teacher_losses,
)
from midflow.train.recipes import debug, paper, paper_m
from tests.train.blobs import Blobs

CPU = torch.device("cpu")
ONE = torch.tensor(1.0)


def flat(value: float, planes: int = 3, size: int = 64) -> Tensor:
    return torch.full((1, planes, size, size), float(value))


def smooth(seed: int) -> Tensor:
    return Blobs(seed=seed).batch(0, 2, 64, device=CPU).truth


def test_charbonnier_is_the_absolute_difference_but_smooth_at_zero() -> None:
    assert charbonnier_loss(flat(0.8), flat(0.5)).item() == pytest.approx(0.3, rel=1e-4)
    assert charbonnier_loss(flat(0.5), flat(0.5)).item() == pytest.approx(1e-3)


def test_coarser_levels_count_less() -> None:
    blends = [flat(0.9), flat(0.7), flat(0.6)]
    loss = deep_charbonnier_loss(blends, flat(0.5), 0.8)
    assert loss.item() == pytest.approx(0.64 * 0.4 + 0.8 * 0.2 + 0.1, rel=1e-3)


def test_picture_losses_of_weight_zero_are_left_out() -> None:
    blends = [flat(0.5)]
    assert list(picture_losses(blends, flat(0.4), LossWeights())) == [
        "charbonnier", "laplacian", "census",
    ]  # fmt: skip
    alone = LossWeights(laplacian=0, census=0)
    assert list(picture_losses(blends, flat(0.4), alone)) == ["charbonnier"]


def test_laplacian_sees_brightness_and_census_does_not() -> None:
    truth = smooth(1) / 2
    losses = picture_losses([truth + 0.25], truth, LossWeights())
    assert losses["laplacian"].item() == pytest.approx(0.25, rel=1e-3)
    assert losses["census"].item() == pytest.approx(0, abs=1e-6)


def test_census_loss_agrees_with_the_full_census_distance() -> None:
    random = torch.Generator().manual_seed(1)
    a, b = (torch.rand(2, 3, 64, 64, generator=random) for _ in range(2))
    full = census_map(a, b)[..., 4:-4, 4:-4].mean() * 49 / 48  # the centre itself is 0
    assert census_loss(a, b).item() == pytest.approx(full.item(), rel=0.02)
    assert census_loss(a, a).item() == 0


def test_census_loss_reaches_every_pixel_alike() -> None:
    random = torch.Generator().manual_seed(1)
    a, b = (torch.rand(8, 3, 64, 64, generator=random) for _ in range(2))
    census_loss(a.requires_grad_(), b).backward()
    strength = a.grad.abs()[..., 8:-8, 8:-8].mean((0, 1))
    by_place = torch.stack([strength[y::2, x::2].mean() for y in (0, 1) for x in (0, 1)])
    assert (by_place / by_place.mean() - 1).abs().max() < 0.1


def test_flow_loss_counts_known_pixels_only_over_all_pixels() -> None:
    flow, truth = flat(0, 4), flat(0, 4)
    truth[:, 0], truth[:, 1] = 3, 4  # to frame 0: 5 pixels away; to frame 1: none
    known = flat(1, 2)
    far, near = 5.01**0.4, 0.011**0.4
    assert flow_loss(flow, truth, known).item() == pytest.approx((far + near) / 2, rel=1e-3)
    known[..., :32] = 0
    assert flow_loss(flow, truth, known).item() == pytest.approx((far + near) / 4, rel=1e-3)
    known[:, 0] = 0
    assert flow_loss(flow, truth, known).item() == pytest.approx(near / 4, rel=1e-3)


def test_mask_loss_asks_for_the_frame_that_alone_sees_the_pixel() -> None:
    logit = flat(2.0, 1)
    right, wrong = math.log1p(math.exp(-2)), math.log1p(math.exp(2))
    only0 = torch.cat((flat(1, 1), flat(0, 1)), 1)
    yes = torch.tensor([True])
    assert mask_loss(logit, only0, yes).item() == pytest.approx(right, rel=1e-5)
    assert mask_loss(logit, only0.flip(1), yes).item() == pytest.approx(wrong, rel=1e-5)
    assert mask_loss(logit, flat(1, 2), yes).item() == 0
    assert mask_loss(logit, flat(0, 2), yes).item() == 0
    assert mask_loss(logit, only0, ~yes).item() == 0


def test_rows_without_true_flow_add_nothing_to_the_losses_of_motion() -> None:
    batch = Blobs().batch(0, 2, 64, device=CPU)
    level = Level(torch.full((2, 4, 64, 64), 3.0), torch.zeros(2, 1, 64, 64))
    both = motion_losses([level], batch, LossWeights())
    half = motion_losses(
        [level], replace(batch, has_flow=torch.tensor([True, False])), LossWeights()
    )
    assert both["motion"].item() == half["motion"].item() == 3
    assert 0 < half["flow"] < both["flow"]
    bare = Batch(batch.img0, batch.img1, batch.truth, batch.timestep)
    assert list(motion_losses([level], bare, LossWeights())) == ["motion"]


def test_feature_loss_has_a_gradient_for_the_picture_and_none_for_the_encoder() -> None:
    network = build_network(debug(Path("run"))).requires_grad_(False)
    prediction = smooth(2).requires_grad_()
    loss = feature_loss(network.encode, prediction, smooth(3))
    loss.backward()
    assert loss > 0
    assert prediction.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in network.parameters())
    assert feature_loss(network.encode, smooth(3), smooth(3)).item() == 0


def test_student_is_pulled_to_the_teacher_where_the_teacher_is_better() -> None:
    truth, flow = flat(0.5), flat(1.0, 4)
    level = Level(flat(0.0, 4).requires_grad_(), flat(0.0, 1))
    good = Prediction(truth, flow, flat(0.5, 1))
    losses = teacher_losses([level], [flat(0.9)], good, truth)
    assert losses["distill"].item() == pytest.approx(1)
    assert teacher_losses([level], [truth], good, truth)["distill"].item() == 0
    assert losses["teacher"].item() == pytest.approx(1e-3, rel=1e-2)


def test_objective_is_the_weighted_sum_of_its_parts() -> None:
    config = debug(Path("run"))
    weights = config.losses
    batch = Blobs().batch(0, 2, 64, device=CPU)
    outcome = Objective(build_network(config), config)(batch, torch.tensor(0.5))
    factor = {"flow": weights.flow * 0.5}
    expected = sum(
        factor.get(name, getattr(weights, name)) * loss.item()
        for name, loss in outcome.parts.items()
    )
    assert outcome.loss.item() == pytest.approx(expected, rel=1e-5)
    assert set(outcome.parts) == {
        "charbonnier", "laplacian", "census", "motion", "flow", "mask",
    }  # fmt: skip
    blend = (batch.img0 + batch.img1) / 2  # heads of zeros: step 0 is frame averaging
    laplacian = full_laplacian_loss(blend, batch.truth)
    assert outcome.parts["laplacian"].item() == pytest.approx(laplacian.item(), rel=1e-4)
    assert outcome.squared_error.item() == pytest.approx(
        (blend - batch.truth).square().mean().item(), rel=1e-4
    )


def test_every_parameter_gets_a_gradient() -> None:
    config = replace(debug(Path("run")), zero_heads=False)
    network = build_network(config)
    batch = Blobs().batch(0, 2, 64, device=CPU)
    Objective(network, config)(batch, ONE).loss.backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []


def test_teacher_is_trained_beside_a_network_of_ours() -> None:
    network = IFNetConfig(channels=(8, 8), scales=(4, 2), depths=(1, 1), teacher=True)
    config = TrainConfig(Path("run"), network=network, steps=1, crop=64, zero_heads=False)
    net = build_network(config)
    outcome = Objective(net, config)(Blobs().batch(0, 2, 64, device=CPU), ONE)
    assert {"teacher", "distill"} <= set(outcome.parts)
    outcome.loss.backward()
    assert [name for name, p in net.named_parameters() if p.grad is None] == []


def test_half_precision_is_close_to_full() -> None:
    config = replace(debug(Path("run")), zero_heads=False)
    network, batch = build_network(config), Blobs().batch(0, 2, 64, device=CPU)
    full = Objective(network, config)(batch, ONE).loss
    half = Objective(network, replace(config, precision="bfloat16"))(batch, ONE).loss
    assert half.dtype == torch.float32
    assert half.item() == pytest.approx(full.item(), rel=0.02)
    assert half.item() != full.item()


@pytest.mark.parametrize("has_timestep", [False, True])
def test_objective_of_the_paper_is_that_of_its_own_update(has_timestep: bool) -> None:
    config = (paper_m if has_timestep else paper)(Path("run"))
    small = replace(config.network, channels=(24, 16, 8))
    config = replace(config, network=small, crop=64, batch=1)
    batch = Blobs().batch(0, 1, 64, device=CPU)
    network = build_network(config)
    model = compat.Model.__new__(compat.Model)
    model.flownet, model._distillation = network, compat.Distillation(network)
    outcome = Objective(network, config)(batch, ONE)
    _, info = model.update(torch.cat((batch.img0, batch.img1), 1), batch.truth, training=False)
    names = {"laplacian": "loss_l1", "teacher": "loss_tea", "distill": "loss_distill"}
    for ours, theirs in names.items():
        torch.testing.assert_close(outcome.parts[ours], info[theirs])
    weight = 0.005 if has_timestep else 0.01
    total = info["loss_l1"] + info["loss_tea"] + weight * info["loss_distill"]
    torch.testing.assert_close(outcome.loss.detach(), total)
    assert isinstance(network, IFNet)
