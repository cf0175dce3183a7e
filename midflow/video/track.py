"""The video stream of an output: frames in, packets out."""

import os
from dataclasses import dataclass
from fractions import Fraction

import av
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.stream import VideoStream

from midflow.errors import OptionError, VideoError
from midflow.video.clock import choose_time_base, output_clock
from midflow.video.encoders import WriterOptions, plan_encoder, refusal
from midflow.video.frame import ClipInfo, ColorSpec, Planes
from midflow.video.pixel import pack
from midflow.video.scheduling import as_scheduled
from midflow.video.stream_facts import copy_stream_tags

MP4 = {"mp4", "mov", "ipod"}
"""FFmpeg's names of the containers of the MP4 family."""
CONTAINERS = ".mp4, .mkv, .mov, .webm"

ENCODER_THREADS = 8
"""Threads of an encoder, whatever the machine has: their number changes the bits of x264, x265 and
VP9, and a clip must come out the same wherever its segments are encoded."""
_LONGEST_REORDERING = 3600  # seconds between decoding and showing a frame


@dataclass(frozen=True)
class TrackSettings:
    """What the video stream of an output is, however many encoders make it."""

    suffix: str
    """Extension of the output, which chooses the container."""
    info: ClipInfo | None
    """The source; None: there is none."""
    size: tuple[int, int]
    """Width, height."""
    frame_rate: Fraction
    """Frames per second of the output."""
    color: ColorSpec | None
    """Colour of the frames; None: the source's, or BT.709."""
    pixel_format: str
    """Planar format of the source frames."""
    options: WriterOptions
    """Codec, quality, pixel format and so on."""
    time_base: Fraction | None = None
    """Seconds in which every frame time is whole, for an output whose rate varies; None: frames
    stand at the rate."""


class VideoTrack:
    """An encoder and its stream in an output container that is not begun yet.

    Args:
        container: gets the stream when `add` is called.
        settings: what to encode, and how.

    Raises:
        OptionError: an unknown codec, preset, pixel format or option.
    """

    def __init__(self, container: OutputContainer, settings: TrackSettings) -> None:
        self._container = container
        self._format = container.format.name
        self._suffix = settings.suffix
        self._info = info = settings.info
        self._size = settings.size
        self._rate = settings.frame_rate
        self._durations: dict[int, int] = {}
        self._last: int | None = None
        self.plan = plan_encoder(
            settings.options,
            self._format,
            settings.pixel_format,
            settings.size,
            settings.color or (info.color if info else ColorSpec()),
            info.hdr if info else {},
        )
        """Encoder, pixel format, colour and options."""
        self._clock = output_clock(info, settings.options.exact_speed)
        self.time_base = choose_time_base(
            (self._format, self.plan.encoder),
            self._rate,
            info,
            self._clock,
            settings.time_base,
        )
        """Seconds per tick of the packets."""

    @property
    def is_empty(self) -> bool:
        """Whether no frame was encoded."""
        return self._last is None

    @property
    def extradata(self) -> bytes:
        """What a decoder needs before the first packet."""
        return bytes(self.stream.codec_context.extradata or b"")

    def add(self, source: Stream | None) -> None:
        """Give the container its stream, with the tags of the source's.

        Raises:
            OptionError: the container cannot hold it.
        """
        plan, info = self.plan, self._info
        try:
            stream = self._container.add_stream(plan.encoder, rate=self._rate)
        except ValueError as error:
            raise OptionError(
                f"{self._suffix} files cannot hold {plan.encoder}: choose another codec,"
                f" or another of {CONTAINERS}"
            ) from error
        assert isinstance(stream, VideoStream)
        self.stream = stream
        stream.width, stream.height = self._size
        stream.pix_fmt = plan.coded_format
        context = stream.codec_context
        context.time_base = self.time_base
        context.thread_count = ENCODER_THREADS
        if plan.encoder == "libx264":
            context.thread_type = "FRAME"  # threads that share a frame cut it up, at 1 to 2 % more
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
        if plan.encoder == "libx265" and self._format in MP4:
            context.codec_tag = "hvc1"  # Apple's players know no other

    def open(self) -> None:
        """Open the encoder.

        Raises:
            OptionError: it refuses its options or the size.
        """
        # SVT-AV1 prints to the terminal unless told not to, and listens to nothing else
        quiet = "SVT_LOG" not in os.environ and self.plan.encoder == "libsvtav1"
        if quiet:
            os.environ["SVT_LOG"] = "1"
        try:
            with as_scheduled():
                self.stream.codec_context.open()
        except (av.FFmpegError, ValueError) as error:
            raise OptionError(refusal(self.plan, self._size, error)) from error
        finally:
            if quiet:
                del os.environ["SVT_LOG"]

    def encode(
        self, planes: Planes, pts: Fraction, duration: Fraction | None = None
    ) -> "list[Packet[VideoStream]]":
        """Encode one frame; arguments as for `VideoWriter.write`.

        Raises:
            VideoError: another size than the first, or a time that does not follow the last.
        """
        if planes[0].shape != self._size[::-1]:
            got, wanted = planes[0].shape, self._size
            raise VideoError(f"frames of {wanted[0]}x{wanted[1]} are needed, got {got[1]}x{got[0]}")
        tick = self._tick(pts)
        if self._last is not None and tick <= self._last:
            raise VideoError(f"frames must be written in order, got {float(pts)} s again or late")
        self._last = tick
        frame = pack(planes, self.plan.planar_format, self.plan.coded_format)
        frame.pts, frame.time_base = tick, self.time_base
        shown = self._tick(pts + (duration or self._clock.speed / self._rate)) - tick
        frame.duration = self._durations[tick] = max(shown, 1)
        color = self.plan.color
        frame.colorspace = color.matrix_code
        frame.color_range = color.range_code
        frame.color_primaries = color.primaries
        frame.color_trc = color.transfer
        return self._finished(self.stream.encode(frame))

    def flush(self) -> "list[Packet[VideoStream]]":
        """What the encoder still holds."""
        return self._finished(self.stream.encode(None))

    def time_of(self, tick: int) -> Fraction:
        """The time on the source's axis that a tick of the output shows."""
        return tick * self.time_base * self._clock.speed + self._clock.origin

    def _tick(self, time: Fraction) -> int:
        return round(self._clock.at(time) / self.time_base)

    def _finished(self, packets: "list[Packet[VideoStream]]") -> "list[Packet[VideoStream]]":
        for packet in packets:
            # not every encoder passes the durations on, and the last one ends the clip
            packet.duration = self._durations.pop(packet.pts, packet.duration)  # type: ignore[arg-type]
            if _is_nonsense(packet):
                packet.dts = packet.pts
        return packets


def _is_nonsense(packet: "Packet[VideoStream]") -> bool:
    """Whether a decoding time is not one: x265 invents it for clips of one or two frames."""
    if packet.dts is None or packet.pts is None:
        return False
    return abs(packet.pts - packet.dts) * packet.time_base > _LONGEST_REORDERING
