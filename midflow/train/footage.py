"""Clips decoded once to uint8 pictures: in memory, on a device, or in a folder of plain files."""

import hashlib
import json
import logging
import os
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from midflow.errors import VideoError
from midflow.scenes import SCENE_CUT_SSIM, is_cut, thumbnail
from midflow.video.color import to_rgb
from midflow.video.reader import VideoReader

logger = logging.getLogger(__name__)

CLIP_SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".mpg", ".mpeg", ".ts", ".y4m")
TILE = 16
"""Side of the square of pixels that one grey tile is the mean of."""
DUPLICATE_CHANGE = 0.4  # levels of 255; encoders leave less in a repeated frame, motion leaves more
_ALIKE = 0.02  # mean difference of thumbnails in [0, 1] below which a pair cannot be a cut
_BLOCK = 65536


@dataclass(frozen=True)
class Footage:
    """The frames of one clip without repetitions, and where its scenes begin."""

    name: str
    frames: Tensor
    """(N, 3, H, W) uint8 RGB, in memory, on a device or mapped from a file."""
    times: NDArray[np.float64]
    """(N,) seconds."""
    small: NDArray[np.uint8]
    """(N, h, w) means of the grey tiles."""
    cuts: list[int]
    """Numbers of the frames that begin another scene; 0 is not among them."""
    duplicates: int
    """How many frames repeated the one before and were left out."""

    @property
    def runs(self) -> list[range]:
        """Ranges of frames of one scene."""
        return [range(a, b) for a, b in pairwise([0, *self.cuts, len(self.times)])]


