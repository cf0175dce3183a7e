"""Names and shapes of a network's tensors: from a configuration to them, and back.

A checkpoint says what it is by the names and shapes of its tensors. `infer_config` reads the
configuration off them; `expected_shapes` says which tensors a configuration has, so that nothing is
ever loaded on a guess.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from math import isqrt, prod
from typing import Any, Literal

import torch
from torch import Tensor

from midflow.errors import CheckpointError, OptionError
from midflow.nets.config import IFNetConfig
from midflow.nets.ifnet import IFNet
from midflow.nets.legacy import (
    LegacyConfig,
    LegacyFusionNet,
    LegacyTwinNet,
    build_legacy,
    legacy_config_from,
)
from midflow.nets.pyramid import PyramidNet
from midflow.nets.pyramid_blocks import PASSING
from midflow.nets.pyramid_config import PyramidConfig

NetConfig = IFNetConfig | LegacyConfig | PyramidConfig
Network = IFNet | LegacyFusionNet | LegacyTwinNet | PyramidNet
Shapes = dict[str, tuple[int, ...]]
Trunk = Literal["residual", "skip", "plain"]

TRAINING_ONLY = ("teacher.", "caltime.", "block_tea.")
"""Prefixes of tensors that released files carry and inference does not use."""

UNSEEN: dict[type, tuple[str, ...]] = {
    IFNetConfig: ("scales", "stride", "retry", "teacher"),
    LegacyConfig: ("ensemble", "retry"),
    PyramidConfig: ("scales",),
}
"""Fields that names and shapes do not tell; `release=` or stored metadata settles them."""

_LITE_LAST = 24  # channels of the last block of 4.25.lite, the one release with scales of its own


def build_network(config: NetConfig) -> Network:
    """The network `config` describes, with random weights."""
    if isinstance(config, LegacyConfig):
        return build_legacy(config)
    return PyramidNet(config) if isinstance(config, PyramidConfig) else IFNet(config)


@lru_cache(maxsize=64)
def expected_shapes(config: NetConfig) -> Shapes:
    """Name and shape of every tensor of the network; nothing is allocated."""
    with torch.device("meta"):
        net = build_network(config)
    return {key: tuple(value.shape) for key, value in net.state_dict().items()}


@lru_cache(maxsize=64)
def count_parameters(config: NetConfig) -> int:
    """Learned values of the network (running statistics are not learned)."""
    with torch.device("meta"):
        net = build_network(config)
    return sum(prod(value.shape) for value in net.parameters())


def shapes_of(state: Mapping[str, Tensor | Sequence[int]]) -> Shapes:
    """Name -> shape, of tensors or of shapes."""
    return {
        key: tuple(value.shape if isinstance(value, Tensor) else value)
        for key, value in state.items()
    }


def drop_training_only(state: Mapping[str, Any]) -> dict[str, Any]:
    """`state` without what only training uses."""
    return {key: value for key, value in state.items() if not key.startswith(TRAINING_ONLY)}


def infer_config(state: Mapping[str, Tensor | Sequence[int]]) -> NetConfig:
    """Reads the configuration off the names and shapes of a state dict.

    What they do not tell is as in the release most people have: RIFE rather than RIFE_2R, and for
    3.8 and HDv3 see `legacy_config_from`.

    Args:
        state: key -> tensor or shape, keys as the network names them, training-only ones included.
            The three files of an early release make one state dict with the prefixes `flownet.`,
            `contextnet.` and `unet.`.

    Raises:
        CheckpointError: not a RIFE network, or its parts do not fit together.
    """
    shapes = shapes_of(state)
    if any(re.match(r"(flownet\.)?block0\.(res0|conv1|convblock0)\.", key) for key in shapes):
        return legacy_config_from(split_parts(shapes))
    is_pyramid = any(key.startswith("block.") for key in shapes)
    try:
        return _infer_pyramid(shapes) if is_pyramid else _infer_ifnet(shapes)
    except OptionError as error:
        raise CheckpointError(f"the weights contradict themselves: {error}") from error


def settle(inferred: NetConfig, wanted: NetConfig) -> NetConfig:
    """`inferred` with what shapes do not tell from `wanted`; equals `wanted` where they agree."""
    if type(inferred) is not type(wanted):
        return inferred
    try:
        return replace(inferred, **{name: getattr(wanted, name) for name in UNSEEN[type(inferred)]})
    except OptionError:  # such as scales for another number of blocks
        return inferred


def split_parts(state: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The files of an early release, out of one state dict; {"flownet": state} for any other."""
    if not any(key.startswith("flownet.") for key in state):
        return {"flownet": dict(state)}
    parts: dict[str, dict[str, Any]] = {}
    for key, value in state.items():
        part, _, name = key.partition(".")
        parts.setdefault(part, {})[name] = value
    return parts


def _infer_pyramid(shapes: Shapes) -> PyramidConfig:
    merged = _shape(shapes, "block.merge.0.weight")
    compared = merged[1] - merged[0] // 2 - PASSING
    config = PyramidConfig(
        channels=merged[0],
        depth=_count_layers(shapes, "block.trunk"),
        width=_shape(shapes, "encode.cnn2.weight")[0],
        features=_shape(shapes, "block.lastconv.weight")[1] // 4 - 6,
        matched=_shape(shapes, "block.matcher.weight")[0],
        radius=(isqrt(max(compared, 0)) - 1) // 2,
    )
    if "detail.entrance.0.weight" not in shapes:
        return replace(config, detail=0)
    channels = _shape(shapes, "detail.entrance.0.weight")[0]
    return replace(config, detail=channels, detail_depth=_count_layers(shapes, "detail.trunk"))


