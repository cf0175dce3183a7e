"""Repeated drawings: animation shows each for two or three frames, and so do careless conversions.

The reader here gives every run of repeats as its first frame, shown for as long as the run; what is
painted from there to the next drawing then moves evenly, and nothing is shorter or longer.

A frame repeats the one a run began with where no block of 8 x 8 samples of any plane differs by
more than `REPEAT_LEVELS` on average: encoders leave small differences everywhere, a new drawing
large ones somewhere. A run holds less than `LONGEST` seconds. A still that is held for longer
begins anew every time, so that a change after it is painted across no more than that. Whether a
frame is a repeat depends on its run only, so that reading from any frame that was given goes on as
before.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import islice
from pathlib import Path

import numpy as np

from midflow.errors import VideoError
from midflow.options import VideoOptions
from midflow.video.frame import Frame, Plane
from midflow.video.pipe_input import parse_raw_input
from midflow.video.pixel import layout
from midflow.video.reader import VideoReader

REPEAT_LEVELS = 8.0
"""Of 255; measured in benchmarks/repeats.py."""
LONGEST = Fraction(1, 5)
"""Seconds: four frames of film, three of 15 frames/s."""
_BLOCK = 8


class DedupReader(VideoReader):
    """A `VideoReader` that gives each run of repeated frames as one."""

    def skip(self, count: int) -> None:
        """As in `VideoReader`, `count` being runs.

        Raises:
            VideoError: the file has become shorter.
        """
        super().skip(0)
        if sum(1 for _ in islice(self, count)) < count:
            raise VideoError(f"{self.info.path} has fewer than {count} runs: has it changed?")

    def _deliver(self) -> Iterator[Frame]:
        return merge_repeats(super()._deliver(), layout(self.info.pixel_format).bits)


def open_reader(source: str | Path, options: VideoOptions) -> VideoReader:
    """The reader that the options of a job ask for.

    Raises:
        VideoError: as for `VideoReader`.
        OptionError: as for `VideoReader`.
    """
    kind = DedupReader if options.dedup else VideoReader
    raw = parse_raw_input(options.raw_input) if options.raw_input else None
    return kind(
        source,
        options.start,
        options.duration,
        options.deinterlace,
        options.max_gap,
        raw,
        options.hwaccel,
    )


def merge_repeats(frames: Iterable[Frame], bits: int = 8) -> Iterator[Frame]:
    """The first frame of every run, shown as long as the run.

    Args:
        frames: in order of time.
        bits: of their samples.
    """
    first: Frame | None = None
    for frame in frames:
        if first is not None and frame.pts - first.pts < LONGEST and is_repeat(first, frame, bits):
            first = replace(first, duration=frame.pts + frame.duration - first.pts)
            continue
        if first is not None:
            yield first
        first = frame
    if first is not None:
        yield first


def is_repeat(first: Frame, frame: Frame, bits: int = 8) -> bool:
    """Whether a frame shows the same drawing as the one its run began with."""
    most = REPEAT_LEVELS * (2**bits - 1) / 255
    return all(
        largest_difference(a, b) <= most for a, b in zip(first.data, frame.data, strict=True)
    )


def largest_difference(plane0: Plane, plane1: Plane) -> float:
    """The mean difference of the block of 8 x 8 samples that differs most; borders count too."""
    difference = np.abs(plane0.astype(np.int32) - plane1)
    height, width = difference.shape
    rows, columns = range(0, height, _BLOCK), range(0, width, _BLOCK)
    sums = np.add.reduceat(np.add.reduceat(difference, rows, 0), columns, 1)
    high = np.minimum(_BLOCK, height - np.array(rows))
    wide = np.minimum(_BLOCK, width - np.array(columns))
    return float((sums / (high[:, None] * wide)).max())
