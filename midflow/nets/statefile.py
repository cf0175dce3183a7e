"""Files of weights, read safely: pickle, safetensors, folder or zip -> tensors by name.

Nothing is executed: a pickle is looked through before it is loaded, and loaded `weights_only`; one
that asks for anything but tensors is refused by the name of what it asks for. Every value must be
finite.
"""

import io
import json
import pickle
import pickletools
import re
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from midflow.errors import CheckpointError
from midflow.nets.archive import ANY_BYTES, MAX_BYTES, ZIP_DAMAGE, RawFile, check_zip, read_parts

State = dict[str, Tensor]

_WRAPPERS = ("state_dict", "model_state_dict", "model", "flownet", "params", "net")
_PREFIXES = ("module.", "_orig_mod.")  # of DistributedDataParallel and of torch.compile
_TENSOR_GLOBALS = re.compile(
    r"collections\.OrderedDict|torch\.Size|torch\.\w+Storage|torch\.(b?float|int)\d+"
    r"|torch\._utils\._rebuild_(tensor|tensor_v2|parameter)"
)
_MOST_REPEATED = 8  # times what is stored; half precision and shared tensors need some
_MAX_HEADER = 100_000_000  # bytes; the safetensors format's own limit
# What the loaders raise on damaged input, besides what they mean to.
_DAMAGE = (
    *ZIP_DAMAGE,
    AssertionError,
    AttributeError,
    MemoryError,
    TypeError,
    pickle.UnpicklingError,
    safetensors.SafetensorError,
)


@dataclass(frozen=True)
class StoredWeights:
    """What a file, folder or archive of weights holds."""

    parts: dict[str, State]
    """flownet, and contextnet and unet of early releases -> key -> float32 tensor."""
    metadata: dict[str, str] = field(default_factory=dict)
    """Text stored beside the tensors (safetensors)."""


def read_weights(path: Path) -> StoredWeights:
    """Reads a file, folder or zip of weights; prefixes that wrappers put before keys are removed.

    Raises:
        CheckpointError: there are no weights, or they cannot be read safely.
    """
    files = read_parts(path)
    read = {part: _read_file(file) for part, file in files.items()}
    return StoredWeights(
        {part: _tidy(stored.tensors, files[part].label) for part, stored in read.items()},
        read["flownet"].metadata,
    )


@dataclass(frozen=True)
class _Content:
    tensors: dict[Any, Any]
    metadata: dict[str, str] = field(default_factory=dict)


def _read_file(file: RawFile) -> _Content:
    """Tells what kind of file it is and reads it.

    Raises:
        CheckpointError: it is no kind of weights, damaged or unsafe.
    """
    data, label = file.data, file.label
    if not data:
        raise CheckpointError(f"{label} is empty (0 bytes): fetch it again")
    if _has_safetensors_header(data):  # first, as it may begin with any byte
        return _read_safetensors(data, label)
    if data.startswith(b"version https://git-lfs"):
        raise CheckpointError(
            f"{label} is a Git LFS pointer, not the weights it points to: run git lfs pull"
        )
    if data[:512].lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        raise CheckpointError(
            f"{label} is a web page, not weights: open the link in a browser to see why"
        )
    if data.startswith(b"PK"):
        return _Content(_read_torch_zip(data, label))
    # torch before 2.6 unpacks tar files with an unrestricted unpickler (CVE-2025-32434).
    if data.startswith(b"\x80") and not tarfile.is_tarfile(io.BytesIO(data)):
        return _Content(_read_pickle(data, data, label))
    raise CheckpointError(
        f"{label} must be a torch pickle (.pkl, .pth), safetensors or a zip of them, "
        f"got a file that begins with {data[:12]!r}"
    )


def _has_safetensors_header(data: bytes) -> bool:
    return data[8:9] == b"{" and int.from_bytes(data[:8], "little") <= _MAX_HEADER


