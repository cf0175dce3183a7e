"""Memory while a long clip is made: 20,000 frames, a line of resident memory over frames.

    python benchmarks/flat_memory.py [--frames 20000] [--json OUT] [--plot OUT.png]

A clip of half as many moving frames of 64 x 64, brought to twice its rate by `interpolate_video`; a
network of midflow's kind with few channels and random weights, as memory does not depend on what
these are. The growth is that of the last half of the run over its first tenth.
"""

import argparse
import json
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch

import midflow
from midflow.evaluate.lettering import caption
from midflow.nets.pyramid import PyramidNet
from midflow.nets.pyramid_config import PyramidConfig
from midflow.options import VideoOptions
from midflow.pipeline import interpolate_video
from midflow.progress import Progress
from midflow.video.encoders import WriterOptions
from midflow.video.frame import ColorSpec
from midflow.video.image import write_image
from midflow.video.writer import VideoWriter

SIDE = 64
SMALL = PyramidConfig(
    channels=8, depth=1, width=4, features=2, matched=4, radius=1, detail=0, scales=(4, 2)
)
RATE = Fraction(25)
WIDE, HIGH, MARGIN = 720, 300, 40


def write_source(path: Path, count: int) -> None:
    y, x = np.mgrid[:SIDE, :SIDE]
    chroma = np.full((SIDE // 2, SIDE // 2), 128, np.uint8)
    options = WriterOptions(preset="ultrafast")
    with VideoWriter(path, None, SIDE, SIDE, RATE, ColorSpec(), "yuv420p", options) as writer:
        for k in range(count):
            luma = 120 + 80 * np.sin((x + k) / 5) * np.sin((y + k / 3) / 7)
            writer.write((luma.astype(np.uint8), chroma, chroma), k / RATE)


def resident_bytes() -> int:
    fields = Path("/proc/self/statm").read_text().split()
    return int(fields[1]) * 4096


def plot(path: Path, samples: list[tuple[int, int]]) -> None:
    """A line of MiB over frames, from 0 to a quarter above the largest."""
    picture = torch.ones(3, HIGH + MARGIN, WIDE)
    top = 1.25 * max(size for _, size in samples)
    last = samples[-1][0]
    previous = None
    for frames, size in samples:
        column = min(WIDE - 1, int(frames / last * (WIDE - 1)))
        row = int((1 - size / top) * (HIGH - 1))
        low, high = sorted((row, row if previous is None else previous))
        picture[:2, low : high + 2, column : column + 2] = 0.2
        previous = row
    text = f"0 to {last} frames, 0 to {top / 2**20:.0f} MiB resident"
    picture[:, HIGH : HIGH + 26] = caption(text, WIDE)
    write_image(path, picture[None], overwrite=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=20_000)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    samples: list[tuple[int, int]] = []

    def watch(progress: Progress) -> None:
        samples.append((progress.frames_done, resident_bytes()))

    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        source = Path(name) / "in.mkv"
        write_source(source, args.frames // 2)
        result = interpolate_video(
            source,
            Path(name) / "out.mkv",
            model=PyramidNet(SMALL),
            options=VideoOptions(preset="ultrafast", device="cpu"),
            on_progress=watch,
        )
    first = [size for frames, size in samples if 0 < frames <= result.frames_out / 10]
    late = [size for frames, size in samples if frames > result.frames_out / 2]
    report = {
        "benchmark": "flat_memory",
        "midflow": midflow.__version__,
        "frames": result.frames_out,
        "size": f"{SIDE}x{SIDE}",
        "seconds": round(time.perf_counter() - started),
        "MiB, most in the first tenth": round(max(first) / 2**20, 1),
        "MiB, most in the last half": round(max(late) / 2**20, 1),
    }
    print(json.dumps(report, indent=2))
    if args.json:
        args.json.write_text(json.dumps(report, indent=2) + "\n")
    if args.plot:
        plot(args.plot, samples)


if __name__ == "__main__":
    main()
