"""Finds out which video encoders work, by encoding a frame with each.

A name in FFmpeg's list says little: hardware encoders are listed everywhere, and work where the
hardware, its driver and the permission to use it are.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from typing import cast

import av
from av.codec import CodecContext
from av.video.codeccontext import VideoCodecContext

from midflow.video.scheduling import as_scheduled

_WIDTH, _HEIGHT = 256, 256  # above the smallest picture of every hardware encoder


@dataclass(frozen=True)
class Encoder:
    """An encoder as FFmpeg names it, and what it needs to be tried."""

    name: str
    """FFmpeg's name."""
    makes: str
    """The format, and whose hardware it needs."""
    is_hardware: bool = False
    """Whether it needs hardware of its own."""
    pixel_format: str = "yuv420p"
    """A format it takes."""
    options: Mapping[str, str] = field(default_factory=dict)
    """Private options that keep it quiet."""


ENCODERS = (
    Encoder("libx264", "H.264"),
    Encoder("libx265", "HEVC", options={"x265-params": "log-level=none"}),
    Encoder("libsvtav1", "AV1"),
    Encoder("libvpx-vp9", "VP9"),
    Encoder("prores_ks", "ProRes", pixel_format="yuv422p10le"),
    Encoder("ffv1", "FFV1, lossless"),
    Encoder("gif", "GIF", pixel_format="rgb8"),
    Encoder("apng", "APNG", pixel_format="rgba"),
    Encoder("libwebp_anim", "animated WebP", pixel_format="bgra"),
    Encoder("h264_nvenc", "H.264 on NVIDIA", True),
    Encoder("hevc_nvenc", "HEVC on NVIDIA", True),
    Encoder("av1_nvenc", "AV1 on NVIDIA", True),
    Encoder("h264_qsv", "H.264 on Intel", True, pixel_format="nv12"),
    Encoder("hevc_qsv", "HEVC on Intel", True, pixel_format="nv12"),
    Encoder("av1_qsv", "AV1 on Intel", True, pixel_format="nv12"),
    Encoder("h264_amf", "H.264 on AMD", True, pixel_format="nv12"),
    Encoder("hevc_amf", "HEVC on AMD", True, pixel_format="nv12"),
    Encoder("av1_amf", "AV1 on AMD", True, pixel_format="nv12"),
    Encoder("h264_videotoolbox", "H.264 on Apple", True),
    Encoder("hevc_videotoolbox", "HEVC on Apple", True),
)
"""The encoders midflow knows by name; any other of FFmpeg's can be asked for."""


def try_encoder(encoder: Encoder) -> str | None:
    """Encodes one frame.

    Returns:
        None where that works, otherwise the reason it does not.
    """
    try:
        with _quiet_svt(), as_scheduled():
            size = _encode_one(encoder)
    except (av.FFmpegError, ValueError) as error:
        return _reason(error)
    return None if size else "it put out nothing"


def _encode_one(encoder: Encoder) -> int:
    """Bytes that come out for one frame."""
    context = cast(VideoCodecContext, CodecContext.create(encoder.name, "w"))
    context.width, context.height = _WIDTH, _HEIGHT
    context.pix_fmt = encoder.pixel_format
    context.framerate, context.time_base = Fraction(25), Fraction(1, 25)
    context.options = dict(encoder.options)
    frame = av.VideoFrame(_WIDTH, _HEIGHT, encoder.pixel_format)
    frame.pts = 0
    for plane in frame.planes:
        plane.update(bytes(plane.buffer_size))
    return sum(packet.size for packet in (*context.encode(frame), *context.encode(None)))


def _reason(error: Exception) -> str:
    if isinstance(error, ValueError) and not isinstance(error, av.FFmpegError):
        return "not in this build of FFmpeg"
    return "no such hardware, or its driver refuses"


@contextmanager
def _quiet_svt() -> Iterator[None]:
    """SVT-AV1 prints to the terminal and listens to this variable alone."""
    before = os.environ.get("SVT_LOG")
    os.environ["SVT_LOG"] = "0"
    try:
        yield
    finally:
        if before is None:
            del os.environ["SVT_LOG"]
        else:
            os.environ["SVT_LOG"] = before
