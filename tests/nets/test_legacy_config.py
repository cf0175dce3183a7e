"""Configurations of the releases before 4.0, and reading them off names and shapes."""

import pytest
import torch

from midflow.errors import CheckpointError, OptionError
from midflow.nets.legacy import LegacyTwinNet, build_legacy
from midflow.nets.legacy_config import LegacyConfig, legacy_config_from
from tests import parity
from tests.nets.test_legacy import merged

CONFIGS = {
    "1.8": LegacyConfig((192, 128, 96, 48), "squeeze", 6, "shuffle"),
    "2.3": LegacyConfig((384, 256, 192, 96), "plain", 6, "single"),
    "2.4": LegacyConfig((384, 256, 192, 96), "plain", 6, "single"),
    "3.1": LegacyConfig((160, 160, 160), "pairs", 3, "single"),
    "3.5": LegacyConfig((90, 90, 90), "pairs", 4, "twin", ensemble="always"),
    "3.8": LegacyConfig((90, 90, 90), "pairs", 4, "deep", ensemble="optional", retry=True),
    "hdv3": LegacyConfig((90, 90, 90), "pairs", 4, "deep", ensemble="always"),
}


@pytest.mark.parametrize("release", CONFIGS)
def test_configuration_is_read_off_the_shapes(release):
    assert legacy_config_from(parity.keys(release)) == CONFIGS[release]


@pytest.mark.parametrize("release", CONFIGS)
def test_state_dict_has_the_names_and_shapes_of_the_release(release):
    with torch.device("meta"):
        net = build_legacy(CONFIGS[release])
    found = {key: list(value.shape) for key, value in net.state_dict().items()}
    assert found == merged(parity.keys(release))


def test_3_8_saved_with_its_teacher_reads_as_hdv3():
    # Nothing in the inference weights tells them apart; only the name of the release does.
    states = parity.keys("3.8")
    states["flownet"]["block_tea.conv0.0.0.weight"] = [45, 14, 3, 3]
    assert legacy_config_from(states) == CONFIGS["hdv3"]


def test_a_missing_file_of_three_is_named():
    states = parity.keys("2.3")
    del states["unet"]
    with pytest.raises(CheckpointError, match=r"three files.*missing: unet\.pkl"):
        legacy_config_from(states)


@pytest.mark.parametrize("states", [{}, {"flownet": parity.keys("4.6")}])
def test_other_weights_are_refused(states):
    with pytest.raises(CheckpointError, match=r"must have block0\.res0 or block0\.conv1, got \d+"):
        legacy_config_from(states)


def test_a_flownet_with_a_hole_is_refused_by_the_name_of_the_hole():
    states = parity.keys("3.5")
    del states["flownet"]["block1.conv0.1.0.weight"]
    with pytest.raises(CheckpointError, match=r"must hold block1\.conv0\.1\.0\.weight"):
        legacy_config_from(states)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channels": ()}, "needs blocks and layers"),
        ({"depth": 0}, "needs blocks and layers"),
        ({"trunk": "squeeze"}, "need each other"),
        ({"head": "single", "ensemble": "always"}, "need head 'twin' or 'deep', got 'single'"),
        ({"head": "single", "retry": True}, "need head 'twin' or 'deep', got 'single'"),
    ],
)
def test_contradictory_configurations_are_refused(changes, message):
    values = {"channels": (8, 8), "trunk": "pairs", "depth": 1, "head": "twin"}
    with pytest.raises(OptionError, match=message):
        LegacyConfig(**{**values, **changes})


@pytest.mark.parametrize("release", CONFIGS)
def test_all_releases_know_the_middle_only_and_pad_to_32(release):
    config = CONFIGS[release]
    assert (config.has_timestep, config.pad_multiple) == (False, 32)
    assert config.has_ensemble == (release in ("3.5", "3.8", "hdv3"))
    with torch.device("meta"):
        assert isinstance(build_legacy(config), LegacyTwinNet) == config.has_ensemble
