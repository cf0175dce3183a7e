"""Animated pictures: how often they play, and WebP, which FFmpeg writes but does not read."""

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream

from midflow.errors import VideoError
from midflow.video.limits import decoder_options, max_pixels

_MILLISECOND = Fraction(1, 1000)
_HEAD = 1 << 16  # bytes in which the number of plays stands
_IS_ANIMATED, _HAS_ALPHA = 0x02, 0x10  # flags of WebP's VP8X chunk
_OVERWRITES, _CLEARS = 0x02, 0x01  # flags of a frame: instead of blending; erased after it
_SHORTEST = 10  # milliseconds that players give a frame without a duration
_LARGEST_AREA = 1 << 25  # pixels; blending takes some 40 bytes for each


def plays(path: Path) -> int | None:
    """How often an animation plays, 0 for ever; None where the file is not one."""
    if not path.is_file():
        return None  # a pipe
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if head.startswith(b"GIF8"):
        at = head.find(b"\x21\xff\x0bNETSCAPE2.0\x03\x01")
        repeats = struct.unpack_from("<H", head, at + 16)[0] if 0 <= at < len(head) - 18 else None
        return 1 if repeats is None else repeats and repeats + 1
    if head.startswith(b"\x89PNG"):
        at = head.find(b"acTL")
        return int(struct.unpack_from(">I", head, at + 8)[0]) if 0 <= at < len(head) - 12 else None
    if is_animated_webp(head):
        at = head.find(b"ANIM\x06\0\0\0")
        return int(struct.unpack_from("<H", head, at + 12)[0]) if 0 <= at < len(head) - 14 else 0
    return None


def play_options(container: str, count: int | None) -> dict[str, str]:
    """Options of a muxer that make an animation play `count` times, 0 or None for ever."""
    count = count or 0
    if container == "gif":  # tells how often it is repeated
        return {"loop": str(count - 1 if count > 1 else -count)}
    names = {"apng": "plays", "webp": "loop"}
    return {names[container]: str(count)} if container in names else {}


def is_animated_webp(head: bytes) -> bool:
    """Whether a file that begins so is a WebP with several frames."""
    is_extended = head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X"
    return is_extended and len(head) > 20 and bool(head[20] & _IS_ANIMATED)


def open_webp(data: bytes, path: Path) -> InputContainer:
    """An animated WebP as a container that FFmpeg reads: the same pictures, without loss.

    Raises:
        VideoError: it is damaged.
    """
    made = io.BytesIO()
    try:
        _transcode(data, made)
    except (av.FFmpegError, struct.error, ValueError, IndexError) as error:
        raise VideoError(f"{path} cannot be read as an animation: is it whole?") from error
    made.seek(0)
    return av.open(made, "r")


def _transcode(data: bytes, made: io.BytesIO) -> None:
    if struct.unpack_from("<I", data, 4)[0] + 8 > len(data):
        raise IndexError("the file is cut short")
    with av.open(made, "w", format="matroska") as output:
        stream = output.add_stream("ffv1", rate=_average_rate(data))
        assert isinstance(stream, VideoStream)
        stream.pix_fmt = "bgra"
        stream.width, stream.height = _size(data)
        stream.codec_context.time_base = _MILLISECOND
        time = 0
        for picture, duration in _pictures(data):
            frame = av.VideoFrame.from_ndarray(picture, "rgba").reformat(format="bgra")
            frame.pts, frame.time_base, frame.duration = time, _MILLISECOND, duration
            for packet in stream.encode(frame):
                packet.duration = duration
                output.mux(packet)
            time += duration
        if not time:
            raise ValueError("it holds no pictures")
        output.mux(stream.encode(None))


@dataclass(frozen=True)
class _Frame:
    """One ANMF chunk of a WebP file."""

    left: int
    top: int
    duration: int
    """Milliseconds."""
    flags: int
    data: bytes
    """Chunks of a still picture."""
    size: tuple[int, int]
    """Width and height."""


def _pictures(data: bytes) -> Iterator[tuple[np.ndarray, int]]:
    """Each picture as it is shown, (H, W, 4) uint8 RGBA, and how many milliseconds."""
    width, height = _size(data)
    canvas = np.zeros((height, width, 4), np.uint8)
    for name, chunk in _chunks(data, 12):
        if name != b"ANMF":
            continue
        frame = _frame(chunk)
        picture = _still(frame)
        part = canvas[
            frame.top : frame.top + frame.size[1], frame.left : frame.left + frame.size[0]
        ]
        part[:] = picture if frame.flags & _OVERWRITES else _over(picture, part)
        yield canvas.copy(), frame.duration or _SHORTEST
        if frame.flags & _CLEARS:
            part[:] = 0


def _average_rate(data: bytes) -> Fraction:
    durations = [
        _u24(chunk, 12) or _SHORTEST for name, chunk in _chunks(data, 12) if name == b"ANMF"
    ]
    return Fraction(1000 * len(durations), sum(durations)) if durations else Fraction(25)


def _size(data: bytes) -> tuple[int, int]:
    size = _u24(data, 24) + 1, _u24(data, 27) + 1
    if size[0] * size[1] > min(_LARGEST_AREA, max_pixels()):
        raise ValueError("no player shows a WebP so large")
    return size


def _chunks(data: bytes, at: int) -> Iterator[tuple[bytes, bytes]]:
    while at + 8 <= len(data):
        name, size = data[at : at + 4], struct.unpack_from("<I", data, at + 4)[0]
        if at + 8 + size > len(data):
            raise IndexError("the file is cut short")
        yield name, data[at + 8 : at + 8 + size]
        at += 8 + size + size % 2


def _frame(chunk: bytes) -> _Frame:
    return _Frame(
        left=2 * _u24(chunk, 0),
        top=2 * _u24(chunk, 3),
        size=(_u24(chunk, 6) + 1, _u24(chunk, 9) + 1),
        duration=_u24(chunk, 12),
        flags=chunk[15],
        data=chunk[16:],
    )


def _still(frame: _Frame) -> np.ndarray:
    """The pixels of a frame, decoded as a still picture of its own."""
    body = frame.data
    if body.startswith(b"ALPH"):
        sides = b"".join(struct.pack("<I", n - 1)[:3] for n in frame.size)
        body = b"VP8X" + struct.pack("<II", 10, _HAS_ALPHA) + sides + body
    file = b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body
    limit = decoder_options()
    with av.open(io.BytesIO(file), "r", format="webp_pipe", options=limit) as still:
        still.streams.video[0].codec_context.options = limit
        decoded = next(still.decode(video=0), None)
    if decoded is None or (decoded.width, decoded.height) != frame.size:
        raise ValueError("a frame has another size than it says")
    return decoded.to_ndarray(format="rgba")


def _over(picture: np.ndarray, below: np.ndarray) -> np.ndarray:
    """`picture` on top of `below`; both are not premultiplied."""
    alpha, under = (p[..., 3:] / np.float32(255) for p in (picture, below))
    whole = alpha + under * (1 - alpha)
    mixed = picture[..., :3] * alpha + below[..., :3] * under * (1 - alpha)
    color = mixed / np.where(whole > 0, whole, 1)
    return np.concatenate((color, whole * 255), -1).round().astype(np.uint8)


def _u24(data: bytes, at: int) -> int:
    if at + 3 > len(data):
        raise IndexError("the file is cut short")
    return int.from_bytes(data[at : at + 3], "little")
