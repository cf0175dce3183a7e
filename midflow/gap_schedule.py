"""Output frames that divide each gap between two source frames: a variable rate stays variable."""

from collections.abc import Iterator
from fractions import Fraction

from midflow.errors import OptionError
from midflow.schedule import OutputFrame


class GapSchedule:
    """Turns the times of source frames, given one by one, into output frames.

    Every source frame is an output frame at its own exact time; `gap_frames - 1` more stand evenly
    between it and the next one. The last frame's duration counts as a gap.
    """

    def __init__(self, gap_frames: int, *, end: str = "hold") -> None:
        """Starts a schedule.

        Args:
            gap_frames: output frames for each gap, at least 1.
            end: what stands in the last frame's duration: hold it, drop all but the frame itself,
                or loop, which leads back to the first frame.
        """
        self._gap_frames = gap_frames
        self._end = end
        self._latest: Fraction | None = None
        self._index = -1

    def needs(self, index: int) -> bool:
        """Whether an output frame still to come may name this source frame."""
        return index >= self._index or (index == 0 and self._end == "loop")

    def add(self, pts: Fraction) -> Iterator[OutputFrame]:
        """Takes the time of the next source frame, in seconds; gives those before it.

        Raises:
            OptionError: the time does not follow the one before.
        """
        previous, self._latest = self._latest, pts
        self._index += 1
        if previous is None:
            return iter(())
        if pts <= previous:
            raise OptionError(
                f"times of input frames must increase, got {float(pts)} s after {float(previous)} s"
            )
        return self._divide(self._index - 1, self._index, previous, pts - previous)

    def finish(self, last_duration: Fraction) -> Iterator[OutputFrame]:
        """Ends the clip, its last frame lasting `last_duration` seconds; gives the rest."""
        if self._latest is None:
            return iter(())
        last = self._index
        if self._end == "drop":
            duration = last_duration / self._gap_frames
            return iter((OutputFrame(self._latest, last, last, Fraction(0), duration),))
        right = 0 if self._end == "loop" else last
        return self._divide(last, right, self._latest, last_duration)

    def _divide(
        self, left: int, right: int, start: Fraction, gap: Fraction
    ) -> Iterator[OutputFrame]:
        share = gap / self._gap_frames
        for part in range(self._gap_frames):
            is_hold = part == 0 or left == right
            yield OutputFrame(
                start + part * share,
                left,
                left if is_hold else right,
                Fraction(0) if is_hold else Fraction(part, self._gap_frames),
                share,
            )
