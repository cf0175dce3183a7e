"""How much memory painting takes, how much there is, and what to do where it does not suffice.

The estimate is bytes = pixels x (once for each frame + so much for each painted one), pixels being
those of the padded picture or of one tile. Where it is above what is available, and where memory
runs out all the same, the settings step down, each step named in the log:

    half precision, on GPUs  ->  flow_scale 0.5  ->  overlapped tiles of 1024, 768, 512, 256 pixels
"""

import logging
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import torch

from midflow.nets.config import IFNetConfig
from midflow.nets.legacy import LegacyConfig
from midflow.nets.pyramid_config import PyramidConfig

logger = logging.getLogger(__name__)

TILES = (1024, 768, 512, 256)
NEAR = 0.8  # share of the available memory from which on the estimate is shown
_GIB = 1 << 30
_CGROUP = Path("/sys/fs/cgroup")
_WORDS = ("out of memory", "not enough memory", "can't allocate memory", "failed to allocate")

# Bytes a pixel: what stays for each input frame (the frame, its encoding), and the peak while one
# frame is painted in float32. Above what was measured on a CPU, in all, at 720p and 1080p:
# midflow-2 730 and 700, 4.25 730 and 690; in bfloat16 500 and 480, 560 and 490; 3.8 500 by torch.
_FRAME_BYTES = {PyramidConfig: 60, IFNetConfig: 60, LegacyConfig: 30}
_PAINT_BYTES = {PyramidConfig: 640, IFNetConfig: 650, LegacyConfig: 500}
_HALF = 0.7  # of that in bfloat16 or float16; on a GPU a guess
_COARSE = 0.95  # of that at flow_scale 0.5, measured likewise
_WHOLE_BYTES = 60  # a pixel of the whole picture, in tiles: inputs, result, protection


@dataclass(frozen=True)
class Settings:
    """What can be given up where memory does not suffice."""

    precision: str = "float32"
    flow_scale: float = 1.0
    tile: int = 0
    """Side of the tiles in pixels; 0 paints whole pictures."""

    def __str__(self) -> str:
        tiles = f", tiles of {self.tile} pixels" if self.tile else ""
        return f"{self.precision}, flow_scale {self.flow_scale:g}{tiles}"


class Shortage:
    """Chooses the settings for a size, and the next ones where they did not do.

    Args:
        config: of the network.
        device: where it runs.
    """

    def __init__(self, config: Any, device: torch.device) -> None:
        self._config = config
        self._device = device
        self._seen: tuple[Settings, torch.Size] | None = None

    def foresee(self, settings: Settings, shape: torch.Size) -> Settings:
        """The settings, or the first ones down the ladder that are estimated to fit.

        Args:
            settings: those wished for.
            shape: of the pictures, (B, 3, H, W). A shape is looked at once.
        """
        if self._seen == (settings, shape):
            return settings
        room = available_bytes(self._device)
        while room is not None:
            needed = estimate_bytes(self._config, shape, settings)
            if needed <= room:
                self._say_near(settings, needed, room)
                break
            reason = f"about {_gib(needed)} needed, {_gib(room)} available"
            following = self._below(settings, reason)
            if following is None:
                break
            settings = following
        self._seen = settings, shape
        return settings

    def next(self, settings: Settings, shape: torch.Size) -> Settings | None:
        """The next settings after memory ran out; None where there are none."""
        longest = max(shape[-2:])
        while (following := self._below(settings, "out of memory")) is not None:
            settings = following
            if settings.tile < longest:
                break
        return following

    def _below(self, settings: Settings, reason: str) -> Settings | None:
        following = _one_down(settings, self._device)
        if following is not None:
            logger.warning("%s with %s: going on with %s", reason, settings, following)
        return following

    def _say_near(self, settings: Settings, needed: int, room: int) -> None:
        if needed > NEAR * room:
            logger.warning(
                "painting with %s takes about %s of the %s available",
                settings, _gib(needed), _gib(room),
            )  # fmt: skip


def estimate_bytes(config: Any, shape: torch.Size | tuple[int, ...], settings: Settings) -> int:
    """Peak memory of painting one frame between two, besides the weights, in bytes.

    Args:
        config: of the network.
        shape: of the pictures, (B, 3, H, W).
        settings: what they are painted with.
    """
    batch, _, height, width = shape
    multiple = int(config.pad_multiple * max(1, 1 / settings.flow_scale))
    whole = _up(height, multiple) * _up(width, multiple)
    part = whole
    if settings.tile:
        side = _up(settings.tile, multiple)
        part = min(side, _up(height, multiple)) * min(side, _up(width, multiple))
    kind = type(config)
    paint = float(_PAINT_BYTES.get(kind, max(_PAINT_BYTES.values())))
    paint *= (1 if settings.precision == "float32" else _HALF) * (
        _COARSE if settings.flow_scale < 1 else 1
    )
    stays = 2 * _FRAME_BYTES.get(kind, max(_FRAME_BYTES.values()))
    tiled = _WHOLE_BYTES * whole if settings.tile else 0
    return batch * round(part * (paint + stays) + tiled)


def available_bytes(device: torch.device) -> int | None:
    """Memory that can still be had on a device; None where nothing tells."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    if device.type != "cpu":
        return None
    free = int(psutil.virtual_memory().available)
    limit = _cgroup_room()
    return free if limit is None else min(free, limit)


def is_memory_error(error: BaseException) -> bool:
    """Whether an exception says that memory ran out: torch has a type for CUDA only."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return any(word in str(error).lower() for word in _WORDS)


def _cgroup_room() -> int | None:
    """What a container's limit leaves; None without one."""
    try:
        limit = (_CGROUP / "memory.max").read_text().strip()
        used = (_CGROUP / "memory.current").read_text().strip()
    except OSError:
        return None
    return None if limit == "max" else max(0, int(limit) - int(used))


def _one_down(settings: Settings, device: torch.device) -> Settings | None:
    if settings.precision == "float32" and device.type in ("cuda", "mps"):
        return replace(settings, precision="float16")
    if settings.flow_scale > 0.5 and not settings.tile:
        return replace(settings, flow_scale=0.5)
    smaller = [tile for tile in TILES if not settings.tile or tile < settings.tile]
    return replace(settings, tile=smaller[0]) if smaller else None


def _up(length: int, multiple: int) -> int:
    return multiple * math.ceil(length / multiple)


def _gib(size: int) -> str:
    return f"{size / _GIB:.1f} GiB"
