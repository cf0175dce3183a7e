"""The clips that are measured: a given one scaled to each size, or drawn pictures."""

from collections.abc import Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from midflow.video.encoders import WriterOptions
from midflow.video.frame import ColorSpec, Plane, Planes
from midflow.video.pixel import pack, unpack
from midflow.video.reader import VideoReader
from midflow.video.writer import VideoWriter

RATE = Fraction(30)
_KEPT_BYTES = 256 << 20  # of a given clip's pictures, which repeat after that
_STEP = 1 / 160  # of the width, by which drawn pictures move from frame to frame
_GRAIN = 1.5  # standard deviation in levels, new in every frame
_OCTAVES = (4, 16, 64, 256)  # cells of the texture across the picture


class Clips:
    """Clips of each size, made when they are asked for.

    Args:
        folder: to keep them in.
        source: as for `make_clip`.
    """

    def __init__(self, folder: Path, source: Path | None) -> None:
        self._folder = folder
        self._source = source
        self._counts: dict[tuple[int, int], int] = {}

    def get(self, size: tuple[int, int], count: int) -> Path:
        """A clip of `count` frames or more."""
        path = self._folder / f"{size[0]}x{size[1]}.mp4"
        if self._counts.get(size, 0) < count:
            make_clip(path, self._source, size, count)
            self._counts[size] = count
        return path


def make_clip(path: Path, source: Path | None, size: tuple[int, int], count: int) -> Path:
    """Writes a clip of `count` frames.

    Args:
        path: of the clip, .mp4 or .mkv; replaced if there.
        source: a video whose pictures are scaled; None draws some.
        size: width and height in pixels, even.
        count: frames.

    Returns:
        `path`.

    Raises:
        VideoError: the source cannot be read, or the clip not be written.
    """
    pixel_format, color = "yuv420p", ColorSpec()
    if source is None:
        pictures: Iterator[Planes] = draw_pictures(size)
    else:
        with VideoReader(source) as reader:
            pixel_format, color = reader.info.pixel_format, reader.info.color
        pictures = scaled_pictures(source, size)
    options = WriterOptions(crf=18, preset="veryfast", overwrite=True)
    with VideoWriter(path, None, *size, RATE, color, pixel_format, options) as writer:
        for index, planes in enumerate(islice(pictures, count)):
            writer.write(_as(planes, pixel_format, writer.pixel_format), index / RATE)
    return path


def draw_pictures(size: tuple[int, int]) -> Iterator[Planes]:
    """A texture that moves to the left, a box of another before it, and grain; without end.

    Args:
        size: width and height in pixels, even.

    Yields:
        Planes of yuv420p.
    """
    width, height = size
    random = np.random.default_rng(0)
    back = [_texture(random, height >> half, 2 * width >> half) for half in (0, 1, 1)]
    front = [_texture(random, height // 3 >> half, width // 3 >> half) for half in (0, 1, 1)]
    grain = random.normal(0, _GRAIN, (height + 16, width + 16)).round().astype(np.int16)
    step = max(2, round(width * _STEP) // 2 * 2)
    for index in _there_and_back(width // step):
        planes = []
        for half, behind, before in zip((0, 1, 1), back, front, strict=True):
            left = (index * step) >> half
            plane = behind[:, left : left + (width >> half)].copy()
            rows, columns = before.shape
            top, edge = (height // 4) >> half, (width // 2 - index * step // 4) // 2 * 2 >> half
            plane[top : top + rows, edge : edge + columns] = before
            planes.append(plane)
        down, across = random.integers(0, 16, 2)
        noisy = planes[0] + grain[down : down + height, across : across + width]
        yield noisy.clip(16, 235).astype(np.uint8), planes[1], planes[2]


def scaled_pictures(source: Path, size: tuple[int, int]) -> Iterator[Planes]:
    """The pictures of a video at another size, forwards and backwards, without end."""
    kept: list[Planes] = []
    with VideoReader(source) as reader:
        name = reader.info.pixel_format
        for frame in reader:
            whole = pack(frame.data, name, name)
            kept.append(unpack(whole.reformat(width=size[0], height=size[1], threads=1), name))
            yield kept[-1]
            if sum(plane.nbytes for plane in kept[-1]) * len(kept) > _KEPT_BYTES:
                break
    kept = kept[::-1]
    while True:
        yield from kept[1:] or kept
        kept = kept[::-1]


def _there_and_back(last: int) -> Iterator[int]:
    while True:
        yield from range(last)
        yield from range(last, 0, -1)


def _texture(random: np.random.Generator, height: int, width: int) -> Plane:
    """(height, width) of legal luma codes, detail at every scale."""
    total = torch.zeros(height, width)
    for cells in _OCTAVES:
        shape = (max(2, min(height, cells * height // width)), min(width, cells))
        noise = torch.from_numpy(random.normal(0, 1, shape).astype(np.float32))[None, None]
        smooth = F.interpolate(noise, (height, width), mode="bicubic", align_corners=False)
        total += smooth[0, 0] * (30 / cells**0.35)
    return (128 + total).round_().clamp_(16, 235).to(torch.uint8).numpy()


def _as(planes: Planes, given: str, wanted: str) -> Planes:
    """Planes in the format a writer takes."""
    return planes if given == wanted else unpack(pack(planes, given, wanted), wanted)
