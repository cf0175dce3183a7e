"""From a file, a folder, a zip or a name to the network that belongs to it, exactly."""

import json
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch

from midflow.errors import CheckpointError, UnknownModelError
from midflow.nets import cache
from midflow.nets.checkpoint import describe, load_model
from midflow.nets.layout import expected_shapes
from midflow.nets.pyramid_config import DEFAULT_CONFIG
from midflow.nets.releases import RELEASES
from midflow.nets.saving import save_model
from tests import parity
from tests.nets import tiny


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("MIDFLOW_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def same(model, state):
    found = model.state_dict()
    return found.keys() == state.keys() and all(torch.equal(found[k], state[k]) for k in state)


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("suffix", [".pkl", ".pth", ".safetensors"])
def test_weights_load_under_any_prefix_and_suffix(tmp_path, prefix, suffix):
    path = tmp_path / f"net{suffix}"
    tensors = {prefix + key: value for key, value in tiny.state().items()}
    if suffix == ".safetensors":
        safetensors.torch.save_file(tensors, path)
    else:
        torch.save(tensors, path)
    model = load_model(path)
    assert model.config == tiny.CONFIG
    assert same(model, tiny.state())


def test_network_comes_in_eval_mode_float32_on_the_cpu(tmp_path):
    state = {key: value.half() for key, value in tiny.state().items()}
    model = load_model(tiny.pickled(state, tmp_path / "net.pkl"))
    assert not model.training
    for value in model.parameters():
        assert (value.dtype, value.device.type, value.requires_grad) == (torch.float32, "cpu", True)
    frame = torch.rand(1, 3, 16, 16)
    assert model(frame, frame).frame.isfinite().all()


def test_loading_draws_no_random_number(tmp_path):
    path = tiny.pickled(tiny.state(), tmp_path / "net.pkl")
    before = torch.random.get_rng_state()
    load_model(path)
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("release", ["4.6", "4.25.lite", "3.8", "rife"])
def test_a_release_is_recognised_and_named(tmp_path, release):
    state = tiny.release_state(release)
    model = load_model(tiny.pickled(state, tmp_path / "flownet.pkl"))
    assert model.config == RELEASES[release].config
    assert model.release == release


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("flownet_v4.12.lite.pkl", "4.12.lite"),
        ("rife4.13-lite.pkl", "4.13.lite"),
        ("RIFEv4.13_lite_0101/flownet.pkl", "4.13.lite"),
        ("flownet.pkl", None),
        ("flownet_v4.12.pkl", None),
    ],
)
def test_releases_of_one_layout_are_named_after_the_file(tmp_path, file, name):
    (tmp_path / file).parent.mkdir(exist_ok=True)
    path = tiny.pickled(tiny.release_state("4.12.lite"), tmp_path / file)
    assert load_model(path).release == name


def test_2r_is_what_it_is_told_to_be(tmp_path):
    path = tiny.pickled(tiny.release_state("rife_2r"), tmp_path / "flownet.pkl")
    assert load_model(path).config.stride == 4
    model = load_model(path, release="rife_2r")
    assert (model.config.stride, model.release) == (2, "rife_2r")


def test_hdv3_and_3_8_are_told_apart_by_the_teacher_or_by_name(tmp_path):
    state = tiny.release_state("hdv3")
    path = tiny.pickled(state, tmp_path / "flownet.pkl")
    assert load_model(path).config == RELEASES["hdv3"].config
    bare = {key: value for key, value in state.items() if not key.startswith("block_tea.")}
    path = tiny.pickled(bare, tmp_path / "flownet.pkl")
    assert load_model(path).config == RELEASES["3.8"].config
    assert load_model(path, release="hdv3").config == RELEASES["hdv3"].config


@pytest.mark.parametrize("release", ["4.22.lite", "4.25"])
def test_what_only_training_uses_is_dropped_by_name(tmp_path, release):
    extra = {k: torch.zeros(s) for k, s in parity.keys("training_only")[release].items()}
    state = tiny.release_state(release)
    path = tiny.pickled(
        {f"module.{k}": v for k, v in {**state, **extra}.items()}, tmp_path / "a.pkl"
    )
    assert same(load_model(path), state)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"block9.stranger": torch.ones(1)}, "block2.conv0.1.0.weight|block9"),
        ({"head.weight": torch.ones(1)}, "not part of it: head.weight"),
        ({"encode.cnn1.bias": None}, "missing: encode.cnn1.bias"),
        ({"block1.lastconv.0.bias": torch.ones(3)}, r"block1.lastconv.0.bias \[3\], not \[32\]"),
        ({"block0.conv0.0.0.weight": None}, "must have 'block0.conv0.0.0.weight'"),
    ],
)
def test_a_missing_strange_or_misshapen_tensor_is_an_error_that_names_it(tmp_path, change, message):
    state = {k: v for k, v in {**tiny.state(), **change}.items() if v is not None}
    with pytest.raises(CheckpointError, match=f"net.pkl: .*({message})"):
        load_model(tiny.pickled(state, tmp_path / "net.pkl"))


