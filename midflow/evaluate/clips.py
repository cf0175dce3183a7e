"""Any folder of videos as an evaluation: frames are dropped, painted again, and compared.

With factor n, of frames k to k + n the two ends are kept and the n - 1 between them are the truth.
"""

import logging
from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
from torch import Tensor

from midflow.errors import OptionError, VideoError
from midflow.evaluate.dataset import Dataset, Picture, Sample, to_levels
from midflow.video.color import to_rgb
from midflow.video.frame import Frame
from midflow.video.image import natural_sort
from midflow.video.reader import VideoReader

log = logging.getLogger(__name__)

CLIP_SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".mpg", ".ts", ".y4m")
FACTORS = (2, 4, 8)
CLIP_METRICS = ("psnr", "ssim", "ie")


def open_clips(folder: str | Path, factor: int = 2, per_clip: int | None = 4) -> Dataset:
    """Lists the samples of every video in a folder.

    Args:
        folder: with videos in it (not in folders below it), or one video.
        factor: 2, 4 or 8: one frame of this many is kept.
        per_clip: samples of each clip, their first frames spread evenly from its beginning to its
            end (fewer where the clip has fewer); None takes every run of frames, end to end.

    Raises:
        OptionError: no videos, none long enough, or an option outside its range.
        VideoError: a video cannot be read.
    """
    if factor not in FACTORS:
        raise OptionError(f"factor must be one of {FACTORS}, got {factor = }")
    if per_clip is not None and per_clip < 1:
        raise OptionError(f"per_clip must be at least 1, got {per_clip = }")
    paths = _find(Path(folder))
    samples, short = [], []
    for path in paths:
        found = list(_samples(path, count_frames(path), factor, per_clip))
        samples += found
        short += [] if found else [path.name]
    notes = [f"{len(short)} clips below {factor + 1} frames left out"] if short else []
    if not samples:
        raise OptionError(
            f"dropping frames by {factor} needs clips of at least {factor + 1} frames, the "
            f"{len(paths)} in {folder} have fewer: give longer clips or a smaller factor"
        )
    if short:
        log.warning("%s: %s", notes[0], ", ".join(short))
    return Dataset(
        f"clips x{factor}", Path(folder), tuple(samples), CLIP_METRICS, ClipFrames(factor + 1),
        tuple(notes),
    )  # fmt: skip


def count_frames(path: Path) -> int:
    """Frames that can be decoded; what a file says of itself is often wrong.

    Raises:
        VideoError: the clip cannot be read.
    """
    with VideoReader(path) as reader:
        return sum(1 for _ in reader)


class ClipFrames:
    """Reads frames of clips by number, quickly where they are asked for in order.

    A clip stays open, with the last `window` frames as decoded; only going back before those
    starts it again.
    """

    def __init__(self, window: int) -> None:
        self._kept: deque[tuple[int, Frame]] = deque(maxlen=window)
        self._reader: VideoReader | None = None
        self._path: Path | None = None
        self._frames: Iterator[tuple[int, Frame]] = iter(())

    def __call__(self, picture: Picture) -> Tensor:
        """(1, 3, H, W) RGB of a frame, in whole 8-bit levels.

        Raises:
            VideoError: the clip cannot be read or has no such frame.
        """
        if picture.path != self._path or (self._kept and picture.index < self._kept[0][0]):
            self._open(picture.path)
        while not self._kept or self._kept[-1][0] < picture.index:
            following = next(self._frames, None)
            if following is None:
                raise VideoError(
                    f"{picture.path} has no frame {picture.index}: did it change meanwhile?"
                )
            self._kept.append(following)
        assert self._reader is not None
        frame = next(frame for index, frame in self._kept if index == picture.index)
        return to_levels(to_rgb(frame, self._reader.info))

    def _open(self, path: Path) -> None:
        self.close()
        self._reader, self._path = VideoReader(path), path
        self._frames = enumerate(self._reader)

    def close(self) -> None:
        """Releases the clip that is open."""
        if self._reader is not None:
            self._reader.close()
        self._reader = self._path = None
        self._kept.clear()


def _find(folder: Path) -> list[Path]:
    if folder.is_file():
        return [folder]
    if not folder.is_dir():
        raise OptionError(f"{folder} does not exist: give a folder of videos")
    paths = [path for path in folder.iterdir() if path.suffix.lower() in CLIP_SUFFIXES]
    if not paths:
        names = sorted(path.name for path in folder.iterdir())
        raise OptionError(
            f"{folder} must hold videos ({', '.join(CLIP_SUFFIXES)}), "
            f"found {', '.join(names[:5]) or 'nothing'}{', ...' if len(names) > 5 else ''}"
        )
    return natural_sort(paths)


def _samples(path: Path, frames: int, factor: int, per_clip: int | None) -> Iterator[Sample]:
    last = frames - factor - 1
    if last < 0:
        return
    if per_clip is None:
        starts = list(range(0, last + 1, factor))
    else:
        starts = sorted(set(np.linspace(0, last, per_clip).astype(int).tolist()))
    for start in starts:
        yield Sample(
            name=f"{path.name}:{start}",
            group=path.name,
            img0=Picture(path, start),
            img1=Picture(path, start + factor),
            truths=tuple(Picture(path, start + step) for step in range(1, factor)),
            timesteps=tuple(Fraction(step, factor) for step in range(1, factor)),
        )
