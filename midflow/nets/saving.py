"""Network in, weights out: safetensors with the configuration, or pickles the reference reads."""

import io
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from midflow.errors import CheckpointError, OptionError
from midflow.nets.config import IFNetConfig
from midflow.nets.layout import Network, drop_training_only, split_parts
from midflow.nets.legacy import LegacyConfig
from midflow.nets.metadata import Identity, write_metadata
from midflow.nets.statefile import State

_PICKLES = (".pkl", ".pth")
_TRUTH_PLANES = 3  # the true frame, which only the teacher block sees
_MOTION_PLANES = 4  # the flow, always the last planes a block takes


def save_model(model: Network, path: str | Path, *, dtype: torch.dtype = torch.float32) -> Path:
    """Writes the weights of a network, whole or not at all.

    Args:
        model: as `load_model` returns it, or built from a configuration.
        path: `.safetensors`: with configuration and release, for midflow and other readers. `.pkl`,
            `.pth`: a `flownet.pkl` that the reference tools read, keys prefixed `module.`. A folder
            (existing, or a name without suffix): `flownet.pkl` in it, and the two other files of an
            early release.
        dtype: float32, float16 or bfloat16, of the values in the file.

    Returns:
        `path`.

    Raises:
        OptionError: another suffix or dtype, or one file for a network of three.
        CheckpointError: the file cannot be written, or a value is not finite in `dtype`.
    """
    path = Path(path)
    if dtype not in (torch.float32, torch.float16, torch.bfloat16):
        raise OptionError(f"dtype must be float32, float16 or bfloat16, got {dtype}")
    state = _stored(model.state_dict(), dtype)
    if path.suffix == ".safetensors":
        metadata = write_metadata(Identity(model.config, model.release))
        _write(path, safetensors.torch.save(drop_training_only(state), metadata))
    elif path.suffix in _PICKLES and not path.is_dir():
        _save_pickle(model, state, path)
    elif path.suffix == "" or path.is_dir():
        for part, tensors in split_parts(_with_teacher(model, state)).items():
            _write(path / f"{part}.pkl", _pickled(tensors))
    else:
        raise OptionError(
            f"path must end in .safetensors, .pkl or .pth, or name a folder, got {path.name!r}"
        )
    return path


def _save_pickle(model: Network, state: State, path: Path) -> None:
    parts = split_parts(_with_teacher(model, state))
    if len(parts) > 1:
        raise OptionError(
            f"{model.release or 'this network'} is {len(parts)} files to the reference tools: give "
            f"a folder or a name ending in .safetensors, got {path.name!r}"
        )
    _write(path, _pickled(parts["flownet"]))


def _stored(state: Mapping[str, Tensor], dtype: torch.dtype) -> State:
    """Copies on the CPU, contiguous, floating-point ones in `dtype`.

    Raises:
        CheckpointError: a value is not finite, or too large for `dtype`.
    """
    stored = {}
    for key, value in state.items():
        kind = dtype if value.is_floating_point() else value.dtype
        copy = value.detach().to("cpu", kind, copy=True, memory_format=torch.contiguous_format)
        if not copy.isfinite().all():
            raise CheckpointError(
                f"all weights must be finite in {kind}, {key!r} is not: nothing is saved"
            )
        stored[key] = copy
    return stored


def _pickled(tensors: State) -> bytes:
    buffer = io.BytesIO()
    torch.save({f"module.{key}": value for key, value in tensors.items()}, buffer)
    return buffer.getvalue()


def _with_teacher(model: Network, state: State) -> State:
    """`state` as complete as the reference wants it.

    Its paper, 3.5 and HDv3 classes have a teacher block for training and load strictly. Where the
    network has none, the teacher is its last block, blind to the true frame: a fair start if it is
    trained further.
    """
    config = model.config
    has_none = not any(key.startswith("block_tea.") for key in state)
    match config:
        case IFNetConfig():
            needs_one = config.refine
        case LegacyConfig():
            needs_one = config.ensemble == "always"
        case _:
            return state
    if not (has_none and needs_one):
        return state
    last = f"block{len(config.channels) - 1}."
    teacher = {
        "block_tea." + key.removeprefix(last): value
        for key, value in state.items()
        if key.startswith(last)
    }
    entrance = teacher["block_tea.conv0.0.0.weight"]  # (c / 2, planes, 3, 3)
    unseen = entrance.new_zeros(len(entrance), _TRUTH_PLANES, 3, 3)
    before, motion = entrance[:, :-_MOTION_PLANES], entrance[:, -_MOTION_PLANES:]
    teacher["block_tea.conv0.0.0.weight"] = torch.cat((before, unseen, motion), 1)
    return {**state, **{key: value.clone() for key, value in teacher.items()}}


def _write(path: Path, data: bytes) -> None:
    """Replaces `path` by a finished file, so that no reader and no crash ever meets half of one."""
    partial = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            partial.write_bytes(data)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise CheckpointError(f"cannot write {path}: {error.strerror or error}") from error