def _count_layers(shapes: Shapes, name: str) -> int:
    pattern = re.compile(rf"{re.escape(name)}\.(\d+)\.")
    return len({found[1] for key in shapes if (found := pattern.match(key))})


def _infer_ifnet(shapes: Shapes) -> IFNetConfig:
    channels = _channels(shapes)
    encoder = _infer_encoder(shapes)
    is_residual = "block0.convblock.0.beta" in shapes
    is_learned = "block0.conv0.0.1.weight" in shapes
    has_refine = any(key.startswith(("contextnet.", "unet.")) for key in shapes)
    trunk: Trunk = "residual" if is_residual else "skip" if is_learned else "plain"
    config = IFNetConfig(
        channels=channels,
        scales=_guess_scales(channels, encoder["resolution"]),
        depths=_infer_depths(shapes, len(channels)),
        trunk=trunk,
        head="shuffle" if "block0.lastconv.0.weight" in shapes else "deconv",
        groups=_infer_groups(shapes, channels[0]) if is_residual else 1,
        has_timestep=_has_timestep(shapes, encoder["encoder_planes"]),
        refine=has_refine,
        retry=trunk == "skip" and not has_refine,
        **encoder,
    )
    return _with_planes(config, shapes)


def _channels(shapes: Shapes) -> tuple[int, ...]:
    blocks = {int(found[1]) for key in shapes if (found := re.match(r"block(\d+)\.", key))}
    if not blocks:
        raise CheckpointError(
            "the weights of a RIFE network must have entries named block0, block1, ..., "
            f"got {len(shapes)} entries such as {sorted(shapes)[:3]}"
        )
    return tuple(_shape(shapes, f"block{k}.conv0.1.0.weight")[0] for k in range(len(blocks)))


def _guess_scales(channels: tuple[int, ...], resolution: int) -> tuple[int, ...]:
    """Halved from block to block down to `resolution`; 4.25.lite starts coarser and skips 2."""
    scales = [resolution << k for k in reversed(range(len(channels)))]
    if len(channels) == 5 and channels[-1] == _LITE_LAST:
        scales[:-1] = [scale * 2 for scale in scales[:-1]]
    return tuple(scales)


def _infer_encoder(shapes: Shapes) -> dict[str, Any]:
    """The encoder fields of the configuration."""
    if "encode.cnn0.weight" in shapes:
        kind, first, last = "named", "encode.cnn0.weight", "encode.cnn3.weight"
        if last not in shapes:
            width = _shape(shapes, first)[0]
            return _encoder_fields("named", width, width, 2)
    elif "encode.0.weight" in shapes:
        layers = {key.split(".")[1] for key in shapes if re.match(r"encode\.\d+\.weight$", key)}
        kind, first = ("pair" if len(layers) == 2 else "stack"), "encode.0.weight"
        last = "encode.1.weight" if kind == "pair" else "encode.6.weight"
    else:
        return _encoder_fields("none", 0, 0, 1)
    return _encoder_fields(kind, _shape(shapes, first)[0], _shape(shapes, last)[1], 1)


def _encoder_fields(kind: str, width: int, planes: int, resolution: int) -> dict[str, Any]:
    return {
        "encoder": kind,
        "encoder_width": width,
        "encoder_planes": planes,
        "resolution": resolution,
    }


def _infer_depths(shapes: Shapes, blocks: int) -> tuple[int, ...]:
    pattern = re.compile(r"block(\d+)\.convblock\.(\d+)\.")
    layers = {found.groups() for key in shapes if (found := pattern.match(key))}
    depths = tuple(sum(block == str(k) for block, _ in layers) for k in range(blocks))
    return () if set(depths) == {8} else depths


def _infer_groups(shapes: Shapes, channels: int) -> int:
    each = _shape(shapes, "block0.convblock.0.conv.weight")[1]
    if each == 0 or channels % each:
        raise CheckpointError(f"{each} planes in a group must divide the {channels} of block0")
    return channels // each


def _has_timestep(shapes: Shapes, encoder_planes: int) -> bool:
    planes = _shape(shapes, "block0.conv0.0.0.weight")[1]
    expected = 6 + 2 * encoder_planes
    if planes - expected not in (0, 1):
        raise CheckpointError(
            f"block0 must take {expected} planes (two frames, twice {encoder_planes} features), or "
            f"{expected + 1} with a timestep, got {planes}"
        )
    return planes > expected


def _with_planes(config: IFNetConfig, shapes: Shapes) -> IFNetConfig:
    """`config` with what the blocks hand on: features carried and planes to spare."""
    if config.head == "shuffle":
        planes = _shape(shapes, "block0.lastconv.0.weight")[1] // 4
    else:
        planes = _shape(shapes, "block0.lastconv.weight")[1]
    plain = replace(config, features=0)
    features = 0
    if len(config.channels) > 1:
        features = _shape(shapes, "block1.conv0.0.0.weight")[1] - plain.later_inputs
    spare = planes - 5 - features
    if features < 0 or spare < 0:
        raise CheckpointError(
            f"block1 must take {plain.later_inputs} planes and up to {planes - 5} features, "
            f"as many as block0 puts out, got {plain.later_inputs + features}"
        )
    return replace(config, features=features, spare=spare)


def _shape(shapes: Shapes, key: str) -> tuple[int, ...]:
    """The shape of a convolution's weight (4-D, no side 0)."""
    if key not in shapes:
        raise CheckpointError(f"the weights of a RIFE network must have {key!r}, it is missing")
    if len(shapes[key]) != 4 or 0 in shapes[key]:
        raise CheckpointError(f"{key!r} must be a 4-D convolution weight, got shape {shapes[key]}")
    return shapes[key]
