"""Weights in, network out: `load_model`; `save_model` is the way back.

    file, folder, zip or name -> safe state dict -> configuration by names and shapes -> strict load

Every tensor the network has must be there in its shape and nothing else may be, but for what only
training uses (`TRAINING_ONLY`). What shapes do not tell (`UNSEEN`) comes from `release=`, or from
the metadata that `save_model` writes.
"""

import os
import re
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path

import torch

from midflow.errors import CheckpointError, UnknownModelError
from midflow.nets.archive import SUFFIXES
from midflow.nets.cache import BUNDLED, check_hashes, find_weights
from midflow.nets.config import IFNetConfig
from midflow.nets.layout import (
    NetConfig,
    Network,
    Shapes,
    build_network,
    drop_training_only,
    expected_shapes,
    infer_config,
    settle,
    shapes_of,
)
from midflow.nets.metadata import Identity, read_metadata
from midflow.nets.releases import (
    RELEASES,
    ModelInfo,
    Release,
    describe_config,
    find_release,
    nearest_releases,
    same_layout,
)
from midflow.nets.saving import save_model
from midflow.nets.statefile import State, StoredWeights, read_weights

__all__ = ["describe", "infer_config", "load_model", "save_model"]

_SHOWN = 4  # keys of a kind named in a message


def load_model(source: str | Path | None = None, *, release: str | None = None) -> Network:
    """Loads a network with its weights.

    Args:
        source: None for the bundled model; a release name such as "4.25" (bundled, or pulled
            before by `midflow models pull`); or a path to weights of any generation: `flownet.pkl`,
            `.pth`, `.safetensors`, a folder such as `train_log`, or a zip of it. A string is a path
            if it holds a separator, ends like a file of weights or names an existing file; else it
            is a name, or a folder where no release is called so.
        release: what the weights are where their shapes cannot tell, such as "rife_2r".

    Returns:
        The network on the CPU in float32 and eval mode; `.config` is its configuration, `.release`
        its name where known.

    Raises:
        UnknownModelError: no release is called `source` or `release`.
        CheckpointError: the weights are missing, damaged, unsafe, or do not fit a network exactly.
    """
    path, name = _locate(source)
    known = release or name
    wanted = find_release(known) if known else None
    if name not in (None, BUNDLED):
        check_hashes(path)
    stored = read_weights(path)
    try:
        return _load(stored, wanted, path)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error


def describe(model: Network) -> ModelInfo:
    """What there is to know about a network: release, size, padding, abilities, configuration."""
    info = describe_config(model.config, model.release)
    known = RELEASES.get(info.name or "")
    return replace(info, status="loaded", notes=known.notes if known else "")


def _locate(source: str | Path | None) -> tuple[Path, str | None]:
    """Where the weights are, and the name of their release if that is how they were asked for."""
    source = BUNDLED if source is None else source
    if isinstance(source, Path) or _is_path(source):
        return Path(source).expanduser(), None
    try:
        release = find_release(source)
    except UnknownModelError:
        if Path(source).is_dir():
            return Path(source), None
        raise
    path = find_weights(release.name)
    if path is None or not path.exists():
        raise CheckpointError(_how_to_get(release))
    return path, release.name


def _is_path(source: str) -> bool:
    has_separator = any(mark in source for mark in {"/", os.sep})
    is_file_name = source.lower().endswith((*SUFFIXES, ".zip"))
    return has_separator or is_file_name or Path(source).is_file()


def _how_to_get(release: Release) -> str:
    name = release.name
    if name == BUNDLED:
        return f"the bundled model {name} is missing from this installation: install midflow again"
    if release.urls:
        return f"the weights of {name} are not on this machine: run midflow models pull {name}"
    return (
        f"the weights of {name} must be brought along ({release.source_note}): "
        f"load_model('path/to/flownet.pkl', release='{name}')"
    )


def _load(stored: StoredWeights, wanted: Release | None, path: Path) -> Network:
    state = _one_state(stored)
    told = (
        read_metadata(stored.metadata) if wanted is None else Identity(wanted.config, wanted.name)
    )
    config = _settled_config(state, told)
    state = drop_training_only(state)
    _require_exact(shapes_of(state), config)
    with torch.device("meta"):  # no memory, and no random number drawn
        model = build_network(config)
    model.load_state_dict(state, assign=True)
    assert not any(value.is_meta for value in (*model.parameters(), *model.buffers()))
    model.release = told.release if told else _name_of(config, path)
    return model.eval()


def _one_state(stored: StoredWeights) -> State:
    """The files of an early release under one roof; one file as it is."""
    if len(stored.parts) == 1:
        return stored.parts["flownet"]
    return {
        f"{part}.{key}": value
        for part, state in stored.parts.items()
        for key, value in state.items()
    }


def _settled_config(state: State, told: Identity | None) -> NetConfig:
    """The configuration shapes tell, completed by what is told.

    Raises:
        CheckpointError: the shapes are no network's, or contradict what completes them.
    """
    shapes = shapes_of(state)
    try:
        inferred = infer_config(shapes)
    except CheckpointError as error:
        raise CheckpointError(f"{error}.{_nearest(shapes)}") from error
    said = told.config if told else inferred
    config = settle(inferred, said)
    if told and config != said:
        raise CheckpointError(
            f"{told.release or 'the stored configuration'} has {_differences(said, config)}, "
            f"the weights do not.{_nearest(shapes)}"
        )
    return replace(config, teacher=False) if isinstance(config, IFNetConfig) else config


def _differences(said: NetConfig, config: NetConfig) -> str:
    if type(said) is not type(config):
        return "another kind of network"
    ours, theirs = asdict(said), asdict(config)
    return ", ".join(f"{name} = {ours[name]}" for name in ours if ours[name] != theirs[name])


def _require_exact(shapes: Shapes, config: NetConfig) -> None:
    """Holds the weights to the network's names and shapes.

    Raises:
        CheckpointError: naming what is missing, strange or misshapen, and the nearest release.
    """
    expected = expected_shapes(config)
    wrong = (key for key in expected if key in shapes and shapes[key] != expected[key])
    faults = {
        "missing": _some(expected.keys() - shapes.keys()),
        "not part of it": _some(shapes.keys() - expected.keys()),
        "of the wrong shape": _some(
            f"{k} {list(shapes[k])}, not {list(expected[k])}" for k in wrong
        ),
    }
    told = "; ".join(f"{fault}: {keys}" for fault, keys in faults.items() if keys)
    if told:
        raise CheckpointError(
            f"the weights do not fit the network they describe. {told}.{_nearest(shapes)}"
        )


def _some(keys: Iterable[str]) -> str:
    ordered = sorted(keys)
    more = f" and {len(ordered) - _SHOWN} more" if len(ordered) > _SHOWN else ""
    return ", ".join(ordered[:_SHOWN]) + more


def _nearest(shapes: Shapes) -> str:
    names = nearest_releases(drop_training_only(shapes))
    return f" The nearest release is {' or '.join(names)}" if names else " No release is like it"


def _name_of(config: NetConfig, path: Path) -> str | None:
    """The release: the only one of this configuration, or as the file is named."""
    fits = [name for name in same_layout(config) if RELEASES[name].config == config]
    if len(fits) == 1 and fits != [BUNDLED]:
        return fits[0]
    text = re.sub(r"[-_]", ".", f"{path.parent.name}/{path.name}".lower())
    pattern = r"(?<![\d.]){}(?!\d|\.(?:lite|heavy))"
    return next((name for name in fits if re.search(pattern.format(re.escape(name)), text)), None)
