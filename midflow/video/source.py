"""Opening a clip and reading what it says about itself: stream, colour, rate, rotation, HDR."""

import logging
import re
from fractions import Fraction
from pathlib import Path

import av
from av.codec import CodecContext
from av.container import InputContainer
from av.stream import Discard, Disposition, Stream
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from midflow.errors import VideoError
from midflow.video.animation import is_animated_webp, open_webp, plays
from midflow.video.deinterlace import is_interlaced
from midflow.video.frame import (
    RANGE_FULL,
    RANGE_UNSPECIFIED,
    UNSPECIFIED,
    ClipInfo,
    ColorSpec,
)
from midflow.video.hwaccel import NO_HARDWARE, open_on
from midflow.video.limits import decoder_options, require_clip, require_regular, require_size
from midflow.video.pipe_input import RawInput, is_pipe, open_raw, standard_input
from midflow.video.pixel import is_transparent, layout, working_format
from midflow.video.pyav import fraction, open_input
from midflow.video.side_data import display_matrix, hdr_metadata

log = logging.getLogger(__name__)

# H.273 code of the matrix coefficients -> name in color.py; 10 is the constant-luminance form of
# BT.2020
_MATRICES = {
    1: "bt709",
    4: "fcc",
    5: "bt601",
    6: "bt601",
    7: "smpte240m",
    9: "bt2020",
    10: "bt2020",
}
_SD_HEIGHT, _SD_WIDTH = 576, 1024
_DEFAULT_RATE = Fraction(25)
# above this a frame rate is a guess from the time base (90,000 or 1,000 "frames" per second)
_LARGEST_RATE = 960
_SMALLEST_RATE = Fraction(1, 1000)  # below this its timestamps are damaged
_RATE_ROUNDING = Fraction(1, 100_000)
_TIME_UNIT = Fraction(1, 1_000_000)  # of a container's start and duration


def open_source(
    path: Path, raw: RawInput | None = None, hwaccel: str = NO_HARDWARE
) -> InputContainer:
    """Open a media file, or standard input for "-", for reading.

    Args:
        path: of the file.
        raw: what its frames are, where they have no header.
        hwaccel: kind of device that decodes files, where it can.

    Raises:
        VideoError: one line that names the path and what to do.
    """
    try:
        options = decoder_options()  # for the frames looked at while opening
        if is_pipe(path):
            if raw is not None:
                return open_raw(path, raw)
            return open_input(standard_input(), options)
        if path.is_dir():
            raise VideoError(f"{path} is a folder: give a video file")
        if path.stat().st_size == 0 and path.is_file():
            raise VideoError(f"{path} is empty (0 bytes): copy or download it again")
        require_regular(path)
        if raw is not None:
            return open_raw(path, raw)
        with path.open("rb") as file:
            head = file.read(32)
        if is_animated_webp(head):
            return open_webp(path.read_bytes(), path)
        # an absolute path is never mistaken for a protocol (a name such as "take:2.mp4")
        name = str(path.absolute())
        return open_on(hwaccel, path, lambda device: open_input(name, options, device))
    except FileNotFoundError as error:
        raise VideoError(f"{path} does not exist: check the name") from error
    except PermissionError as error:
        raise VideoError(f"{path} may not be read: change its permissions") from error
    except (av.FFmpegError, OSError) as error:
        reason = error.strerror or str(error)
        raise VideoError(
            f"{path} cannot be opened as a video ({reason}): is it whole, and a video file?"
        ) from error


def open_clip(
    path: Path, raw: RawInput | None = None, hwaccel: str = NO_HARDWARE
) -> tuple[InputContainer, VideoStream, VideoCodecContext]:
    """A file, its stream to interpolate and that one's decoder; raises as `main_video` does."""
    container = open_source(path, raw, hwaccel)
    try:
        stream = main_video(container, path)
        return container, stream, decoder_of(stream)
    except BaseException:
        container.close()
        raise


def main_video(container: InputContainer, path: Path) -> VideoStream:
    """The stream to interpolate: the largest picture that moves (cover art does not count).

    Raises:
        VideoError: there is none.
    """
    require_clip(container.format.name, path)
    streams = [s for s in container.streams.video if not is_cover(s)]
    if not streams:
        kinds = ", ".join(sorted({s.type for s in container.streams})) or "nothing"
        raise VideoError(
            f"{path} has no video stream (it holds: {kinds}): give a file with a picture that moves"
        )
    best = container.streams.best("video")
    stream = (
        best
        if best in streams
        else max(streams, key=lambda s: s.width * s.height if s.codec_context else 0)
    )
    if stream.codec_context is None:
        raise VideoError(
            f"{path} holds video in a codec this FFmpeg cannot decode: convert it to H.264 first"
        )
    require_size(stream.width, stream.height, path)
    stream.codec_context.options = decoder_options()  # whatever the frames say
    for other in container.streams:
        if other.index != stream.index:
            other.discard = Discard.all
    stream.thread_type = "AUTO"
    return stream


