"""Sources of training triplets: folders of clips, and mixtures of sources."""

import logging
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import torch

from midflow.errors import OptionError, VideoError
from midflow.train.augment import Augmentation
from midflow.train.batch import Batch, Source, concatenate, random_stream
from midflow.train.footage import Footage, decode, decode_to, list_clips
from midflow.train.moments import TripletOptions
from midflow.train.shots import FilmShot, Shots
from midflow.video.frame import ClipInfo
from midflow.video.reader import probe

logger = logging.getLogger(__name__)

_MIX = 21  # random stream
_LEAST_FRAMES = 3
_GIGABYTE = 10**9
_UNKNOWN_LENGTH = 300  # frames assumed where a file does not tell

StrPath = str | os.PathLike[str]
T = TypeVar("T")


@dataclass(frozen=True)
class FolderOptions:
    """How `VideoFolder` keeps its frames."""

    memory_gigabytes: float = 4.0
    """Most memory (of `device`) the frames may take; clips are shortened to fit. A cache folder
    lifts the limit."""
    cache: Path | None = None
    """Folder the clips are decoded to once, as plain bytes that are mapped into memory; a later run
    finds them there. None keeps them in memory."""
    clip_frames: int | None = None
    """Most frames of each clip, from its beginning; None: all. What is read at random must fit into
    the memory of the machine, a cache too: from a disk it comes slower than training goes."""
    device: str = "cpu"
    """Where frames are kept: "cpu", or "cuda" for all of them in the GPU's memory."""
    min_clips: int = 1
    """Fewest usable clips."""
    workers: int = 4
    """Clips decoded side by side."""

    def __post_init__(self) -> None:
        if not self.memory_gigabytes > 0:
            raise OptionError(f"memory_gigabytes must be above 0, got {self.memory_gigabytes}")
        if self.clip_frames is not None and self.clip_frames < _LEAST_FRAMES:
            raise OptionError(
                f"clip_frames must be at least {_LEAST_FRAMES}, got {self.clip_frames}"
            )
        if self.min_clips < 1 or self.workers < 1:
            raise OptionError(
                f"min_clips and workers must be at least 1, got {self.min_clips}, {self.workers}"
            )


