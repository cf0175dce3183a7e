"""The output's clock: its rate, its speed, its ticks, and the schedule that fills it.

The schedule stays on the source's time axis; the writer divides by the speed. Speed is source
seconds in a second of the output: 1/4 is fourfold slow motion.
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import TypeAlias

from midflow.errors import OptionError
from midflow.gap_schedule import GapSchedule
from midflow.schedule import Rate, Schedule, output_rate
from midflow.video.frame import ClipInfo

AnySchedule: TypeAlias = Schedule | GapSchedule
"""What turns the times of source frames into output frames."""

VFR_CHOICES = ("constant", "keep")
"""Output frames stand at a constant rate, or divide each gap between two source frames."""


@dataclass(frozen=True)
class TimePlan:
    """When output frames are shown."""

    frame_rate: Fraction
    """Frames per second of the output; the average where gaps are kept."""
    speed: Fraction
    """Source seconds in a second of the output."""
    end: str
    """After the last source frame: hold, drop or loop."""
    gap_frames: int | None = None
    """Output frames for each gap between source frames; None: a constant rate."""
    time_base: Fraction | None = None
    """Seconds of the output in which every frame time is whole; None: follows from the rate."""

    def schedule(self, info: ClipInfo) -> AnySchedule:
        """An empty schedule for the clip."""
        if self.gap_frames is not None:
            return GapSchedule(self.gap_frames, end=self.end)
        return Schedule(
            self.frame_rate / self.speed,
            source_rate=info.frame_rate,
            tick=info.time_base,
            end=self.end,
        )

    def frame_count(self, info: ClipInfo) -> int | None:
        """Output frames to expect; None where the source does not tell its duration."""
        if not info.duration:
            return None
        return max(1, round(info.duration * self.frame_rate / self.speed))


def plan_times(
    info: ClipInfo,
    *,
    fps: Rate | None,
    factor: Rate | None,
    speed: Fraction,
    end: str,
    vfr: str,
) -> TimePlan:
    """The clock of an output.

    Args:
        info: the source.
        fps: frames per second of the output.
        factor: or the multiple of the source's rate. With neither it is 2; at another speed than
            the source's it is 1, so that slow motion keeps the rate.
        speed: source seconds in a second of the output.
        end: hold, drop or loop.
        vfr: one of `VFR_CHOICES`.

    Raises:
        OptionError: both `fps` and `factor`, one out of range, or gaps that get no whole number of
            frames.
    """
    if fps is None and factor is None and speed != 1:
        factor = 1
    rate = output_rate(info.frame_rate, fps=fps, factor=factor)
    if vfr == "constant":
        return TimePlan(rate, speed, end)
    if fps is not None:
        raise OptionError(
            f"vfr keep divides the gaps of the source and knows no rate: give a factor, not {fps=}"
        )
    gap_frames = Fraction(rate / info.frame_rate / speed).limit_denominator(1000)
    if gap_frames.denominator != 1:
        raise OptionError(
            "with vfr keep every gap gets a whole number of frames: factor / speed must be whole,"
            f" got {gap_frames}"
        )
    tick = info.time_base / gap_frames / speed
    return TimePlan(rate, speed, end, int(gap_frames), Fraction(1, tick.denominator))
