"""Writing a clip: encoded frames, and everything else of the source beside them."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

import av
from av.container import OutputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from midflow.errors import OptionError, VideoError
from midflow.video.animation import play_options
from midflow.video.encoders import WriterOptions
from midflow.video.frame import ClipInfo, ColorSpec, Planes
from midflow.video.output import PartialFile
from midflow.video.reader import probe
from midflow.video.streams import StreamCopier
from midflow.video.track import CONTAINERS, MP4, TrackSettings, VideoTrack

log = logging.getLogger(__name__)


class VideoWriter:
    """Encode frames into a file: `with VideoWriter(...) as writer: writer.write(planes, pts)`.

    The file is written under another name beside the final one and renamed when it is whole; after
    an exception, Ctrl-C included, nothing is left. The same input gives the same bytes.

    Args:
        path: the output; its extension chooses the container.
        source: the clip (`VideoReader.info`, or a path) whose other streams, chapters, metadata,
            rotation and aspect are kept, and cut to its range when it is trimmed; None: no source.
        width: pixels per row.
        height: rows.
        frame_rate: frames per second of the output.
        color: colour of the source frames; None: the source's, or BT.709.
        pixel_format: planar format of the source frames.
        options: codec, quality, pixel format and so on.
        time_base: seconds in which every frame time is whole, for an output whose rate varies;
            None: frames stand at the rate.
        partial: where the file grows, on the same disk; None: beside `path`.

    Raises:
        VideoError: the output cannot be written, or cannot hold the sound.
        OptionError: an unknown codec, preset, pixel format, option or container.
    """

    def __init__(
        self,
        path: str | Path,
        source: ClipInfo | str | Path | None,
        width: int,
        height: int,
        frame_rate: Fraction,
        color: ColorSpec | None = None,
        pixel_format: str = "yuv420p",
        options: WriterOptions | None = None,
        time_base: Fraction | None = None,
        partial: Path | None = None,
    ) -> None:
        options = options or WriterOptions()
        self.path = Path(path)
        info = probe(source) if isinstance(source, str | Path) else source
        self._info = info
        self._copier: StreamCopier | None = None
        self._last_dts: int | None = None
        self._format = container_format(self.path)
        self.settings = TrackSettings(
            self.path.suffix,
            info,
            (width, height),
            Fraction(frame_rate),
            color,
            pixel_format,
            options,
            time_base,
        )
        """For a `SegmentWriter` of packets that `copy` is to take."""
        origin = info.path if info and not info.is_alone else None
        self._file = PartialFile(self.path, options.overwrite, origin, partial)
        try:
            self._container = self._open()
            self._track = VideoTrack(self._container, self.settings)
            self._begin()
        except BaseException:
            self._abort()
            raise

    @property
    def pixel_format(self) -> str:
        """Planar format of the planes that `write` takes."""
        return self._track.plan.planar_format

    @property
    def color(self) -> ColorSpec:
        """Colour of the planes that `write` takes."""
        return self._track.plan.color

    @property
    def encoder(self) -> str:
        """FFmpeg's name of the encoder."""
        return self._track.plan.encoder

    @property
    def time_base(self) -> Fraction:
        """Seconds per tick of the packets that `copy` takes."""
        return self._track.time_base

    @property
    def extradata(self) -> bytes:
        """What a decoder of the video needs before the first packet."""
        return self._track.extradata

    def write(self, planes: Planes, pts: Fraction, duration: Fraction | None = None) -> None:
        """Encode one frame.

        Args:
            planes: in `pixel_format`, of the size given.
            pts: time of the frame on the source's axis, in seconds, later than the one before.
            duration: seconds it is shown, as they pass on the source's axis; None: one frame at
                the frame rate.

        Raises:
            VideoError: the encoder or the disk refuses.
        """
        with self._failures():
            self._mux(self._track.encode(planes, pts, duration))
            if self._copier:
                self._copier.copy_until(pts)

    def copy(self, packet: "Packet[VideoStream]") -> None:
        """Take a packet that a `SegmentWriter` of the same settings has encoded.

        Raises:
            VideoError: the disk refuses.
        """
        pts = packet.pts or 0
        with self._failures():
            self._mux([packet])
            if self._copier:
                self._copier.copy_until(self._track.time_of(pts))

    def close(self) -> None:
        """Finish the file and give it its name.

        Raises:
            VideoError: nothing was written, or the encoder or the disk refuses.
        """
        try:
            if self._last_dts is None and self._track.is_empty:
                raise VideoError(f"no frame was written to {self.path}: it is not created")
            with self._failures():
                if not self._track.is_empty:
                    self._mux(self._track.flush())
                if self._copier:
                    self._copier.copy_until(None)
                    self._copier.close()
                self._container.close()
                self._file.commit()
        except BaseException:
            self._abort()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._abort()

    def _open(self) -> OutputContainer:
        options = {"fflags": "+bitexact"}  # else Matroska numbers its streams by chance
        if self._format in MP4:
            # the index before the pictures, so that a player on the web starts at once
            options["movflags"] = "+faststart"
        options |= play_options(self._format, self._info.plays if self._info else None)
        return av.open(str(self._file.path), "w", container_options=options)

    def _begin(self) -> None:
        """Add all streams, open the encoder, write the header: what can fail fails here."""
        track = self._track
        if self._info and not self._info.is_alone:
            self._copier = StreamCopier(
                self._info, self._container, track.add, self.settings.options
            )
        else:
            track.add(None)
        if self._format in MP4:  # else delays between streams are rounded to milliseconds
            scale = str(track.time_base.denominator)
            self._container.container_options["movie_timescale"] = scale
        track.open()
        with self._failures():
            self._container.start_encoding()

    def _mux(self, packets: "list[Packet[VideoStream]]") -> None:
        for packet in packets:
            # where segments meet at varying distances of frames, decoding times may overlap a bit
            if self._last_dts is not None and packet.dts is not None:
                packet.dts = max(packet.dts, self._last_dts + 1)
            self._last_dts = packet.dts
            packet.stream = self._track.stream
            self._container.mux_one(packet)

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except (av.FFmpegError, OSError) as error:
            reason = error.strerror or str(error)
            raise VideoError(f"writing {self.path} failed: {reason}") from error

    def _abort(self) -> None:
        if self._copier:
            self._copier.close()
        container = getattr(self, "_container", None)
        if container is not None:
            try:
                container.close()
            except (av.FFmpegError, OSError):
                log.debug("closing the unfinished %s failed", self._file.path)
        self._file.discard()


def container_format(path: Path) -> str:
    """FFmpeg's name of the container that an output's name asks for.

    Raises:
        OptionError: none.
    """
    try:
        return av.open(os.devnull + path.suffix, "w").format.name
    except ValueError as error:
        raise OptionError(
            f"the name of an output video must end in {CONTAINERS}, ..., got {path.name}"
        ) from error
