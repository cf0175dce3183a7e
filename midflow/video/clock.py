"""From the clip's time axis to the output's, and the ticks the output counts in."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

from midflow.errors import OptionError
from midflow.video.frame import ClipInfo

# larger denominators of a time base do not fit the 32-bit fields of H.264 and MP4
LARGEST_TIME_SCALE = 1 << 30
# containers that count frames, and codecs with a 16-bit time scale: one tick must be one frame
_FRAME_TICKS = {"avi", "mpeg4", "mpeg2video", "mpeg1video"}


@dataclass(frozen=True)
class OutputClock:
    """`origin` of the clip becomes 0; `speed` seconds of the clip become one."""

    origin: Fraction = Fraction(0)
    speed: Fraction = Fraction(1)

    def at(self, time: Fraction) -> Fraction:
        """Seconds of the output for seconds of the clip."""
        return (time - self.origin) / self.speed

    def ticks(self, ticks: int, unit: Fraction) -> int:
        """The same in units of `unit` seconds; at the clip's own speed nothing is rounded apart."""
        if self.speed == 1:
            return ticks - round(self.origin / unit)
        return round(self.at(ticks * unit) / unit)


def output_clock(info: ClipInfo | None, speed: Fraction) -> OutputClock:
    """The clock of an output made of the clip."""
    return OutputClock(info.origin if info else Fraction(0), speed)


def choose_time_base(
    kinds: Iterable[str],
    rate: Fraction,
    info: ClipInfo | None,
    clock: OutputClock,
    asked: Fraction | None,
) -> Fraction:
    """A tick in which every frame time is whole, where the container allows it.

    Args:
        kinds: FFmpeg's names of the container and the encoder.
        rate: frames per second of the output.
        info: the clip.
        clock: from its time to the output's.
        asked: the tick of an output of varying rate; None: frames stand at the rate.

    Raises:
        OptionError: the container or the encoder only counts frames, and the rate varies.
    """
    if counting := sorted(_FRAME_TICKS & set(kinds)):
        if asked is not None:
            raise OptionError(
                f"{counting[0]} counts frames and has no varying rate: leave vfr constant,"
                " or write .mp4 or .mkv with another codec"
            )
        return 1 / rate
    scale = rate.numerator if asked is None else asked.denominator
    if info:
        for wanted in (clock.at(info.start).denominator, info.time_base.denominator):
            if math.lcm(scale, wanted) <= LARGEST_TIME_SCALE:
                scale = math.lcm(scale, wanted)
    return Fraction(1, min(scale, LARGEST_TIME_SCALE))
