"""Averaging and DIS flow."""

import sys

import pytest
import torch

from midflow.errors import MissingExtraError, OptionError
from midflow.evaluate.baselines import (
    Average,
    DenseInverseSearch,
    installed_baselines,
    open_baseline,
)


def moving(shift: int) -> torch.Tensor:
    """Smooth texture (1, 3, 64, 96) moved to the right by `shift` pixels."""
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(96.0) - shift, indexing="ij")
    return (0.5 + 0.25 * torch.sin(x / 3) + 0.2 * torch.cos(y / 4 + x / 7)).expand(1, 3, -1, -1)


def test_averaging_is_exact_at_halves_of_levels() -> None:
    levels = torch.arange(255.0).view(1, 1, 1, 255).expand(1, 3, 2, 255)
    middle = Average()(levels / 255, (levels + 1) / 255, 0.5)
    assert torch.equal(middle * 255, levels + 0.5)


def test_averaging_weighs_by_time() -> None:
    painted = Average()(torch.zeros(1, 3, 4, 4), torch.ones(1, 3, 4, 4), 0.25)
    assert painted.mean().item() == pytest.approx(0.25)


@pytest.mark.parametrize("timestep", [0.25, 0.5])
def test_dis_flow_paints_a_translation_where_it_is_at_that_time(timestep: float) -> None:
    pytest.importorskip("cv2")
    truth = moving(8)
    before, after = moving(8 - int(timestep * 8)), moving(8 + int((1 - timestep) * 8))
    painted = DenseInverseSearch()(before, after, timestep)
    inside = (..., slice(8, -8), slice(24, -24))
    error = (painted - truth)[inside].abs().mean()
    assert error < 0.2 * (Average()(before, after, timestep) - truth)[inside].abs().mean()


def test_dis_flow_points_from_the_middle_to_both_frames() -> None:
    pytest.importorskip("cv2")
    flow, weight = DenseInverseSearch().flow(moving(0), moving(8), 0.5)
    center = flow[0, :, 24:40, 32:64].mean((1, 2))
    assert center.tolist() == pytest.approx([-4, 0, 4, 0], abs=0.5)
    assert weight.shape == (1, 1, 64, 96)


def test_without_opencv_the_extra_is_named_and_averaging_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    monkeypatch.setattr("midflow.evaluate.baselines.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'midflow\[eval\]'"):
        open_baseline("dis")
    assert list(installed_baselines()) == ["average"]


def test_an_unknown_baseline_is_refused() -> None:
    with pytest.raises(OptionError, match="baselines must be among average, dis"):
        open_baseline("magic")
