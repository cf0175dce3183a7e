"""Fetching one URL: whole or an error, resumed where it can be."""

import random
import socket

import pytest

from midflow.transfer import TransferError, fetch
from tests.local_server import serving

DATA = random.Random(1).randbytes(300_000)
LIMIT = 1_000_000


def get(url, path, **options):
    fetch(url, path, limit=LIMIT, backoff=0.0, timeout=5.0, **options)
    return path.read_bytes()


@pytest.fixture
def site(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving() as running:
        yield running


@pytest.fixture
def path(tmp_path):
    return tmp_path / "file.partial"


@pytest.mark.parametrize(
    ("manner", "requests"),
    [
        ("well", 1),
        ("unmeasured", 1),
        ("busy_first", 2),
        ("cut_in_pieces", 3),
        ("whole_always", 2),
        ("wrong_piece", 3),
    ],
)
def test_the_whole_file_arrives_however_it_is_sent(site, path, manner, requests):
    assert get(site.add("a", DATA, manner), path) == DATA
    assert len(site.ranges) == requests


def test_a_cut_connection_is_resumed_from_the_byte_it_broke_at(site, path):
    get(site.add("a", DATA, "cut_in_pieces"), path)
    assert site.ranges == [None, "bytes=100001-", "bytes=200002-"]


def test_a_later_call_goes_on_where_an_earlier_one_gave_up(site, path):
    url = site.add("a", DATA, "cut_in_pieces")
    with pytest.raises(TransferError, match="ended after 100001 of 300000 bytes"):
        get(url, path, retries=0)
    site.manners["/a"] = "well"
    assert get(url, path) == DATA
    assert site.ranges[-1] == "bytes=100001-"


def test_a_complete_partial_file_is_not_asked_for_again(site, path):
    url = site.add("a", DATA)
    get(url, path)
    assert get(url, path) == DATA
    assert len(site.ranges) == 1


@pytest.mark.parametrize(("version", "more"), [('"2"', b""), ('"2"', b"longer"), ("", b"longer")])
def test_a_file_that_changed_meanwhile_is_fetched_afresh(site, path, version, more):
    url = site.add("a", DATA, "cut_in_pieces")
    with pytest.raises(TransferError):
        get(url, path, retries=0)
    site.version, site.manners["/a"] = version, "well"
    site.files["/a"] = DATA[::-1] + more
    assert get(url, path) == DATA[::-1] + more


def test_another_mirror_does_not_go_on_from_the_first_ones_bytes(site, path):
    with pytest.raises(TransferError):
        get(site.add("a", DATA, "cut_in_pieces"), path, retries=0)
    assert get(site.add("b", DATA[::-1]), path) == DATA[::-1]
    assert site.ranges == [None, None]


@pytest.mark.parametrize("note", ["", "{", "[]", '{"url": 3, "what": 4}'])
def test_a_partial_file_without_a_sound_note_is_not_trusted(site, path, note):
    path.write_bytes(b"x" * 500)
    path.with_name("file.partial.json").write_text(note)
    assert get(site.add("a", DATA), path) == DATA


def test_a_partial_file_longer_than_the_whole_is_thrown_away(site, path):
    url = site.add("a", DATA, "cut_in_pieces")
    with pytest.raises(TransferError):
        get(url, path, retries=0)
    path.write_bytes(DATA + b"more")
    site.manners["/a"] = "well"
    assert get(url, path) == DATA


@pytest.mark.parametrize(
    ("manner", "message", "requests"),
    [
        ("short_always", "ended after 300000 of 301000 bytes", 3),
        ("unmeasured_cut", "the connection broke", 3),
        ("page", "a web page", 1),
        ("squeezed", "compressed", 1),
    ],
)
def test_what_does_not_arrive_whole_is_an_error(site, path, manner, message, requests):
    with pytest.raises(TransferError, match=message):
        get(site.add("a", DATA, manner), path, retries=2)
    assert len(site.ranges) == requests


def test_a_missing_file_is_not_asked_for_again(site, path):
    with pytest.raises(TransferError, match="HTTP 404 Not Found") as caught:
        get(site.address + "/gone", path)
    assert caught.value.is_final
    assert len(site.ranges) == 1
    assert not path.exists()


def test_larger_than_allowed_is_refused_before_or_while_it_comes(site, path):
    for manner in ("well", "unmeasured"):
        with pytest.raises(TransferError, match="may have up to 2000 bytes"):
            fetch(site.add("a", DATA, manner), path, limit=2000, backoff=0.0)


def test_nobody_listening_is_an_error_after_all_retries(path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/a"
        with pytest.raises(TransferError, match="no connection") as caught:
            get(url, path, retries=1)
    assert not caught.value.is_final


def test_a_server_that_says_nothing_times_out(path):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/a"
        with pytest.raises(TransferError, match="timed out"):
            fetch(url, path, limit=LIMIT, retries=0, timeout=0.2)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/a", "flownet.pkl"])
def test_only_web_addresses_are_fetched(path, url):
    with pytest.raises(TransferError, match="must be an http or https address"):
        get(url, path)


def test_progress_is_told_with_the_total_where_it_is_known(site, path):
    told = []
    get(site.add("a", DATA), path, on_bytes=lambda *now: told.append(now))
    assert told[-1] == (300_000, 300_000)
    assert [received for received, _ in told] == sorted(received for received, _ in told)
    get(site.add("b", DATA, "unmeasured"), path, on_bytes=lambda *now: told.append(now))
    assert told[-1] == (300_000, None)


def test_waiting_doubles_between_attempts(site, path, monkeypatch):
    waits = []
    monkeypatch.setattr("midflow.transfer.time.sleep", waits.append)
    with pytest.raises(TransferError):
        fetch(site.add("a", DATA, "short_always"), path, limit=LIMIT, retries=3, backoff=0.5)
    assert waits == [0.5, 1.0, 2.0]


def test_a_full_disk_is_not_taken_for_a_bad_connection(site, path):
    def full(received, total):
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        get(site.add("a", DATA), path, on_bytes=full)
    assert len(site.ranges) == 1
