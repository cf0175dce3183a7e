"""Text subtitles rewritten for a container that does not take them as they are."""

from fractions import Fraction

import av
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Stream
from av.subtitles.codeccontext import SubtitleCodecContext
from av.subtitles.stream import SubtitleStream

# container -> encoder of the text subtitles it takes
_TEXT_CODECS = {
    "mp4": "mov_text",
    "mov": "mov_text",
    "ipod": "mov_text",
    "matroska": "subrip",
    "webm": "webvtt",
}
_TEXT_DECODERS = {"subrip", "srt", "ass", "ssa", "mov_text", "webvtt", "text"}
_MILLISECOND = Fraction(1, 1000)


def text_codec(container: str, stream: SubtitleStream) -> str | None:
    """The codec a text subtitle stream can be rewritten to, or None (pictures)."""
    context = stream.codec_context
    if context is None or context.name not in _TEXT_DECODERS:
        return None
    return _TEXT_CODECS.get(container)


class SubtitleConverter:
    """Rewrites one stream of text subtitles; styling that the target lacks is lost."""

    def __init__(self, source: SubtitleStream, output: OutputContainer, codec: str) -> None:
        self._decoder = source.codec_context
        self._decoder.open(strict=False)
        self.stream = output.add_stream(codec)
        encoder = self.stream.codec_context
        assert isinstance(encoder, SubtitleCodecContext)
        self._encoder = encoder
        # the header of styles, which every text decoder provides in this form
        encoder.subtitle_header = self._decoder.subtitle_header
        encoder.time_base = _MILLISECOND
        encoder.open(strict=False)
        self.stream.time_base = _MILLISECOND

    def convert(self, packet: "Packet[Stream]") -> "Packet[Stream] | None":
        """The same words for the same time, or None for a packet without any."""
        subtitle = self._decoder.decode2(packet)
        if subtitle is None or not len(subtitle) or packet.pts is None:
            return None
        length = (packet.duration or 0) * packet.time_base
        if not length:
            length = subtitle.end_display_time * _MILLISECOND
        subtitle.start_display_time = 0
        subtitle.end_display_time = round(length / _MILLISECOND)
        try:
            written = self._encoder.encode_subtitle(subtitle)
        except av.FFmpegError:
            return None
        written.time_base = _MILLISECOND
        written.pts = written.dts = round(packet.pts * packet.time_base / _MILLISECOND)
        written.duration = round(length / _MILLISECOND)
        return written
