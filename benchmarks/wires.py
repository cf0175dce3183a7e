"""Wires before a background that moves another way, with and without painting them apart.

    python benchmarks/wires.py CLIPS [--model NAME ...] [--json OUT]

Drawn: six lines, of 1.5 or 3 pixels, that move by 4 to 26 pixels against their background, 848 x
480; PSNR of the pixels within 3 of a line, in the frame halfway. Clips: PSNR of two dropped frames
each with less without, and the seconds of a 1280 x 720 pair, alternating.
"""

import argparse
import json
import math
import statistics
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import midflow
from midflow.bench.machine import describe_machine
from midflow.evaluate.clips import ClipFrames, open_clips
from midflow.evaluate.hard import draw_wires

AGAINST = 4, 8, 12, 16, 26
WIDTHS = 1.5, 3.0
BACKGROUND = -6
RESULT = Path(__file__).parent / "results" / "wires.json"


def lines(time: float, motion: float, width: float) -> tuple[Tensor, Tensor]:
    """The picture (1, 3, 480, 848), and 1 within 3 pixels of a line."""
    x, y = torch.arange(848.0)[None], torch.arange(480.0)[:, None]
    image, distance = draw_wires(x, y, time, motion=motion, background=BACKGROUND, width=width)
    return (image * 255).round()[None] / 255, (distance < 3).float()


def psnr(found: Tensor, truth: Tensor, share: Tensor | None = None) -> float:
    squares = ((found.clamp(0, 1) * 255).round() / 255 - truth).square().mean((0, 1))
    mean = squares.mean() if share is None else (squares * share).sum() / share.sum()
    return -10 * math.log10(float(mean))


def measure(name: str, clips: Path) -> dict[str, Any]:
    model = midflow.load_model(name)
    on, off = (midflow.Interpolator(model, "cpu", wires=wires) for wires in ("auto", "off"))
    drawn = []
    for width in WIDTHS:
        for against in AGAINST:
            motion = BACKGROUND + against
            (img0, _), (truth, near), (img1, _) = (lines(t, motion, width) for t in (0.0, 0.5, 1.0))
            row: dict[str, Any] = {"width": width, "against_its_background": against}
            for word, interp in (("off", off), ("auto", on)):
                row[word] = round(psnr(interp(img0, img1), truth, near), 1)
            drawn.append(row)
    changes, plain, taken = [], [], {"off": [], "auto": []}
    read = ClipFrames(3)
    for sample in open_clips(clips, 2, 2).samples:
        img0, truth, img1 = (read(p) for p in (sample.img0, sample.truths[0], sample.img1))
        plain.append(psnr(off(img0, img1), truth))
        changes.append(psnr(on(img0, img1), truth) - plain[-1])
        large = [F.interpolate(x, (720, 1280), mode="bicubic").clamp(0, 1) for x in (img0, img1)]
        for word, interp in (("off", off), ("auto", on)):
            start = time.perf_counter()
            interp(*large)
            taken[word].append(time.perf_counter() - start)
    return {
        "model": name,
        "drawn": drawn,
        "frames": len(changes),
        "psnr_off": round(statistics.fmean(plain), 3),
        "change": round(statistics.fmean(changes), 4),
        "worst": round(min(changes), 3),
        "best": round(max(changes), 3),
        "frames_changed": sum(change != 0 for change in changes),
        "seconds_off": round(statistics.median(taken["off"]), 4),
        "seconds_auto": round(statistics.median(taken["auto"]), 4),
        "seconds_more_median": round(
            statistics.median(b - a for a, b in zip(taken["off"], taken["auto"], strict=True)),
            4,
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clips", type=Path)
    parser.add_argument("--model", nargs="*", default=["midflow-2"])
    parser.add_argument("--json", type=Path, default=RESULT)
    args = parser.parse_args()
    report = {
        "benchmark": "wires",
        **describe_machine("cpu"),
        "rows": [measure(name, args.clips) for name in args.model],
    }
    print(json.dumps(report, indent=1))
    args.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
