"""Files that are not weights, damaged, or dangerous: each its own error, and none of them run."""

import io
import os
import pickle
import random
import struct
import tarfile
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import safetensors.torch
import torch

from midflow.errors import CheckpointError
from midflow.nets import archive, statefile
from midflow.nets.statefile import read_weights
from tests.nets import tiny


class Touch:
    """Creates a file if it is ever unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch '{self.path}'",)


def saved(content, **options):
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def read(tmp_path, data, name="flownet.pkl"):
    path = tmp_path / name
    path.write_bytes(data)
    return read_weights(path)


OLD = {"_use_new_zipfile_serialization": False}


@pytest.mark.parametrize("options", [{}, OLD], ids=["zip", "old"])
@pytest.mark.parametrize("where", ["entry", "wrapper", "key"])
def test_a_pickle_that_would_run_code_is_refused_by_name(tmp_path, options, where):
    trap = tmp_path / "sprung"
    good = torch.zeros(2)
    content = {
        "entry": {"a": Touch(trap)},
        "wrapper": {"state_dict": {"a": good}, "optimizer": [Touch(trap)]},
        "key": {"a": good, "b": {"c": (Touch(trap),)}},
    }[where]
    with pytest.raises(CheckpointError, match=r"asks for (posix|nt)\.system: refused"):
        read(tmp_path, saved(content, **options))
    assert not trap.exists()


@pytest.mark.parametrize("protocol", range(6))
def test_a_plain_pickle_that_would_run_code_is_refused(tmp_path, protocol):
    trap = tmp_path / "sprung"
    with pytest.raises(
        CheckpointError, match=r"(posix|nt)\.system: refused|must be a torch pickle"
    ):
        read(tmp_path, pickle.dumps({"a": Touch(trap)}, protocol=protocol))
    assert not trap.exists()


def test_the_loader_itself_refuses_what_the_look_through_misses(tmp_path, monkeypatch):
    trap = tmp_path / "sprung"
    monkeypatch.setattr(statefile, "_refuse_foreign", lambda program, label: None)
    with pytest.raises(CheckpointError, match="cannot be read safely"):
        read(tmp_path, saved({"a": Touch(trap)}))
    assert not trap.exists()


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (torch.nn.Linear(1, 1), "torch.nn.modules.linear.Linear"),
        ({"a": np.zeros(3)}, "numpy"),
        ({"a": {1, 2}, "b": print}, "builtins.print|__builtin__"),
    ],
    ids=["module", "numpy", "function"],
)
def test_whole_objects_are_refused_by_name(tmp_path, content, name):
    with pytest.raises(CheckpointError, match=f"asks for .*({name})"):
        read(tmp_path, saved(content))


def test_a_tar_of_old_is_not_opened(tmp_path):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        tar.addfile(tarfile.TarInfo("\udc80\x02.storages"))
    data = buffer.getvalue()
    assert data.startswith(b"\x80")
    with pytest.raises(CheckpointError, match="must be a torch pickle"):
        read(tmp_path, data)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"is empty \(0 bytes\)"),
        (b"<!DOCTYPE html><html>404</html>", "is a web page"),
        (b"\n  <html>", "is a web page"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0",
            "Git LFS pointer.*git lfs pull",
        ),
        (b"Not Found", "must be a torch pickle.*b'Not Found'"),
        (b'{"message": "Not Found"}', "must be a torch pickle"),
        (b"PK\x03\x04 cut short", "damaged, cut short"),
        (b"\x80\x02", "damaged, cut short"),
        (b"\x89PNG\r\n\x1a\n", "must be a torch pickle"),
        (struct.pack("<Q", 1 << 40) + b"{", "must be a torch pickle"),
        (struct.pack("<Q", 40) + b'{"a":', "damaged, cut short"),
    ],
)
def test_what_is_not_weights_is_called_by_name(tmp_path, data, message):
    with pytest.raises(CheckpointError, match=message):
        read(tmp_path, data)


@pytest.mark.parametrize("kind", ["zip", "old", "safetensors"])
def test_a_truncated_file_is_refused_wherever_it_ends(tmp_path, kind):
    content = {"a": torch.arange(500.0), "b": torch.ones(3, 3)}
    data = {
        "zip": lambda: saved(content),
        "old": lambda: saved(content, **OLD),
        "safetensors": lambda: safetensors.torch.save(content),
    }[kind]()
    assert set(read(tmp_path, data).parts["flownet"]) == {"a", "b"}
    for end in (*range(1, 40), len(data) // 2, len(data) - 100, len(data) - 1):
        with pytest.raises(CheckpointError, match=r"damaged|must be a torch pickle"):
            read(tmp_path, data[:end])


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("kind", ["zip", "old", "safetensors"])
def test_flipped_bytes_raise_nothing_but_checkpoint_errors(tmp_path, kind):
    content = OrderedDict(a=torch.ones(4), b=torch.ones(2, 2))
    data = {
        "zip": lambda: saved(content),
        "old": lambda: saved(content, **OLD),
        "safetensors": lambda: safetensors.torch.save(dict(content)),
    }[kind]()
    draw, refused = random.Random(3), 0
    for _ in range(300):
        damaged = bytearray(data)
        for _ in range(draw.randint(1, 4)):
            damaged[draw.randrange(len(data))] = draw.randrange(256)
        try:
            read(tmp_path, bytes(damaged))
        except CheckpointError:
            refused += 1
    assert refused > 50


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite_are_refused(tmp_path, value):
    with pytest.raises(CheckpointError, match=r"must be finite.*'layer.a'"):
        read(tmp_path, saved({"layer.a": torch.tensor([1.0, value])}))


def test_doubles_beyond_float32_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match="must be finite"):
        read(tmp_path, saved({"a": torch.tensor([1e300], dtype=torch.float64)}))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "holds no tensors"),
        ([torch.zeros(1)], "must hold a state dict, got list"),
        ({"a": torch.zeros(1), "epoch": 3}, "got int at 'epoch'"),
        ({3: torch.zeros(1)}, "by name only, got Tensor at 3"),
        ({"a": torch.zeros(1, dtype=torch.complex64)}, "complex|floating point"),
        ({"a": torch.zeros(1, dtype=torch.bool)}, "floating point, got torch.bool|refused"),
        ({"module.a": torch.zeros(1), "b": torch.zeros(1)}, "must begin with 'module.', got 1"),
    ],
)
def test_content_that_is_no_state_dict_is_refused(tmp_path, content, message):
    with pytest.raises(CheckpointError, match=message):
        read(tmp_path, saved(content))


@pytest.mark.parametrize("wrapper", ["state_dict", "model", "flownet", "params"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.module."])
def test_wrappers_and_prefixes_are_taken_off(tmp_path, wrapper, prefix):
    content = {wrapper: {f"{prefix}block0.a": torch.ones(2)}, "epoch": 3, "lr": 0.1}
    assert list(read(tmp_path, saved(content)).parts["flownet"]) == ["block0.a"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("options", [{}, OLD], ids=["zip", "old"])
def test_other_precisions_become_float32(tmp_path, dtype, options):
    value = torch.tensor([0.5, -3.0], dtype=dtype)
    tensor = read(tmp_path, saved({"a": value}, **options)).parts["flownet"]["a"]
    assert tensor.dtype == torch.float32
    assert torch.equal(tensor, value.float())


def test_counters_stay_integers(tmp_path):
    content = {"num_batches_tracked": torch.tensor(7), "p": torch.nn.Parameter(torch.ones(1))}
    tensors = read(tmp_path, saved(content)).parts["flownet"]
    assert tensors["num_batches_tracked"].dtype == torch.int64
    assert not tensors["p"].requires_grad


def test_views_are_read_as_tensors_of_their_own(tmp_path):
    base = torch.arange(12.0).view(3, 4)
    tensors = read(tmp_path, saved({"a": base.t(), "b": base[1:]})).parts["flownet"]
    assert tensors["a"].is_contiguous() and torch.equal(tensors["a"], base.t())
    assert tensors["a"].data_ptr() != tensors["b"].data_ptr()


def test_a_tensor_that_claims_to_be_huge_is_refused(tmp_path):
    huge = torch.zeros(1).expand(1 << 20, 1 << 20)
    with pytest.raises(CheckpointError, match="bytes of tensors, got 4398046511104"):
        read(tmp_path, saved({"a": huge}))


def test_a_number_that_stands_for_millions_is_refused(tmp_path):
    many = torch.zeros(1).expand(1 << 12, 1 << 13)
    with pytest.raises(CheckpointError, match="makes 134217728 bytes of tensors from 4: refused"):
        read(tmp_path, saved({"a": many}))
    few = torch.ones(1).expand(3, 5)
    assert read(tmp_path, saved({"a": few})).parts["flownet"]["a"].shape == (3, 5)


def test_a_file_larger_than_any_network_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "MAX_BYTES", 1000)
    with pytest.raises(CheckpointError, match="may have up to 1000 bytes, got"):
        read(tmp_path, saved({"a": torch.zeros(500)}))


def test_a_state_dict_that_unpacks_to_too_much_is_not_loaded(tmp_path, monkeypatch):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as bomb:
        for name in zipfile.ZipFile(io.BytesIO(saved({"a": torch.zeros(9000)}))).namelist():
            bomb.writestr(name, bytes(100_000))
    assert len(packed.getvalue()) < 5000
    monkeypatch.setattr(archive, "MAX_BYTES", 50_000)
    with pytest.raises(CheckpointError, match="unpacked, may have up to 50000 bytes"):
        read(tmp_path, packed.getvalue())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_torchscript_program_is_refused(tmp_path):
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.Conv2d(1, 1, 1)), buffer)
    with pytest.raises(CheckpointError, match="TorchScript program"):
        read(tmp_path, buffer.getvalue())


def test_safetensors_bring_their_metadata(tmp_path):
    data = safetensors.torch.save({"a": torch.ones(2)}, {"note": "kept"})
    assert read(tmp_path, data, "net.safetensors").metadata == {"note": "kept"}
    assert read(tmp_path, data, "misnamed.pkl").metadata == {"note": "kept"}
    assert read(tmp_path, safetensors.torch.save({"a": torch.ones(2)})).metadata == {}


@pytest.mark.parametrize("start", [b"<h", b" <", b"PK", b"\x80\x02"])
def test_safetensors_are_known_whatever_their_first_bytes(tmp_path, start):
    # The first eight bytes are a length: here one that looks like the start of something else.
    length = int.from_bytes(start, "little")
    header = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'.ljust(length)
    data = length.to_bytes(8, "little") + header + struct.pack("<f", 0.5)
    assert data.startswith(start)
    assert read(tmp_path, data).parts["flownet"]["a"].item() == 0.5


def test_missing_and_unreadable_paths_are_checkpoint_errors(tmp_path):
    with pytest.raises(CheckpointError, match=r"no file or folder at .*gone.pkl"):
        read_weights(tmp_path / "gone.pkl")


def packed(tmp_path, entries, name="train_log.zip"):
    path = tmp_path / name
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive_file:
        for entry, data in entries.items():
            archive_file.writestr(entry, data)
    return path


GOOD = saved({"module.a": torch.ones(2)})


@pytest.mark.parametrize(
    "entries",
    [
        {"flownet.pkl": GOOD},
        {"train_log/flownet.pkl": GOOD, "train_log/IFNet_HDv3.py": b"import os"},
        {"__MACOSX/train_log/._flownet.pkl": b"junk", "train_log/flownet.pkl": GOOD},
        {"flownet_v4.25.pkl": GOOD, "README.md": b""},
        {"a/model.pth": GOOD, "../flownet.pkl": b"climbs", "/flownet.pkl": b"absolute"},
        {"flownet.pkl": GOOD, "old/flownet.pkl": b"deeper"},
    ],
)
def test_a_zip_of_a_folder_is_looked_into(tmp_path, entries):
    before = {"train_log.zip"}
    assert list(read_weights(packed(tmp_path, entries)).parts["flownet"]) == ["a"]
    assert {path.name for path in tmp_path.rglob("*")} == before


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({}, "must hold one file of weights.*got none"),
        ({"readme.txt": b""}, "got none"),
        ({"../flownet.pkl": GOOD}, "damaged|got none|climb"),
        ({"a/x.pkl": GOOD, "a/y.pkl": GOOD}, "got these: a/x.pkl, a/y.pkl"),
        ({"a/flownet.pkl": GOOD, "b/flownet.pkl": GOOD}, "got these: a/flownet.pkl, b/flownet"),
        ({"flownet.pkl": b"<html>"}, "train_log.zip:flownet.pkl is a web page"),
    ],
)
def test_a_zip_without_one_clear_file_of_weights_is_refused(tmp_path, entries, message):
    with pytest.raises(CheckpointError, match=message):
        read_weights(packed(tmp_path, entries))


def test_a_zip_bomb_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "MAX_BYTES", 100_000)
    path = packed(tmp_path, {"flownet.pkl": bytes(200_000)})
    assert path.stat().st_size < 1000
    with pytest.raises(CheckpointError, match="unpacked, may have up to 100000 bytes, got 200000"):
        read_weights(path)


def test_a_zip_of_too_many_entries_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "MAX_ENTRIES", 3)
    with pytest.raises(CheckpointError, match="up to 3 entries, got 4"):
        read_weights(packed(tmp_path, {f"{k}.pkl": b"" for k in range(4)}))


def test_a_damaged_entry_is_refused(tmp_path):
    path = packed(tmp_path, {"flownet.pkl": random.Random(0).randbytes(5000)})
    data = bytearray(path.read_bytes())
    data[2000] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"cannot read .*train_log.zip: Bad CRC"):
        read_weights(path)


@pytest.mark.parametrize("nested", [False, True])
def test_a_folder_is_searched_one_level_deep(tmp_path, nested):
    folder = tmp_path / "train_log" if nested else tmp_path
    folder.mkdir(exist_ok=True)
    (folder / "RIFE_HDv3.py").write_text("raise SystemExit")
    tiny.pickled({"module.a": torch.ones(2)}, folder / "flownet.pkl")
    assert list(read_weights(tmp_path).parts["flownet"]) == ["a"]


def test_a_folder_of_three_files_is_read_as_such(tmp_path):
    for part in ("flownet", "contextnet", "unet"):
        tiny.pickled({"module.a": torch.ones(2)}, tmp_path / f"{part}.pkl")
    assert list(read_weights(tmp_path).parts) == ["flownet", "contextnet", "unet"]


def test_a_folder_without_weights_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"must hold one file of weights.*got none"):
        read_weights(tmp_path)
