"""Names and shapes: every release is recognised by them and has exactly them."""

from dataclasses import replace

import pytest
import torch

from midflow.errors import CheckpointError
from midflow.nets.config import HALF_CONFIG, RIFE_CONFIG, IFNetConfig
from midflow.nets.layout import (
    build_network,
    count_parameters,
    drop_training_only,
    expected_shapes,
    infer_config,
    settle,
    shapes_of,
    split_parts,
)
from midflow.nets.pyramid_config import DEFAULT_CONFIG, PyramidConfig
from midflow.nets.releases import RELEASES
from tests import parity
from tests.nets import tiny


@pytest.mark.parametrize("release", sorted(set(tiny.RELEASES) - {"rife_2r"}))
def test_configuration_of_every_release_is_read_off_its_shapes(release):
    assert infer_config(tiny.release_shapes(release)) == RELEASES[release].config


@pytest.mark.parametrize("release", tiny.RELEASES)
def test_network_of_every_release_has_exactly_its_names_and_shapes(release):
    shapes = drop_training_only(shapes_of(tiny.release_shapes(release)))
    assert expected_shapes(RELEASES[release].config) == shapes


@pytest.mark.parametrize("release", ["4.21", "4.22", "4.22.lite", "4.25"])
def test_tensors_only_training_uses_do_not_disturb(release):
    extra = parity.keys("training_only")[release]
    shapes = shapes_of({**tiny.release_shapes(release), **extra})
    assert infer_config(shapes) == RELEASES[release].config
    assert drop_training_only(shapes) == expected_shapes(RELEASES[release].config)


def test_2r_looks_like_rife_until_told():
    shapes = tiny.release_shapes("rife_2r")
    assert infer_config(shapes) == RIFE_CONFIG
    told = RELEASES["rife_2r"].config
    assert settle(infer_config(shapes), told) == told != RIFE_CONFIG


def test_midflows_own_networks_are_read_off_their_shapes():
    for config in (DEFAULT_CONFIG, PyramidConfig(channels=20, depth=3, radius=2), HALF_CONFIG):
        assert infer_config(expected_shapes(config)) == config


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"channels": (12, 8, 6), "scales": (4, 2, 1), "depths": (1, 2, 1)},
        {"channels": (12, 10, 8, 8, 24), "scales": (32, 16, 8, 4, 1), "depths": ()},
        {"resolution": 2, "scales": (4, 2), "encoder_planes": 4},
        {"encoder": "pair", "groups": 1, "features": 0, "spare": 1},
        {"encoder": "stack", "has_timestep": False},
        {"encoder": "none", "encoder_width": 0, "encoder_planes": 0, "spare": 2},
    ],
)
def test_any_channels_and_depths_are_read_off(changes):
    config = replace(tiny.CONFIG, **changes)
    assert infer_config(expected_shapes(config)) == config


def test_reading_needs_shapes_only_and_draws_no_random_number():
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    expected_shapes.cache_clear()
    infer_config(expected_shapes(tiny.CONFIG))
    assert torch.equal(before, torch.random.get_rng_state())


def test_parameters_are_counted_without_running_statistics():
    config = RELEASES["1.8"].config
    with torch.device("meta"):
        net = build_network(config)
    assert count_parameters(config) == sum(p.numel() for p in net.parameters())
    assert count_parameters(config) < sum(v.numel() for v in net.state_dict().values())


@pytest.mark.parametrize(
    ("release", "millions"),
    [("4.6", 5.31), ("4.14.lite", 2.97), ("4.25", 5.66), ("4.25.heavy", 21.7), ("rife", 10.07)],
)
def test_parameters_are_those_of_the_published_table(release, millions):
    assert RELEASES[release].parameters / 1e6 == pytest.approx(millions, rel=2e-3)


def test_three_files_are_told_apart_by_prefix():
    parts = split_parts({"flownet.a": 1, "unet.b.c": 2})
    assert parts == {"flownet": {"a": 1}, "unet": {"b.c": 2}}
    assert split_parts({"contextnet.a": 1}) == {"flownet": {"contextnet.a": 1}}


def broken(**changes: list[int] | None) -> dict[str, list[int]]:
    shapes = dict(tiny.release_shapes("4.25"))
    for key, shape in changes.items():
        key = key.replace("__", ".")
        shapes.pop(key)
        shapes.update({key: shape} if shape is not None else {})
    return shapes


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({}, "must have entries named block0"),
        ({"layer.weight": [1]}, r"got 1 entries such as \['layer.weight'\]"),
        (broken(block2__conv0__1__0__weight=None), "must have 'block2.conv0.1.0.weight'"),
        (broken(block0__conv0__1__0__weight=[192]), "must be a 4-D convolution weight"),
        (broken(block0__conv0__0__0__weight=[96, 18, 3, 3]), "must take 14 planes .* got 18"),
        (broken(block1__conv0__0__0__weight=[64, 19, 3, 3]), "must take 20 planes .* got 19"),
        (broken(block1__conv0__0__0__weight=[64, 30, 3, 3]), "up to 8 features.* got 30"),
        (broken(block0__convblock__0__conv__weight=[192, 5, 3, 3]), "5 planes in a group"),
    ],
)
def test_weights_whose_parts_do_not_fit_are_refused(shapes, message):
    with pytest.raises(CheckpointError, match=message):
        infer_config(shapes)


def test_an_impossible_configuration_is_a_checkpoint_error():
    shapes = expected_shapes(IFNetConfig())
    shapes = {key: value for key, value in shapes.items() if "convblock" not in key}
    with pytest.raises(CheckpointError, match=r"must have 'block0.convblock|contradict"):
        infer_config({**shapes, "block0.convblock.0.beta": (1, 192, 1, 1)})
