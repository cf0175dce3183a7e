from dataclasses import replace
from pathlib import Path

import pytest
import torch

from midflow.nets.pyramid_config import PyramidConfig
from midflow.train.batch import Batch
from midflow.train.config import LearningRate, LossWeights, TrainConfig
from midflow.train.learner import build_network
from midflow.train.objective import Objective
from midflow.train.recipes import debug
from midflow.train.trainer import train
from tests.train.blobs import Blobs

CPU = torch.device("cpu")
ONE = torch.tensor(1.0)
TINY = PyramidConfig(
    channels=16, depth=1, width=8, features=2, matched=8, radius=1, detail=8, detail_depth=1,
    scales=(4, 2),
)  # fmt: skip


def pyramid(folder: Path, **changes: object) -> TrainConfig:
    return replace(debug(folder), **{"network": TINY, **changes})


def losses(folder: Path, batch: Batch, weights: LossWeights) -> dict[str, torch.Tensor]:
    config = pyramid(folder, losses=weights)
    return Objective(build_network(config), config)(batch, ONE).parts


def test_a_fresh_network_is_charged_for_averaging_and_standing_still(tmp_path: Path) -> None:
    batch = Blobs().batch(0, 2, 64, device=CPU)
    weights = LossWeights(flow_exponent=1.0, level_decay=1.0)
    parts = losses(tmp_path, batch, weights)
    assert list(parts) == ["charbonnier", "laplacian", "census", "motion", "flow", "mask"]
    assert parts["motion"] == 0
    length = batch.flow.view(2, 2, 2, 64, 64).norm(dim=2)
    assert parts["flow"].item() == pytest.approx(3 * (length + 0.01).mean().item(), rel=1e-3)
    pooled = [torch.nn.functional.avg_pool2d(x, 2) for x in (batch.img0, batch.img1, batch.truth)]
    full = ((batch.img0 + batch.img1) / 2 - batch.truth).abs().mean()
    half = ((pooled[0] + pooled[1]) / 2 - pooled[2]).abs().mean()
    quarter = ((pooled[0] + pooled[1]) / 2 - pooled[2]).abs().mean()
    assert full + half < parts["charbonnier"] < (full + half + quarter) * 1.2


def test_losses_of_weight_zero_and_unknown_flows_are_left_out(tmp_path: Path) -> None:
    batch = Blobs(has_flow=False).batch(0, 1, 64, device=CPU)
    assert list(losses(tmp_path, batch, LossWeights(census=0, motion=0))) == [
        "charbonnier", "laplacian",
    ]  # fmt: skip


def test_every_weight_of_the_network_learns(tmp_path: Path) -> None:
    config = pyramid(tmp_path, zero_heads=False)
    network = build_network(config)
    Objective(network, config)(Blobs().batch(0, 2, 64, device=CPU), ONE).loss.backward()
    idle = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert idle == []


class Again(Blobs):
    """The same samples at every step."""

    def batch(self, step: int, *args: int, **kwargs: object) -> Batch:
        return super().batch(0, *args, **kwargs)


def test_training_brings_the_loss_down(tmp_path: Path) -> None:
    seen = []
    config = pyramid(
        tmp_path,
        steps=60,
        optimizer="muon",
        rate=LearningRate(peak=3e-3, kernels=2e-2, warmup_steps=5),
        losses=LossWeights(flow=0.1, flow_exponent=1.0, fade=0.0),
        log_every=10,
    )
    train(config, Again(), on_progress=seen.append)
    first, last = seen[0].losses, seen[-1].losses
    assert last["flow"] < 0.6 * first["flow"]
    assert last["laplacian"] < 0.9 * first["laplacian"]


def test_feature_loss_sees_the_pyramid_encoder(tmp_path: Path) -> None:
    weights = LossWeights(features=0.1, features_start=0.0)
    config = pyramid(tmp_path, steps=2, losses=weights, log_every=1)
    seen = []
    train(config, Blobs(), on_progress=lambda p: seen.append(p.losses))
    assert all(parts["features"] > 0 for parts in seen)
