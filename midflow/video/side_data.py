"""What travels beside a decoded picture: how to turn it, and how bright HDR was mastered."""

import struct
from fractions import Fraction
from typing import Any

import av
from av.codec import CodecContext

_WANTED = ("DISPLAYMATRIX", "MASTERING_DISPLAY_METADATA", "CONTENT_LIGHT_LEVEL")


def _side_data(frame: av.VideoFrame) -> dict[str, bytes]:
    try:
        entries: Any = frame.side_data  # iterates over entries or keys, by the release of PyAV
    except ValueError:  # PyAV gives up on the whole set where FFmpeg has a kind it does not know
        return {}
    items = (entries[k] for k in range(len(entries)))
    return {item.type.name: bytes(item) for item in items if item.type.name in _WANTED}


def display_matrix(frame: av.VideoFrame) -> tuple[int, ...] | None:
    """The nine numbers of the container's display matrix, rotation and flips."""
    raw = _side_data(frame).get("DISPLAYMATRIX")
    return struct.unpack("=9i", raw[:36]) if raw else None


def hdr_metadata(frame: av.VideoFrame, decoder: CodecContext) -> dict[str, str]:
    """HDR metadata as x265 writes it: chromaticity in 1/50,000, luminance in 1/10,000 cd/m2.

    Args:
        frame: the first of a stream.
        decoder: that has decoded it; from FFmpeg 9 on it holds some of this in the frame's stead.
    """
    held = getattr(decoder, "decoded_side_data", {})
    of_all = {kind.name: data for kind, data in held.items() if kind.name in _WANTED}
    found, data = {}, of_all | _side_data(frame)
    if raw := data.get("MASTERING_DISPLAY_METADATA"):
        numbers = struct.unpack("=22i", raw[:88])
        pairs = list(zip(numbers[0:20:2], numbers[1:20:2], strict=True))
        if numbers[20] and numbers[21] and all(den for _, den in pairs):
            x = [round(Fraction(num, den) * 50000) for num, den in pairs[:8]]
            low, high = (round(Fraction(num, den) * 10000) for num, den in pairs[8:])
            found["master-display"] = (
                f"G({x[2]},{x[3]})B({x[4]},{x[5]})R({x[0]},{x[1]})WP({x[6]},{x[7]})L({high},{low})"
            )
    if raw := data.get("CONTENT_LIGHT_LEVEL"):
        found["max-cll"] = "{},{}".format(*struct.unpack("=2I", raw[:8]))
    return found
