"""A configuration as text beside the tensors of a safetensors file, and back."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from midflow.errors import CheckpointError, OptionError
from midflow.nets.config import IFNetConfig
from midflow.nets.layout import UNSEEN, NetConfig
from midflow.nets.legacy import LegacyConfig
from midflow.nets.pyramid_config import PyramidConfig

KEY = "midflow"  # one entry, as safetensors writes several in no fixed order
_NETWORKS: dict[str, type[NetConfig]] = {
    "ifnet": IFNetConfig,
    "legacy": LegacyConfig,
    "pyramid": PyramidConfig,
}
_MAX_SCALE = 256  # a block coarser than that sees nothing


@dataclass(frozen=True)
class Identity:
    """What a file says it holds."""

    config: NetConfig
    """Architecture."""
    release: str | None
    """Name, if it has one."""


def write_metadata(identity: Identity) -> dict[str, str]:
    """What `save_model` stores beside the tensors, without the training parts."""
    config = identity.config
    if isinstance(config, IFNetConfig):
        config = replace(config, teacher=False)
    network = next(name for name, kind in _NETWORKS.items() if isinstance(config, kind))
    values = {"network": network, "config": asdict(config), "release": identity.release}
    return {KEY: json.dumps(values, sort_keys=True)}


def read_metadata(metadata: Mapping[str, str]) -> Identity | None:
    """The reverse; None where `save_model` did not write the file.

    Raises:
        CheckpointError: it cannot be read: damaged, or written by a later midflow.
    """
    if KEY not in metadata:
        return None
    try:
        values = json.loads(metadata[KEY])
        release = values["release"]
        if not isinstance(release, str | None):
            raise ValueError(f"release cannot be {release!r}")
        return Identity(_read_config(_NETWORKS[values["network"]], values["config"]), release)
    except (ValueError, TypeError, LookupError, AttributeError, OptionError) as error:
        raise CheckpointError(
            f"cannot read what the file says it holds ({error}): damaged, or a later midflow's? "
            "Say what it is with release="
        ) from error


def _read_config(kind: type[NetConfig], values: Mapping[str, Any]) -> NetConfig:
    strangers = values.keys() - {field.name for field in fields(kind)}
    if strangers:
        raise ValueError(f"unknown fields {sorted(strangers)}")
    config = kind(**{name: _frozen(value) for name, value in values.items()})
    _check_unseen(config)
    return config


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
