"""A configuration as text beside the tensors of a safetensors file, and back."""

import json
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from typing import Any

from midflow.errors import CheckpointError, OptionError
from midflow.nets.config import IFNetConfig
from midflow.nets.layout import UNSEEN, NetConfig
from midflow.nets.legacy import LegacyConfig

_CONFIG, _NETWORK, _RELEASE = "midflow.config", "midflow.network", "midflow.release"
_NETWORKS: dict[str, type[NetConfig]] = {"ifnet": IFNetConfig, "legacy": LegacyConfig}
_MAX_SCALE = 256  # a block coarser than that sees nothing


def metadata_of(config: NetConfig, release: str | None) -> dict[str, str]:
    """What `save_model` stores: the configuration without its training parts, and the release."""
    if isinstance(config, IFNetConfig):
        config = replace(config, teacher=False)
    network = next(name for name, kind in _NETWORKS.items() if isinstance(config, kind))
    text = {"format": "pt", _NETWORK: network, _CONFIG: json.dumps(asdict(config), sort_keys=True)}
    return {**text, _RELEASE: release} if release else text


def config_from_metadata(metadata: Mapping[str, str]) -> NetConfig | None:
    """The stored configuration; None where `save_model` did not write the file.

    Raises:
        CheckpointError: it cannot be read: damaged, or written by a later midflow.
    """
    if _CONFIG not in metadata:
        return None
    kind = _NETWORKS.get(metadata.get(_NETWORK, ""))
    try:
        values = json.loads(metadata[_CONFIG])
        if kind is None or not isinstance(values, dict):
            raise ValueError(f"no such network: {metadata.get(_NETWORK)!r}")
        strangers = values.keys() - {field.name for field in fields(kind)}
        if strangers:
            raise ValueError(f"unknown fields {sorted(strangers)}")
        config = kind(**{name: _frozen(value) for name, value in values.items()})
        _check_unseen(config)
    except (ValueError, TypeError, OptionError) as error:
        raise CheckpointError(
            f"cannot read the stored configuration ({error}): it is damaged or a later midflow's."
            " Say what it is with release="
        ) from error
    return config


def release_from_metadata(metadata: Mapping[str, str]) -> str | None:
    """The stored release name."""
    return metadata.get(_RELEASE)


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _check_unseen(config: NetConfig) -> None:
    """Shapes vouch for the other fields, not for these.

    Raises:
        ValueError: one of them is no value a network could have.
    """
    for name in UNSEEN[type(config)]:
        value = getattr(config, name)
        if name == "scales":
            is_right = all(type(scale) is int and 1 <= scale <= _MAX_SCALE for scale in value)
        elif name == "stride":
            is_right = value in (2, 4)
        elif name == "ensemble":
            is_right = value in ("never", "optional", "always")
        else:
            is_right = isinstance(value, bool)
        if not is_right:
            raise ValueError(f"{name} cannot be {value!r}")
