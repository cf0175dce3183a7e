"""Flows found by a classical search that sees the true frame."""

import sys

import pytest
import torch

from midflow.errors import MissingExtraError
from midflow.train.batch import Batch
from midflow.train.data import Mixed
from midflow.train.guide import Guided
from tests.train.blobs import Blobs

CPU = torch.device("cpu")


def test_guide_finds_the_motion_of_pictures_that_move() -> None:
    pytest.importorskip("cv2")
    truth = Blobs(largest=6).batch(0, 4, 64, device=CPU)
    batch = Guided(Blobs(largest=6, has_flow=False)).batch(0, 4, 64, device=CPU)
    assert torch.equal(batch.img0, truth.img0) and batch.has_flow.all()
    inner = (..., slice(12, -12), slice(12, -12))
    seen = batch.visible[inner].repeat_interleave(2, 1)
    error = ((batch.flow - truth.flow)[inner].abs() * seen).sum() / seen.sum()
    assert seen.mean() > 0.8
    motion = (truth.flow[inner].abs() * seen).sum() / seen.sum()
    assert motion > 0.8  # pixels
    assert error < motion / 4


def test_what_no_flow_explains_is_not_visible() -> None:
    pytest.importorskip("cv2")

    class Flash(Blobs):
        def batch(self, *args: object, **kwargs: object) -> Batch:
            batch = super().batch(*args, **kwargs)
            batch.img1[:] = torch.rand(batch.img1.shape, generator=torch.Generator().manual_seed(0))
            return batch

    batch = Guided(Flash(largest=1, has_flow=False)).batch(0, 2, 64, device=CPU)
    assert batch.visible[:, 0].mean() > 0.9
    assert batch.visible[:, 1].mean() < 0.2


def test_flows_that_are_known_stay() -> None:
    pytest.importorskip("cv2")
    known = Blobs(seed=1)
    mixed = Mixed([(Blobs(has_flow=False), 0.5), (known, 0.5)])
    plain = mixed.batch(3, 4, 64, device=CPU)
    batch = Guided(mixed).batch(3, 4, 64, device=CPU)
    rows = plain.has_flow
    assert 0 < rows.sum() < 4
    assert torch.equal(batch.flow[rows], plain.flow[rows])
    assert not torch.equal(batch.flow[~rows], plain.flow[~rows])


def test_without_opencv_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MissingExtraError, match="midflow"):
        Guided(Blobs())
