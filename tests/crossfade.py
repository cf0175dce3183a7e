"""A network that fades, at no cost, and clips whose brightness tells the time."""

from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn

from midflow.nets.prediction import Encoded, Prediction
from midflow.video.encoders import WriterOptions
from midflow.video.frame import ColorSpec
from midflow.video.writer import VideoWriter
from tests.video.clips import decoded

BLACK, LEVELS_PER_SECOND = 40, 100


class CrossFade(nn.Module):
    """Stands in for a network: the frame at t is (1 - t) img0 + t img1."""

    def __init__(self, *, has_timestep=True):
        super().__init__()
        self.config = SimpleNamespace(
            pad_multiple=16, has_timestep=has_timestep, has_ensemble=False
        )
        self.release = "cross-fade"
        self.encoded = 0
        self.batches = []

    def encode_frame(self, image):
        self.encoded += 1
        return Encoded(image)

    def forward(self, frame0, frame1, timestep=0.5, *, flow_scale=1.0, ensemble=False):
        self.batches.append(timestep.tolist())
        t = timestep.view(-1, 1, 1, 1)
        frame = (1 - t) * frame0.image + t * frame1.image
        return Prediction(frame, torch.zeros_like(frame[:, :1]).expand(-1, 4, -1, -1), frame[:, :1])


def write_clip(path: Path, images, times, *, rate=Fraction(1000), pixel_format="yuv420p") -> Path:
    """A clip of luma pictures (H, W) shown at `times`, each until the next, nearly lossless."""
    height, width = images[0].shape
    ends = [*times[1:], times[-1] + (times[-1] - times[-2] if len(times) > 1 else Fraction(1, 10))]
    options = WriterOptions(crf=0 if path.suffix == ".mkv" else 1, preset="ultrafast")
    with VideoWriter(
        path, None, width, height, rate, ColorSpec(), pixel_format, options=options
    ) as writer:
        for image, pts, end in zip(images, times, ends, strict=True):
            chroma = np.full((-(-height // 2), -(-width // 2)), 128, np.uint8)
            writer.write((image.astype(np.uint8), chroma, chroma), pts, end - pts)
    return path


def write_clock(path: Path, times, *, size=(64, 48), rate=Fraction(1000)) -> Path:
    """A clip of plain frames, each as bright as its time."""
    images = [np.full(size[::-1], round(BLACK + LEVELS_PER_SECOND * float(pts))) for pts in times]
    return write_clip(path, images, times, rate=rate)


def luma(frame) -> np.ndarray:
    return frame.to_ndarray()[: frame.height].astype(float)


def read_clock(path: Path):
    """(time of the frame, time its brightness tells) of each frame."""
    frames = decoded(path)
    return [(f.pts * f.time_base, (luma(f).mean() - BLACK) / LEVELS_PER_SECOND) for f in frames]
