"""A recipe's name and changes by name, as text or values: the configuration of a run.

configure("default_cpu", Path("runs/mine"), {"steps": 500, "rate.peak": "5e-4", "batch": "4"})
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from midflow.device import choose_device
from midflow.errors import OptionError
from midflow.train.config import TrainConfig
from midflow.train.recipes import RECIPES, finetune

_OWN_OPTIONS = {"folder": "--out", "init": "--init"}
_TRUTHS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}

T = TypeVar("T")


def configure(
    recipe: str | None, folder: Path, values: Mapping[str, Any], init: str = ""
) -> TrainConfig:
    """The configuration of a recipe with some fields changed, all at once.

    A length in steps alone, or in seconds alone, takes the place of the recipe's.

    Args:
        recipe: its name; None: `finetune` with `init`, else the default for the device.
        folder: of the run.
        values: by dotted name, such as "rate.peak"; text is read as the field's type wants it.
        init: weights to start from; empty: the recipe's.

    Raises:
        OptionError: an unknown recipe or field, text that cannot be read, a value out of range.
        CheckpointError, UnknownModelError: weights to fine-tune cannot be loaded.
    """
    name = recipe or ("finetune" if init else _default(str(values.get("device", "auto"))))
    if name not in RECIPES:
        raise OptionError(f"recipe must be one of {', '.join(RECIPES)}, got {name!r}")
    is_tuning = name == "finetune" and init
    config = finetune(folder, init) if is_tuning else RECIPES[name](folder)
    lengths: dict[str, Any] = {}
    if values.keys() & {"steps", "seconds"}:
        lengths = {"steps": None, "seconds": None}
    return changed(config, {**lengths, **({"init": init} if init else {}), **values})


def changed(config: T, values: Mapping[str, Any], prefix: str = "") -> T:
    """A dataclass with fields changed by dotted name, those within fields included.

    Args:
        config: it is not changed itself.
        values: text is read as the field's type wants it, other values are taken as they are.
        prefix: what messages put before the names.

    Raises:
        OptionError: there is no such field, text cannot be read, or the result is out of range.
    """
    hints = get_type_hints(type(config))
    inner: dict[str, dict[str, Any]] = {}
    changes: dict[str, Any] = {}
    for name, value in values.items():
        first, _, rest = name.partition(".")
        if first not in hints:
            raise OptionError(
                f"there is no field {prefix}{first}: choose one of "
                + ", ".join(prefix + known for known in hints)
            )
        is_group = is_dataclass(getattr(config, first))
        if is_group != bool(rest):
            told = f"has fields of its own: say {prefix}{first}.NAME=VALUE"
            raise OptionError(f"{prefix}{first} {told if is_group else 'has no fields'}")
        if rest:
            inner.setdefault(first, {})[rest] = value
        else:
            is_text = isinstance(value, str)
            changes[first] = parse(value, hints[first], prefix + first) if is_text else value
    for first, group in inner.items():
        changes[first] = changed(getattr(config, first), group, f"{prefix}{first}.")
    return replace(config, **changes)  # type: ignore[type-var]


def parse_settings(settings: Sequence[str]) -> dict[str, str]:
    """Texts like "rate.peak=5e-4" by name.

    Raises:
        OptionError: one has no "=", or a field has an option of its own.
    """
    values = {}
    for text in settings:
        name, equals, value = text.partition("=")
        if not equals:
            raise OptionError(f"--set takes NAME=VALUE, such as rate.peak=5e-4, got {text!r}")
        if name in _OWN_OPTIONS:
            raise OptionError(f"{name} is not for --set: give {_OWN_OPTIONS[name]}")
        values[name] = value
    return values


def parse(text: str, hint: Any, name: str) -> Any:
    """Reads text as a type: a number, a flag, a choice, text, none, or a tuple "a,b,c" of them.

    Fields of a dataclass in a tuple are joined by colons: "0.5:96:4,0.75:128:4".

    Raises:
        OptionError: it cannot be read so.
    """
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        if text.lower() == "none":
            return None
        (hint,) = (one for one in inner if one is not NoneType)
        return parse(text, hint, name)
    if origin is Literal:
        return _choice(text, inner, name)
    if origin is tuple:
        return tuple(parse(part, inner[0], name) for part in text.split(",") if part)
    if is_dataclass(hint):
        return _record(text, hint, name)
    if hint is bool:
        return _TRUTHS[_choice(text.lower(), list(_TRUTHS), name)]
    try:
        return hint(text)
    except ValueError as error:
        wanted = "a whole number" if hint is int else "a number"
        raise OptionError(f"{name} must be {wanted}, got {text!r}") from error


def _choice(text: str, choices: Sequence[Any], name: str) -> Any:
    for choice in choices:
        if text == str(choice):
            return choice
    raise OptionError(f"{name} must be one of {', '.join(map(str, choices))}, got {text!r}")


def _record(text: str, kind: Any, name: str) -> Any:
    hints, parts = get_type_hints(kind), text.split(":")
    names = [field.name for field in fields(kind)]
    if len(parts) != len(names):
        raise OptionError(f"{name} must be {':'.join(names)}, several with commas, got {text!r}")
    values = zip(names, parts, strict=True)
    return kind(**{key: parse(part, hints[key], f"{name}.{key}") for key, part in values})


def _default(device: str) -> str:
    chosen, _ = choose_device(device)
    return "default_gpu" if chosen.type == "cuda" else "default_cpu"
