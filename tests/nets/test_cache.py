"""Where weights are kept, and their hashes."""

import json
import sys
import threading
from pathlib import Path

import pytest

from midflow.errors import CheckpointError
from midflow.nets.cache import (
    BUNDLED,
    cache_folder,
    check_hashes,
    find_weights,
    hash_files,
    read_hashes,
    record_hashes,
)


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch):
    for name in ("MIDFLOW_HOME", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", lambda: Path("/home/me"))


@pytest.mark.parametrize(
    ("platform", "environment", "folder"),
    [
        ("linux", {}, "/home/me/.cache/midflow"),
        ("darwin", {}, "/home/me/Library/Caches/midflow"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/midflow"),
        ("linux", {"XDG_CACHE_HOME": "/caches"}, "/caches/midflow"),
        ("darwin", {"XDG_CACHE_HOME": "/caches"}, "/caches/midflow"),
        ("linux", {"XDG_CACHE_HOME": "/caches", "MIDFLOW_HOME": "/mine"}, "/mine"),
    ],
)
def test_cache_is_where_the_platform_or_the_user_wants_it(
    monkeypatch, platform, environment, folder
):
    monkeypatch.setattr(sys, "platform", platform)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert cache_folder() == Path(folder)


@pytest.mark.parametrize("name", ["4.25.pkl", "4.25.safetensors", "flownet_v4.25.pkl", "4.25"])
def test_weights_are_found_under_each_name_they_may_have(tmp_path, name):
    assert find_weights("4.25", tmp_path) is None
    (tmp_path / name).touch()
    assert find_weights("4.25", tmp_path) == tmp_path / name


def test_a_partial_pull_is_not_found(tmp_path):
    (tmp_path / "4.25.partial").mkdir()
    assert find_weights("4.25", tmp_path) is None


def test_the_bundled_model_is_in_the_package_whatever_the_cache_holds(tmp_path):
    (tmp_path / f"{BUNDLED}.pkl").touch()
    path = find_weights(BUNDLED, tmp_path)
    assert path is not None and path.parent.name == "weights"


def test_files_of_a_folder_are_hashed_each(tmp_path):
    (tmp_path / "2.3").mkdir()
    (tmp_path / "2.3" / "unet.pkl").write_bytes(b"")
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert hash_files(tmp_path / "2.3") == {"2.3/unet.pkl": empty}


def test_records_add_up(tmp_path):
    record_hashes(tmp_path, {"a": "1", "b": "2"})
    record_hashes(tmp_path, {"b": "3"})
    assert read_hashes(tmp_path) == {"a": "1", "b": "3"}


def test_records_made_at_once_are_all_kept(tmp_path):
    def record(k):
        record_hashes(tmp_path, {f"file{k}": str(k)})

    threads = [threading.Thread(target=record, args=(k,)) for k in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read_hashes(tmp_path)) == 12


@pytest.mark.parametrize("text", ["{", "[]", "\xff"])
def test_a_damaged_record_is_an_error_that_says_what_to_do(tmp_path, text):
    (tmp_path / "hashes.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(CheckpointError, match=r"hashes.json.*Remove it to start afresh"):
        read_hashes(tmp_path)


def test_a_file_is_held_to_its_record(tmp_path):
    path = tmp_path / "4.25.pkl"
    path.write_bytes(b"weights")
    assert not check_hashes(path)
    record_hashes(tmp_path, hash_files(path))
    assert check_hashes(path)
    assert json.loads((tmp_path / "hashes.json").read_text()).keys() == {"4.25.pkl"}
    path.write_bytes(b"other")
    with pytest.raises(CheckpointError, match=r"4.25.pkl has changed since it was recorded"):
        check_hashes(path)
