"""LegacyConfig: the values that make one release before 4.0, and reading them off its weights."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from torch import Tensor

from midflow.errors import CheckpointError, OptionError

FUSION_FILES = ("flownet", "contextnet", "unet")
"""The files of a release with a fusion net; their keys carry these prefixes in one state dict."""

_Head = Literal["shuffle", "single", "twin", "deep"]
# The layer a head is known by; "deep" has that of "twin" as well.
_HEADS: dict[_Head, str] = {
    "single": "conv1.weight",
    "deep": "conv1.2.weight",
    "twin": "conv1.0.weight",
}


@dataclass(frozen=True)
class LegacyConfig:
    """Architecture of a release before 4.0.

    Raises:
        OptionError: where the values contradict each other.
    """

    channels: tuple[int, ...]
    """Channels in the trunk of each block, coarse to fine."""
    trunk: Literal["squeeze", "plain", "pairs"]
    """Channel-weighing residual blocks with batch norm (1.8) | plain convolutions (2.x) | pairs of
    convolutions with a skip around each (3.x)."""
    depth: int
    """Residual blocks, convolutions or pairs in a trunk."""
    head: _Head
    """One symmetric motion (1.8) | flow (2.x, 3.1) | flow and mask, one layer
    each (3.5) | two each (3.8, HDv3)."""
    ensemble: Literal["never", "optional", "always"] = "never"
    """Whether blocks also look at the swapped pair: on request in 3.8, always in 3.5 and HDv3."""
    retry: bool = False
    """Twice the scales where a trial of the first block finds large motion (3.8)."""

    def __post_init__(self) -> None:
        if not self.channels or self.depth < 1:
            raise OptionError(
                f"a network needs blocks and layers, got {self.channels = }, {self.depth = }"
            )
        if (self.trunk == "squeeze") != (self.head == "shuffle"):
            raise OptionError(f"trunk 'squeeze' and head 'shuffle' need each other, got {self}")
        if self.has_fusion and (self.has_ensemble or self.retry):
            raise OptionError(f"ensemble and retry need head 'twin' or 'deep', got {self.head!r}")

    @property
    def scales(self) -> tuple[int, ...]:
        """Each block works at 1 / scale: 8, 4, 2, 1 or 4, 2, 1."""
        return tuple(2**k for k in reversed(range(len(self.channels))))

    @property
    def has_fusion(self) -> bool:
        """Whether a fusion net paints the frame; otherwise the warped frames are blended."""
        return self.head in ("shuffle", "single")

    @property
    def pad_multiple(self) -> int:
        """Frame sides must be multiples of this, at flow_scale 1 or more; the releases' own."""
        return 32

    @property
    def has_timestep(self) -> bool:
        """False: these networks know t = 0.5 only."""
        return False

    @property
    def has_ensemble(self) -> bool:
        """Whether blocks can average both directions; 3.5 and HDv3 do so unasked."""
        return self.ensemble != "never"

    @property
    def head_step(self) -> int:
        """What a block's output is smaller than its input."""
        return 2 if self.head in ("single", "twin") else 1


def legacy_config_from(
    states: Mapping[str, Mapping[str, Tensor | Sequence[int]]],
) -> LegacyConfig:
    """Reads the configuration off the names and shapes of the weights.

    3.8 and HDv3 have inference weights of the same names and shapes: a file that still holds the
    training teacher (`block_tea.`) is taken for HDv3, one without for 3.8. Who knows the release
    sets `ensemble` and `retry` accordingly.

    Args:
        states: file name without suffix -> key without `module.` -> tensor or shape. "flownet" is
            required, and "contextnet" and "unet" for 1.8 to 3.1.

    Raises:
        CheckpointError: not a release before 4.0, or one of its files is missing.
    """
    shapes = {key: _shape(value) for key, value in states.get("flownet", {}).items()}
    config = _inference_config(shapes)
    missing = [f"{name}.pkl" for name in FUSION_FILES if config.has_fusion and name not in states]
    if missing:
        raise CheckpointError(
            "releases 1.8 to 3.1 are three files, flownet.pkl, contextnet.pkl and unet.pkl, "
            f"missing: {', '.join(missing)}. Put them into one folder and load the folder"
        )
    if config.head == "deep" and not any(key.startswith("block_tea.") for key in shapes):
        return replace(config, ensemble="optional", retry=True)
    return config


def _inference_config(shapes: Mapping[str, tuple[int, ...]]) -> LegacyConfig:
    """The configuration but for what 3.8 alone does."""
    if "block0.res0.fc1.weight" in shapes:
        depth = _count(shapes, r"block0\.res(\d+)\.")
        return LegacyConfig(_widths(shapes, "conv0.0.weight"), "squeeze", depth, "shuffle")
    head = next((name for name, key in _HEADS.items() if f"block0.{key}" in shapes), None)
    if head is None:
        raise CheckpointError(
            "the flownet of a release before 4.0 must have block0.res0 or block0.conv1, "
            f"got {len(shapes)} entries such as {sorted(shapes)[:3]}: load flownet.pkl of a release"
        )
    channels = _widths(shapes, "conv0.1.0.weight")
    pairs = _count(shapes, r"block0\.convblock(\d+)\.")
    if not pairs:
        return LegacyConfig(channels, "plain", _count(shapes, r"block0\.convblock\.(\d+)\."), head)
    return LegacyConfig(channels, "pairs", pairs, head, "never" if head == "single" else "always")


def _widths(shapes: Mapping[str, tuple[int, ...]], key: str) -> tuple[int, ...]:
    """Output planes of layer `key` in each block."""
    blocks = [f"block{k}.{key}" for k in range(_count(shapes, r"block(\d+)\."))]
    missing = [name for name in blocks if name not in shapes]
    if missing:
        raise CheckpointError(
            f"the flownet must hold {missing[0]}, it is missing: is the file damaged?"
        )
    return tuple(shapes[name][0] for name in blocks)


def _count(keys: Iterable[str], pattern: str) -> int:
    """How many numbers `pattern` finds at the beginning of the keys."""
    return len({found[1] for key in keys if (found := re.match(pattern, key))})


def _shape(value: Tensor | Sequence[int]) -> tuple[int, ...]:
    return tuple(value.shape if isinstance(value, Tensor) else value)
