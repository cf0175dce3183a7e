"""Where the parts of a file lie: boxes, elements, chunks, packets, so that damage can be aimed."""

import io
import pickletools
import re
import struct
import zipfile
import zlib
from typing import NamedTuple


class Chunk(NamedTuple):
    """A part of a file: header from `start`, payload from `body` to `end`."""

    start: int
    body: int
    end: int


_BOXES = {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"udta", b"dinf", b"mvex", b"moof"}
_ELEMENTS = {0x18538067, 0x1F43B675, 0x1654AE6B, 0xAE, 0x1043A770, 0x1254C367, 0x1C53BB6B, 0xE0}
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"


def find_chunks(data: bytes) -> list[Chunk]:
    """The parts of a file of any kind; empty where its kind has none."""
    try:
        return _find(data)
    except (IndexError, struct.error, ValueError, zipfile.BadZipFile):
        return []


def _find(data: bytes) -> list[Chunk]:
    if data[4:8] == b"ftyp":
        return _boxes(data, 0, len(data))
    if data.startswith(b"\x1a\x45\xdf\xa3"):
        return _elements(data, 0, len(data))
    if data.startswith(b"RIFF"):
        return _riff(data, 12, len(data))
    if data.startswith(PNG_MAGIC):
        return _png(data)
    if data.startswith(b"FLV"):
        return _flv(data)
    if data[:1] == b"\x47" and data[188:189] == b"\x47":
        return [Chunk(i, i + 4, i + 188) for i in range(0, len(data) - 187, 188)]
    if data.startswith(b"\xff\xd8"):
        return _between([m.start() for m in re.finditer(rb"\xff[\xc0-\xfe]", data)], len(data), 4)
    if data.startswith(b"YUV4MPEG2"):
        starts = [0, *(m.start() for m in re.finditer(b"FRAME", data))]
        return _between(starts, len(data), 6)
    if data.startswith(b"PK"):
        starts = [m.start() for m in re.finditer(rb"PK(\x01\x02|\x03\x04|\x05\x06)", data)]
        return _between(starts, len(data), 30)
    if data.startswith(b"\x80"):
        stream = io.BytesIO(data)
        return _between([at for _, _, at in pickletools.genops(stream)], stream.tell(), 1)
    if data.startswith(b"GIF8"):
        return _between([m.start() for m in re.finditer(rb"[\x21\x2c][\xf9\x00]", data)], 0, 8)
    if data.startswith(b"nut/"):
        return _between([m.start() for m in re.finditer(b"N[MKXSI]", data)], len(data), 8)
    return []


def _between(starts: list[int], last: int, header: int) -> list[Chunk]:
    ends = [*starts[1:], max(last, starts[-1] if starts else 0)]
    return [Chunk(a, min(a + header, b), b) for a, b in zip(starts, ends, strict=True)]


def _boxes(data: bytes, at: int, end: int) -> list[Chunk]:
    found = []
    while at + 8 <= end:
        size, kind = struct.unpack_from(">I4s", data, at)
        size = size if 8 <= size <= end - at else end - at
        found.append(Chunk(at, at + 8, at + size))
        if kind in _BOXES:
            found += _boxes(data, at + 8, at + size)
        at += size
    return found


def _elements(data: bytes, at: int, end: int) -> list[Chunk]:
    found = []
    while at + 2 <= end:
        width = 9 - data[at].bit_length()
        kind = int.from_bytes(data[at : at + width], "big")
        sized = 9 - data[at + width].bit_length()
        if width > 4 or sized > 8:
            break
        size = int.from_bytes(data[at + width : at + width + sized], "big") & (1 << 7 * sized) - 1
        body = at + width + sized
        stop = min(body + size, end)
        found.append(Chunk(at, body, stop))
        if kind in _ELEMENTS:
            found += _elements(data, body, stop)
        at = stop
    return found


def _riff(data: bytes, at: int, end: int) -> list[Chunk]:
    found = []
    while at + 8 <= end:
        kind, size = struct.unpack_from("<4sI", data, at)
        stop = min(at + 8 + size + size % 2, end)
        found.append(Chunk(at, at + 8, stop))
        if kind == b"LIST":
            found += _riff(data, at + 12, stop)
        at = stop
    return found


def _png(data: bytes) -> list[Chunk]:
    found, at = [], len(PNG_MAGIC)
    while at + 12 <= len(data):
        size = struct.unpack_from(">I", data, at)[0]
        stop = min(at + 12 + size, len(data))
        found.append(Chunk(at, at + 8, stop))
        at = stop
    return found


def _flv(data: bytes) -> list[Chunk]:
    found, at = [Chunk(0, 9, 13)], 13
    while at + 11 <= len(data):
        stop = min(at + 15 + int.from_bytes(data[at + 1 : at + 4], "big"), len(data))
        found.append(Chunk(at, at + 11, stop))
        at = stop
    return found


def repair(data: bytes) -> bytes:
    """Makes the checksums of a PNG right again, so that a reader looks at what they cover."""
    if not data.startswith(PNG_MAGIC):
        return data
    fixed = bytearray(data)
    for chunk in _png(data):
        body = chunk.end - 4
        if body >= chunk.body:
            fixed[body : chunk.end] = struct.pack(">I", zlib.crc32(data[chunk.start + 4 : body]))
    return bytes(fixed)
