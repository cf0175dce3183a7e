"""Where the loop over a video can begin other than at the first frame, exactly.

To begin in the middle, the schedule must be where it would have come from the first source frame,
and the frames that follow must be those that followed before. `Timeline` records the times and a
checksum of the frames as they are read; `StartFinder` runs the schedule over them; `read_from`
finds the place in the source again and sees that it is the same.
"""

import copy
import logging
import os
import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import TextIO

from midflow.errors import VideoError
from midflow.time_plan import AnySchedule
from midflow.video.frame import Frame
from midflow.video.reader import VideoReader

log = logging.getLogger(__name__)

LOOK_BACK = 16
"""Source frames read before the first one that a segment shows. What compares a frame with earlier
ones may look so far back, and finds the same whether or not the segment before was made just now.
"""
_MARK_ROWS = 16  # every 16th row tells a wrong picture from the right one
_COMPARED = 4  # frames compared after seeking, before the place is trusted


@dataclass(frozen=True, slots=True)
class Seen:
    """A source frame as it was read."""

    pts: Fraction
    """When it is first shown, in seconds."""
    mark: int
    """Checksum of some of its rows."""

    @classmethod
    def of(cls, frame: Frame) -> "Seen":
        """What is recorded of a frame."""
        return cls(frame.pts, zlib.crc32(frame.data[0][::_MARK_ROWS].tobytes()))


@dataclass(frozen=True)
class Start:
    """Where the loop over a video begins."""

    schedule: AnySchedule
    """Has taken the times of all source frames before `index`."""
    index: int = 0
    """Of the first source frame to read."""
    number: int = 0
    """Of the first output frame that `schedule` will give."""
    expected: tuple[Seen, ...] = field(default=(), repr=False)
    """The source frames from `index` on, as far as they are known."""


class Timeline:
    """The record of the source's frames, a line each, in the work folder.

    Args:
        path: the file; lines of an earlier run are kept.
        is_recorder: whether it is this process that writes it.

    Raises:
        OSError: it cannot be written.
    """

    def __init__(self, path: Path, *, is_recorder: bool = True) -> None:
        self._lock = Lock()
        self.known = list(_read_timeline(path))
        """What earlier runs have seen."""
        self._count = len(self.known)
        self._file: TextIO | None = None
        if is_recorder:
            with path.open("ab") as file:
                file.truncate(sum(len(_line(seen)) for seen in self.known))
            self._file = path.open("a", encoding="ascii")

    def add(self, index: int, seen: Seen) -> None:
        """Record source frame `index`, where it is not known yet."""
        if index == self._count and self._file is not None:
            with self._lock:
                self._file.write(_line(seen))
            self._count += 1

    def sync(self) -> None:
        """See that everything recorded is on the disk; from any thread."""
        if self._file is None:
            return
        with self._lock:
            self._file.flush()
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Release the file; what a full disk refuses is left out."""
        try:
            if self._file is not None:
                self._file.close()
        except OSError:
            pass


class StartFinder:
    """Finds where each segment begins, from the source frames one by one.

    Args:
        schedule: an empty one.
        segment_frames: output frames of a segment.
    """

    def __init__(self, schedule: AnySchedule, segment_frames: int) -> None:
        self._schedule = schedule
        self._length = segment_frames
        self._index = self._number = 0
        self._recent: deque[tuple[Start, Seen]] = deque()

    def add(self, seen: Seen) -> Iterator[tuple[int, Start]]:
        """Takes the next source frame; gives the segments that begin by it, and where."""
        start = Start(copy.deepcopy(self._schedule), self._index, self._number)
        self._recent.append((start, seen))
        for output in self._schedule.add(seen.pts):
            if self._number % self._length == 0:
                yield self._number // self._length, self._start_for(output.left)
            self._number += 1
        self._index += 1
        while len(self._recent) > 1 and not self._schedule.needs(
            self._recent[1][0].index + LOOK_BACK - 1
        ):
            self._recent.popleft()

    def latest(self) -> Start:
        """The start for whatever output frames are still to come."""
        return self._start_from(0) if self._recent else Start(self._schedule)

    def _start_for(self, left: int) -> Start:
        """The latest start that is `LOOK_BACK` frames before frame `left`, as far as there are."""
        fitting = [i for i, (s, _) in enumerate(self._recent) if s.index <= left - LOOK_BACK]
        return self._start_from(fitting[-1] if fitting else 0)

    def _start_from(self, position: int) -> Start:
        start = self._recent[position][0]
        expected = tuple(seen for _, seen in self._recent)[position:]
        schedule = copy.deepcopy(start.schedule)
        return Start(schedule, start.index, start.number, expected)


def find_start(
    schedule: AnySchedule, known: Iterable[Seen], segment_frames: int, finished: Iterable[int]
) -> Start:
    """Where to begin so that every segment that is not finished gets its frames.

    Args:
        schedule: an empty one.
        known: the source frames from the first on, as far as an earlier run has seen them.
        segment_frames: output frames of a segment.
        finished: numbers of finished segments.
    """
    done = set(finished)
    finder = StartFinder(schedule, segment_frames)
    if not done:
        return finder.latest()
    for seen in known:
        for segment, start in finder.add(seen):
            if segment not in done:
                return start
    return finder.latest()


def read_from(reader: VideoReader, start: Start) -> Iterator[Frame]:
    """The source's frames from a start on, the same that were read there before.

    Raises:
        VideoError: they are others.
    """
    if start.index and not _jump(reader, start):
        reader.skip(start.index)
    frames = iter(reader)
    for seen in start.expected:
        frame = next(frames, None)
        if frame is None or Seen.of(frame) != seen:
            raise VideoError(
                f"{reader.info.path} does not give the frames it gave before (at"
                f" {float(seen.pts):.3f} s): begin anew with --restart"
            )
        yield frame
    yield from frames


def _jump(reader: VideoReader, start: Start) -> bool:
    """Whether seeking leads to the very pictures that were expected; compared by a few."""
    few = start.expected[:_COMPARED]
    if not few or not reader.jump(few[0].pts):
        return False
    found = tuple(Seen.of(frame) for frame in islice(reader, len(few)))
    return found == few and reader.jump(few[0].pts)


def _line(seen: Seen) -> str:
    return f"{seen.pts} {seen.mark:08x}\n"


def _read_timeline(path: Path) -> Iterator[Seen]:
    try:
        text = path.read_text(encoding="ascii")
    except FileNotFoundError:
        return
    for line in text.splitlines(keepends=True):
        pts, _, mark = line.partition(" ")
        if not line.endswith("\n"):
            return  # cut short by whatever ended the run
        try:
            yield Seen(Fraction(pts), int(mark, 16))
        except ValueError:
            return