@pytest.mark.parametrize(
    ("change", "nearest"),
    [({"block4.lastconv.0.bias": None}, "4.26.heavy"), ({"extra.a": torch.ones(1)}, "4.26.heavy")],
)
def test_the_nearest_release_is_named(tmp_path, change, nearest):
    state = {
        k: v for k, v in {**tiny.release_state("4.26.heavy"), **change}.items() if v is not None
    }
    with pytest.raises(CheckpointError, match=f"The nearest release is {nearest}"):
        load_model(tiny.pickled(state, tmp_path / "net.pkl"))


def test_many_faults_are_counted_not_all_listed(tmp_path):
    state = tiny.state() | {f"stranger{k}": torch.ones(1) for k in range(6)}
    with pytest.raises(CheckpointError, match=r"stranger0, stranger1, .* and 2 more"):
        load_model(tiny.pickled(state, tmp_path / "net.pkl"))


@pytest.mark.parametrize(
    ("release", "message"),
    [
        (
            "4.25",
            "4.25 has channels = .*the weights do not. The nearest release is 4.12.lite",
        ),
        ("3.8", "3.8 has another kind of network"),
        ("4.13", "encoder_planes"),
    ],
)
def test_a_release_that_the_shapes_contradict_is_an_error(tmp_path, release, message):
    path = tiny.pickled(tiny.release_state("4.12.lite"), tmp_path / "net.pkl")
    with pytest.raises(CheckpointError, match=message):
        load_model(path, release=release)


def test_unknown_releases_are_suggested_better_names(tmp_path):
    path = tiny.pickled(tiny.state(), tmp_path / "net.pkl")
    with pytest.raises(UnknownModelError, match=r"did you mean .*4.25"):
        load_model(path, release="4.255")


def test_stored_scales_win_over_the_guess(tmp_path):
    config = replace(tiny.CONFIG, scales=(8, 1))
    path = save_model(tiny.network(config), tmp_path / "net.safetensors")
    assert load_model(path).config.scales == (8, 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network": "other"}, "cannot read what the file says it holds .'other'"),
        ({"release": 3}, "release cannot be 3"),
        ({"config": 3}, "cannot read what"),
        ({"config": {"colour": 3}}, r"unknown fields \['colour'\]"),
        ({"config": {"scales": [2, 1]}}, "must have one entry for each block"),
        ({"config": {"channels": [12, 8], "scales": [2, 1.5]}}, "scales"),
        ({"config": {"channels": [12, 8], "scales": [999, 1]}}, r"scales cannot be \(999, 1\)"),
        ({"config": {"channels": "ab", "scales": [2, 1]}}, "has channels = ab"),
        ({"config": {"retry": 1}}, "retry cannot be 1"),
        ({"config": {"stride": 3}}, "stride cannot be 3"),
    ],
)
def test_stored_configurations_that_make_no_sense_are_refused(tmp_path, changes, message):
    values = {"network": "ifnet", "config": {}, "release": None} | changes
    path = tmp_path / "net.safetensors"
    safetensors.torch.save_file(tiny.state(), path, {"midflow": json.dumps(values)})
    with pytest.raises(CheckpointError, match=message):
        load_model(path)


@pytest.mark.parametrize("text", ["{", "[]", "null", "3"])
def test_stored_text_that_is_no_table_is_refused(tmp_path, text):
    path = tmp_path / "net.safetensors"
    safetensors.torch.save_file(tiny.state(), path, {"midflow": text})
    with pytest.raises(CheckpointError, match="cannot read what the file says it holds"):
        load_model(path)


def test_a_stored_configuration_the_shapes_contradict_is_refused(tmp_path):
    path = save_model(tiny.network(replace(tiny.CONFIG, groups=1)), tmp_path / "net.safetensors")
    with safetensors.safe_open(path, "pt") as file:
        metadata = file.metadata()
    safetensors.torch.save_file(tiny.state(), path, metadata)
    with pytest.raises(CheckpointError, match="stored configuration has groups = 1"):
        load_model(path)


def test_three_files_make_one_network_from_a_folder_or_a_zip_of_it(tmp_path):
    folder = tmp_path / "train_log"
    folder.mkdir()
    for part, shapes in parity.keys("3.1").items():
        tensors = {f"module.{k}": torch.zeros(s).half() for k, s in shapes.items()}
        tiny.pickled(tensors, folder / f"{part}.pkl")
    model = load_model(folder)
    assert (model.config, model.release) == (RELEASES["3.1"].config, "3.1")
    with zipfile.ZipFile(tmp_path / "3.1.zip", "w") as archive:
        for file in folder.iterdir():
            archive.write(file, f"train_log/{file.name}")
    assert load_model(tmp_path / "3.1.zip").config == model.config


