"""Raw bytes of weights: from a file, a folder or a zip, in memory; nothing is unpacked to disk."""

import struct
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from midflow.errors import CheckpointError

MAX_BYTES = 1 << 30
"""No file, archive or network may be larger; the largest release has 120 MB."""
MAX_ENTRIES = 10_000
"""Nor may an archive have more entries."""
ANY_BYTES, _MOST_PACKED = 64 << 20, 50
"""Beyond so many bytes, no archive may unpack to more than so many times its own size: weights are
noise, which hardly packs."""

ZIP_DAMAGE = (
    ArithmeticError,
    EOFError,
    LookupError,
    RuntimeError,  # locked by a password; its child NotImplementedError: packed in an unknown way
    ValueError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
"""What zipfile raises on damaged input."""

SUFFIXES = (".pkl", ".pth", ".pt", ".safetensors")
PARTS = ("flownet", "contextnet", "unet")
"""The files of an early release; later ones have the first only."""


@dataclass(frozen=True)
class RawFile:
    """A file's bytes and the name to call it by in messages."""

    label: str
    data: bytes


def read_parts(path: Path) -> dict[str, RawFile]:
    """The file or files of weights at `path`: part (flownet, contextnet, unet) -> bytes.

    Args:
        path: a file of weights, a folder such as `train_log`, or a zip of one.

    Raises:
        CheckpointError: there are none, several to choose from, or too large ones.
    """
    try:
        if path.is_dir():
            return _read_folder(path)
        if not path.exists():
            raise CheckpointError(f"no file or folder at {path}: check the path")
        if not path.is_file():
            raise CheckpointError(f"{path} is a pipe or a device: copy what it gives to a file")
        if is_archive(path):
            return _read_archive(path)
        return {"flownet": _read_file(path)}
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error


def is_archive(path: Path) -> bool:
    """Whether `path` is a zip of files, not the zip torch.save makes of one state dict."""
    try:
        with zipfile.ZipFile(path) as archive:
            return not is_torch_zip(archive)
    except ZIP_DAMAGE:
        return False  # no zip, or a damaged one: its reader will say


def is_torch_zip(archive: zipfile.ZipFile) -> bool:
    """Whether torch.save wrote the archive."""
    return any(PurePosixPath(name).name == "data.pkl" for name in archive.namelist())


def check_zip(archive: zipfile.ZipFile, packed: int, label: str) -> None:
    """Refuses an archive, of `packed` bytes, that has too many entries or unpacks to too much.

    Raises:
        CheckpointError: it does.
    """
    entries = archive.infolist()
    if len(entries) > MAX_ENTRIES:
        raise CheckpointError(f"{label} may hold up to {MAX_ENTRIES} entries, got {len(entries)}")
    size = sum(entry.file_size for entry in entries)
    _check_size(size, f"{label}, unpacked,")
    if size > max(ANY_BYTES, packed * _MOST_PACKED):
        raise CheckpointError(
            f"{label} unpacks from {packed} to {size} bytes: refused, weights do not pack so well"
        )


def _read_file(path: Path) -> RawFile:
    _check_size(path.stat().st_size, str(path))
    return RawFile(str(path), path.read_bytes())


def _read_folder(folder: Path) -> dict[str, RawFile]:
    """Looks at the folder and one level below it."""
    files = {str(file.relative_to(folder).as_posix()): file for file in _walk(folder)}
    chosen = _choose(files, str(folder))
    return {part: _read_file(files[name]) for part, name in chosen.items()}


def _walk(folder: Path) -> list[Path]:
    here = sorted(folder.iterdir())
    below = [file for sub in here if sub.is_dir() for file in sorted(sub.iterdir())]
    return [file for file in (*here, *below) if file.is_file()]


def _read_archive(path: Path) -> dict[str, RawFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            check_zip(archive, path.stat().st_size, str(path))
            names = {name for name in archive.namelist() if not name.endswith("/")}
            chosen = _choose(names, str(path))
            # No lying header makes an entry longer: zipfile stops at the size `check_zip` summed.
            return {
                part: RawFile(f"{path}:{name}", archive.read(name)) for part, name in chosen.items()
            }
    except ZIP_DAMAGE as error:
        raise CheckpointError(
            f"cannot read {path}: {error}. Is the archive damaged or locked?"
        ) from error


def _choose(names: Iterable[str], label: str) -> dict[str, str]:
    """Part -> which of `names` holds it: flownet and its companions, else the only file of weights.

    Raises:
        CheckpointError: no name, or no single one, is right.
    """
    usable = [name for name in names if _is_usable(name)]
    nets = [name for name in usable if PurePosixPath(name).stem == "flownet"]
    candidates = _shallowest(nets or usable)
    if len(candidates) != 1:
        found = f"these: {', '.join(sorted(candidates))}" if candidates else "none"
        raise CheckpointError(
            f"{label} must hold one file of weights, flownet.pkl or another ending in "
            f"{', '.join(SUFFIXES)}, got {found}"
        )
    flownet = PurePosixPath(candidates[0])
    siblings = {
        PurePosixPath(name).stem: name
        for name in usable
        if PurePosixPath(name).parent == flownet.parent
    }
    companions = {part: siblings[part] for part in PARTS[1:] if part in siblings}
    return {"flownet": candidates[0], **companions}


def _is_usable(name: str) -> bool:
    """A file of weights; not the shadow some systems put beside it, nor a name that climbs out."""
    path = PurePosixPath(name)
    is_hidden = any(piece.startswith((".", "__MACOSX")) for piece in path.parts)
    return (
        path.suffix.lower() in SUFFIXES
        and not is_hidden
        and not path.is_absolute()
        and "\\" not in name
    )


def _shallowest(names: list[str]) -> list[str]:
    depths = {name: len(PurePosixPath(name).parts) for name in names}
    least = min(depths.values(), default=0)
    return [name for name, depth in depths.items() if depth == least]


def _check_size(size: int, label: str) -> None:
    if size > MAX_BYTES:
        raise CheckpointError(
            f"{label} may have up to {MAX_BYTES} bytes, got {size}: no RIFE network is that large"
        )