class Selection:
    """Takes frames in order and keeps all that is known of them but their pixels."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.small: list[NDArray[np.uint8]] = []
        self.cuts: list[int] = []
        self.duplicates = 0
        self._last: Tensor | None = None
        self._thumbnail: Tensor | None = None

    def take(self, rgb: Tensor, time: float) -> Tensor | None:
        """The frame as (3, H, W) uint8, or None where it repeats the one before."""
        frame = (rgb[0] * 255).round_().clamp_(0, 255).to(torch.uint8)
        if self._last is not None and _difference(frame, self._last) < DUPLICATE_CHANGE:
            self.duplicates += 1
            return None
        small = thumbnail(rgb)
        if self._thumbnail is not None and _is_scene_change(self._thumbnail, small):
            self.cuts.append(len(self.times))
        self._last, self._thumbnail = frame, small
        self.times.append(time)
        self.small.append(tiles(rgb)[0])
        return frame

    @property
    def is_first_of_scene(self) -> bool:
        """Whether a cut comes right before the frame taken last."""
        return bool(self.cuts) and self.cuts[-1] == len(self.times) - 1

    def details(self) -> dict[str, Any]:
        """The fields of `Footage` but its name and frames."""
        return {
            "times": np.array(self.times),
            "small": np.stack(self.small),
            "cuts": self.cuts,
            "duplicates": self.duplicates,
        }


def tiles(rgb: Tensor) -> NDArray[np.uint8]:
    """Grey means of 16 x 16 pixels in levels.

    (N, 3, H, W) float32 in [0, 1] -> (N, ceil(H / 16), ceil(W / 16)).
    """
    means = F.avg_pool2d(rgb, TILE, ceil_mode=True).mean(1).mul_(255)
    result: NDArray[np.uint8] = means.round_().clamp_(0, 255).to(torch.uint8).cpu().numpy()
    return result


def list_clips(source: Path) -> list[Path]:
    """The video files in a folder and the folders within, sorted by name.

    Raises:
        VideoError: it is no folder, or holds no video file.
    """
    if not source.is_dir():
        raise VideoError(f"{source} is not a folder: give one that holds clips, or a list of clips")
    found = sorted(p for p in source.rglob("*") if p.suffix.lower() in CLIP_SUFFIXES)
    if not found:
        raise VideoError(
            f"{source} holds no clips: looked for files that end in {', '.join(CLIP_SUFFIXES)}"
        )
    return found


def decode(path: Path, limit: int | None = None, device: torch.device | str = "cpu") -> Footage:
    """Decodes a clip into memory.

    Args:
        path: the clip.
        limit: most frames to keep, from the beginning.
        device: where the frames are kept.

    Raises:
        VideoError: it cannot be read.
    """
    selection, frames = Selection(), []
    with VideoReader(path) as reader:
        for frame in reader:
            kept = selection.take(to_rgb(frame, reader.info), float(frame.pts))
            if kept is not None:
                frames.append(kept.to(device))
            if limit is not None and len(frames) >= limit:
                break
    return Footage(path.name, torch.stack(frames), **selection.details())


def decode_to(folder: Path, path: Path, limit: int | None = None) -> Footage:
    """Decodes a clip into a file of `folder`, or finds it there from before.

    The file holds the bytes of (N, 3, H, W); a JSON file beside it holds the rest and is written
    last, so that what was interrupted is decoded again. A changed clip is another one, and so is
    the same under another limit.

    Args:
        folder: made if need be.
        path: the clip.
        limit: most frames to keep, from the beginning.

    Raises:
        VideoError: the clip cannot be read, or the folder cannot be written to.
    """
    part = "" if limit is None else f"-{limit}"
    stem = folder / f"{path.stem}-{_fingerprint(path)}{part}"
    described = stem.with_name(stem.name + ".json")
    if not described.exists():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _write(stem, path, limit)
        except OSError as error:
            raise VideoError(
                f"decoded frames cannot be written to {folder}: {error.strerror}; "
                "make room, or give another cache folder"
            ) from error
    found = json.loads(described.read_text())
    mapped = np.memmap(_pixels(stem), np.uint8, "c", shape=tuple(found["shape"]))
    return Footage(
        path.name,
        torch.from_numpy(mapped),
        np.array(found["times"]),
        np.load(_tiles(stem)),
        found["cuts"],
        found["duplicates"],
    )


def _write(stem: Path, path: Path, limit: int | None) -> None:
    selection = Selection()
    partial = stem.with_name(f"{stem.name}.{os.getpid()}.part")
    shape: tuple[int, ...] = ()
    try:
        with VideoReader(path) as reader, partial.open("wb") as out:
            for frame in reader:
                kept = selection.take(to_rgb(frame, reader.info), float(frame.pts))
                if kept is not None:
                    out.write(kept.numpy().tobytes())
                    shape = tuple(kept.shape)
                if limit is not None and len(selection.times) >= limit:
                    break
        partial.replace(_pixels(stem))
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    details = selection.details()
    np.save(_tiles(stem), details.pop("small"))
    details["times"] = details["times"].tolist()
    described = {"clip": str(path), "shape": [len(selection.times), *shape], **details}
    partial.write_text(json.dumps(described))
    partial.replace(stem.with_name(stem.name + ".json"))


def _pixels(stem: Path) -> Path:
    return stem.with_name(stem.name + ".u8")


def _tiles(stem: Path) -> Path:
    return stem.with_name(stem.name + ".tiles.npy")


def _fingerprint(path: Path) -> str:
    """Twelve hexadecimal digits from a clip's length and its first and last bytes."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            digest = hashlib.sha256(b"%d" % size + file.read(_BLOCK))
            file.seek(max(0, size - _BLOCK))
            digest.update(file.read(_BLOCK))
    except OSError as error:
        raise VideoError(f"{path} cannot be read: {error.strerror}") from error
    return digest.hexdigest()[:12]


def _difference(frame0: Tensor, frame1: Tensor) -> float:
    """Mean absolute difference in levels, of every other row."""
    frame0, frame1 = frame0[:, ::2], frame1[:, ::2]
    higher, lower = torch.maximum(frame0, frame1), torch.minimum(frame0, frame1)
    return float((higher - lower).sum(dtype=torch.int64)) / frame0.numel()


def _is_scene_change(thumbnail0: Tensor, thumbnail1: Tensor) -> bool:
    if float((thumbnail0 - thumbnail1).abs().mean()) < _ALIKE:
        return False
    return is_cut(thumbnail0, thumbnail1, SCENE_CUT_SSIM)
