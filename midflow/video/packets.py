"""Encoded packets in a file of their own, to the bit and the tick, until they are joined.

A file is a head, the packets, a note in JSON and a foot that tells where the note begins and holds
a checksum: one that was cut short is never taken for whole.
"""

import json
import os
import struct
import zlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO, cast

from av.packet import Packet, PacketSideData, PktSideDataT
from av.video.stream import VideoStream

from midflow.errors import VideoError
from midflow.video.output import sync_folder

_HEAD = b"midflow packets 1\n"
_PACKET = struct.Struct("<qqqBBI")  # pts, dts, duration, key frame, number of side data, size
_SIDE = struct.Struct("<BI")  # length of the name, size
_FOOT = struct.Struct("<QII8s")  # where the note begins, its size, checksum of it all, the end mark
_END = b"whole.\n\n"
_NO_TIME = -(1 << 63)
_UNUSED_SIDE_DATA = {"quality_stats"}  # of the encoder, for people who study it


class PacketFile:
    """A file of packets in the making; it gets its name by `finish`.

    Args:
        path: the final name.

    Raises:
        OSError: the folder cannot be written to.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
        self._file = self._partial.open("wb")
        self._sum = 0
        self.count = 0
        """Packets in it."""
        self._put(_HEAD)

    def add(self, packet: "Packet[VideoStream]") -> None:
        """Append a packet."""
        side = [d for d in packet.iter_sidedata() if d.data_type not in _UNUSED_SIDE_DATA]
        times = (
            _NO_TIME if t is None else t for t in (packet.pts, packet.dts, packet.duration or 0)
        )
        self._put(_PACKET.pack(*times, packet.is_keyframe, len(side), packet.size))
        for item in side:
            name = item.data_type.encode()
            self._put(_SIDE.pack(len(name), item.data_size) + name + bytes(item))
        self._put(bytes(packet))
        self.count += 1

    def finish(self, note: dict[str, Any]) -> None:
        """Write the note, see that all of it is on the disk, and give the file its name."""
        text = json.dumps(note).encode()
        start = self._file.tell()
        self._put(text)
        self._file.write(_FOOT.pack(start, len(text), self._sum, _END))
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._partial.replace(self._path)
        sync_folder(self._path.parent)

    def discard(self) -> None:
        """Remove what has been written."""
        try:
            self._file.close()
        except OSError:  # what it still held does not fit the disk
            pass
        self._partial.unlink(missing_ok=True)

    def _put(self, data: bytes) -> None:
        self._sum = zlib.crc32(data, self._sum)
        self._file.write(data)


def read_note(path: Path) -> dict[str, Any] | None:
    """The note of a whole file; None where the file is missing or not whole."""
    try:
        with path.open("rb") as file:
            foot = _read_foot(file)
            if foot is None:
                return None
            file.seek(foot[0])
            return cast(dict[str, Any], json.loads(file.read(foot[1])))
    except (FileNotFoundError, ValueError):
        return None


def read_packets(path: Path, time_base: Fraction) -> "Iterator[Packet[VideoStream]]":
    """The packets of a whole file, their times in units of `time_base` seconds.

    Raises:
        VideoError: the file is damaged; raised at its end, where the checksum stands.
    """
    with path.open("rb") as file:
        foot = _read_foot(file)
        file.seek(0)
        checked = _Checked(file)
        if foot is None or checked.read(len(_HEAD)) != _HEAD:
            raise VideoError(f"{path} is damaged: remove it and give the same command again")
        while file.tell() < foot[0]:
            yield _read_packet(checked, time_base)
        checked.read(foot[1])
        if checked.sum != foot[2]:
            raise VideoError(f"{path} is damaged: remove it and give the same command again")


class _Checked:
    """Reads from a file and sums up what was read."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.sum = 0

    def read(self, size: int) -> bytes:
        data = self._file.read(size)
        self.sum = zlib.crc32(data, self.sum)
        return data


def _read_foot(file: BinaryIO) -> tuple[int, int, int] | None:
    """Start and size of the note, and the checksum; None where the file is not whole."""
    size = file.seek(0, os.SEEK_END)
    if size < len(_HEAD) + _FOOT.size:
        return None
    file.seek(-_FOOT.size, os.SEEK_END)
    start, length, checksum, end = _FOOT.unpack(file.read(_FOOT.size))
    if end != _END or start + length + _FOOT.size != size:
        return None
    return start, length, checksum


def _read_packet(file: _Checked, time_base: Fraction) -> "Packet[VideoStream]":
    pts, dts, duration, is_key, side_count, size = _PACKET.unpack(file.read(_PACKET.size))
    side = []
    for _ in range(side_count):
        name_length, length = _SIDE.unpack(file.read(_SIDE.size))
        name = file.read(name_length).decode()
        side.append((name, file.read(length)))
    packet: Packet[Any] = Packet(file.read(size))
    packet.pts, packet.dts = (None if t == _NO_TIME else t for t in (pts, dts))
    packet.duration, packet.time_base = duration, time_base
    packet.is_keyframe = bool(is_key)
    for name, data in side:
        _side_data(name, data).to_packet(packet)
    return packet


def _side_data(name: str, data: bytes) -> PacketSideData:
    from av.packet import packet_sidedata_type_from_literal

    kind = packet_sidedata_type_from_literal(cast(PktSideDataT, name))
    item = PacketSideData(kind, len(data))  # type: ignore[call-arg]
    item.update(data)
    return item
