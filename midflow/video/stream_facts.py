"""What a stream is, whether a container takes it, and the tags that go with it."""

import io
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.stream import Discard, Stream

from midflow.video.demux import demux
from midflow.video.source import open_source

# written by muxers about the file they made; copying them would describe the wrong file
_STREAM_TAGS = {
    "alpha_mode",
    "encoder",
    "duration",
    "bps",
    "number_of_frames",
    "number_of_bytes",
    "vendor_id",
}
_GENERIC_HANDLERS = {"VideoHandler", "SoundHandler", "SubtitleHandler"}
# QuickTime numbers languages, and FFmpeg's table knows these only by their other ISO 639-2 code
_QUICKTIME_LANGUAGES = {
    "deu": "ger", "nld": "dut", "ell": "gre", "isl": "ice", "zho": "chi", "sqi": "alb",
    "mkd": "mac", "swe": "sve", "rum": "ron", "cze": "ces", "slo": "slk", "fre": "fra",
}  # fmt: skip


def copy_stream_tags(source: Stream, target: Stream) -> None:
    """Language, title and the like, and which stream is the default one."""
    for key, value in source.metadata.items():
        name = key.lower().split("-")[0]
        if name in _STREAM_TAGS or name.startswith("_statistics") or value in _GENERIC_HANDLERS:
            continue
        # MP4 gives back as the name what it takes as the title
        target.metadata[{"name": "title"}.get(key, key)] = value
    if target.container.format.name == "mov" and (language := source.language):
        target.metadata["language"] = _QUICKTIME_LANGUAGES.get(language, language)
    target.disposition = source.disposition


def read_cover(path: Path, index: int) -> "Packet[Stream] | None":
    """The one packet of a picture; a container of its own, for seeking would lose the packet."""
    with open_source(path) as source:
        return next((p for p in demux(source, [source.streams[index]]) if p.size), None)


def stream_name(stream: Stream) -> str:
    """What a stream is called in messages: its type, number, codec and language."""
    context = stream.codec_context
    codec = context.name if context is not None else getattr(stream, "name", None) or "unknown"
    language = f", {stream.language}" if stream.language else ""
    return f"{stream.type} stream {stream.index} ({codec}{language})"


def is_made_by_muxer(stream: Stream, container: InputContainer) -> bool:
    """Chapter titles and timecodes are also streams in MP4, which its muxer writes again itself."""
    if stream.discard == Discard.all or (stream.type == "data" and "timecode" in stream.metadata):
        return True
    context = stream.codec_context
    if stream.type != "subtitle" or context is None or context.codec_tag != "text":
        return False
    unit = stream.time_base or Fraction(1)
    shown = [entry.timestamp * unit for entry in stream.index_entries]
    return shown == [c["start"] * (c["time_base"] or unit) for c in container.chapters()]


def accepts(container: str, stream: Stream) -> bool:
    """Whether a container takes a stream as it is."""
    return takes_header(
        container, lambda trial: trial.add_stream_from_template(stream, opaque=True)
    )


def takes_header(container: str, add: Callable[[OutputContainer], object]) -> bool:
    """Whether a container takes the streams that `add` gives it: a header is written to memory."""
    trial = av.open(io.BytesIO(), "w", format=container)
    try:
        add(trial)
        trial.start_encoding()
    except (av.FFmpegError, ValueError):
        return False
    finally:
        try:
            trial.close()
        except av.FFmpegError:
            pass
    return True
