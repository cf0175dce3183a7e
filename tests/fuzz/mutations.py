"""Damage to files: flipped bits, cuts, splices, and lies in the fields of their parts."""

import io
import json
import random
import re
import zipfile
from collections.abc import Callable

from tests.fuzz.chunks import find_chunks, repair

_NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 60_000, 10**6, 10**9)
_NUMBERS += (2**31 - 1, 2**31, 2**32 - 1, 10**12, 2**62, 2**63 - 1, 2**63, 2**64 - 1)
_REACH = 96  # bytes of a part's payload in which its fields lie


def mutate(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """A damaged copy of `data`, by one to four steps; `other` is a file of the same kind."""
    if rng.random() < 0.25:
        data = _inside(data, other, rng)
    else:
        for _ in range(rng.choice((1, 1, 1, 2, 2, 4))):
            data = rng.choice(_STEPS)(data, other, rng)
    return repair(data) if rng.random() < 0.8 else data


def _flip(data: bytes, _: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16)) if changed else 0):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _early_flip(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """Headers are where lies matter most."""
    return _flip(data[:512], other, rng) + data[512:]


def _cut(data: bytes, _: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _hole(data: bytes, _: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(data) + 1)
    stop = start + rng.choice((1, 3, 16, 200, 5000))
    fill = rng.choice((b"", b"\0", b"\xff")) * min(stop - start, len(data) - start)
    return data[:start] + fill + data[stop:]


def _splice(data: bytes, other: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data) + 1)] + other[rng.randrange(len(other) + 1) :]


def _field(data: bytes, _: bytes, rng: random.Random) -> bytes:
    """A number where a part keeps its fields, or as its size."""
    chunks = find_chunks(data)
    if not chunks:
        return _flip(data, b"", rng)
    chunk = rng.choice(chunks)
    at = rng.randrange(chunk.start, min(chunk.end, chunk.body + _REACH) + 1)
    width, order = rng.choice((1, 2, 4, 4, 8)), rng.choice(("big", "little"))
    number = rng.choice(_NUMBERS) % (1 << 8 * width)
    return data[:at] + number.to_bytes(width, order) + data[at + width :]


def _rearrange(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """A part removed, doubled, moved, emptied or taken from the other file."""
    chunks, theirs = find_chunks(data), find_chunks(other)
    if not chunks or not theirs:
        return _hole(data, b"", rng)
    a, b, c = rng.choice(chunks), rng.choice(chunks), rng.choice(theirs)
    piece = data[a.start : a.end]
    how = rng.randrange(5)
    if how == 0:
        return data[: a.start] + data[a.end :]
    if how == 1:
        return data[: a.end] + piece * rng.choice((1, 1, 2, 50)) + data[a.end :]
    if how == 2:
        return data[: b.start] + piece + data[b.start :]
    if how == 3:
        return data[: a.body] + data[a.end :]
    return data[: a.start] + other[c.start : c.end] + data[a.end :]


_STEPS: tuple[Callable[[bytes, bytes, random.Random], bytes], ...]
_STEPS = (_flip, _early_flip, _cut, _hole, _splice, _field, _field, _field, _rearrange, _rearrange)


def _inside(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """Damage below an outer layer that stays right: a zip's entries, a header's text."""
    if data.startswith(b"PK"):
        return _rezip(data, rng)
    if data[8:9] == b"{":
        return _reheader(data, rng)
    if data.startswith(b"YUV4MPEG2"):
        head, end, rest = data.partition(b"\n")
        return _numbers(head, rng) + end + rest
    return _field(data, other, rng)


def _rezip(data: bytes, rng: random.Random) -> bytes:
    """A zip whose entries are damaged, doubled or renamed while its sums are right."""
    packed = io.BytesIO()
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(packed, "w") as new:
            for name in old.namelist():
                content = old.read(name)
                for _ in range(rng.choice((0, 1, 1, 2))):
                    content = rng.choice(_STEPS)(content, content, rng)
                if rng.random() < 0.1:
                    name = rng.choice(("../" + name, "/" + name, name + "/", "data.pkl", name * 30))
                if rng.random() < 0.95:
                    method = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
                    new.writestr(zipfile.ZipInfo(name), content, method)
    except (zipfile.BadZipFile, OSError):
        return _flip(data, b"", rng)
    return packed.getvalue()


def _reheader(data: bytes, rng: random.Random) -> bytes:
    """Safetensors with other words and numbers in a header of the right length."""
    length = int.from_bytes(data[:8], "little")
    header = _numbers(data[8 : 8 + length], rng)
    if rng.random() < 0.3:
        words = (b"F32", b"F64", b"BF16", b"I64", b"BOOL", b"dtype", b"shape", b"null", b"[[[[")
        header = header.replace(rng.choice(words[:1]), rng.choice(words), rng.choice((1, -1)))
    if rng.random() < 0.1:
        header = json.dumps({"__metadata__": {"a": "b" * 10}, "x": [1] * 50}).encode()
    return len(header).to_bytes(8, "little") + header + data[8 + length :]


def _numbers(text: bytes, rng: random.Random) -> bytes:
    """The text with one to three of its numbers replaced."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        found = list(re.finditer(rb"\d+", text))
        if found:
            spot = rng.choice(found)
            number = rng.choice((*_NUMBERS, -1, "1e9", "nan"))
            text = text[: spot.start()] + str(number).encode() + text[spot.end() :]
    return text
