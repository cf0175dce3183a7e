"""Sound at another speed and its own pitch: decoded, stretched by atempo, encoded again."""

from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
from av.audio.codeccontext import AudioCodecContext
from av.audio.stream import AudioStream
from av.codec import Codec
from av.container import OutputContainer
from av.filter import Graph
from av.packet import Packet
from av.stream import Stream

from midflow.video.clock import OutputClock
from midflow.video.stream_facts import takes_header

# decoder -> encoder, where FFmpeg names them differently or has no encoder of the kind
_ENCODERS = {
    "mp3": "libmp3lame",
    "mp3float": "libmp3lame",
    "opus": "libopus",
    "libopus": "libopus",
    "vorbis": "libopus",
}
_FALLBACKS = {"webm": "libopus", "ogg": "libopus"}  # AAC elsewhere
_CHANNEL_BITS = 96_000  # bits a second and channel, where the source does not tell
_LARGEST_FACTOR = 2  # one atempo reaches 0.5 to 100, and skips samples above 2
_GAP_SECONDS = Fraction(1, 10)  # a pause between packets that is longer is filled with silence


class SoundStretcher:
    """Rewrites one stream of sound at another speed.

    The result begins at its mapped time and is as long as its source divided by the speed, to the
    sample.

    Args:
        source: the stream.
        output: the container to add the new stream to.
        clock: from the clip's time to the output's.
    """

    def __init__(self, source: AudioStream, output: OutputContainer, clock: OutputClock) -> None:
        self._decoder = source.codec_context
        self._clock = clock
        self._rate = _sample_rate(encoder_for(source, output.format.name), source.rate)
        layout = source.layout.name
        self.stream = output.add_stream(
            encoder_for(source, output.format.name), rate=self._rate, layout=layout
        )
        assert isinstance(self.stream, AudioStream)
        encoder = self.stream.codec_context
        assert isinstance(encoder, AudioCodecContext)
        self._encoder = encoder
        encoder.bit_rate = source.bit_rate or _CHANNEL_BITS * source.channels
        encoder.time_base = self.stream.time_base = Fraction(1, self._rate)
        self._resampler = av.AudioResampler("flt", layout, self._rate)
        self._graph = _tempo_graph(self._rate, layout, clock.speed)
        self._start: Fraction | None = None  # time of the first sample, in the clip
        self._taken = self._given = 0  # samples fed to the graph and taken from it

    def convert(self, packet: "Packet[Stream]") -> "Iterator[Packet[AudioStream]]":
        """What can be encoded by this packet of the source; damaged packets are silent."""
        try:
            frames = self._decoder.decode(packet)
        except av.FFmpegError:
            return
        for frame in frames:
            yield from self._feed(frame)

    def finish(self) -> "Iterator[Packet[AudioStream]]":
        """The rest."""
        for frame in self._decoder.decode(None):
            yield from self._feed(frame)
        if self._start is not None:
            for part in self._resampler.resample(None):
                yield from self._push(part.to_ndarray())
            self._graph.push(None)
            whole = round(self._taken / self._clock.speed)
            for samples in (*self._pull(), self._silence(whole)):
                left = max(0, whole - self._given)
                yield from self._encode(samples[:, : left * self._encoder.channels])
        yield from self._encoder.encode(None)

    def _feed(self, frame: av.AudioFrame) -> "Iterator[Packet[AudioStream]]":
        time = None if frame.pts is None or not frame.time_base else frame.pts * frame.time_base
        if self._start is None:
            self._start = time if time is not None else self._clock.origin
        gap = (time or 0) - self._start - Fraction(self._taken, self._rate)
        if time is not None and gap > _GAP_SECONDS:
            yield from self._push(self._silence(round(gap * self._rate)))
        frame.pts = None  # else the resampler would fill gaps by itself, and differently
        for part in self._resampler.resample(frame):
            yield from self._push(part.to_ndarray())

    def _silence(self, samples: int) -> np.ndarray:
        return np.zeros((1, samples * self._encoder.channels), np.float32)

    def _push(self, samples: np.ndarray) -> "Iterator[Packet[AudioStream]]":
        frame = self._frame(samples, self._taken)
        self._taken += frame.samples
        self._graph.push(frame)
        for part in self._pull():
            yield from self._encode(part)

    def _pull(self) -> Iterator[np.ndarray]:
        while True:
            try:
                yield self._graph.pull().to_ndarray()
            except (av.BlockingIOError, av.EOFError):
                return

    def _encode(self, samples: np.ndarray) -> "Iterator[Packet[AudioStream]]":
        if not samples.size:
            return
        assert self._start is not None
        first = round(self._clock.at(self._start) * self._rate)
        frame = self._frame(samples, first + self._given)
        self._given += frame.samples
        yield from self._encoder.encode(frame)

    def _frame(self, samples: np.ndarray, position: int) -> av.AudioFrame:
        layout = self._encoder.layout.name
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), "flt", layout)
        frame.sample_rate, frame.pts = self._rate, position
        frame.time_base = Fraction(1, self._rate)
        return frame


def encoder_for(source: AudioStream, container: str) -> str:
    """The encoder of the source's own kind where there is one and the container takes it."""
    name = source.codec_context.name
    name = _ENCODERS.get(name, name)
    fallback = _FALLBACKS.get(container, "aac")
    return name if name != fallback and _is_usable(name, container, source) else fallback


def _is_usable(name: str, container: str, source: AudioStream) -> bool:
    def add(trial: OutputContainer) -> None:
        rate = _sample_rate(name, source.rate)
        trial.add_stream(name, rate=rate, layout=source.layout.name)

    try:
        is_experimental = Codec(name, "w").experimental
    except (av.FFmpegError, ValueError):  # there is none
        return False
    return not is_experimental and takes_header(container, add)


def _sample_rate(encoder: str, rate: int) -> int:
    """The encoder's lowest sample rate that loses nothing, or its highest."""
    offered = sorted(Codec(encoder, "w").audio_rates or (rate,))
    return next((r for r in offered if r >= rate), offered[-1])


def _tempo_graph(rate: int, layout: str, speed: Fraction) -> Graph:
    graph = Graph()
    nodes = [
        graph.add_abuffer(
            sample_rate=rate, format="flt", layout=layout, time_base=Fraction(1, rate)
        )
    ]
    left = float(speed)
    while not 1 / _LARGEST_FACTOR <= left <= _LARGEST_FACTOR:
        step = float(_LARGEST_FACTOR) if left > 1 else 1 / _LARGEST_FACTOR
        nodes.append(graph.add("atempo", repr(step)))
        left /= step
    nodes.append(graph.add("atempo", repr(left)))
    nodes.append(graph.add("abuffersink"))
    for before, after in pairwise(nodes):
        before.link_to(after)
    graph.configure()
    return graph
