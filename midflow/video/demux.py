"""Reading packets past what PyAV stumbles over."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from av.container import InputContainer
from av.stream import Stream

log = logging.getLogger(__name__)


def demux(
    container: InputContainer, streams: Sequence[Stream], path: Path | None = None
) -> Iterator[Any]:
    """Packets of some streams in the file's order.

    A stream whose first packet comes later than FFmpeg looks ahead (FLV, MPEG-TS) appears while
    reading, and PyAV has no place for it. It is passed over, with a warning where `path` is given.

    Raises:
        av.FFmpegError: the file cannot be read on.
    """
    while True:
        try:
            yield from container.demux(streams)
            return
        except IndexError:
            if path is not None:
                log.warning("%s has a stream that begins late: it is left out", path)
            path = None
