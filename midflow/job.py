"""The writer of a job, and for pipes, which cannot be resumed, what stands in for segments."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

from midflow.errors import OptionError
from midflow.options import VideoOptions
from midflow.rgba import warn_of_lost_alpha
from midflow.segments import NO_LIMIT
from midflow.time_plan import AnySchedule, TimePlan
from midflow.timeline import Start
from midflow.video.frame import ClipInfo, Frame, Planes
from midflow.video.pipe_input import is_pipe
from midflow.video.pipe_output import PipeWriter
from midflow.video.writer import VideoWriter

AnyWriter = VideoWriter | PipeWriter


def open_writer(
    target: str | Path | None, info: ClipInfo, times: TimePlan, options: VideoOptions
) -> AnyWriter:
    """The writer of a job from or to a pipe.

    Raises:
        OptionError: the output has no name, or an option does not fit a pipe.
        VideoError: it cannot be written.
    """
    if target is None:
        raise OptionError("a clip from standard input needs a name for the output, or - for a pipe")
    if is_pipe(target):
        writer = PipeWriter(info, times.frame_rate, options, times.time_base)
        warn_of_lost_alpha(info, writer.encoder, writer.pixel_format)
        return writer
    return open_file(Path(target), info, times, options)


def open_file(
    target: Path,
    info: ClipInfo,
    times: TimePlan,
    options: VideoOptions,
    partial: Path | None = None,
) -> VideoWriter:
    """The writer of a file; arguments and errors as for `VideoWriter`."""
    writer = VideoWriter(
        target,
        info,
        info.width,
        info.height,
        times.frame_rate,
        None,
        info.pixel_format,
        options,
        times.time_base,
        partial,
    )
    warn_of_lost_alpha(info, writer.encoder, writer.pixel_format)
    return writer


class Straight:
    """What `Segments` is to a job, with one segment that goes where it is to be at once.

    Args:
        writer: of the output.
        schedule: an empty one.
    """

    length = NO_LIMIT
    kept_frames = 0

    def __init__(self, writer: AnyWriter, schedule: AnySchedule) -> None:
        self._writer = writer
        self._schedule = schedule
        self._cuts: set[Fraction] = set()

    @property
    def cuts(self) -> tuple[Fraction, ...]:
        """Times, in the source, of the first frames of scenes."""
        return tuple(sorted(self._cuts))

    def find_start(self) -> Start:
        """The beginning."""
        return Start(self._schedule)

    def lacks(self, segment: int) -> bool:
        """True: nothing has been made before."""
        return True

    def see(self, index: int, frame: Frame) -> None:
        """Nothing is recorded."""

    def write(
        self,
        segment: int,
        planes: Planes,
        pts: Fraction,
        duration: Fraction | None,
        cuts: Sequence[Fraction],
    ) -> None:
        """Writes the next frame; arguments as for `Segments.write`.

        Raises:
            VideoError: the encoder, the disk or whoever reads the pipe refuses.
        """
        self._writer.write(planes, pts, duration)
        self._cuts.update(cuts)

    def finish(self, frames: int) -> None:
        """The writer ends with its `with`."""
