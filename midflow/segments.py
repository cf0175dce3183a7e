"""A job as segments of its output: what is finished of it, what is made, and how it is joined.

Segment s holds the output frames from `s * length` on. Each is encoded by itself, and a batch of
painted frames never reaches across a boundary, so that a segment has the same bytes whether the
work came to it from the one before, after a crash, or in another process.
"""

import gc
from collections.abc import Sequence
from enum import Enum
from fractions import Fraction
from types import TracebackType
from typing import Self

from midflow.errors import VideoError
from midflow.time_plan import AnySchedule
from midflow.timeline import Seen, Start, Timeline, find_start
from midflow.video.frame import Frame, Planes
from midflow.video.packets import read_packets
from midflow.video.segment import SegmentWriter, digest
from midflow.video.track import TrackSettings
from midflow.video.writer import VideoWriter
from midflow.workfolder import WorkFolder

NO_LIMIT = 1 << 62
"""Length of segments where all of the output is one."""


class Role(Enum):
    """The part of a process in the work."""

    ALONE = "makes all segments and joins them"
    CALLER = "makes none, and joins those of the workers"
    WORKER = "makes those it can claim"


class Segments:
    """The segments of one output; leaving the `with` removes the one that is not finished.

    Args:
        folder: holds them.
        settings: of the output.
        schedule: an empty one.
        length: output frames of a segment.
        role: which part in the work this process has.

    Raises:
        VideoError: the folder cannot be written.
    """

    def __init__(
        self,
        folder: WorkFolder,
        settings: TrackSettings,
        schedule: AnySchedule,
        length: int,
        role: Role = Role.ALONE,
    ) -> None:
        self.length = length
        """Output frames of a segment."""
        self._folder = folder
        self._settings = settings
        self._schedule = schedule
        self._notes = folder.finished()
        self.kept_frames = sum(note["frames"] for note in self._notes.values())
        """Output frames that an earlier run has finished."""
        self._writer: SegmentWriter | None = None
        self._segment = -1
        self._frames = 0
        self._cuts: set[Fraction] = set()
        self._count = 0
        self._role = role
        self._claims: dict[int, bool] = {}
        try:
            self._timeline = Timeline(folder.timeline, is_recorder=role is not Role.WORKER)
        except OSError as error:
            raise folder.failure(error) from error

    @property
    def cuts(self) -> tuple[Fraction, ...]:
        """Times, in the source, of the first frames of scenes."""
        kept = {Fraction(cut) for note in self._notes.values() for cut in note["cuts"]}
        return tuple(sorted(kept))

    def find_start(self) -> Start:
        """Where to begin so that every segment that is lacking gets its frames."""
        return find_start(self._schedule, self._timeline.known, self.length, self._notes)

    def lacks(self, segment: int) -> bool:
        """Whether a segment is still to be made, by this process."""
        if self._role is Role.ALONE:
            return segment not in self._notes
        if self._role is Role.CALLER or segment in self._notes:
            return False
        if segment not in self._claims:
            self._claims[segment] = self._folder.claim(segment)
        return self._claims[segment]

    def see(self, index: int, frame: Frame) -> None:
        """Record source frame `index`.

        Raises:
            VideoError: the disk refuses.
        """
        try:
            self._timeline.add(index, Seen.of(frame))
        except OSError as error:
            raise self._folder.failure(error) from error

    def write(
        self,
        segment: int,
        planes: Planes,
        pts: Fraction,
        duration: Fraction | None,
        cuts: Sequence[Fraction],
    ) -> None:
        """Encode the next output frame of a segment, the frame before it being finished.

        Args:
            segment: its number, that of the last call or a later one.
            planes: of the frame.
            pts: seconds on the source's axis.
            duration: seconds it is shown; None: one frame at the frame rate.
            cuts: beginnings of scenes found up to this frame since the segment began.

        Raises:
            VideoError: the encoder or the disk refuses.
        """
        if segment != self._segment:
            self._end_segment()
            self._writer = SegmentWriter(self._folder.segment(segment), self._settings)
            self._segment, self._frames = segment, 0
        assert self._writer is not None
        self._writer.write(planes, pts, duration)
        self._frames += 1
        self._cuts.update(cuts)

    def finish(self, frames: int) -> None:
        """End the last segment; the output has so many `frames` in all.

        Raises:
            VideoError: the encoder or the disk refuses.
        """
        self._end_segment()
        self._count = -(-frames // self.length)

    def join(self, writer: VideoWriter) -> None:
        """Copy all segments into the output.

        Raises:
            VideoError: the disk refuses, or a segment is damaged.
        """
        if self._role is Role.CALLER:
            self._notes = self._folder.finished()
        for number in range(self._count):
            path = self._folder.segment(number)
            if number not in self._notes:
                raise VideoError(f"{path} is missing: give the same command again")
            if self._notes[number]["extradata"] != digest(writer.extradata):
                raise VideoError(f"{path} is of another encoder: begin anew with --restart")
            for packet in read_packets(path, writer.time_base):
                writer.copy(packet)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._writer is not None:
            self._writer.discard()
        self._timeline.close()

    def _end_segment(self) -> None:
        if self._writer is None:
            return
        try:
            self._timeline.sync()
        except OSError as error:
            raise self._folder.failure(error) from error
        note = {"frames": self._frames, "cuts": sorted(map(str, self._cuts))}
        self._notes[self._segment] = self._writer.finish(note)
        self._writer = None
        self._cuts.clear()
        gc.collect()  # PyAV's containers and streams hold each other, and with them the encoder
