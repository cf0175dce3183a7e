"""Which two input frames, and which moment between them, make each output frame.

Times and rates are Fractions. Output frame k stands at `start + k / frame_rate`, `start` being the
time of the first input frame. The clip lasts from `start` to the end of its last frame and gives
`round(duration * frame_rate)` output frames (halves rounded up, at least one), so the output is as
long as the source to within half an output frame. After the last input frame, that frame is held;
on request nothing follows it, or the way back to the first frame does.

The input frames' own times are the time axis, whatever their spacing. Times that a coarse clock has
rounded (Matroska's milliseconds, also after a change of container) are first put back on the grid
they were rounded from.
"""

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain

from midflow.errors import OptionError

Rate = str | int | float | Fraction
"""A rate or factor as a user says it: 60, 59.94, "2.5", "60000/1001", Fraction(5, 2)."""

DEFAULT_FACTOR = Fraction(2)
ENDS = ("hold", "drop", "loop")
"""After the last input frame: show it as long as the source does, show it once, or lead back to the
first one."""
MIN_FRAME_RATE = Fraction(1, 1000)  # frames/s
MAX_FRAME_RATE = 10_000  # frames/s; beyond it a slip of the finger is likelier than a wish
_HUGE_EXPONENT = re.compile(r"e[+-]?\d{3}", re.I)  # its digits would fill the memory
_MAX_DENOMINATOR = 100_000  # keeps every rate inside the 32 bits that containers have for it
_COMMON_TICK = Fraction(1, 1000)  # Matroska's; a file may have lost it since, but not its rounding
_COARSEST_TICK = Fraction(1, 4)  # of a frame: coarser clocks cannot tell rounding from VFR
_SMALLEST_GAP = Fraction(1, 1_000_000)  # seconds, where the frame before was put after this one
_NTSC_SLIP = Fraction(1, 100)  # frames/s: 23.98 and 23.976 both stand for 24000/1001


@dataclass(frozen=True, slots=True)
class OutputFrame:
    """One output frame and where it comes from."""

    pts: Fraction
    """When it is shown, in seconds."""
    left: int
    """Index of the last input frame at or before `pts`."""
    right: int
    """Index of the input frame after it (of a loop's end, the first one); `left` itself where
    `timestep` is 0."""
    timestep: Fraction
    """Position between the two, in [0, 1). 0 is the left frame itself, passed through or held."""
    duration: Fraction | None = None
    """How long it is shown, in seconds; None: one frame at the output's constant rate."""


class Schedule:
    """Turns the times of input frames, given one by one, into output frames.

    An output frame is given once it is certain that the clip is long enough to hold it, which is
    with the arrival of its right frame or, at low output rates, of a later one.
    """

    def __init__(
        self,
        frame_rate: Fraction,
        *,
        source_rate: Fraction | None = None,
        tick: Fraction = Fraction(0),
        end: str = "hold",
    ) -> None:
        """Starts a schedule.

        Args:
            frame_rate: of the output, frames per second.
            source_rate: of the input, its nominal or average rate, frames per second.
            tick: the source's clock, seconds per tick. With `source_rate`, times less than one tick
                or one millisecond from the constant-rate grid are taken to be that grid, rounded.
            end: one of `ENDS`.
        """
        self.frame_rate = frame_rate
        self._end = end
        self._grid = _Grid(source_rate, tick)
        self._given = Fraction(0)  # the latest time as it came; `_latest` is that on its grid
        self._start = self._latest = Fraction(0)
        self._index = -1  # of the latest input frame
        self._next = 0  # number of the first output frame not yet made
        self._waiting: OutputFrame | None = None  # made, and dropped if the clip ends very soon

    @property
    def first_needed(self) -> int:
        """Index of the earliest input frame that output frames still to come may name."""
        return self._waiting.left if self._waiting else max(self._index, 0)

    def needs(self, index: int) -> bool:
        """Whether an output frame still to come may name this input frame."""
        return index >= self.first_needed or (index == 0 and self._end == "loop")

    def add(self, pts: Fraction) -> Iterator[OutputFrame]:
        """Takes the time of the next input frame; gives the output frames that are certain by it.

        Args:
            pts: seconds, above every earlier one.

        Raises:
            OptionError: the time does not follow the one before.
        """
        if self._index >= 0 and pts <= self._given:
            raise OptionError(
                f"times of input frames must increase, got {float(pts)} s"
                f" after {float(self._given)} s"
            )
        self._given, previous = pts, self._latest
        pts = self._grid.snap(pts)
        self._index += 1
        if self._index == 0:
            self._start = self._latest = pts
            return iter(())
        pts = self._latest = max(pts, previous + _SMALLEST_GAP)
        position = (pts - self._start) * self.frame_rate  # in output frames
        before = math.ceil(position)  # how many stand before `pts`
        # how many there are, should the clip end here: `before`, or one less
        certain = before if self._end == "drop" else _round_half_up(position)
        ready = self._release(certain)
        first, self._next = self._next, max(self._next, before)
        left, right = (self._index - 1, previous), (self._index, pts)
        if first < before and certain < before:
            self._waiting = self._place(before - 1, left, right)
        return chain(ready, (self._place(k, left, right) for k in range(first, certain)))

    def finish(self, last_duration: Fraction) -> Iterator[OutputFrame]:
        """Ends the clip, its last frame lasting `last_duration` seconds; gives the rest."""
        if self._index < 0:
            return iter(())
        end = max(self._latest, self._grid.snap(self._given + last_duration))
        if self._end == "drop":
            count = math.floor((self._latest - self._start) * self.frame_rate) + 1
        else:
            count = max(1, _round_half_up((end - self._start) * self.frame_rate))
        ready = self._release(count)
        last = (self._index, self._latest)
        after = (0, end) if self._end == "loop" else last
        return chain(ready, (self._place(k, last, after) for k in range(self._next, count)))

    def _place(
        self, number: int, left: tuple[int, Fraction], right: tuple[int, Fraction]
    ) -> OutputFrame:
        """Output frame `number` between two (index, time); a hold where they are the same."""
        pts = self._start + number / self.frame_rate
        if left[0] == right[0] or pts == left[1]:
            return OutputFrame(pts, left[0], left[0], Fraction(0))
        timestep = (pts - left[1]) / (right[1] - left[1])
        return OutputFrame(pts, left[0], right[0], timestep)

    def _release(self, count: int) -> list[OutputFrame]:
        """The waiting output frame if the clip has at least `count` and that includes it."""
        if self._waiting is None or self._next > count:
            return []
        waiting, self._waiting = self._waiting, None
        return [waiting]


