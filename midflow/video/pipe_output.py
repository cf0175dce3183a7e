"""Frames without compression to standard output.

y4m tells its size, rate and format in a line of text (see yuv4mpeg(5)); raw is nothing but samples;
nut is FFmpeg's own container.
"""

import errno
import os
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import av
from av.video.stream import VideoStream

from midflow.errors import OptionError, VideoError
from midflow.video.clock import output_clock
from midflow.video.encoders import WriterOptions
from midflow.video.frame import ClipInfo, ColorSpec, Planes
from midflow.video.pixel import PixelLayout, layout, pack, planar_name, working_format
from midflow.video.target import target_color

_STDOUT = 1


class PipeWriter:
    """Frames to standard output: y4m, raw or nut. Used as `VideoWriter` is.

    Args:
        source: the clip.
        frame_rate: frames per second of the output.
        options: the pipe's format and the pixel format; all that is compression must be left out.
        time_base: seconds in which all times are whole, of an output whose rate varies.

    Raises:
        OptionError: options of an encoder, a pixel format that y4m does not have, or a varying rate
            where there are no times.
    """

    def __init__(
        self,
        source: ClipInfo,
        frame_rate: Fraction,
        options: WriterOptions,
        time_base: Fraction | None = None,
    ) -> None:
        given = (options.codec, options.crf, options.preset, options.encoder_options or None)
        if any(value is not None for value in given):
            raise OptionError("pipes carry frames without compression: leave encoder options out")
        if time_base is not None and options.pipe != "nut":
            raise OptionError(f"{options.pipe} has no times: leave vfr constant, or use a nut pipe")
        self.path = Path("-")
        self.encoder = f"{options.pipe} pipe"
        self._info, self._rate = source, frame_rate
        self._clock = output_clock(source, options.exact_speed)
        self.pixel_format = _pixel_format(source.pixel_format, options)
        form, size = layout(self.pixel_format), (source.width, source.height)
        self.color = target_color(
            source.color, layout(source.pixel_format), form, size, form.name, "rawvideo"
        )
        self._file: BinaryIO = os.fdopen(os.dup(_STDOUT), "wb")
        self._format = options.pipe
        self._before = b"FRAME\n" if options.pipe == "y4m" else b""
        if options.pipe == "y4m":
            self._put(y4m_header(size, frame_rate, source, self.color, form))
        elif options.pipe == "nut":
            self._container = av.open(self._file, "w", format="nut")
            self._stream = self._add_stream(size, time_base or 1 / frame_rate)

    def write(self, planes: Planes, pts: Fraction, duration: Fraction | None = None) -> None:
        """Writes one frame; `pts` and `duration` in seconds matter to nut alone.

        Raises:
            VideoError: whoever read from the pipe has gone.
        """
        if self._format != "nut":
            self._put(self._before + b"".join(plane.tobytes() for plane in planes))
            return
        frame = pack(planes, self.pixel_format, self.pixel_format)
        unit = self._stream.codec_context.time_base
        frame.pts, frame.time_base = round(self._clock.at(pts) / unit), unit
        try:
            self._container.mux(self._stream.encode(frame))
        except (av.FFmpegError, OSError) as error:
            raise _gone(error) from error

    def close(self) -> None:
        """Ends the stream."""
        try:
            if self._format == "nut":
                self._container.mux(self._stream.encode(None))
                self._container.close()
            self._file.close()
        except (av.FFmpegError, OSError) as error:
            raise _gone(error) from error

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
            return
        try:
            self._file.close()
        except OSError:  # what is wrong has been said already
            pass

    def _add_stream(self, size: tuple[int, int], time_base: Fraction) -> VideoStream:
        stream = self._container.add_stream("rawvideo", rate=self._rate)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height = size
        stream.pix_fmt = self.pixel_format
        context = stream.codec_context
        context.time_base = time_base
        context.sample_aspect_ratio = self._info.sample_aspect_ratio
        context.colorspace, context.color_range = self.color.matrix_code, self.color.range_code
        context.color_primaries, context.color_trc = self.color.primaries, self.color.transfer
        return stream

    def _put(self, data: bytes) -> None:
        try:
            self._file.write(data)
            self._file.flush()
        except OSError as error:
            raise _gone(error) from error


def y4m_header(
    size: tuple[int, int], rate: Fraction, info: ClipInfo, color: ColorSpec, form: PixelLayout
) -> bytes:
    """The first line of a y4m stream.

    Raises:
        OptionError: y4m has no name for the pixel format.
    """
    chroma = {"center": "420jpeg", "left": "420mpeg2", "topleft": "420paldv"}
    names = {"yuv420p": chroma[color.chroma_location], "yuv422p": "422", "yuv444p": "444",
             "yuv411p": "411", "gray": "mono", "yuva444p": "444alpha"}  # fmt: skip
    if form.bits > 8 and not form.has_alpha and form.kind != "rgb":
        stem = "mono" if form.kind == "gray" else form.name.split("p")[0].removeprefix("yuv") + "p"
        names[form.name] = f"{stem}{form.bits}"
    if form.name not in names:
        raise OptionError(
            f"y4m cannot hold {form.name}: give a pix_fmt such as yuv444p, or use a nut or raw pipe"
        )
    aspect = info.sample_aspect_ratio
    reach = "FULL" if color.full_range else "LIMITED"
    return (
        f"YUV4MPEG2 W{size[0]} H{size[1]} F{rate.numerator}:{rate.denominator} Ip"
        f" A{aspect.numerator}:{aspect.denominator} C{names[form.name]} XCOLORRANGE={reach}\n"
    ).encode()


def _pixel_format(source: str, options: WriterOptions) -> str:
    if options.pix_fmt is not None:
        try:
            planar = working_format(options.pix_fmt, keep_alpha=True)
        except ValueError as error:
            raise OptionError(f"there is no pixel format {options.pix_fmt!r}") from error
        if planar != options.pix_fmt:
            raise OptionError(f"pipes carry planar formats: {planar}, got {options.pix_fmt}")
        return planar
    form = layout(source)
    if options.pipe == "y4m" and (form.kind == "rgb" or form.has_alpha):
        return planar_name("yuv", form.bits, form.shift_x, form.shift_y)
    return source


def _gone(error: Exception) -> VideoError:
    if getattr(error, "errno", None) == errno.EPIPE:
        return VideoError("standard output was closed before the last frame")
    return VideoError(f"writing to standard output failed: {error}")
