"""Reading a clip: an iterator of frames in presentation order with exact times.

Nothing is held beyond the frame being delivered and the one after it (its time ends the first one's
duration).
"""

import logging
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path
from types import TracebackType
from typing import Self

import av

from midflow.errors import OptionError, VideoError
from midflow.video.deinterlace import deinterlaced, settle
from midflow.video.demux import demux
from midflow.video.frame import ClipInfo, Frame, Planes
from midflow.video.hwaccel import NO_HARDWARE
from midflow.video.limits import believable_hold, require_gap
from midflow.video.losses import report_losses
from midflow.video.pipe_input import RawInput, is_pipe
from midflow.video.pixel import unpack
from midflow.video.source import container_start, describe, nominal_rate, open_clip, stated_duration
from midflow.video.timing import Timed, begin_at, timed

log = logging.getLogger(__name__)

# pictures around a key frame may need the group before it: begin at an earlier one, in seconds
_SEEK_MARGIN = 1


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
        deinterlace: what to do with interlaced pictures, one of `DEINTERLACE_CHOICES`.
        max_gap: most seconds from one frame to the next. None for any.
        raw: what the frames are, where the file is nothing but frames.
        hwaccel: kind of device that decodes where it can, see `midflow.video.hwaccel`.

    Raises:
        VideoError: the file is missing, unreadable, not a video, larger than the limit, or no frame
            of it can be decoded; or it is interlaced, and that is refused; or, while it is read, a
            gap is longer than allowed.
        OptionError: start or duration is negative, or start lies behind the end.
    """

    def __init__(
        self,
        path: str | Path,
        start: Fraction | float | None = None,
        duration: Fraction | float | None = None,
        deinterlace: str = "off",
        max_gap: Fraction | float | None = None,
        raw: RawInput | None = None,
        hwaccel: str = NO_HARDWARE,
    ) -> None:
        for name, value in (("start", start), ("duration", duration)):
            if value is not None and (value < 0 or (name == "duration" and value == 0)):
                raise OptionError(f"{name} must be positive, got {value} seconds")
        self._path = Path(path)
        self._deinterlace = deinterlace
        self._raw = raw
        self._hwaccel = hwaccel
        self._interlaced = 0  # pictures that are marked so
        self._is_filtered = False
        self._max_gap = max_gap
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
        self._frames = self._deliver()

    def _open(self) -> None:
        self._container, self._stream, self._decoder = open_clip(
            self._path, self._raw, self._hwaccel
        )
        self._is_decode_timed = self._container.format.name == "avi"

    def _begin(self, start: Fraction, duration: Fraction | None) -> ClipInfo:
        """Find the first frame and describe the clip from there."""
        zero = container_start(self._container)
        target = self._target = zero + start if start else None
        self._timed = self._seek(target) if target is not None else self._pictures()
        first = next(self._timed, None)
        if first is None:
            if target is not None and not self.damaged:
                where = f"got {float(start)} s for {self._path}"
                raise OptionError(f"start must lie within the clip, {where}")
            raise VideoError(
                f"no frame of {self._path} can be decoded: the file is damaged or not a video"
            )
        info = describe(self._path, self._container, self._stream, first.picture)
        is_alone = self._raw is not None or is_pipe(self._path)
        self._described = info = replace(info, is_alone=is_alone)
        first, info = self._make_whole(first, info)
        self._first = first
        info = replace(info, start=first.pts, origin=min(zero, first.pts))
        if target is None and duration is None:
            return info
        left = [max(info.duration - start, Fraction(0))] if info.duration else []
        length = min([duration, *left] if duration is not None else left, default=None)
        return replace(
            info,
            duration=length,
            frame_count=round(length * info.frame_rate) if length is not None else None,
            is_trimmed=True,
            end=None if duration is None else zero + start + duration,
            origin=info.origin if target is None else first.pts,
        )

    def _make_whole(self, first: Timed, info: ClipInfo) -> tuple[Timed, ClipInfo]:
        """Refuses or deinterlaces, as asked for; the first frame and the clip after that."""
        choice = settle(self._deinterlace, info.is_interlaced, self._path)
        if choice == "off":
            return first, info
        frames = chain([first], self._timed)
        self._is_filtered = True
        self._timed = deinterlaced(frames, self._stream, choice, 1 / info.frame_rate)
        first = next(self._timed, first)
        if choice == "frames":
            return first, info
        count = None if info.frame_count is None else 2 * info.frame_count
        rate, tick = info.frame_rate * 2, info.time_base / 2
        return first, replace(info, frame_rate=rate, frame_count=count, time_base=tick)

    def _seek(self, target: Fraction) -> Iterator[Timed]:
        """Frames from the first one shown at or after `target`."""
        frames = self._pictures() if is_pipe(self._path) else self._seek_near(target)
        if frames is None:  # the file cannot seek, or only roughly: decode it from its beginning
            self._reopen()
            frames = self._pictures()
        return begin_at(target, next(frames, None), frames)

    def _seek_near(self, target: Fraction) -> Iterator[Timed] | None:
        """Frames from one at or somewhat before `target`; None where the file does not give any."""
        stream = self._stream
        if self._is_decode_timed or stream.start_time is None or not stream.time_base:
            return None
        frames = self._pictures()
        try:
            self._container.seek(int((target - _SEEK_MARGIN) / stream.time_base), stream=stream)
            self._decoder.flush_buffers()
            first = next(frames, None)
        except av.FFmpegError:
            return None
        if first is None or first.pts > target:
            return None
        return chain((first,), frames)

    def _reopen(self) -> None:
        self.close()
        self._open()
        self.damaged = self._interlaced = 0

    def jump(self, pts: Fraction) -> bool:
        """Go on with the frame shown at `pts`, without decoding all before it.

        Returns:
            Whether the file gives such a frame. Whether it is the same picture that decoding from
            the beginning gives is for the caller to see; if not, `skip` always leads there.
        """
        frames = None if self._is_filtered else self._seek_near(pts)
        if frames is None:
            return False
        frames = begin_at(pts, next(frames, None), frames)
        first = next(frames, None)
        if first is None or first.pts != pts:
            return False
        self._first, self._timed = first, frames
        self._frames = self._deliver()
        return True

    def skip(self, count: int) -> None:
        """Begin again and go on with frame number `count`, by decoding all before it.

        Raises:
            VideoError: the file has become shorter.
        """
        self._reopen()
        self._timed = self._seek(self._target) if self._target is not None else self._pictures()
        first = next(self._timed, None)
        if first is not None:
            first, _ = self._make_whole(first, self._described)
            self._timed = chain((first,), self._timed)
            first = next(islice(self._timed, count, None), None)
        if first is None:
            raise VideoError(f"{self._path} has fewer than {count} frames: has it changed?")
        self._first = first
        self._frames = self._deliver()

    def __iter__(self) -> Iterator[Frame]:
        """The frames in presentation order; a second time, those that are left."""
        return self._frames

    def _deliver(self) -> Iterator[Frame]:
        current, gap = self._first, Fraction(0)
        end = self.info.end
        for following in self._timed:
            gap = following.pts - current.pts
            if end is not None and following.pts >= end:
                break
            require_gap(gap, current.pts, self._max_gap, self._path)
            yield Frame(self._planes(current.picture), current.pts, gap)
            current = following
        else:
            usual = 1 / self.info.frame_rate
            gap = believable_hold(current.duration or gap, usual, self._max_gap, self._path)
        if end is not None:
            gap = min(gap, end - current.pts) if end > current.pts else gap
        yield Frame(self._planes(current.picture), current.pts, gap)
        stated = stated_duration(self._stream)
        report_losses(self.info, self.damaged, self._interlaced, stated, current.pts + gap)

    def _planes(self, picture: av.VideoFrame) -> Planes:
        size = self.info.width, self.info.height
        if (picture.width, picture.height) != size:
            log.warning(
                "%s changes size at %.3f s: scaled to %dx%d", self._path, picture.time or 0, *size
            )
            picture = picture.reformat(width=size[0], height=size[1], threads=1)
        return unpack(picture, self.info.pixel_format)

    def _pictures(self) -> Iterator[Timed]:
        stream = self._stream
        time_base = stream.time_base or Fraction(1, 90000)
        start = (stream.start_time or 0) * time_base
        if self._is_decode_timed:
            start = Fraction(0)
        gap = 1 / nominal_rate(stream)
        return timed(self._decode(), time_base, start, gap, self._is_decode_timed)

    def _decode(self) -> Iterator[av.VideoFrame]:
        """Decode all that can be decoded; damage is counted, not raised."""
        packets = demux(self._container, [self._stream])
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
                pictures = self._decoder.decode(packet)
            except av.FFmpegError:
                self.damaged += 1
                continue
            for picture in pictures:
                self.damaged += picture.is_corrupt
                self._interlaced += picture.interlaced_frame
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
