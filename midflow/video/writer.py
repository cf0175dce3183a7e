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
from av.stream import Stream
from av.video.stream import VideoStream

from midflow.errors import OptionError, VideoError
from midflow.video.clock import choose_time_base, output_clock
from midflow.video.encoders import WriterOptions, plan_encoder, refusal
from midflow.video.frame import ClipInfo, ColorSpec, Planes
from midflow.video.output import PartialFile
from midflow.video.pixel import pack
from midflow.video.reader import probe
from midflow.video.stream_facts import copy_stream_tags
from midflow.video.streams import StreamCopier

log = logging.getLogger(__name__)

_LONGEST_REORDERING = 3600  # seconds between decoding and showing a frame
_MP4 = {"mp4", "mov", "ipod"}
_CONTAINERS = ".mp4, .mkv, .mov, .webm"


class VideoWriter:
    """Encode frames into a file: `with VideoWriter(...) as writer: writer.write(planes, pts)`.

    The file is written under another name beside the final one and renamed when it is whole; after
    an exception, Ctrl-C included, nothing is left.

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
    ) -> None:
        self._options = options = options or WriterOptions()
        self.path = Path(path)
        info = probe(source) if isinstance(source, str | Path) else source
        self._info = info
        self._size = (width, height)
        self._rate = Fraction(frame_rate)
        self._clock = output_clock(info, options.exact_speed)
        self._asked_time_base = time_base
        self._durations: dict[int, int] = {}
        self._last: int | None = None
        self._copier: StreamCopier | None = None
        color = color or (info.color if info else ColorSpec())
        self._check_container()
        self._file = PartialFile(self.path, options.overwrite, info.path if info else None)
        try:
            self._container = self._open()
            self._plan = plan_encoder(
                options,
                self._container.format.name,
                pixel_format,
                self._size,
                color,
                info.hdr if info else {},
            )
            self._begin()
        except BaseException:
            self._abort()
            raise

    @property
    def pixel_format(self) -> str:
        """Planar format of the planes that `write` takes."""
        return self._plan.planar_format

    @property
    def color(self) -> ColorSpec:
        """Colour of the planes that `write` takes."""
        return self._plan.color

    @property
    def encoder(self) -> str:
        """FFmpeg's name of the encoder."""
        return self._plan.encoder

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
        if planes[0].shape != self._size[::-1]:
            got, wanted = planes[0].shape, self._size
            raise VideoError(f"frames of {wanted[0]}x{wanted[1]} are needed, got {got[1]}x{got[0]}")
        tick = self._tick(pts)
        if self._last is not None and tick <= self._last:
            raise VideoError(f"frames must be written in order, got {float(pts)} s again or late")
        self._last = tick
        frame = pack(planes, self._plan.planar_format, self._plan.coded_format)
        frame.pts, frame.time_base = tick, self._time_base
        shown = self._tick(pts + (duration or self._clock.speed / self._rate)) - tick
        frame.duration = self._durations[tick] = max(shown, 1)
        frame.colorspace = self.color.matrix_code
        frame.color_range = self.color.range_code
        frame.color_primaries = self.color.primaries
        frame.color_trc = self.color.transfer
        with self._failures():
            self._mux(self._stream.encode(frame))
            if self._copier:
                self._copier.copy_until(pts)

    def close(self) -> None:
        """Finish the file and give it its name.

        Raises:
            VideoError: nothing was written, or the encoder or the disk refuses.
        """
        try:
            if self._last is None:
                raise VideoError(f"no frame was written to {self.path}: it is not created")
            with self._failures():
                self._mux(self._stream.encode(None))
                if self._copier:
                    self._copier.copy_until(None)
                    self._copier.close()
                self._container.close()
        except BaseException:
            self._abort()
            raise
        self._file.commit()

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

    def _check_container(self) -> None:
        try:
            self._format = av.open(os.devnull + self.path.suffix, "w").format.name
        except ValueError as error:
            raise OptionError(
                f"the name of an output video must end in {_CONTAINERS}, ..., got {self.path.name}"
            ) from error

    def _open(self) -> OutputContainer:
        # the index before the pictures, so that a player on the web starts at once
        options = {"movflags": "+faststart"} if self._format in _MP4 else {}
        return av.open(str(self._file.path), "w", container_options=options)

    def _begin(self) -> None:
        """Add all streams, open the encoder, write the header: what can fail fails here."""
        if self._info:
            self._copier = StreamCopier(self._info, self._container, self._add_video, self._options)
        else:
            self._add_video(None)
        self._open_encoder()
        with self._failures():
            self._container.start_encoding()

    def _add_video(self, source: Stream | None) -> None:
        plan, info = self._plan, self._info
        try:
            stream = self._container.add_stream(plan.encoder, rate=self._rate)
        except ValueError as error:
            raise OptionError(
                f"{self.path.suffix} files cannot hold {plan.encoder}: choose another codec,"
                f" or another of {_CONTAINERS}"
            ) from error
        assert isinstance(stream, VideoStream)
        self._stream = stream
        stream.width, stream.height = self._size
        stream.pix_fmt = plan.coded_format
        context = stream.codec_context
        context.time_base = self._time_base = choose_time_base(
            (self._format, plan.encoder), self._rate, info, self._clock, self._asked_time_base
        )
        if self._format in _MP4:  # else delays between streams are rounded to milliseconds
            scale = str(self._time_base.denominator)
            self._container.container_options["movie_timescale"] = scale
        context.options = dict(plan.options)
        context.colorspace = plan.color.matrix_code
        context.color_range = plan.color.range_code
        context.color_primaries = plan.color.primaries
        context.color_trc = plan.color.transfer
        if info:
            context.sample_aspect_ratio = info.sample_aspect_ratio
            if info.display_matrix:
                stream.set_display_matrix(info.display_matrix)
            elif info.rotation:
                stream.set_display_rotation(info.rotation)
        if source is not None:
            copy_stream_tags(source, stream)
        if plan.encoder == "libx265" and self._format in _MP4:
            context.codec_tag = "hvc1"  # Apple's players know no other

    def _open_encoder(self) -> None:
        # SVT-AV1 prints to the terminal unless told not to, and listens to nothing else
        quiet = "SVT_LOG" not in os.environ and self._plan.encoder == "libsvtav1"
        if quiet:
            os.environ["SVT_LOG"] = "1"
        try:
            self._stream.codec_context.open()
        except (av.FFmpegError, ValueError) as error:
            raise OptionError(refusal(self._plan, self._size, error)) from error
        finally:
            if quiet:
                del os.environ["SVT_LOG"]

    def _tick(self, time: Fraction) -> int:
        return round(self._clock.at(time) / self._time_base)

    def _mux(self, packets: "list[Packet[VideoStream]]") -> None:
        for packet in packets:
            # not every encoder passes the durations on, and the last one ends the clip
            packet.duration = self._durations.pop(packet.pts, packet.duration)  # type: ignore[arg-type]
            if _is_nonsense(packet):
                packet.dts = packet.pts
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


def _is_nonsense(packet: "Packet[VideoStream]") -> bool:
    """Whether a decoding time is not one: x265 invents it for clips of one or two frames."""
    if packet.dts is None or packet.pts is None:
        return False
    return abs(packet.pts - packet.dts) * packet.time_base > _LONGEST_REORDERING
