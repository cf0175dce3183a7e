"""Small real clips, made with PyAV, for the tests of reading, writing and interpolating."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.stream import Disposition
from av.subtitles.subtitle import SubtitleSet

from midflow.video.frame import Planes
from midflow.video.pixel import layout, pack, working_format

SUBTITLE = b"1,0,Default,,0,0,0,,"
QUARTER_TURN = (0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30)  # clockwise in players


@dataclass
class Recipe:
    """What `make_clip` puts into a file."""

    frames: int = 10
    size: tuple[int, int] = (64, 48)
    rate: Fraction = Fraction(25)
    pixel_format: str = "yuv420p"
    codec: str = "libx264"
    options: dict[str, str] = field(default_factory=lambda: {"preset": "ultrafast", "crf": "10"})
    times: Sequence[Fraction] | None = None
    """Time of each frame in seconds; None: constant rate from 0."""
    audio: Sequence[str] = ()
    """Language of each audio stream."""
    audio_codec: str = "aac"
    subtitles: Sequence[str] = ()
    """Language of each subtitle stream: one line of 400 ms every second."""
    subtitle_codec: str = "subrip"
    chapters: Sequence[str] = ()
    """Titles of chapters of 200 ms each."""
    metadata: dict[str, str] = field(default_factory=dict)
    display_matrix: tuple[int, ...] | None = None
    aspect: Fraction | None = None
    color: tuple[int, int, int, int] = (2, 0, 2, 2)
    """Matrix, range, primaries, transfer."""
    attachment: bytes | None = None
    cover: bool = False


def picture(pixel_format: str, size: tuple[int, int], index: int, seed: int = 0) -> Planes:
    """Planes of a smooth picture that moves two pixels a frame, in legal codes."""
    form = layout(pixel_format)
    unit = 1 << (form.bits - 8)
    planes = []
    for number, (height, width) in enumerate(form.shapes(size[1], size[0])):
        x, y = np.meshgrid(np.arange(width), np.arange(height))
        step = 2 * index * width / size[0]
        wave = np.sin((x - step) * 0.25 + number + seed) + np.cos(y * 0.2 + number)
        planes.append(((128 + 45 * wave) * unit).astype(form.dtype))
    return tuple(planes)


def noise(pixel_format: str, size: tuple[int, int], seed: int = 0) -> Planes:
    """Planes of independent random codes, all of them, saturated colours included."""
    form = layout(pixel_format)
    random = np.random.default_rng(seed)
    shapes = form.shapes(size[1], size[0])
    return tuple(random.integers(0, 1 << form.bits, shape).astype(form.dtype) for shape in shapes)


def make_clip(path: Path, recipe: Recipe | None = None) -> Path:
    """Write a clip and return its path; the muxer interleaves."""
    recipe = recipe or Recipe()
    with av.open(str(path), "w") as output:
        output.metadata.update(recipe.metadata)
        video = _add_video(output, recipe)
        sounds = [_add_audio(output, recipe, language) for language in recipe.audio]
        texts = [_add_subtitles(output, recipe, language) for language in recipe.subtitles]
        cover = _add_cover(output) if recipe.cover else []
        if recipe.attachment is not None:
            output.add_attachment("font.ttf", "application/x-truetype-font", recipe.attachment)
        if recipe.chapters:
            output.set_chapters(
                [
                    {
                        "id": k + 1,
                        "start": 200 * k,
                        "end": 200 * (k + 1),
                        "time_base": Fraction(1, 1000),
                        "metadata": {"title": title},
                    }
                    for k, title in enumerate(recipe.chapters)
                ]
            )
        output.start_encoding()
        output.mux(cover)
        length = _write_video(output, video, recipe)
        for number, sound in enumerate(sounds):
            _write_audio(output, sound, length, number)
        for text in texts:
            _write_subtitles(output, text, length)
    return path


def frame_times(recipe: Recipe) -> list[Fraction]:
    return list(recipe.times or [k / recipe.rate for k in range(recipe.frames)])


def _add_video(output, recipe):
    stream = output.add_stream(recipe.codec, rate=recipe.rate)
    stream.width, stream.height = recipe.size
    stream.pix_fmt = recipe.pixel_format
    context = stream.codec_context
    context.time_base = Fraction(1, 90000) if recipe.times else 1 / recipe.rate
    if "avi" not in output.format.name and not recipe.times:
        context.time_base = Fraction(1, recipe.rate.numerator)
    options = recipe.options if recipe.codec == "libx264" else {}
    if recipe.codec == "libx265":
        options = {"preset": "ultrafast", "x265-params": "log-level=none"}
    context.options = dict(options)
    context.colorspace, context.color_range, context.color_primaries, context.color_trc = (
        recipe.color
    )
    if recipe.aspect:
        context.sample_aspect_ratio = recipe.aspect
    if recipe.display_matrix:
        stream.set_display_matrix(recipe.display_matrix)
    return stream


def _write_video(output, stream, recipe) -> Fraction:
    planar = working_format(recipe.pixel_format, keep_alpha=True)
    base = stream.codec_context.time_base
    times = frame_times(recipe)
    for index, time in enumerate(times):
        frame = pack(picture(planar, recipe.size, index), planar, recipe.pixel_format)
        frame.pts, frame.time_base = round(time / base), base
        frame.colorspace, frame.color_range, frame.color_primaries, frame.color_trc = recipe.color
        output.mux(stream.encode(frame))
    output.mux(stream.encode(None))
    return times[-1] + 1 / recipe.rate if times else Fraction(0)


def _add_audio(output, recipe, language):
    stream = output.add_stream(recipe.audio_codec, rate=48000, layout="stereo")
    stream.metadata["language"] = language
    stream.metadata["title"] = f"sound {language}"
    return stream


def _write_audio(output, stream, length, number) -> None:
    form = stream.codec_context.format.name
    size = stream.codec_context.frame_size or 1024
    random = np.random.default_rng(number)
    for start in range(0, int(length * 48000), size):
        tone = np.sin((np.arange(size) + start) * 2 * np.pi * (440 + 220 * number) / 48000)
        samples = 0.4 * np.stack((tone, tone)) + 0.01 * random.standard_normal((2, size))
        if form.startswith("s16"):
            samples = (samples * 32767).astype(np.int16)
        data = samples.astype(np.float32) if form.startswith("flt") else samples
        data = data if form.endswith("p") else np.ascontiguousarray(data.T).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(data), format=form, layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = 48000, start, Fraction(1, 48000)
        output.mux(stream.encode(frame))
    output.mux(stream.encode(None))


_ASS_HEADER = (
    b"[Script Info]\r\nScriptType: v4.00+\r\nPlayResX: 384\r\nPlayResY: 288\r\n\r\n[V4+ Styles]\r\n"
    b"Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour,"
    b" Bold, Italic, Underline, StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline,"
    b" Shadow, Alignment, MarginL, MarginR, MarginV, Encoding\r\n"
    b"Style: Default,Arial,16,&Hffffff,&Hffffff,&H0,&H0,0,0,0,0,100,100,0,0,1,1,0,2,10,10,10,1\r\n"
    b"\r\n[Events]\r\nFormat: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect,"
    b" Text\r\n"
)


def _add_subtitles(output, recipe, language):
    stream = output.add_stream(recipe.subtitle_codec)
    stream.metadata["language"] = language
    context = stream.codec_context
    context.subtitle_header = _ASS_HEADER
    context.time_base = stream.time_base = Fraction(1, 1000)
    context.open(strict=False)
    return stream


def _write_subtitles(output, stream, length) -> None:
    for second in range(max(1, int(length))):
        text = SUBTITLE + f"line {second}".encode()
        packet = stream.codec_context.encode_subtitle(SubtitleSet.create(text, 0, 400))
        packet.stream, packet.time_base = stream, Fraction(1, 1000)
        packet.pts = packet.dts = 1000 * second
        packet.duration = 400
        output.mux(packet)


def _add_cover(output):
    """A picture of 32x32: an attachment in Matroska, a packet elsewhere (which is returned)."""
    frame = pack(picture("yuv420p", (32, 32), 0), "yuv420p", "yuvj420p")
    context = av.CodecContext.create("mjpeg", "w")
    context.width, context.height, context.pix_fmt = 32, 32, "yuvj420p"
    context.time_base, context.color_range = Fraction(1, 25), 2
    encoded = context.encode(frame) + context.encode(None)
    if output.format.name == "matroska":
        output.add_attachment("cover.jpg", "image/jpeg", bytes(encoded[0]))
        return []
    stream = output.add_stream("mjpeg")
    stream.width, stream.height, stream.pix_fmt = 32, 32, "yuvj420p"
    stream.codec_context.color_range = 2
    stream.disposition = Disposition.attached_pic
    encoded[0].stream, encoded[0].pts, encoded[0].dts = stream, 0, 0
    return encoded


def packets(path: Path, index: int) -> list[tuple[Fraction, bytes]]:
    """Time in seconds and bytes of every packet of one stream."""
    with av.open(str(path)) as source:
        stream = source.streams[index]
        found = [p for p in source.demux(stream) if p.size]
        return [((p.pts or 0) * p.time_base, bytes(p)) for p in found]


def decoded(path: Path) -> list[av.VideoFrame]:
    """All frames of the first video stream."""
    with av.open(str(path)) as source:
        return list(source.decode(video=0))
