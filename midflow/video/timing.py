"""Exact presentation times for decoded pictures, with unusable timestamps repaired."""

import logging
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import NamedTuple

import av

log = logging.getLogger(__name__)

# so many pictures may wait for the next usable timestamp before times are counted on from the frame
# rate
_REPAIR_WINDOW = 16


class Timed(NamedTuple):
    """A decoded picture and its times in seconds."""

    picture: av.VideoFrame
    pts: Fraction
    duration: Fraction
    """As the file says; 0 where it does not."""


def timed(
    pictures: Iterable[av.VideoFrame],
    time_base: Fraction,
    start: Fraction,
    gap: Fraction,
    is_decode_timed: bool = False,
) -> Iterator[Timed]:
    """Give every picture a time later than the one before.

    A picture whose timestamp is missing, repeated or earlier than one already delivered waits until
    a later timestamp comes, then takes its even share of the time between. After 16 such pictures
    in a row, times are counted on at the nominal rate, and if their own timestamps run on evenly
    from an earlier time (a recording that was restarted), the following ones are moved to continue
    from there.

    Args:
        pictures: as decoded, in presentation order.
        time_base: seconds per unit of the timestamps.
        start: time of the first picture where it has no timestamp of its own.
        gap: seconds between pictures at the nominal rate.
        is_decode_timed: the container (AVI) only times the decoding. Decoders deliver in order of
            presentation, so that the time of the n-th delivery serves, moved to begin at `start`.
    """
    waiting: list[Timed] = []
    last: Fraction | None = None
    offset: Fraction | None = None
    use_dts, repaired, count = False, 0, 0
    for picture in pictures:
        count += 1
        if offset is None:
            first = picture.dts
            use_dts = first is not None and (is_decode_timed or picture.pts is None)
            offset = start - (first or 0) * time_base if use_dts else Fraction(0)
        ticks = picture.dts if use_dts else picture.pts
        pts = None if ticks is None else ticks * time_base + offset
        item = Timed(picture, pts if pts is not None else start, picture.duration * time_base)
        if pts is not None and (last is None or pts > last):
            yield from _spread(waiting, last, pts, gap)
            waiting.clear()
            yield item
            last = pts
            continue
        repaired += not is_decode_timed
        waiting.append(item)
        if len(waiting) == _REPAIR_WINDOW:
            first_time = start if last is None else last + gap
            yield from _count_on(waiting, first_time, gap)
            last = first_time + gap * (len(waiting) - 1)
            if pts is not None:
                offset += last - pts
            waiting.clear()
    yield from _count_on(waiting, start if last is None else last + gap, gap)
    if repaired:
        log.warning(
            "%d of %d frames had no usable timestamp: their times follow their neighbours",
            repaired,
            count,
        )


def _spread(
    waiting: list[Timed], last: Fraction | None, until: Fraction, gap: Fraction
) -> Iterator[Timed]:
    """Place pictures evenly between two known times (before the first: at the nominal rate)."""
    share = gap if last is None else (until - last) / (len(waiting) + 1)
    for left, item in zip(range(len(waiting), 0, -1), waiting, strict=True):
        yield item._replace(pts=until - share * left)


def _count_on(waiting: list[Timed], first: Fraction, gap: Fraction) -> Iterator[Timed]:
    for position, item in enumerate(waiting):
        yield item._replace(pts=first + gap * position)


def begin_at(target: Fraction, first: Timed | None, others: Iterator[Timed]) -> Iterator[Timed]:
    """Pass over the frames shown before `target`; `first` comes before `others`."""
    while first is not None and first.pts < target:
        first = next(others, None)
    if first is not None:
        yield first
        yield from others