def plan(
    times: Iterable[Fraction],
    last_duration: Fraction,
    frame_rate: Fraction,
    *,
    source_rate: Fraction | None = None,
    tick: Fraction = Fraction(0),
    end: str = "hold",
) -> Iterator[OutputFrame]:
    """The output frames of a whole clip, from its frames' times; arguments as for `Schedule`."""
    schedule = Schedule(frame_rate, source_rate=source_rate, tick=tick, end=end)
    for pts in times:
        yield from schedule.add(pts)
    yield from schedule.finish(last_duration)


def output_rate(
    source_rate: Fraction, *, fps: Rate | None = None, factor: Rate | None = None
) -> Fraction:
    """Frames per second of the output; without `fps` and `factor`, twice the source's.

    Args:
        source_rate: nominal or average rate of the source, frames per second.
        fps: the wanted rate. A decimal means exactly what it says: "59.94" is 5994/100, the rate of
            NTSC video is "60000/1001".
        factor: the wanted multiple of `source_rate`, at least 1.

    Raises:
        OptionError: both are given, or one is no number or out of range.
    """
    if fps is not None and factor is not None:
        raise OptionError(f"give either fps or factor, not both, got {fps = } and {factor = }")
    if fps is not None:
        rate = parse_rate(fps, "fps")
    else:
        multiple = DEFAULT_FACTOR if factor is None else parse_rate(factor, "factor")
        if multiple < 1:
            raise OptionError(
                f"factor must be at least 1, got {factor}: a lower rate is set by fps"
            )
        rate = source_rate * multiple
    if rate > MAX_FRAME_RATE:
        raise OptionError(
            f"the output rate must be at most {MAX_FRAME_RATE} frames/s, got {float(rate):g}"
        )
    if rate < MIN_FRAME_RATE:
        raise OptionError(
            f"the output rate must be at least {float(MIN_FRAME_RATE)} frames/s, "
            f"got {float(rate):g}"
        )
    return rate.limit_denominator(_MAX_DENOMINATOR)


def parse_rate(value: Rate, name: str) -> Fraction:
    """A positive number given as integer, decimal or fraction; `name` is for the error.

    Raises:
        OptionError: it is not a number, or not positive.
    """
    try:
        if _HUGE_EXPONENT.search(text := str(value).replace(" ", "")):
            raise ValueError
        rate = Fraction(text)  # through text: the decimal, not its binary
    except (ValueError, ZeroDivisionError):
        raise OptionError(
            f"{name} must be a number such as 60, 2.5 or 60000/1001, got {value!r}"
        ) from None
    if rate <= 0:
        raise OptionError(f"{name} must be above 0, got {value}")
    return rate


def ntsc_rate(rate: Fraction) -> Fraction | None:
    """The NTSC rate that a decimal probably stands for (23.976 -> 24000/1001), or None."""
    exact = Fraction(math.ceil(rate) * 1000, 1001)
    is_slip = rate.denominator != 1 and rate != exact and abs(rate - exact) < _NTSC_SLIP
    return exact if is_slip else None


def rate_label(rate: Fraction) -> str:
    """A rate for people and file names, with up to three decimals: "60", "59.94", "47.952"."""
    return f"{float(rate):.3f}".rstrip("0").rstrip(".")


class _Grid:
    """Puts times that a coarse clock rounded back on the constant-rate grid they come from."""

    def __init__(self, rate: Fraction | None, tick: Fraction) -> None:
        self._rate = rate or Fraction(0)
        ticks = [t for t in (tick, _COMMON_TICK) if t * self._rate <= _COARSEST_TICK]
        self._tick = max(ticks, default=Fraction(0)) if rate else Fraction(0)
        self._origin: Fraction | None = None
        self._line = 0  # the grid line last used

    def snap(self, pts: Fraction) -> Fraction:
        """The grid's time if `pts` is less than a tick from it, else `pts` itself.

        A tick, as both the first frame's time and this one were rounded, by half a tick each.
        """
        if self._origin is None:
            self._origin = pts
        if not self._tick:
            return pts
        line = round((pts - self._origin) * self._rate)
        exact = self._origin + line / self._rate
        if line <= self._line or abs(exact - pts) >= self._tick:
            return pts
        self._line = line
        return exact


def _round_half_up(value: Fraction) -> int:
    return math.floor(value + Fraction(1, 2))
