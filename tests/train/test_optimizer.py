from dataclasses import replace
from pathlib import Path

import pytest
import torch

from midflow.nets.pyramid_config import PyramidConfig
from midflow.train.learner import build_network, build_optimizers
from midflow.train.optimizer import Muon, orthogonalised
from midflow.train.recipes import debug
from midflow.train.trainer import train
from tests.train.blobs import Blobs
from tests.train.test_trainer import KilledAt, KilledError, assert_same, content, short

TINY = PyramidConfig(
    channels=16, depth=1, width=8, features=2, matched=8, radius=1, detail=8, detail_depth=1,
    scales=(4, 2),
)  # fmt: skip


@pytest.mark.parametrize("shape", [(8, 30), (30, 8), (16, 16)])
def test_orthogonalised_matrix_has_the_directions_and_no_sizes(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    u, _, vh = torch.linalg.svd(torch.randn(shape), full_matrices=False)
    sizes = torch.logspace(0, -1, 8).repeat(2)[: min(shape)]
    even = orthogonalised(u * sizes @ vh)
    assert even.shape == shape and even.dtype == torch.float32
    values = torch.linalg.svdvals(even)
    assert values.min() > 0.5 and values.max() < 1.35
    assert torch.nn.functional.cosine_similarity(even.flatten(), (u @ vh).flatten(), 0) > 0.97


def test_muon_walks_downhill_alike_fast_in_every_direction() -> None:
    """Two directions, one a hundred times steeper: both are as good as done after 60 steps."""
    torch.manual_seed(0)
    kernel = torch.nn.Parameter(torch.zeros(8, 8, 1, 1))
    truth = torch.linalg.qr(torch.randn(8, 8))[0]
    steep = torch.logspace(0, 2, 8)[:, None]
    muon = Muon([kernel], lr=0.03)
    for step in range(200):
        muon.param_groups[0]["lr"] = 0.03 * (1 - step / 200)
        loss = (steep * (kernel.flatten(1) - truth).square()).sum()
        muon.zero_grad()
        loss.backward()
        muon.step()
    assert (kernel.flatten(1) - truth).abs().max() < 0.05


def test_muon_keeps_the_memory_format_and_decays() -> None:
    kernel = torch.nn.Parameter(torch.ones(8, 8, 3, 3).to(memory_format=torch.channels_last))
    muon = Muon([kernel], lr=0.1, weight_decay=0.5)
    kernel.grad = torch.zeros_like(kernel)
    muon.step()
    assert kernel.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(kernel.detach(), torch.full((8, 8, 3, 3), 0.95))


def test_kernels_inside_go_to_muon_and_all_else_to_adamw(tmp_path: Path) -> None:
    config = replace(debug(tmp_path), network=TINY, optimizer="muon")
    network = build_network(config)
    names = {id(p): name for name, p in network.named_parameters()}
    adamw, muon = build_optimizers(network, config)
    taken = {names[id(p)] for p in muon.param_groups[0]["params"]}
    assert taken == {
        "block.entrance.0.weight",
        "block.matcher.weight",
        "block.merge.0.weight",
        "block.trunk.0.conv.weight",
        "detail.entrance.0.weight",
        "detail.trunk.0.conv.weight",
        "encode.cnn1.0.weight",
        "encode.cnn2.weight",
    }
    left = {names[id(p)] for group in adamw.param_groups for p in group["params"]}
    assert left == set(names.values()) - taken
    assert len(build_optimizers(network, replace(config, optimizer="adamw"))) == 1


def test_resumed_run_under_muon_is_the_uninterrupted_one(tmp_path: Path) -> None:
    def run(folder: str, source: Blobs) -> None:
        config = short(tmp_path / folder, 5, network=TINY, optimizer="muon", checkpoint_steps=2)
        train(config, source)

    run("whole", Blobs())
    with pytest.raises(KilledError):
        run("parts", KilledAt(3))
    run("parts", Blobs())
    whole, parts = content(tmp_path / "whole"), content(tmp_path / "parts")
    assert len(whole["optimizers"]) == 2
    assert_same(whole, parts)
