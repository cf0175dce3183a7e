"""One URL into one file: retry, resume, and no trust in what the server says it sent."""

import http.client
import json
import re
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_CHUNK_BYTES = 1 << 18
_TRY_LATER = (408, 416, 425, 429)  # and all 5xx


class TransferError(Exception):
    """Why a URL could not be fetched."""

    def __init__(self, reason: str, *, is_final: bool = False) -> None:
        super().__init__(reason)
        self.is_final = is_final
        """Whether trying again would get the same answer."""


@dataclass(frozen=True)
class _Origin:
    """What a partial file is the beginning of; kept beside it."""

    url: str
    version: str = ""
    """The server's ETag or date for the content."""
    total: int | None = None
    """Bytes of the whole."""


def fetch(
    url: str,
    path: Path,
    *,
    limit: int,
    retries: int = 3,
    timeout: float = 30.0,
    backoff: float = 1.0,
    on_bytes: Callable[[int, int | None], None] = lambda received, total: None,
) -> None:
    """Downloads `url` to `path`, from where an earlier attempt at the same URL stopped.

    Args:
        url: http or https.
        path: holds what has come so far, also after a failure; `PATH.json` beside it says what of.
        limit: bytes; a larger file is refused.
        retries: further attempts after failures that may pass.
        timeout: seconds without an answer or a byte.
        backoff: seconds before the first retry, doubled each time.
        on_bytes: called with bytes received and bytes in all (None where the server does not say).

    Raises:
        TransferError: it did not come whole.
    """
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise TransferError("must be an http or https address", is_final=True)
    for attempt in range(retries + 1):
        try:
            return _attempt(url, path, limit, timeout, on_bytes)
        except TransferError as error:
            if error.is_final or attempt == retries:
                raise
            time.sleep(backoff * 2**attempt)


def _attempt(
    url: str,
    path: Path,
    limit: int,
    timeout: float,
    on_bytes: Callable[[int, int | None], None],
) -> None:
    origin, offset = _progress(url, path)
    if origin.total is not None and offset == origin.total:
        return
    with _open(origin, path, offset, timeout) as response:
        origin, offset = _begin(response, origin, path, offset)
        _require_weights(response, origin, limit)
        _note(path).write_text(json.dumps(asdict(origin)), encoding="utf-8")
        received = _copy(response, path, offset, limit, origin.total, on_bytes)
    if origin.total is not None and received != origin.total:
        raise TransferError(f"the connection ended after {received} of {origin.total} bytes")


def _progress(url: str, path: Path) -> tuple[_Origin, int]:
    """What the partial file at `path` is of, and its bytes; a fresh start where not of `url`."""
    try:
        origin = _Origin(**json.loads(_note(path).read_text(encoding="utf-8")))
        if origin.url == url:
            return origin, path.stat().st_size
    except (OSError, ValueError, TypeError):
        pass  # no note, or half of one: nothing to go on from
    _forget(path)
    return _Origin(url), 0


def _open(origin: _Origin, path: Path, offset: int, timeout: float) -> Any:
    """Asks for the bytes from `offset` on.

    Raises:
        TransferError: the server refuses.
    """
    from midflow import __version__

    headers = {"User-Agent": f"midflow/{__version__}", "Accept-Encoding": "identity"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
        if origin.version:
            headers["If-Range"] = origin.version  # the whole of it if it has changed
    request = urllib.request.Request(origin.url, headers=headers)
    try:
        return urllib.request.urlopen(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        error.close()
        if (
            error.code == 416
        ):  # there is nothing behind what came: it cannot be the beginning of this
            _forget(path)
        may_pass = error.code in _TRY_LATER or error.code >= 500
        raise TransferError(f"HTTP {error.code} {error.reason}", is_final=not may_pass) from error
    except urllib.error.URLError as error:
        is_final = isinstance(error.reason, ssl.SSLCertVerificationError)
        raise TransferError(f"no connection: {error.reason}", is_final=is_final) from error
    except (OSError, http.client.HTTPException) as error:
        raise TransferError(f"no connection: {error or type(error).__name__}") from error


def _begin(response: Any, origin: _Origin, path: Path, offset: int) -> tuple[_Origin, int]:
    """What is coming and where it begins: at `offset`, or at 0 where the server sends the whole."""
    headers = response.headers
    version = headers.get("ETag") or headers.get("Last-Modified") or ""
    if response.status != 206:
        length = headers.get("Content-Length", "")
        return _Origin(origin.url, version, int(length) if length.isdecimal() else None), 0
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", headers.get("Content-Range", ""))
    if not found or int(found[1]) != offset or int(found[2]) != origin.total:
        _forget(path)
        raise TransferError(
            f"the server continued with {headers.get('Content-Range')!r}, "
            f"asked for byte {offset} of {origin.total}"
        )
    return _Origin(origin.url, version or origin.version, origin.total), offset


def _require_weights(response: Any, origin: _Origin, limit: int) -> None:
    kind = response.headers.get_content_type()
    if kind == "text/html":
        raise TransferError("the server sent a web page, not a file of weights", is_final=True)
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise TransferError("the server compressed the file though asked not to", is_final=True)
    if origin.total is not None and origin.total > limit:
        raise TransferError(f"may have up to {limit} bytes, got {origin.total}", is_final=True)


def _copy(
    response: Any,
    path: Path,
    offset: int,
    limit: int,
    total: int | None,
    on_bytes: Callable[[int, int | None], None],
) -> int:
    """Writes the answer to `path` from `offset` on; returns the bytes there then."""
    with path.open("r+b" if offset else "wb") as file:
        file.seek(offset)
        for chunk in _chunks(response):
            offset += len(chunk)
            if offset > limit:
                raise TransferError(f"may have up to {limit} bytes, more came", is_final=True)
            file.write(chunk)
            on_bytes(offset, total)
    return offset


def _chunks(response: Any) -> Iterator[bytes]:
    """The rest of the answer; apart, so that its writer's disk errors are not taken for its own."""
    while True:
        try:
            chunk = response.read(_CHUNK_BYTES)
        except (OSError, http.client.HTTPException) as error:
            raise TransferError(f"the connection broke: {error or type(error).__name__}") from error
        if not chunk:
            return
        yield chunk


def _forget(path: Path) -> None:
    """Removes a partial file and the note beside it."""
    path.unlink(missing_ok=True)
    _note(path).unlink(missing_ok=True)


def _note(path: Path) -> Path:
    return path.with_name(path.name + ".json")
