"""Where weights live: in the package, or in the user's cache with the hashes they came with.

The cache holds `NAME.pkl`, `NAME.safetensors` or `NAME.zip`, vs-rife's own `flownet_vNAME.pkl`, or
a folder `NAME` with the three files of an early release. `hashes.json` beside them says what each
file hashed to when it came.
"""

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from midflow.errors import CheckpointError

BUNDLED = "midflow-2"
"""The model in the package, loaded by default."""

HASHES = "hashes.json"
_LOCK_POLL_SECONDS = 0.1
_BUNDLED_FOLDER = Path(__file__).parents[1] / "weights"
_CACHED_AS = (
    "{name}.safetensors",
    "{name}.pkl",
    "flownet_v{name}.pkl",
    "{name}.zip",
    "{name}",
)


def cache_folder() -> Path:
    """The folder of pulled weights; it need not exist.

    `$MIDFLOW_HOME`; else `midflow` in `$XDG_CACHE_HOME`, `%LOCALAPPDATA%` (Windows),
    `~/Library/Caches` (macOS) or `~/.cache`.
    """
    if home := os.environ.get("MIDFLOW_HOME"):
        return Path(home).expanduser()
    if caches := os.environ.get("XDG_CACHE_HOME"):
        return Path(caches).expanduser() / "midflow"
    if sys.platform == "win32" and (caches := os.environ.get("LOCALAPPDATA")):
        return Path(caches) / "midflow"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "midflow"
    return Path.home() / ".cache" / "midflow"


def find_weights(name: str, folder: Path | None = None) -> Path | None:
    """File or folder with the weights of `name`: bundled or in `folder` (the cache), or None."""
    if name == BUNDLED:
        return _BUNDLED_FOLDER / f"{BUNDLED}.safetensors"
    folder = folder or cache_folder()
    candidates = (folder / pattern.format(name=name) for pattern in _CACHED_AS)
    return next((path for path in candidates if path.exists()), None)


def hash_files(path: Path) -> dict[str, str]:
    """SHA-256 of a file, or of each file in a folder, by name relative to the parent of `path`."""
    files = sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else [path]
    return {file.relative_to(path.parent).as_posix(): _sha256(file) for file in files}


def read_hashes(folder: Path) -> dict[str, str]:
    """What `record_hashes` wrote to `folder`; empty where nothing was.

    Raises:
        CheckpointError: the record is damaged.
    """
    path = folder / HASHES
    try:
        hashes = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (ValueError, OSError) as error:
        raise CheckpointError(f"cannot read {path}: {error}. Remove it to start afresh") from error
    if not isinstance(hashes, dict):
        raise CheckpointError(f"{path} must hold a table of hashes. Remove it to start afresh")
    return {str(name): str(digest) for name, digest in hashes.items()}


def record_hashes(folder: Path, hashes: dict[str, str]) -> None:
    """Adds to the record of `folder`; the file is replaced whole, never half written."""
    with locked(folder / f".{HASHES}.lock"):
        merged = {**read_hashes(folder), **hashes}
        partial = folder / f".{HASHES}.partial"
        partial.write_text(json.dumps(merged, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        partial.replace(folder / HASHES)


def check_hashes(path: Path) -> bool:
    """Holds `path`, in the cache, to the hashes recorded beside it.

    Returns:
        Whether all its files are on record.

    Raises:
        CheckpointError: a file is not what it was when it came.
    """
    recorded = read_hashes(path.parent)
    if not recorded:
        return False
    hashes = hash_files(path)
    for name, digest in hashes.items():
        if name in recorded and recorded[name] != digest:
            raise CheckpointError(
                f"{path.parent / name} has changed since it was recorded: its SHA-256 must be "
                f"{recorded[name]}, got {digest}. Remove the file and pull it again"
            )
    return hashes.keys() <= recorded.keys()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Waits for, then holds, the lock file `path` against other threads and processes.

    The system lets go of the lock when its holder ends, however it ends; the empty file stays.
    """
    with path.open("ab") as file:
        if sys.platform == "win32":
            import msvcrt

            _wait_for(lambda: msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1))
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _wait_for(attempt: Callable[[], None]) -> None:
    while True:
        try:
            return attempt()
        except OSError:
            time.sleep(_LOCK_POLL_SECONDS)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
