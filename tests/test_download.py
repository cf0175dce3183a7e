"""Pulling weights: whatever a server sends, only the release itself is ever kept."""

import io
import json
import threading
import zipfile

import pytest
import torch

from midflow import download
from midflow.download import Progress, pull, verify
from midflow.errors import CheckpointError, UnknownModelError
from midflow.nets import cache
from midflow.nets.checkpoint import load_model
from midflow.nets.releases import RELEASES
from tests import parity
from tests.local_server import serving
from tests.nets import tiny

NAME = "4.12.lite"  # small, and no hash of it is published
PINNED = "4.15.lite"


def saved(state, prefix="module."):
    buffer = io.BytesIO()
    torch.save({prefix + key: value.half() for key, value in state.items()}, buffer)
    return buffer.getvalue()


GOOD = saved(tiny.release_state(NAME))


@pytest.fixture
def site(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving() as running:
        yield running


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MIDFLOW_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def fetch(*urls, name=NAME, **options):
    return pull(name, urls=urls, backoff=0.0, timeout=5.0, **options)


def kept(folder):
    """What a reader of the cache could see."""
    return sorted(p.name for p in folder.iterdir() if not p.name.startswith("."))


def test_a_pulled_release_is_found_by_its_name(site, folder):
    path = fetch(site.add("a.pkl", GOOD))
    assert path == folder / f"{NAME}.pkl"
    assert path.read_bytes() == GOOD
    assert kept(folder) == [f"{NAME}.pkl", "hashes.json"]
    assert load_model(NAME).release == NAME


@pytest.mark.parametrize(
    ("data", "manner", "message"),
    [
        (b"<!DOCTYPE html><title>Not Found</title>", "page", "the server sent a web page"),
        (b"<!DOCTYPE html><title>Not Found</title>", "well", "flownet.pkl is a web page"),
        (b"Not Found", "well", "must be a torch pickle"),
        (GOOD, "short_always", r"ended after \d+ of \d+ bytes"),
        (GOOD, "unmeasured_cut", "the connection broke"),
        (GOOD[:-500], "well", "damaged, cut short"),
        (b"", "unmeasured", r"empty \(0 bytes\)"),
        (b"version https://git-lfs.github.com/spec/v1\n", "well", "Git LFS pointer"),
        (saved({"a": torch.ones(1)}), "well", "block0"),
        (saved(tiny.release_state("4.15.lite")), "well", "4.12.lite has encoder = stack"),
        (saved({"block0.a": torch.tensor(float("nan"))}), "well", "must be finite"),
    ],
    ids=[
        "page",
        "page in disguise",
        "text",
        "short",
        "broken off",
        "truncated",
        "empty",
        "pointer",
        "other weights",
        "other release",
        "nan",
    ],
)
def test_what_is_not_the_release_is_never_kept(site, folder, data, manner, message):
    with pytest.raises(CheckpointError, match=rf"nothing was kept(.|\n)*{message}"):
        fetch(site.add("a.pkl", data, manner), retries=1)
    assert [name for name in kept(folder) if not name.endswith(".partial")] == []
    with pytest.raises(CheckpointError, match="run midflow models pull"):
        load_model(NAME)


def test_a_missing_file_leaves_nothing(site, folder):
    with pytest.raises(CheckpointError, match=r"gone.pkl: HTTP 404 Not Found"):
        fetch(site.address + "/gone.pkl")
    assert kept(folder) == []


def test_a_pickle_that_would_run_code_is_never_kept(site, folder, tmp_path):
    class Touch:
        def __reduce__(self):
            return (tmp_path / "sprung").touch, ()

    buffer = io.BytesIO()
    torch.save({"a": Touch()}, buffer)
    with pytest.raises(CheckpointError, match="refused"):
        fetch(site.add("a.pkl", buffer.getvalue()))
    assert kept(folder) == []
    assert not (tmp_path / "sprung").exists()


def test_a_published_hash_is_held_to(site, folder):
    data = saved(tiny.release_state(PINNED))
    digest = RELEASES[PINNED].sha256
    with pytest.raises(CheckpointError, match=f"its SHA-256 must be {digest}, got"):
        fetch(site.add("a.pkl", data), name=PINNED)
    assert kept(folder) == []


def test_a_published_size_is_held_to(site, folder):
    with pytest.raises(CheckpointError, match=r"must have 21273159 bytes, got \d+"):
        fetch(site.add("a.pkl", saved(tiny.release_state("4.6"))), name="4.6")
    assert kept(folder) == []


def test_a_hash_recorded_at_the_first_pull_is_held_to_at_the_next(site, folder):
    path = fetch(site.add("a.pkl", GOOD))
    path.unlink()
    other = saved(tiny.release_state(NAME) | {"block0.lastconv.0.bias": torch.ones(24)})
    with pytest.raises(CheckpointError, match="it is not what was pulled before"):
        fetch(site.add("b.pkl", other))
    assert kept(folder) == ["hashes.json"]
    assert fetch(site.add("a.pkl", GOOD)) == path


def test_the_hash_is_recorded_at_the_first_pull(site, folder):
    path = fetch(site.add("a.pkl", GOOD))
    assert json.loads((folder / "hashes.json").read_text()) == cache.hash_files(path)


def test_mirrors_are_tried_in_order_and_each_reason_is_told(site, folder):
    bad = [
        site.address + "/gone.pkl",
        site.add("page", b"<html>", "page"),
        site.add("short", GOOD, "short_always"),
    ]
    with pytest.raises(CheckpointError) as caught:
        fetch(*bad, retries=0)
    reasons = str(caught.value).splitlines()[1:]
    assert [reason.split(": ")[0].strip() for reason in reasons] == bad
    assert ["404" in reasons[0], "web page" in reasons[1], "ended after" in reasons[2]] == [
        True
    ] * 3
    assert fetch(*bad, site.add("good.pkl", GOOD), retries=0).read_bytes() == GOOD


def test_an_interrupted_pull_is_taken_up_by_the_next(site, folder):
    url = site.add("a.pkl", GOOD, "cut_in_pieces")
    with pytest.raises(CheckpointError, match="ended after"):
        fetch(url, retries=0)
    site.manners["/a.pkl"] = "well"
    assert fetch(url).read_bytes() == GOOD
    assert site.ranges[-1] == f"bytes={len(GOOD) // 3 + 1}-"
    assert kept(folder) == [f"{NAME}.pkl", "hashes.json"]


def test_a_cut_connection_is_resumed_within_one_pull(site):
    assert fetch(site.add("a.pkl", GOOD, "cut_in_pieces")).read_bytes() == GOOD
    assert len(site.ranges) == 3


def test_what_is_there_is_verified_and_not_fetched_again(site):
    url = site.add("a.pkl", GOOD)
    assert fetch(url) == fetch(url)
    assert len(site.ranges) == 1


def test_what_is_there_and_damaged_is_an_error_not_silently_replaced(site):
    url = site.add("a.pkl", GOOD)
    path = fetch(url)
    path.write_bytes(GOOD[:-10])
    with pytest.raises(CheckpointError, match="has changed since it was recorded"):
        fetch(url)
    path.unlink()
    assert fetch(url).read_bytes() == GOOD


def test_a_zip_of_a_train_log_is_unpacked(site, folder):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("train_log/flownet.pkl", GOOD)
        archive.writestr("train_log/IFNet_HDv3.py", "raise SystemExit")
    assert fetch(site.add("train_log.zip", buffer.getvalue())).read_bytes() == GOOD
    assert kept(folder) == [f"{NAME}.pkl", "hashes.json"]


def test_an_early_release_is_three_files_in_a_folder(site, folder):
    for part, shapes in parity.keys("3.1").items():
        site.add(f"{part}.pkl", saved({key: torch.zeros(shape) for key, shape in shapes.items()}))
    path = fetch(site.address + "/{part}.pkl", name="3.1")
    assert path == folder / "3.1"
    assert sorted(file.name for file in path.iterdir()) == [
        "contextnet.pkl",
        "flownet.pkl",
        "unet.pkl",
    ]
    assert load_model("3.1").config == RELEASES["3.1"].config
    assert verify("3.1").was_recorded
    del site.files["/unet.pkl"]
    for file in path.iterdir():
        file.unlink()
    path.rmdir()
    with pytest.raises(CheckpointError, match=r"unet.pkl|HTTP 404"):
        fetch(site.address + "/{part}.pkl", name="3.1")
    assert kept(folder) == ["hashes.json"]


def test_two_pulls_at_once_fetch_once_and_agree(site, folder):
    url, results, errors = site.add("a.pkl", GOOD, "cut_in_pieces"), [], []

    def run():
        try:
            results.append(fetch(url).read_bytes())
        except CheckpointError as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert results == [GOOD] * 4
    assert len(site.ranges) == 3


def test_progress_names_the_release_and_counts_to_the_total(site):
    told = []
    url = site.add("a.pkl", GOOD)
    fetch(url, on_progress=told.append)
    assert told[-1] == Progress(NAME, url, len(GOOD), len(GOOD))


def test_the_registry_is_where_urls_come_from(site, monkeypatch):
    asked = []
    monkeypatch.setattr(download, "_pull_from", lambda url, *rest: asked.append(url))
    pull("4.26")
    assert asked == [RELEASES["4.26"].urls[0]]


def test_another_folder_can_be_named(site, tmp_path):
    path = fetch(site.add("a.pkl", GOOD), folder=tmp_path / "mine")
    assert path.parent == tmp_path / "mine"
    assert verify(NAME, folder=tmp_path / "mine").path == path


def test_a_release_without_a_link_says_where_to_find_it():
    with pytest.raises(CheckpointError, match=r"rife_2r cannot be pulled.*release='rife_2r'"):
        pull("rife_2r")


def test_unknown_names_are_refused_before_anything_is_fetched(folder):
    with pytest.raises(UnknownModelError, match="did you mean"):
        pull("4.255")
    assert not folder.exists()


def test_a_folder_that_cannot_be_made_is_an_error(site, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match=r"cannot keep weights in .*file"):
        fetch(site.add("a.pkl", GOOD), folder=tmp_path / "file" / "cache")


def test_verifying_records_hashes_of_a_file_brought_along_then_holds_it_to_them(folder):
    folder.mkdir()
    path = folder / f"flownet_v{NAME}.pkl"
    path.write_bytes(GOOD)
    first, second = verify(NAME), verify(NAME)
    assert (first.was_recorded, second.was_recorded) == (False, True)
    assert first.sha256 == second.sha256 == cache.hash_files(path)
    path.write_bytes(GOOD + b"\0")
    with pytest.raises(CheckpointError, match="has changed since it was recorded"):
        verify(NAME)


def test_verifying_what_is_not_there_says_how_to_get_it():
    with pytest.raises(CheckpointError, match=r"run midflow models pull 4.25"):
        verify("4.25")


def test_verifying_another_networks_weights_fails_and_records_nothing(folder):
    folder.mkdir()
    (folder / "4.25.pkl").write_bytes(GOOD)
    with pytest.raises(CheckpointError, match=r"4.25 has channels"):
        verify("4.25")
    assert not (folder / "hashes.json").exists()
