"""Reading a clip: an iterator of frames in presentation order with exact times.

Nothing is held beyond the frame being delivered and the one after it (its time ends the first one's
duration).
"""

import logging
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

import av

from midflow.errors import OptionError, VideoError
from midflow.video.frame import ClipInfo, Frame, Planes
from midflow.video.pixel import unpack
from midflow.video.source import container_start, describe, main_video, nominal_rate, open_source
from midflow.video.timing import Timed, timed

log = logging.getLogger(__name__)


class VideoReader:
    """Decode a clip frame by frame: `with VideoReader(path) as reader: for frame in reader: ...`.

    The frames can be read once. What cannot be decoded in the middle of a file is passed over: the
    count is logged as one warning at the end and kept in `damaged`. Timestamps that are missing,
    repeated or run backwards are replaced by times between their neighbours.

    Args:
        path: the file.
        start: seconds into the clip to begin at: the first frame shown at or after it. None for the
            beginning.
        duration: seconds to read. None for all.

    Raises:
        VideoError: the file is missing, unreadable, not a video, or no frame of it can be decoded.
        OptionError: start or duration is negative, or start lies behind the end.
    """

    def __init__(
        self,
        path: str | Path,
        start: Fraction | float | None = None,
        duration: Fraction | float | None = None,
    ) -> None:
        for name, value in (("start", start), ("duration", duration)):
            if value is not None and (value < 0 or (name == "duration" and value == 0)):
                raise OptionError(f"{name} must be positive, got {value} seconds")
        self._path = Path(path)
        self.damaged = 0
        """Packets and frames that could not be decoded, or only in part, so far."""
        self._open()
        try:
            self.info = self._begin(
                Fraction(start or 0), None if duration is None else Fraction(duration)
            )
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        self._container = open_source(self._path)
        self._stream = main_video(self._container, self._path)

    def _begin(self, start: Fraction, duration: Fraction | None) -> ClipInfo:
        """Find the first frame and describe the clip from there."""
        zero = container_start(self._container)
        target = zero + start if start else None
        self._timed = self._seek(target)
        first = next(self._timed, None)
        if first is None and self.damaged == 0 and target is not None:
            raise OptionError(
                f"start must lie within the clip, got {float(start)} s for {self._path}"
            )
        if first is None:
            raise VideoError(
                f"no frame of {self._path} can be decoded: the file is damaged or not a video"
            )
        self._first = first
        info = describe(self._path, self._container, self._stream, first.picture)
        self._warn_of_losses(info)
        end = None if duration is None else zero + start + duration
        trimmed = target is not None or end is not None
        length = info.duration
        if length is not None:
            length = max(Fraction(0), length - start)
        if duration is not None:
            length = duration if length is None else min(length, duration)
        count = (
            info.frame_count
            if not trimmed
            else (round(length * info.frame_rate) if length else None)
        )
        origin = first.pts if target is not None else min(zero, first.pts)
        return replace(
            info,
            start=first.pts,
            duration=length,
            frame_count=count,
            is_trimmed=trimmed,
            end=end,
            origin=origin,
        )

    def _warn_of_losses(self, info: ClipInfo) -> None:
        if info.has_alpha:
            log.warning("%s has transparency (%s): it is left out", self._path, info.source_format)
        if info.is_interlaced:
            log.warning(
                "%s is interlaced: its frames are taken as they are; deinterlace first", self._path
            )

    def _seek(self, target: Fraction | None) -> Iterator[Timed]:
        """Frames from the first one shown at or after `target`."""
        frames = self._pictures()
        if target is None:
            return frames
        ticks = int(target / (self._stream.time_base or 1))
        try:
            self._container.seek(ticks, stream=self._stream)
            first = next(frames, None)
        except av.FFmpegError:
            first = None
        if (
            first is None or first.pts > target
        ):  # the file cannot seek, or only roughly: decode from its beginning
            self.close()
            self._open()
            self.damaged = 0
            frames = self._pictures()
            first = next(frames, None)
        return _from(target, first, frames)

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames in presentation order."""
        current, gap = self._first, Fraction(0)
        end = self.info.end
        for following in self._timed:
            gap = following.pts - current.pts
            if end is not None and following.pts >= end:
                break
            yield Frame(self._planes(current.picture), current.pts, gap)
            current = following
        else:
            gap = current.duration or gap or 1 / self.info.frame_rate
        if end is not None:
            gap = min(gap, end - current.pts) if end > current.pts else gap
        yield Frame(self._planes(current.picture), current.pts, gap)
        if self.damaged:
            log.warning(
                "%s is damaged: %d packets or frames could not be decoded whole",
                self._path,
                self.damaged,
            )

    def _planes(self, picture: av.VideoFrame) -> Planes:
        size = self.info.width, self.info.height
        if (picture.width, picture.height) != size:
            log.warning(
                "%s changes size at %.3f s: scaled to %dx%d", self._path, picture.time or 0, *size
            )
            picture = picture.reformat(width=size[0], height=size[1])
        return unpack(picture, self.info.pixel_format)

    def _pictures(self) -> Iterator[Timed]:
        stream = self._stream
        time_base = stream.time_base or Fraction(1, 90000)
        start = (stream.start_time or 0) * time_base
        is_avi = self._container.format.name == "avi"
        if is_avi:
            start = Fraction(0)
        return timed(self._decode(), time_base, start, 1 / nominal_rate(stream), is_avi)

    def _decode(self) -> Iterator[av.VideoFrame]:
        """Decode all that can be decoded; damage is counted, not raised."""
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
            except av.FFmpegError:
                self.damaged += 1
                packet = None
            if packet is None:
                return
            self.damaged += packet.is_corrupt
            try:
                pictures = packet.decode()
            except av.FFmpegError:
                self.damaged += 1
                continue
            for picture in pictures:
                self.damaged += picture.is_corrupt
                yield picture

    def close(self) -> None:
        """Release the file."""
        self._container.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def probe(path: str | Path) -> ClipInfo:
    """Describe a clip without reading it through.

    Raises:
        VideoError: as for `VideoReader`.
    """
    with VideoReader(path) as reader:
        return reader.info


def _from(target: Fraction, first: Timed | None, others: Iterator[Timed]) -> Iterator[Timed]:
    """Pass over the frames shown before `target`."""
    while first is not None and first.pts < target:
        first = next(others, None)
    if first is not None:
        yield first
        yield from others
