"""Small clips for the tests of the training data: smooth pictures that move, stand or cut."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from torch import Tensor

from midflow.train.batch import Batch
from midflow.video.image import write_image


def moving_picture(index: float, size: tuple[int, int] = (64, 64), scene: int = 0) -> np.ndarray:
    """(H, W, 3) uint8 of a smooth picture that moves two pixels to the right a frame."""
    x, y = np.meshgrid(np.arange(size[0]) - 2 * index, np.arange(size[1]))
    bend = 1 + 0.9 * scene
    planes = [
        np.sin(x * (0.31 * bend + 0.05 * c) + 2.4 * scene) + np.cos(y * (0.23 * bend) + x * 0.1 - c)
        for c in range(3)
    ]
    return np.clip(128 + 55 * np.stack(planes, 2), 0, 255).astype(np.uint8)


def write_clip(path: Path, pictures: Sequence[np.ndarray], rate: int = 25) -> Path:
    """A clip with exactly these frames, almost lossless."""
    height, width = pictures[0].shape[:2]
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=rate, options={"preset": "ultrafast", "crf": "2"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv444p"
        stream.codec_context.time_base = Fraction(1, rate)
        for index, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, rate)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def moving_clip(path: Path, frames: int = 12, size: tuple[int, int] = (64, 64)) -> Path:
    return write_clip(path, [moving_picture(k, size) for k in range(frames)])


def write_picture(path: Path, index: float, size: tuple[int, int] = (32, 32)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = torch.from_numpy(moving_picture(index, size)).movedim(2, 0)[None].float() / 255
    write_image(path, pixels)
    return path


def same(one: Batch, other: Batch) -> bool:
    return all(
        torch.equal(getattr(one, name), getattr(other, name))
        for name in ("img0", "img1", "truth", "timestep")
    )


def photographs(count: int = 6, side: int = 160) -> list[Tensor]:
    """Smooth coloured pictures, (3, side, side) uint8."""
    return [
        torch.from_numpy(moving_picture(3 * k, (side, side), k % 3)).movedim(2, 0).contiguous()
        for k in range(count)
    ]