def test_one_of_three_files_alone_says_which_are_missing(tmp_path):
    state = {k: torch.zeros(s) for k, s in parity.keys("3.1")["flownet"].items()}
    with pytest.raises(CheckpointError, match=r"missing: contextnet.pkl, unet.pkl"):
        load_model(tiny.pickled(state, tmp_path / "flownet.pkl"))


def test_a_name_is_looked_up_in_the_cache(home):
    home.mkdir()
    tiny.pickled(tiny.release_state("4.12.lite"), home / "4.12.lite.pkl")
    assert load_model("4.12.lite").release == "4.12.lite"
    shutil.move(home / "4.12.lite.pkl", home / "flownet_v4.13.lite.pkl")
    assert load_model("v4.13-lite").release == "4.13.lite"


def test_a_cached_file_that_has_changed_is_refused(home):
    home.mkdir()
    path = tiny.pickled(tiny.release_state("4.12.lite"), home / "4.12.lite.pkl")
    cache.record_hashes(home, cache.hash_files(path))
    load_model("4.12.lite")
    tiny.pickled(tiny.release_state("4.13.lite") | {"block0.conv0.0.0.bias": torch.ones(64)}, path)
    with pytest.raises(CheckpointError, match=r"has changed since it was recorded.*pull it again"):
        load_model("4.12.lite")


def test_a_release_that_is_not_there_says_how_to_get_it():
    with pytest.raises(CheckpointError, match=r"run midflow models pull 4.25"):
        load_model("4.25")
    with pytest.raises(CheckpointError, match=r"rife_2r must be brought along.*release='rife_2r'"):
        load_model("rife_2r")


def test_what_is_no_name_and_no_file_is_one_or_the_other_error(tmp_path):
    with pytest.raises(UnknownModelError, match="no model is called 'nosuch'"):
        load_model("nosuch")
    with pytest.raises(CheckpointError, match=r"no file or folder at nosuch.pkl"):
        load_model("nosuch.pkl")
    with pytest.raises(CheckpointError, match=r"no file or folder at .*/nosuch"):
        load_model(str(tmp_path / "nosuch"))


def test_a_file_named_like_a_release_is_a_file_and_a_folder_is_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny.pickled(tiny.state(), tmp_path / "4.25")
    assert load_model("4.25").config == tiny.CONFIG
    Path("4.26").mkdir()
    with pytest.raises(CheckpointError, match=r"midflow models pull 4.26"):
        load_model("4.26")
    Path("weights").mkdir()
    tiny.pickled(tiny.state(), tmp_path / "weights" / "flownet.pkl")
    assert load_model("weights").config == tiny.CONFIG


def test_the_bundled_model_is_the_default(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "_BUNDLED_FOLDER", tmp_path)
    with pytest.raises(CheckpointError, match="install midflow again"):
        load_model()
    state = {key: torch.full(s, 0.01) for key, s in expected_shapes(DEFAULT_CONFIG).items()}
    safetensors.torch.save_file(state, tmp_path / "midflow-2.safetensors")
    for source in (None, "midflow-2", "default"):
        model = load_model(source)
        assert (model.config, model.release) == (DEFAULT_CONFIG, "midflow-2")


def test_a_network_is_described(tmp_path):
    info = describe(load_model(tiny.pickled(tiny.release_state("4.26.heavy"), tmp_path / "a.pkl")))
    assert (info.name, info.generation, info.pad_multiple) == ("4.26.heavy", "4", 64)
    assert info.parameters == 5_723_156
    assert "broken" in info.notes
    info = describe(load_model(tiny.pickled(tiny.state(), tmp_path / "b.pkl")))
    assert (info.name, info.generation, info.same_layout) == (None, "custom", ())


@pytest.mark.parametrize("release", ["4.25", "rife", "3.8"])
def test_a_loaded_release_computes_what_its_reference_does(tmp_path, release):
    case = parity.case(release if release == "rife" else f"v{release}")
    state = parity.state(case.meta)
    state = state.get("flownet", state)
    path = tiny.pickled(
        {f"module.{key}": value for key, value in state.items()}, tmp_path / "a.pkl"
    )
    model, run = load_model(path, release=release), case.runs[0]
    with torch.inference_mode():
        pair = [case.image(name, tuple(run["padded"])) for name in ("img0", "img1")]
        frame = model(*pair, run["timestep"]).frame[0]
    assert case.difference("frame_0", frame) <= parity.FRAME_TOLERANCE