def _read_safetensors(data: bytes, label: str) -> _Content:
    try:
        tensors = safetensors.torch.load(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    except _DAMAGE as error:
        raise _damaged(label, error) from error
    return _Content(tensors, header.get("__metadata__", {}))


def _read_torch_zip(data: bytes, label: str) -> dict[Any, Any]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            check_zip(archive, len(data), label)
            names = archive.namelist()
            pickles = [name for name in names if name.rpartition("/")[2] == "data.pkl"]
            if any(name.endswith("/constants.pkl") for name in names):
                raise CheckpointError(
                    f"{label} is a TorchScript program, not weights: load the flownet.pkl behind it"
                )
            if len(pickles) != 1:
                raise CheckpointError(
                    f"{label} must hold one data.pkl, got {len(pickles)}: is it weights?"
                )
            program = archive.read(pickles[0])
    except _DAMAGE as error:
        raise _damaged(label, error) from error
    return _read_pickle(program, data, label)


def _read_pickle(program: bytes, data: bytes, label: str) -> dict[Any, Any]:
    """Loads the state dict in `data`, whose pickle is, or begins, `program`."""
    _refuse_foreign(program, label)
    try:
        content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except _DAMAGE as error:
        raise _damaged(label, error) from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{label} must hold a state dict, got {type(content).__name__}")
    wrapped = (content[name] for name in _WRAPPERS if isinstance(content.get(name), dict))
    return next(wrapped, content)


def _refuse_foreign(program: bytes, label: str) -> None:
    """Refuses a pickle that asks for anything but tensors; the loader would too, with less to say.

    Raises:
        CheckpointError: it does, or cannot be looked through.
    """
    try:
        foreign = [name for name in _globals(program) if not _TENSOR_GLOBALS.fullmatch(name)]
    except _DAMAGE as error:
        raise _damaged(label, error) from error
    if foreign:
        raise CheckpointError(
            f"{label} must hold tensors only, it asks for {foreign[0]}: refused, as loading it "
            "would run code. Have it saved as a state dict of tensors"
        )


def _globals(program: bytes) -> Iterator[str]:
    """Dotted names of everything the pickles at the beginning of `program` would import."""
    stream = io.BytesIO(program)
    for _ in range(4):  # the old torch format: magic number, version, machine, then the object
        if program[stream.tell() : stream.tell() + 1] != b"\x80":
            return
        yield from _pickle_globals(stream)


def _pickle_globals(stream: io.BytesIO) -> Iterator[str]:
    strings: list[str] = []
    memo: dict[int, str] = {}
    for opcode, argument, _ in pickletools.genops(stream):
        if opcode.name in ("GLOBAL", "INST"):
            yield str(argument).replace(" ", ".")
        elif opcode.name == "STACK_GLOBAL":
            yield ".".join(strings[-2:])
        elif "UNICODE" in opcode.name:
            strings.append(str(argument))
        elif opcode.name == "MEMOIZE" or "PUT" in opcode.name:
            memo[len(memo) if argument is None else argument] = strings[-1] if strings else ""
        elif "GET" in opcode.name:
            strings.append(memo.get(argument or 0, ""))


def _tidy(content: dict[Any, Any], label: str) -> State:
    """The tensors alone, in float32, under the network's own keys.

    Raises:
        CheckpointError: an entry is no tensor of finite numbers, or all together are too large.
    """
    if not content:
        raise CheckpointError(f"{label} holds no tensors: is it the right file?")
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise CheckpointError(
                f"{label} must hold tensors by name only, got {type(value).__name__} at {key!r}"
            )
    size = 4 * sum(value.numel() for value in content.values())
    if size > MAX_BYTES:
        raise CheckpointError(f"{label} may hold up to {MAX_BYTES} bytes of tensors, got {size}")
    stored = {value.untyped_storage().data_ptr(): value for value in content.values()}
    held = sum(value.untyped_storage().nbytes() for value in stored.values())
    if size > max(ANY_BYTES, _MOST_REPEATED * held):
        raise CheckpointError(
            f"{label} makes {size} bytes of tensors from {held}: refused, weights do not repeat so"
        )
    return {key: _plain(value, key, label) for key, value in _plain_keys(content, label).items()}


def _plain_keys(state: State, label: str) -> State:
    for prefix in _PREFIXES:
        wrapped = sum(key.startswith(prefix) for key in state)
        if wrapped == len(state):
            return _plain_keys(
                {key.removeprefix(prefix): value for key, value in state.items()}, label
            )
        if wrapped:
            raise CheckpointError(
                f"all keys of {label} or none must begin with {prefix!r}, got {wrapped} of them"
            )
    return state


def _plain(value: Tensor, key: str, label: str) -> Tensor:
    """A copy of its own in float32 (counters stay integers)."""
    if not value.is_floating_point():
        if value.dtype in (torch.int64, torch.int32):
            return value.detach().to(torch.int64, copy=True)
        raise CheckpointError(f"{key!r} in {label} must be floating point, got {value.dtype}")
    plain = value.detach().to(torch.float32, copy=True, memory_format=torch.contiguous_format)
    if not plain.isfinite().all():
        raise CheckpointError(
            f"all weights must be finite, got NaN or infinity in {key!r} of {label}: the file is "
            "damaged or its training diverged"
        )
    return plain


def _damaged(label: str, error: BaseException) -> CheckpointError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return CheckpointError(
        f"{label} is damaged, cut short or in a form that cannot be read safely ({reason}): "
        "fetch it again, or have it saved with torch.save"
    )