def describe(
    path: Path, container: InputContainer, stream: VideoStream, frame: av.VideoFrame
) -> ClipInfo:
    """Everything the first frame and the headers tell; `start` is for the reader to fill."""
    require_size(frame.width, frame.height, path)
    coded = frame.format.name
    transparent = is_transparent(frame)
    pixel_format = working_format(coded, keep_alpha=transparent or not frame.format.has_palette)
    matrix = display_matrix(frame)
    duration = _duration(container, stream)
    rate = nominal_rate(stream)
    count = stream.frames or (round(duration * rate) if duration else None)
    return ClipInfo(
        path=path,
        width=frame.width,
        height=frame.height,
        pixel_format=pixel_format,
        color=picture_color(frame, layout(pixel_format).kind, stream.codec_context),
        frame_rate=rate,
        start=Fraction(0),
        duration=duration,
        frame_count=count,
        rotation=frame.rotation,
        display_matrix=matrix,
        sample_aspect_ratio=fraction(stream.sample_aspect_ratio) or Fraction(1),
        codec=stream.codec_context.name,
        source_format=coded,
        has_audio=bool(container.streams.audio),
        has_alpha=transparent,
        is_interlaced=is_interlaced(stream, frame),
        stream_index=stream.index,
        time_base=fraction(stream.time_base) or Fraction(1, 90000),
        plays=plays(path),
        hdr=hdr_metadata(frame, stream.codec_context),
    )


def decoder_of(stream: VideoStream) -> VideoCodecContext:
    """The stream's decoder, or the one that knows of the transparency in VP8 and VP9."""
    decoder = stream.codec_context
    name = {"vp8": "libvpx", "vp9": "libvpx-vp9"}.get(decoder.name)
    if name is None or stream.metadata.get("alpha_mode", stream.metadata.get("ALPHA_MODE")) != "1":
        return decoder
    try:
        other = CodecContext.create(name, "r")
    except ValueError:
        return decoder
    assert isinstance(other, VideoCodecContext)
    other.extradata = decoder.extradata
    other.options = decoder_options()
    return other


def container_start(container: InputContainer) -> Fraction:
    """Time a player shows as zero, in seconds; what starts below zero is counted from zero."""
    starts = [
        stream.start_time * stream.time_base
        for stream in (*container.streams.video, *container.streams.audio)
        if stream.start_time is not None and stream.time_base and not is_cover(stream)
    ]
    return max(Fraction(0), min(starts, default=(container.start_time or 0) * _TIME_UNIT))


def is_cover(stream: Stream) -> bool:
    """Whether a video stream is a picture that goes with the file, such as cover art."""
    return bool(stream.disposition & Disposition.attached_pic)


def nominal_rate(stream: VideoStream) -> Fraction:
    """Frames per second: the average where it is believable, else FFmpeg's guess, else 25."""
    for rate in map(fraction, (stream.average_rate, stream.guessed_rate, stream.base_rate)):
        if rate and _SMALLEST_RATE <= rate <= _LARGEST_RATE:
            return _standard_rate(rate)
    return _DEFAULT_RATE


def _standard_rate(rate: Fraction) -> Fraction:
    """Undo a container's rounding (Matroska stores nanoseconds per frame)."""
    whole, ntsc = Fraction(round(rate)), Fraction(round(rate * 1001 / 1000) * 1000, 1001)
    near = [r for r in (whole, ntsc) if abs(rate / r - 1) < _RATE_ROUNDING] if rate >= 1 else []
    return near[0] if near else rate


def stated_duration(stream: VideoStream) -> Fraction | None:
    """Seconds the file says this stream lasts."""
    if stream.duration and stream.time_base:
        return stream.duration * stream.time_base
    tag = stream.metadata.get("DURATION", "")  # of Matroska, hh:mm:ss.fraction
    if not re.fullmatch(r"\d+:\d\d:\d\d(\.\d+)?", tag):
        return None
    hours, minutes, seconds = map(Fraction, tag.split(":"))
    return (hours * 60 + minutes) * 60 + seconds or None


def _duration(container: InputContainer, stream: VideoStream) -> Fraction | None:
    if (stated := stated_duration(stream)) is not None:
        return stated
    return container.duration * _TIME_UNIT if container.duration else None


def picture_color(
    frame: av.VideoFrame, kind: str, context: VideoCodecContext | None = None
) -> ColorSpec:
    """Colour of a decoded picture, with guesses where neither it nor the stream is tagged.

    Args:
        frame: the picture.
        kind: yuv, gray or rgb.
        context: its decoder, which may know more than the picture.
    """

    def tag(name: str, unspecified: int) -> int:
        values = [int(getattr(item, name)) for item in (frame, context) if item is not None]
        return next((v for v in values if v != unspecified), unspecified)

    matrix_code = tag("colorspace", UNSPECIFIED)
    range_code = tag("color_range", RANGE_UNSPECIFIED)
    is_jpeg = frame.format.name.startswith("yuvj")
    if is_jpeg:
        range_code = RANGE_FULL
    full = range_code == RANGE_FULL
    if range_code == RANGE_UNSPECIFIED:  # FFmpeg, too, takes RGB and grey as full range
        full = kind != "yuv"
    # JPEG chroma sits between the pixels, that of the MPEG family on every other column
    centered = is_jpeg and (context is None or context.name == "mjpeg")
    return ColorSpec(
        matrix="rgb" if kind == "rgb" else _matrix(matrix_code, frame.width, frame.height),
        full_range=full,
        chroma_location="center" if centered else "left",
        matrix_code=matrix_code,
        range_code=range_code,
        primaries=tag("color_primaries", UNSPECIFIED),
        transfer=tag("color_trc", UNSPECIFIED),
    )


def _matrix(code: int, width: int, height: int) -> str:
    guess = "bt601" if height <= _SD_HEIGHT and width <= _SD_WIDTH else "bt709"
    if code not in _MATRICES and code not in (0, UNSPECIFIED, 3):
        log.warning(
            "colour matrix %d is not supported: its samples are treated as %s and keep their tag",
            code,
            guess,
        )
    return _MATRICES.get(code, guess)
