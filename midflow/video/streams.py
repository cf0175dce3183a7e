"""Everything of a clip except its main video, carried over to the output.

Sound, subtitles, attachments, cover art and data are copied packet by packet, unchanged but for
their place on the time axis, a little ahead of the video as it is written, so that nothing piles up
in memory. At another speed, sound is stretched and everything else is moved along.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Discard, Stream
from av.subtitles.stream import SubtitleStream

from midflow.errors import VideoError
from midflow.video.clock import output_clock
from midflow.video.demux import demux
from midflow.video.encoders import WriterOptions
from midflow.video.frame import ClipInfo
from midflow.video.sound import SoundStretcher
from midflow.video.source import is_cover, open_source
from midflow.video.stream_facts import (
    accepts,
    copy_stream_tags,
    is_made_by_muxer,
    read_cover,
    stream_name,
)
from midflow.video.subtitles import SubtitleConverter, text_codec

log = logging.getLogger(__name__)

# written by muxers about the file they made; copying them would describe the wrong file
_FILE_TAGS = {"major_brand", "minor_version", "compatible_brands", "encoder", "duration"}
# how far behind the end of a cut other streams are read, and ahead of its start: they may be
# interleaved loosely
_MARGIN = Fraction(10)


class StreamCopier:
    """Copies the other streams of a clip into an open output container.

    Args:
        info: the clip; when it is trimmed, the other streams are cut to the same range.
        output: the container to fill, before its header is written.
        add_video: called once, at the main video's place among the streams.
        options: the speed, and what is done with sound at another one.

    Raises:
        VideoError: the container cannot hold the clip's sound.
    """

    def __init__(
        self,
        info: ClipInfo,
        output: OutputContainer,
        add_video: Callable[[Stream], None],
        options: WriterOptions,
    ) -> None:
        self._info = info
        self._output = output
        self._sound = "keep" if options.exact_speed == 1 else options.sound
        self._clock = output_clock(info, options.exact_speed)
        self._sound_clock = self._clock
        if self._sound == "keep":
            self._sound_clock = output_clock(info, Fraction(1))
        self._reached = Fraction(0)
        self._source = open_source(info.path)
        self._targets: dict[int, Stream] = {}
        self._converters: dict[int, SubtitleConverter] = {}
        self._stretchers: dict[int, SoundStretcher] = {}
        self._last_dts: dict[int, int | None] = {}
        self._refused = 0
        self._covers: list[Packet[Stream]] = []
        self._pending: Packet[Stream] | None = None
        try:
            for stream in self._source.streams:
                if stream.index == info.stream_index:
                    add_video(stream)
                    stream.discard = Discard.all
                else:
                    self._add(stream)
            self._copy_tags()
            self._packets = self._read()
        except BaseException:
            self.close()
            raise

    def copy_until(self, time: Fraction | None) -> None:
        """Copy what is to be decoded up to `time` (of the clip), or all that is left for None."""
        if time is not None:
            self._reached = self._clock.at(time)
        while True:
            if self._pending is None:
                self._pending = next(self._packets, None)
            packet = self._pending
            if packet is None or (time is not None and not self._is_due(packet, time)):
                break
            self._pending = None
            self._take(packet)
        if time is None:
            for index, stretcher in self._stretchers.items():
                self._put(index, stretcher.finish())
            self._stretchers.clear()

    def _is_due(self, packet: "Packet[Stream]", time: Fraction) -> bool:
        """Whether a packet belongs before the picture at `time`; kept sound sets the pace."""
        return self._sound_clock.at(_time(packet)) <= self._clock.at(time)

    def close(self) -> None:
        """Release the source file."""
        if self._refused:
            path = self._info.path
            log.warning("%s is damaged: %d packets of sound or text are lost", path, self._refused)
            self._refused = 0
        self._source.close()

    def _add(self, stream: Stream) -> None:
        """Give the output a stream for this one, where the container takes it."""
        if is_made_by_muxer(stream, self._source):
            stream.discard = Discard.all
            return
        container = self._output.format.name
        if stream.type == "audio" and self._sound == "drop":
            stream.discard = Discard.all
            return
        if is_cover(stream):
            stream.discard = Discard.all
            self._add_cover(stream)
            return
        if isinstance(stream, AudioStream) and self._sound == "stretch":
            stretcher = SoundStretcher(stream, self._output, self._clock)
            self._stretchers[stream.index] = stretcher
            target: Stream = stretcher.stream
        elif accepts(container, stream):
            target = self._output.add_stream_from_template(stream, opaque=True)
        elif isinstance(stream, SubtitleStream) and (codec := text_codec(container, stream)):
            converter = SubtitleConverter(stream, self._output, codec)
            self._converters[stream.index] = converter
            target = converter.stream
            log.info("%s is rewritten as %s for %s", stream_name(stream), codec, container)
        elif stream.type == "audio" and container != "matroska":
            raise VideoError(
                f"{container} cannot hold {stream_name(stream)} of {self._info.path}:"
                " give the output a name ending in .mkv"
            )
        else:
            self._leave_out(stream)
            return
        copy_stream_tags(stream, target)
        self._targets[stream.index] = target

    def _add_cover(self, stream: Stream) -> None:
        """Cover art is a packet in MP4 and an attachment in Matroska."""
        cover = read_cover(self._info.path, stream.index)
        if cover is None:
            return
        container = self._output.format.name
        if container == "matroska":
            kind = "png" if stream.codec_context.name == "png" else "jpeg"
            name = stream.metadata.get("filename", f"cover.{kind[:3].replace('jpe', 'jpg')}")
            mime = stream.metadata.get("mimetype", f"image/{kind}")
            self._output.add_attachment(name, mime, bytes(cover))
        elif container != "mov" and accepts(container, stream):  # mov drops it without a word
            target = self._output.add_stream_from_template(stream, opaque=True)
            copy_stream_tags(stream, target)
            cover.pts = cover.dts = 0
            self._targets[stream.index] = target
            self._covers.append(cover)
        else:
            self._leave_out(stream)

    def _leave_out(self, stream: Stream) -> None:
        container = self._output.format.name
        keeper = self._info.path.suffix if stream.type == "data" else ".mkv"
        is_told = keeper and keeper != Path(self._output.name).suffix
        hint = f": an output name ending in {keeper} keeps it" if is_told else ""
        log.warning("%s is left out, %s cannot hold it%s", stream_name(stream), container, hint)
        stream.discard = Discard.all

    def _copy_tags(self) -> None:
        info, tags = self._info, self._source.metadata
        self._output.metadata.update({k: v for k, v in tags.items() if k.lower() not in _FILE_TAGS})
        if (
            any(key.startswith("com.") for key in tags)
            and "movflags" in self._output.container_options
        ):
            # tags of phones and cameras, which MP4 else leaves out
            self._output.container_options["movflags"] += "+use_metadata_tags"
        chapters = []
        for chapter in self._source.chapters():
            unit = chapter["time_base"] or Fraction(1, 1000)
            start, end = (self._clock.at(chapter[name] * unit) for name in ("start", "end"))
            last = None if info.end is None else self._clock.at(info.end)
            if end <= 0 or (last is not None and start >= last):
                continue
            end = end if last is None or not info.is_trimmed else min(end, last)
            kept = chapter.copy()
            kept["start"], kept["end"] = round(max(start, Fraction(0)) / unit), round(end / unit)
            kept["time_base"] = unit
            chapters.append(kept)
        if chapters:
            self._output.set_chapters(chapters)

    def _read(self) -> "Iterator[Packet[Stream]]":
        """Packets of the streams that are copied, in the file's order, cut to the clip's range."""
        info = self._info
        yield from self._covers
        streams = [self._source.streams[i] for i in self._targets]
        wanted = [s for s in streams if s.type != "attachment" and not is_cover(s)]
        if not wanted:
            return
        if info.is_trimmed and info.start > _MARGIN:
            self._source.seek(int((info.start - _MARGIN) * av.time_base))
        try:
            for packet in demux(self._source, wanted, info.path):
                if packet.dts is None and packet.pts is None:
                    continue  # the empty packet at the end of a stream
                if info.end is not None and _time(packet) > info.end + _MARGIN:
                    return
                if not info.is_trimmed or self._cut(packet):
                    yield packet
        except av.FFmpegError as error:
            log.warning("%s is damaged: other streams end early (%s)", info.path, error.strerror)

    def _cut(self, packet: "Packet[Stream]") -> bool:
        """Whether a packet lies in the range; a subtitle that lasts into it is shortened to it."""
        info, unit = self._info, packet.time_base
        start = (packet.pts if packet.pts is not None else packet.dts or 0) * unit
        if info.end is not None and start >= info.end:
            return False
        if start >= info.origin:
            return True
        end = start + (packet.duration or 0) * unit
        if packet.stream.type != "subtitle" or end <= info.origin:
            return False
        first = round(info.origin / unit)
        packet.duration = round(end / unit) - first
        packet.pts = packet.dts = first
        return True

    def _take(self, packet: "Packet[Stream]") -> None:
        """Brings a packet of the source into the output, rewritten where need be."""
        index = packet.stream_index
        if stretcher := self._stretchers.get(index):
            self._put(index, stretcher.convert(packet))
            return
        if converter := self._converters.get(index):
            converted = converter.convert(packet)
            if converted is None:
                return
            packet = converted
        elif packet.size == 2 and packet.stream.name == "mov_text":
            return  # an empty line, which the muxer puts into gaps itself
        if packet not in self._covers and not self._move(index, packet):
            return
        self._put(index, [packet])

    def _move(self, index: int, packet: "Packet[Stream]") -> bool:
        """Sets a packet's times to the output's; tells whether it belongs there."""
        is_sound = self._source.streams[index].type == "audio"
        clock, unit = self._sound_clock if is_sound else self._clock, packet.time_base
        if clock.speed < self._clock.speed and clock.at(_time(packet)) > self._reached:
            return False  # the pictures end sooner
        packet.pts = None if packet.pts is None else clock.ticks(packet.pts, unit)
        packet.dts = None if packet.dts is None else clock.ticks(packet.dts, unit)
        if clock.speed != 1 and packet.duration:
            packet.duration = max(1, round(packet.duration / clock.speed))
        return True

    def _put(self, index: int, packets: "Iterable[Packet[Any]]") -> None:
        """Writes packets of the output to the stream made for stream `index` of the source."""
        for packet in packets:
            if packet.dts is None:
                packet.dts = packet.pts
            # muxers take no step back in time, which damaged files and simultaneous subtitles ask
            # for
            last = self._last_dts.get(index)
            if last is not None and packet.dts is not None and packet.dts <= last:
                packet.dts = last + 1
                packet.pts = None if packet.pts is None else max(packet.pts, packet.dts)
            self._last_dts[index] = packet.dts
            packet.stream = self._targets[index]
            try:
                self._output.mux_one(packet)
            except (av.InvalidDataError, av.ArgumentError, av.PatchWelcomeError):
                self._refused += 1  # a damaged packet is no reason to lose the rest


def _time(packet: "Packet[Stream]") -> Fraction:
    ticks = packet.dts if packet.dts is not None else packet.pts
    return (ticks or 0) * packet.time_base
