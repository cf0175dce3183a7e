"""The registry: complete, consistent, and helpful about names."""

import re
from pathlib import Path

import pytest

from midflow.errors import UnknownModelError
from midflow.nets.cache import BUNDLED
from midflow.nets.pyramid_config import DEFAULT_CONFIG
from midflow.nets.releases import (
    RELEASES,
    available_models,
    describe_release,
    find_release,
    nearest_releases,
    same_layout,
)
from tests.nets import tiny


def test_every_release_with_known_keys_is_registered():
    assert set(tiny.RELEASES) | {BUNDLED} == set(RELEASES)


def test_all_36_releases_of_generation_4_can_be_pulled():
    modern = [release for release in RELEASES.values() if release.generation == "4"]
    assert len(modern) == 36
    for release in modern:
        assert release.urls[0].endswith(f"/model/flownet_v{release.name}.pkl")


def test_urls_are_https_and_those_without_say_where_to_look():
    for release in RELEASES.values():
        assert all(url.startswith("https://") for url in release.urls)
        assert release.source_note or release.name == BUNDLED


def test_a_second_mirror_is_listed_only_where_a_hash_holds_it_to_the_first():
    for release in RELEASES.values():
        assert len(release.urls) < 2 or release.sha256


def test_published_hashes_are_sha256():
    hashes = [release.sha256 for release in RELEASES.values() if release.sha256]
    assert len(set(hashes)) == len(hashes) == 11
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in hashes)


def test_the_bundled_model_is_the_default_network():
    assert RELEASES[BUNDLED].config == DEFAULT_CONFIG
    assert RELEASES[BUNDLED].config.pad_multiple == 8


@pytest.mark.parametrize(
    ("name", "release"),
    [
        ("4.25", "4.25"),
        ("v4.25", "4.25"),
        (" 4.22-LITE ", "4.22.lite"),
        ("4.26.large", "4.26.heavy"),
        ("default", BUNDLED),
    ],
)
def test_names_are_understood(name, release):
    assert find_release(name).name == release


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [("4.25.lit", "4.25.lite"), ("rief", "rife"), ("midflow", BUNDLED), ("hd3", "hdv3")],
)
def test_unknown_names_bring_the_nearest(name, suggestion):
    with pytest.raises(UnknownModelError, match=f"{name}.*did you mean .*{suggestion}"):
        find_release(name)


def test_a_name_like_no_other_brings_the_whole_list():
    with pytest.raises(UnknownModelError, match=r"known: midflow-2, rife.*4.26.heavy"):
        find_release("xyzzy")


@pytest.mark.parametrize(
    ("release", "group"),
    [
        ("4.0", ("4.0", "4.1")),
        ("4.13", ("4.13", "4.14", "4.15", "4.17", "4.18", "4.19", "4.24")),
        ("4.25", ("4.25", "4.26")),
        ("4.25.lite", ("4.25.lite",)),
        ("rife_2r", ("rife", "rife_2r")),
        ("3.8", ("3.8", "hdv3")),
    ],
)
def test_releases_that_weights_cannot_tell_apart(release, group):
    assert same_layout(RELEASES[release].config) == group


def test_nearest_release_shares_most_tensors():
    shapes = {key: tuple(shape) for key, shape in tiny.release_shapes("4.26.heavy").items()}
    del shapes["block4.lastconv.0.bias"]
    assert nearest_releases(shapes) == ("4.26.heavy",)
    assert nearest_releases({"stranger": (1,)}) == ()


def test_models_on_this_machine_are_marked(tmp_path):
    (tmp_path / "4.25.pkl").touch()
    status = {info.name: info.status for info in available_models(tmp_path)}
    assert status[BUNDLED] == "bundled"
    assert status["4.25"] == "pulled"
    assert status["4.26"] == "to pull"
    assert status["rife_2r"] == "bring the file"


def test_description_says_what_a_release_can_do():
    lite, early = describe_release("4.25.lite"), describe_release("3.5")
    assert (lite.pad_multiple, lite.has_timestep, lite.has_ensemble) == (128, True, False)
    assert (early.generation, early.has_timestep, early.has_ensemble) == ("3", False, True)
    assert lite.config["channels"] == (192, 128, 96, 64, 24)
    assert describe_release("4.26.heavy").notes


def test_the_folder_may_be_missing():
    assert describe_release("4.25", Path("/nowhere/at/all")).status == "to pull"
