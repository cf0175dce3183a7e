"""A stretch of the output's video, encoded by itself so that it can be joined with others."""

import hashlib
import io
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from midflow.errors import VideoError
from midflow.video.frame import Planes
from midflow.video.packets import PacketFile
from midflow.video.track import TrackSettings, VideoTrack
from midflow.video.writer import container_format

ONE_PIECE = {"apng", "gif", "libwebp_anim", "libwebp"}
"""Encoders whose packets build on all before them: their output is one segment."""


class SegmentWriter:
    """Encodes frames into a `PacketFile`, beginning with a key frame that nothing reaches across.

    Args:
        path: the packet file; it gets this name when it is whole.
        settings: `VideoWriter.settings` of the output it is a part of.

    Raises:
        VideoError: the disk refuses.
    """

    def __init__(self, path: Path, settings: TrackSettings) -> None:
        self._path = path
        name = container_format(Path(f"_{settings.suffix}"))
        # never begun: the encoder's settings depend on the container, its packets do not go there
        self._track = VideoTrack(av.open(io.BytesIO(), "w", format=name), settings)
        self._track.add(None)
        self._track.open()
        try:
            self._file = PacketFile(path)
        except OSError as error:
            raise self._failure(error) from error

    def write(self, planes: Planes, pts: Fraction, duration: Fraction | None = None) -> None:
        """Encode one frame; arguments as for `VideoWriter.write`.

        Raises:
            VideoError: the encoder or the disk refuses.
        """
        try:
            for packet in self._track.encode(planes, pts, duration):
                self._file.add(packet)
        except (av.FFmpegError, OSError) as error:
            raise self._failure(error) from error

    def finish(self, note: dict[str, Any]) -> dict[str, Any]:
        """End the segment.

        Args:
            note: is kept in its file.

        Returns:
            The note with what its encoder adds.

        Raises:
            VideoError: the encoder or the disk refuses.
        """
        try:
            for packet in self._track.flush():
                self._file.add(packet)
            note = {**note, "extradata": digest(self._track.extradata)}
            self._file.finish(note)
        except (av.FFmpegError, OSError) as error:
            raise self._failure(error) from error
        return note

    def discard(self) -> None:
        """Remove what has been written."""
        self._file.discard()

    def _failure(self, error: Exception) -> VideoError:
        reason = getattr(error, "strerror", None) or str(error)
        return VideoError(f"writing {self._path} failed: {reason}")


def digest(extradata: bytes) -> str:
    """A short name for what a decoder needs before the first packet."""
    return hashlib.sha256(extradata).hexdigest()[:16]
