"""Interlaced pictures made whole by FFmpeg's bwdif.

An interlaced picture is two fields, its even and its odd rows, of two moments. What lies between
two such pictures cannot be painted before each moment has all its rows.
"""

import logging
from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
from av.filter import Graph
from av.video.stream import VideoStream

from midflow.errors import VideoError
from midflow.video.timing import Timed

log = logging.getLogger(__name__)

DEINTERLACE_CHOICES = ("refuse", "auto", "fields", "frames", "off")
"""What is done with interlaced clips: an error; what suits them; a whole picture for each field
(twice the rate) or for each frame, also where the clip is not marked; or nothing."""

_FIRST_INTERLACED = 2  # of FFmpeg's field orders; below: unknown, progressive
_BOTTOM_FIRST = (3, 4)  # the orders in which the odd rows are shown first


def is_interlaced(stream: VideoStream, picture: av.VideoFrame) -> bool:
    """Whether a clip says so, in its header or in its first picture."""
    order = stream.codec_context.field_order
    return picture.interlaced_frame or int(order or 0) >= _FIRST_INTERLACED


def settle(choice: str, is_marked: bool, path: Path) -> str:
    """What one of `DEINTERLACE_CHOICES` comes to for a clip: fields, frames or off.

    Raises:
        VideoError: the clip is marked as interlaced, and that is refused.
    """
    if not is_marked:
        return choice if choice in ("fields", "frames") else "off"
    if choice == "refuse":
        raise VideoError(
            f"{path} is interlaced, each of its frames shows two moments: add"
            " --deinterlace fields (a picture of each, twice the rate), frames (one of both),"
            " or off if it is not really interlaced"
        )
    if choice == "off":
        log.warning("%s is interlaced: its frames are taken as they are", path)
    return "fields" if choice == "auto" else choice


def deinterlaced(
    items: Iterable[Timed], stream: VideoStream, choice: str, gap: Fraction
) -> Iterator[Timed]:
    """Whole pictures, at the time of the first field, and in between for the second.

    Pictures that are not marked as interlaced pass as they are, unless the first one is not marked:
    then the marks mean nothing and all are deinterlaced.

    Args:
        items: decoded pictures with their times.
        stream: what they belong to.
        choice: frames or fields.
        gap: seconds that a last picture without a duration lasts.
    """
    waiting: dict[int, Timed] = {}
    filter_: _Bwdif | None = None
    form: tuple[str, int, int] | None = None
    for index, item in enumerate(items):
        picture = item.picture
        found = (picture.format.name, picture.width, picture.height)
        if filter_ is None or found != form:
            if filter_ is not None:
                yield from _named(filter_.finish(), waiting)
            form, filter_ = found, _Bwdif(picture, stream, choice)
        waiting[index] = item._replace(duration=item.duration or gap)
        yield from _named(filter_.push(picture, index), waiting)
    if filter_ is not None:
        yield from _named(filter_.finish(), waiting)


class _Bwdif:
    """A filter for pictures of one format and size; times are numbers of pictures."""

    def __init__(self, picture: av.VideoFrame, stream: VideoStream, choice: str) -> None:
        order = int(stream.codec_context.field_order or 0)
        is_marked = picture.interlaced_frame
        parity = "auto" if is_marked else ("bff" if order in _BOTTOM_FIRST else "tff")
        mode = "send_field" if choice == "fields" else "send_frame"
        only = "interlaced" if is_marked else "all"
        self._latest = Fraction(-1)
        self._graph = Graph()
        nodes = [
            self._graph.add_buffer(
                width=picture.width,
                height=picture.height,
                format=picture.format,
                time_base=Fraction(1),
            ),
            self._graph.add("bwdif", f"mode={mode}:parity={parity}:deint={only}"),
            self._graph.add("buffersink"),
        ]
        for before, after in pairwise(nodes):
            before.link_to(after)
        self._graph.configure()

    def push(self, picture: av.VideoFrame, number: int) -> Iterator[tuple[av.VideoFrame, Fraction]]:
        """Whole pictures that are ready, each with its position among the pictures."""
        picture.pts, picture.time_base = number, Fraction(1)
        self._graph.push(picture)
        yield from self._pull()

    def finish(self) -> Iterator[tuple[av.VideoFrame, Fraction]]:
        """The last ones."""
        self._graph.push(None)
        yield from self._pull()

    def _pull(self) -> Iterator[tuple[av.VideoFrame, Fraction]]:
        while True:
            try:
                picture = self._graph.pull()
            except (av.BlockingIOError, av.EOFError):
                return
            assert isinstance(picture, av.VideoFrame) and picture.pts is not None
            position = picture.pts * (picture.time_base or Fraction(1))
            if position == self._latest:  # of one picture alone, both fields are given one time
                position += Fraction(1, 2)
            self._latest = position
            yield picture, position


def _named(
    pictures: Iterable[tuple[av.VideoFrame, Fraction]], waiting: dict[int, Timed]
) -> Iterator[Timed]:
    """Pictures with the times that belong to their positions, second fields half-way between."""
    for picture, position in pictures:
        index = int(position)
        for old in [k for k in waiting if k < index]:
            del waiting[old]
        item = waiting[index]
        share = position - index
        gap = waiting[index + 1].pts - item.pts if index + 1 in waiting else item.duration
        yield Timed(picture, item.pts + share * gap, gap * (1 - share))
