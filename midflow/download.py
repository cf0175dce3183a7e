"""Weights of a release from the network into the cache: `pull`, and `verify` what is there.

    mirrors in turn -> NAME.partial/ (resumed) -> hash, tensors, configuration checked -> NAME.pkl

Nothing becomes NAME.pkl before it has been read as the network it should be.
"""

import logging
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from midflow.errors import CheckpointError
from midflow.nets.archive import MAX_BYTES, PARTS, is_archive, read_parts
from midflow.nets.cache import (
    BUNDLED,
    HASHES,
    cache_folder,
    check_hashes,
    find_weights,
    hash_files,
    locked,
    read_hashes,
    record_hashes,
)
from midflow.nets.checkpoint import load_model
from midflow.nets.releases import Release, find_release
from midflow.transfer import TransferError, fetch

_log = logging.getLogger(__name__)


class Progress(NamedTuple):
    """How far a pull has come."""

    name: str
    """The release."""
    url: str
    """Where from."""
    received: int
    """Bytes so far."""
    total: int | None
    """Bytes in all; None where the server does not say."""


class Verified(NamedTuple):
    """Weights on this machine that are what they should be."""

    name: str
    """The release."""
    path: Path
    """File or folder."""
    sha256: dict[str, str]
    """Of each file."""
    was_recorded: bool
    """Whether the hashes were on record before; otherwise they are from here on."""


class _Options(NamedTuple):
    on_progress: Callable[[Progress], None] | None
    retries: int
    timeout: float
    backoff: float


def pull(
    name: str,
    *,
    folder: Path | None = None,
    urls: Sequence[str] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    retries: int = 3,
    timeout: float = 30.0,
    backoff: float = 1.0,
) -> Path:
    """Fetches the weights of a release into the cache, where `load_model(name)` finds them.

    A second pull of the same release, in another thread or process, waits for the first. An
    interrupted one is taken up where it stopped.

    Args:
        name: a release.
        folder: where to keep it, the cache by default.
        urls: mirrors to try instead of the registry's, in order.
        on_progress: called with each chunk that arrives.
        retries: further attempts at each mirror after failures that may pass.
        timeout: seconds without an answer or a byte.
        backoff: seconds before the first retry, doubled each time.

    Returns:
        The file, or the folder of three files of an early release.

    Raises:
        UnknownModelError: no release has the name.
        CheckpointError: no mirror had the right weights (each is listed with its reason), what is
            in the cache is damaged, or the folder cannot be written.
    """
    release = find_release(name)
    folder = folder or cache_folder()
    mirrors = tuple(urls or release.urls)
    if release.name != BUNDLED and not mirrors:
        raise CheckpointError(
            f"{release.name} cannot be pulled ({release.source_note}). With the file at hand: "
            f"load_model('path/to/flownet.pkl', release='{release.name}')"
        )
    try:
        return _pull(release, folder, mirrors, _Options(on_progress, retries, timeout, backoff))
    except OSError as error:
        raise CheckpointError(f"cannot keep weights in {folder}: {error.strerror}") from error


def verify(name: str, *, folder: Path | None = None) -> Verified:
    """Hashes the weights of a release again and reads them as its network.

    Hashes that are not on record yet are recorded.

    Raises:
        UnknownModelError: no release has the name.
        CheckpointError: the weights are not on this machine, have changed or are another network's.
    """
    release = find_release(name)
    path = find_weights(release.name, folder)
    if path is None or not path.exists():
        raise CheckpointError(
            f"the weights of {release.name} are not on this machine: "
            f"run midflow models pull {release.name}"
        )
    was_recorded = release.name == BUNDLED or check_hashes(path)
    load_model(path, release=release.name)
    hashes = hash_files(path)
    if not was_recorded:
        record_hashes(path.parent, hashes)
    return Verified(release.name, path, hashes, was_recorded)


def _pull(release: Release, folder: Path, mirrors: tuple[str, ...], options: _Options) -> Path:
    if release.name == BUNDLED:
        return verify(BUNDLED).path
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / f".{release.name}.lock"):
        if find_weights(release.name, folder):
            return verify(release.name, folder=folder).path
        reasons = []
        for url in mirrors:
            try:
                return _pull_from(url, release, folder, options)
            except (TransferError, CheckpointError) as error:
                _log.info("%s from %s: %s", release.name, url, error)
                reasons.append(f"{url}: {error}")
    raise CheckpointError(
        f"no mirror had the weights of {release.name}, nothing was kept:\n  " + "\n  ".join(reasons)
    )


def _pull_from(url: str, release: Release, folder: Path, options: _Options) -> Path:
    """Fetches, checks and keeps.

    Raises:
        TransferError: it did not come; what did stays, for the next attempt to go on from.
        CheckpointError: it is not this release's weights; nothing of it stays.
    """
    staging = folder / f"{release.name}.partial"
    staging.mkdir(exist_ok=True)
    try:
        _fetch_parts(url, release, staging, options)
    except TransferError as error:
        if error.is_final:
            shutil.rmtree(staging, ignore_errors=True)
        raise
    try:
        return _keep(staging, release)
    except CheckpointError as error:
        reason = str(error).replace(f"{staging}{os.sep}", "")
        raise CheckpointError(reason) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _fetch_parts(url: str, release: Release, staging: Path, options: _Options) -> None:
    """Downloads to `staging`, one file for each part."""
    for part in PARTS if "{part}" in url else PARTS[:1]:
        address = url.replace("{part}", part)

        def report(received: int, total: int | None, address: str = address) -> None:
            if options.on_progress:
                options.on_progress(Progress(release.name, address, received, total))

        fetch(
            address,
            staging / f"{part}.pkl",
            limit=MAX_BYTES,
            retries=options.retries,
            timeout=options.timeout,
            backoff=options.backoff,
            on_bytes=report,
        )


def _keep(staging: Path, release: Release) -> Path:
    """Moves what is in `staging` to its place beside it, once it has been found right.

    Raises:
        CheckpointError: it has not.
    """
    flownet = staging / "flownet.pkl"
    if is_archive(flownet):
        for part, file in read_parts(flownet).items():
            (staging / f"{part}.pkl").write_bytes(file.data)
    for note in staging.glob("*.json"):
        note.unlink()
    is_single = len(list(staging.iterdir())) == 1
    source = flownet if is_single else staging
    target = staging.with_name(f"{release.name}.pkl" if is_single else release.name)
    _require_published(flownet, release)
    _require_recorded(source, target)
    load_model(source, release=release.name)
    source.replace(target)
    record_hashes(target.parent, hash_files(target))
    return target


def _require_published(flownet: Path, release: Release) -> None:
    """Holds the file to the size and hash the registry knows, if any."""
    size = flownet.stat().st_size
    if release.size is not None and size != release.size:
        raise CheckpointError(f"must have {release.size} bytes, got {size}")
    digest = hash_files(flownet)[flownet.name]
    if release.sha256 is not None and digest != release.sha256:
        raise CheckpointError(f"its SHA-256 must be {release.sha256}, got {digest}")


def _require_recorded(source: Path, target: Path) -> None:
    """Holds what came to the hashes an earlier pull of it recorded."""
    recorded = read_hashes(target.parent)
    for name, digest in hash_files(source).items():
        kept_as = name.replace(source.name, target.name, 1)
        if recorded.get(kept_as, digest) != digest:
            raise CheckpointError(
                f"it is not what was pulled before: its SHA-256 must be {recorded[kept_as]}, "
                f"got {digest}. If that is expected, remove {kept_as} from {target.parent / HASHES}"
            )
