"""What a container says beside its packets: edit lists, and streams of data."""

import logging
import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.packet import Packet

from midflow.pipeline import interpolate_video
from midflow.video.reader import VideoReader
from tests.crossfade import CrossFade

RATE = 25


def write(path: Path, frames: int, data: str | None = None) -> Path:
    """Grey frames, each 10 levels lighter than the one before, and a packet of data for each."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=RATE)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        notes = output.add_data_stream(data) if data else None
        for k in range(frames):
            picture = np.full((64, 64, 3), 20 + 10 * k, np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = k
            output.mux(stream.encode(frame))
            if notes is not None:
                packet = Packet(b"note %d" % k)
                packet.stream, packet.time_base = notes, Fraction(1, RATE)
                packet.pts = packet.dts = k
                output.mux(packet)
        output.mux(stream.encode(None))
    return path


def hide_beginning(path: Path, frames: int) -> None:
    """Lets the edit list begin so many frames later, as phones and editors do that cut nothing."""
    data = bytearray(path.read_bytes())
    entry = data.index(b"elst") + 12
    ticks = struct.unpack_from(">I", data, data.index(b"mdhd") + 16)[0]
    movie_ticks = struct.unpack_from(">I", data, data.index(b"mvhd") + 16)[0]
    duration, start = struct.unpack_from(">Ii", data, entry)
    hidden = duration - frames * movie_ticks // RATE, start + frames * ticks // RATE
    struct.pack_into(">Ii", data, entry, *hidden)
    path.write_bytes(data)


def packets(path: Path, kind: str) -> list[bytes]:
    with av.open(str(path)) as container:
        (stream,) = (s for s in container.streams if s.type == kind)
        return [bytes(packet) for packet in container.demux(stream) if packet.size]


def test_what_an_edit_list_hides_is_not_shown(tmp_path):
    path = write(tmp_path / "in.mp4", 20)
    with VideoReader(path) as reader:
        whole = [frame.data[0][0, 0] for frame in reader]
    hide_beginning(path, 5)
    with VideoReader(path) as reader:
        shown = [(frame.pts, frame.data[0][0, 0]) for frame in reader]
    assert [level for _, level in shown] == whole[5:]
    assert [pts for pts, _ in shown] == [Fraction(k, RATE) for k in range(15)]
    result = interpolate_video(path, tmp_path / "out.mp4", model=CrossFade())
    assert (result.frames_in, result.frames_out) == (15, 30)


@pytest.mark.parametrize(("suffix", "codec"), [(".ts", "klv"), (".mp4", "bin_data")])
def test_streams_of_data_are_copied(tmp_path, suffix, codec):
    path = write(tmp_path / f"in{suffix}", 10, codec)
    out = tmp_path / f"out{suffix}"
    interpolate_video(path, out, model=CrossFade())
    assert packets(out, "data") == packets(path, "data") != []


def test_data_that_the_container_cannot_hold_is_named(tmp_path, caplog):
    path = write(tmp_path / "in.ts", 10, "klv")
    with caplog.at_level(logging.WARNING):
        interpolate_video(path, tmp_path / "out.mkv", model=CrossFade())
    assert "data stream 1 (klv) is left out, matroska cannot hold it" in caplog.text
    assert "an output name ending in .ts keeps it" in caplog.text