class VideoFolder(Shots):
    """Triplets from clips: decoded once; cuts, repeated frames and near-static triplets left out.

    Args:
        source: a folder, searched with the folders in it, or the clips themselves.
        options: where the frames are kept.
        triplets: which triplets are taken.
        augmentation: how they are changed.
        seed: another seed, other samples.
        on_progress: called with the numbers of clips decoded and to be decoded.

    Raises:
        VideoError: there is no clip, or none can be used.
        OptionError: fewer clips than `min_clips` can be used, or the memory is too small.
    """

    def __init__(
        self,
        source: StrPath | Sequence[StrPath],
        options: FolderOptions | None = None,
        *,
        triplets: TripletOptions | None = None,
        augmentation: Augmentation | None = None,
        seed: int = 0,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> None:
        options, triplets = options or FolderOptions(), triplets or TripletOptions()
        footage = load_footage(source, options, on_progress)
        shots = [FilmShot(clip, triplets) for clip in footage]
        _warn_of_unused(shots)
        super().__init__(shots, seed=seed, options=triplets, augmentation=augmentation)
        if len(self) < options.min_clips:
            raise OptionError(
                f"too few clips: {options.min_clips} are required, {len(self)} of "
                f"{len(footage)} can be used"
            )

    def photographs(self, count: int = 1000) -> list[torch.Tensor]:
        """Frames for `Layers`: up to `count` in all, evenly from every clip, (3, H, W) uint8."""
        films = [shot for shot in self.shots if isinstance(shot, FilmShot)]
        each = max(1, count // len(films))
        return [
            shot.frames[int(i)]
            for shot in films
            for i in torch.linspace(0, len(shot.frames) - 1, min(each, len(shot.frames)))
        ][:count]


def load_footage(
    source: StrPath | Sequence[StrPath],
    options: FolderOptions,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[Footage]:
    """Decodes clips within the memory; those that cannot be read are named in a warning.

    Raises:
        VideoError: there is no clip, or none can be read.
        OptionError: the memory does not hold three frames of every clip.
    """
    if isinstance(source, str | os.PathLike):
        paths = list_clips(Path(source))
    else:
        paths = [Path(path) for path in source]
        if not paths:
            raise OptionError("at least one clip is required, got an empty list")
    if options.cache is not None:
        read: Callable[[Path], Footage] = partial(
            decode_to, options.cache, limit=options.clip_frames
        )
    else:
        infos = dict(_readable(zip(paths, map(partial(_try, probe), paths), strict=True)))
        paths = list(infos)
        read = partial(decode, limit=_limit(list(infos.values()), options), device=options.device)
    return list(_decoded(paths, read, options, on_progress))


def _decoded(
    paths: list[Path],
    read: Callable[[Path], Footage],
    options: FolderOptions,
    on_progress: Callable[[int, int], None] | None,
) -> Iterator[Footage]:
    room = options.memory_gigabytes * _GIGABYTE
    with ThreadPoolExecutor(options.workers) as pool:
        results = zip(paths, pool.map(partial(_try, read), paths), strict=True)
        for done, (_, clip) in enumerate(_readable(results), start=1):
            if clip.frames.device.type != torch.device(options.device).type:
                room -= clip.frames.numel()
                if room < 0:
                    raise OptionError(
                        f"the decoded clips do not fit into {options.memory_gigabytes} GB on "
                        f"{options.device}: allow more, or keep them on the cpu"
                    )
                clip = replace(clip, frames=clip.frames.to(options.device))
            yield clip
            if on_progress is not None:
                on_progress(done, len(paths))


def _try(read: Callable[[Path], T], path: Path) -> T | VideoError:
    try:
        return read(path)
    except VideoError as error:
        return error


def _readable(results: Iterable[tuple[Path, T | VideoError]]) -> Iterator[tuple[Path, T]]:
    """Leaves out what could not be read, naming it in a warning, unless that is everything."""
    good, last = 0, None
    for path, result in results:
        if isinstance(result, VideoError):
            logger.warning("left out: %s", result)
            last = result
        else:
            good += 1
            yield path, result
    if not good:
        raise VideoError(f"none of the clips can be read; the last: {last}")


def _limit(infos: list[ClipInfo], options: FolderOptions) -> int:
    """Most frames of one clip such that all clips fit into the memory."""
    room = options.memory_gigabytes * _GIGABYTE
    most = options.clip_frames or sys.maxsize
    clips = sorted(
        (min(info.frame_count or _UNKNOWN_LENGTH, most), 3 * info.width * info.height)
        for info in infos
    )
    left = sum(size for _, size in clips)  # bytes of one frame of every clip that is not yet whole
    for frames, size in clips:
        if frames * left > room:
            break
        room -= frames * size
        left -= size
    else:
        return min(clips[-1][0] + _UNKNOWN_LENGTH, most)
    limit = int(room / left)
    if limit < _LEAST_FRAMES:
        raise OptionError(
            f"{options.memory_gigabytes} GB do not hold three frames of each of {len(infos)} clips:"
            " allow more memory, or give a cache folder"
        )
    logger.info("clips are shortened to %d frames to fit into the memory", limit)
    return limit


def _warn_of_unused(shots: Sequence[FilmShot]) -> None:
    unused = [shot.name for shot in shots if not len(shot.moments)]
    if unused:
        logger.warning(
            "%d of %d clips offer no triplet (too short, cut, or next to no motion): %s",
            len(unused),
            len(shots),
            ", ".join(unused[:8]) + (", ..." if len(unused) > 8 else ""),
        )


class Repeated:
    """The samples of the first steps of a source again and again: any network learns those.

    Args:
        source: of the samples.
        steps: after how many the first ones come again.
    """

    def __init__(self, source: Source, steps: int) -> None:
        self.source, self.steps = source, steps

    def batch(
        self, step: int, size: int, crop: int, *, device: torch.device, rank: int = 0
    ) -> Batch:
        """See `Source`."""
        return self.source.batch(step % self.steps, size, crop, device=device, rank=rank)


class Mixed:
    """Several sources in fixed shares of every batch.

    What a share leaves over as a fraction of a sample goes to one source or another from step to
    step, so that the shares hold in the long run.

    Args:
        sources: each source and its share, relative to the others.
        seed: of the left-over samples.

    Raises:
        OptionError: no sources, or shares that are negative or all zero.
    """

    def __init__(self, sources: Sequence[tuple[Source, float]], seed: int = 0) -> None:
        shares = [share for _, share in sources]
        if not sources or min(shares) < 0 or not math.isfinite(sum(shares)) or sum(shares) == 0:
            raise OptionError(f"shares must be at least 0 and not all 0, got {shares}")
        self.sources = [source for source, share in sources if share > 0]
        self.shares = [share / sum(shares) for share in shares if share > 0]
        self.seed = seed

    def batch(
        self, step: int, size: int, crop: int, *, device: torch.device, rank: int = 0
    ) -> Batch:
        """See `Source`."""
        counts = self._counts(step, size, rank)
        return concatenate(
            [
                source.batch(step, count, crop, device=device, rank=rank)
                for source, count in zip(self.sources, counts, strict=True)
                if count
            ]
        )

    def _counts(self, step: int, size: int, rank: int) -> list[int]:
        """Samples of each source: the whole numbers around its share, exact on average."""
        random = random_stream(self.seed, step, rank, _MIX)
        place = float(torch.rand((), generator=random))
        marks = [place]
        for share in self.shares:
            marks.append(marks[-1] + share * size)
        marks[-1] = place + size
        return [math.floor(b) - math.floor(a) for a, b in pairwise(marks)]
