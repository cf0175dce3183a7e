"""What is saved is what is loaded, bit for bit, by midflow and by the reference's own rules."""

import io
from dataclasses import replace

import pytest
import safetensors
import safetensors.torch
import torch

from midflow.errors import CheckpointError, OptionError
from midflow.nets import saving
from midflow.nets.checkpoint import load_model, save_model
from midflow.nets.config import RIFE_CONFIG
from midflow.nets.layout import build_network
from midflow.nets.releases import RELEASES
from tests.nets import tiny

TINY_PAPER = replace(RIFE_CONFIG, channels=(12, 8, 6))


def reference_read(path):
    """As RIFE's own load_model does: keep keys with `module.`, without it."""
    content = torch.load(path, map_location="cpu", weights_only=True)
    return {k.replace("module.", ""): v for k, v in content.items() if "module." in k}


def equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


@pytest.mark.parametrize("name", ["net.safetensors", "net.pkl", "net.pth", "train_log"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_round_trip_is_bit_exact(tmp_path, name, dtype):
    model = tiny.network()
    expected = {key: value.to(dtype).float() for key, value in model.state_dict().items()}
    found = load_model(save_model(model, tmp_path / name, dtype=dtype))
    assert equal(dict(found.state_dict()), expected)
    assert found.config == model.config


def test_half_precision_halves_the_file(tmp_path):
    full = save_model(tiny.network(), tmp_path / "full.safetensors").stat().st_size
    half = save_model(tiny.network(), tmp_path / "half.safetensors", dtype=torch.float16)
    assert half.stat().st_size < 0.75 * full  # the header stays


@pytest.mark.parametrize("release", ["rife_2r", "4.0", "3.8"])
def test_safetensors_remember_what_shapes_do_not_tell(tmp_path, release):
    with torch.device("meta"):
        model = build_network(RELEASES[release].config)
    model = model.to_empty(device="cpu")
    with torch.no_grad():
        for value in model.parameters():
            value.fill_(0.01)
    model.release = release
    found = load_model(save_model(model, tmp_path / "net.safetensors"))
    assert (found.config, found.release) == (RELEASES[release].config, release)


def test_a_network_without_a_release_has_none_after_a_round_trip(tmp_path):
    assert load_model(save_model(tiny.network(), tmp_path / "a.safetensors")).release is None


def test_metadata_are_text_any_reader_sees(tmp_path):
    path = save_model(tiny.network(), tmp_path / "a.safetensors")
    with safetensors.safe_open(path, "pt") as file:
        metadata = file.metadata()
    assert '"encoder": "named"' in metadata["midflow"]


@pytest.mark.parametrize("name", ["flownet.pkl", "train_log"])
def test_the_reference_reads_the_pickle(tmp_path, name):
    model = tiny.network()
    save_model(model, tmp_path / name)
    path = tmp_path / name if name.endswith("pkl") else tmp_path / name / "flownet.pkl"
    assert equal(reference_read(path), dict(model.state_dict()))
    assert all(key.startswith("module.") for key in torch.load(path, weights_only=True))


def test_a_folder_that_exists_may_have_dots_in_its_name(tmp_path):
    (tmp_path / "v4.25").mkdir()
    save_model(tiny.network(), tmp_path / "v4.25")
    assert (tmp_path / "v4.25" / "flownet.pkl").exists()


def test_three_file_releases_are_saved_as_three_files(tmp_path):
    with torch.device("meta"):
        model = build_network(RELEASES["3.1"].config)
    model = model.to_empty(device="cpu")
    with torch.no_grad():
        for value in model.parameters():
            value.fill_(0.25)
    folder = save_model(model, tmp_path / "train_log", dtype=torch.float16)
    files = sorted(path.name for path in folder.iterdir())
    assert files == ["contextnet.pkl", "flownet.pkl", "unet.pkl"]
    found = load_model(folder)
    assert equal(dict(found.state_dict()), dict(model.state_dict()))
    with pytest.raises(OptionError, match="is 3 files to the reference tools: give a folder"):
        save_model(model, tmp_path / "flownet.pkl")


@pytest.mark.parametrize("release", ["rife", "rife_m", "3.5", "hdv3"])
def test_the_pickle_has_the_teacher_the_reference_insists_on(tmp_path, release):
    with torch.device("meta"):
        model = build_network(RELEASES[release].config)
    model = model.to_empty(device="cpu")
    with torch.no_grad():
        for value in model.parameters():
            value.fill_(0.01)
    path = save_model(model, tmp_path / "flownet.pkl")
    shapes = {key: list(value.shape) for key, value in reference_read(path).items()}
    assert shapes == tiny.release_shapes(release)
    assert load_model(path).config == RELEASES[release].config


def test_a_teacher_that_is_made_up_does_what_the_last_block_does(tmp_path):
    config = replace(TINY_PAPER, teacher=True)
    model = tiny.network(TINY_PAPER)
    taught = build_network(config)
    taught.load_state_dict(reference_read(save_model(model, tmp_path / "flownet.pkl")))
    x, truth, motion = torch.rand(1, 13, 16, 16), torch.rand(1, 3, 16, 16), torch.rand(1, 4, 16, 16)
    with torch.no_grad():
        last = taught.block2(torch.cat((x, motion), 1))
        assert torch.allclose(taught.block_tea(torch.cat((x, truth, motion), 1)), last, atol=1e-6)


def test_a_teacher_that_is_there_is_kept_for_the_reference_and_left_out_otherwise(tmp_path):
    model = tiny.network(replace(TINY_PAPER, teacher=True))
    kept = reference_read(save_model(model, tmp_path / "flownet.pkl"))
    assert equal(kept, dict(model.state_dict()))
    found = load_model(save_model(model, tmp_path / "net.safetensors"))
    assert found.config == TINY_PAPER
    assert not any(key.startswith("block_tea") for key in found.state_dict())


def test_saving_does_not_touch_the_network(tmp_path):
    model = tiny.network().train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    save_model(model, tmp_path / "a.pkl", dtype=torch.float16)
    assert model.training
    assert equal(before, dict(model.state_dict()))
    assert all(value.dtype == torch.float32 for value in model.parameters())


def test_views_of_larger_storage_are_saved_alone(tmp_path):
    model = tiny.network()
    big = torch.zeros(1_000_000)
    size = model.block0.lastconv[0].bias.numel()
    model.block0.lastconv[0].bias = torch.nn.Parameter(big[:size])
    assert save_model(model, tmp_path / "a.pkl").stat().st_size < 100_000


@pytest.mark.parametrize("name", ["net.onnx", "net.pt2", "flownet.PKL.bak"])
def test_other_suffixes_are_refused(tmp_path, name):
    with pytest.raises(OptionError, match=r"must end in .safetensors, .pkl or .pth"):
        save_model(tiny.network(), tmp_path / name)


def test_other_dtypes_are_refused(tmp_path):
    with pytest.raises(OptionError, match=r"got torch.int8"):
        save_model(tiny.network(), tmp_path / "a.pkl", dtype=torch.int8)


@pytest.mark.parametrize(
    ("value", "dtype"), [(float("nan"), torch.float32), (1e5, torch.float16)], ids=["nan", "large"]
)
def test_what_could_not_be_loaded_is_not_saved(tmp_path, value, dtype):
    model = tiny.network()
    model.block0.lastconv[0].bias.data[0] = value
    with pytest.raises(CheckpointError, match=r"'block0.lastconv.0.bias' is not: nothing is saved"):
        save_model(model, tmp_path / "a.safetensors", dtype=dtype)
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = save_model(tiny.network(), tmp_path / "a.pkl")
    before = path.read_bytes()

    def full(self, data):
        with self.open("wb") as file:
            file.write(data[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(saving.Path, "write_bytes", full)
    with pytest.raises(CheckpointError, match=r"cannot write .*a.pkl: No space left"):
        save_model(tiny.network(), path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["a.pkl"]


def test_folders_that_cannot_be_made_are_an_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="cannot write"):
        save_model(tiny.network(), tmp_path / "file" / "a.pkl")


def test_the_same_network_gives_the_same_safetensors(tmp_path):
    first = save_model(tiny.network(), tmp_path / "a.safetensors").read_bytes()
    assert save_model(tiny.network(), tmp_path / "b.safetensors").read_bytes() == first
    buffer = io.BytesIO(first)
    assert set(safetensors.torch.load(buffer.getvalue())) == set(tiny.state())
