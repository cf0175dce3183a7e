"""Still lettering before moving pictures, with and without protection; and what protection costs.

    python benchmarks/overlays.py CLIPS [--cache FOLDER] [--json OUT]

Three dropped frames of each clip are painted as they are, one of them with a subtitle and a logo on
all three frames, as drawn and after x264 at CRF 20. Inside the lettering: mean error in levels of
255 and PSNR against the lettered truth. Without lettering: PSNR with protection less without. The
painted frames are kept in the cache, so that the rule can be changed without painting anew.
"""

import argparse
import io
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import midflow
from midflow.evaluate.clips import ClipFrames, open_clips
from midflow.overlay import Protection, still_overlay

PER_CLIP = 3
SUBTITLE = ("The picture moves, the words", "do not move at all.")
FONT = cv2.FONT_HERSHEY_SIMPLEX
CRF = 20
RING = 8  # pixels around the lettering


def lettering(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Opacity (H, W) and colour (3, H, W) of a subtitle with black outlines and a logo."""
    alpha, color = np.zeros((height, width), np.uint8), np.zeros((height, width, 3), np.uint8)
    scale = height / 480

    def stroke(text: str, place: tuple[int, int], size: float, thickness: int) -> Any:
        mask = np.zeros((height, width), np.uint8)
        return cv2.putText(mask, text, place, FONT, size, 255, max(1, thickness), cv2.LINE_AA)

    for k, line in enumerate(SUBTITLE):
        (wide, _), _ = cv2.getTextSize(line, FONT, scale, max(1, round(2 * scale)))
        place = (width - wide) // 2, round(height - 60 * scale + k * 36 * scale)
        alpha = np.maximum(alpha, stroke(line, place, scale, round(5 * scale)))
        color = np.maximum(color, stroke(line, place, scale, round(2 * scale))[..., None])
    logo = stroke(
        "TV", (round(width - 68 * scale), round(60 * scale)), 0.9 * scale, round(3 * scale)
    )
    center, thickness = (round(width - 50 * scale), round(50 * scale)), max(2, round(6 * scale))
    cv2.circle(logo, center, round(28 * scale), 255, thickness, cv2.LINE_AA)
    color = np.where(logo[..., None] > 0, np.array([255, 200, 30], np.uint8), color)
    as_tensor = torch.from_numpy(np.maximum(alpha, logo)).float() / 255
    return as_tensor, torch.from_numpy(color).permute(2, 0, 1).float() / 255


def encoded(frames: list[Tensor]) -> list[Tensor]:
    """The frames (1, 3, H, W) after x264, 4:2:0; odd sides lose a row or column."""
    height, width = (side // 2 * 2 for side in frames[0].shape[-2:])
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="matroska") as out:
        stream = out.add_stream("libx264", rate=25, options={"crf": str(CRF)})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for frame in frames:
            levels = to_levels(frame[0, :, :height, :width]).permute(1, 2, 0).numpy()
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(levels), "rgb24")
            out.mux(stream.encode(picture))
        out.mux(stream.encode(None))
    buffer.seek(0)
    with av.open(buffer) as source:
        decoded = [x.to_ndarray(format="rgb24") for x in source.decode(video=0)]
    return [torch.from_numpy(x).permute(2, 0, 1)[None].float() / 255 for x in decoded]


def to_levels(x: Tensor) -> Tensor:
    return (x * 255).round().to(torch.uint8)


def paint(folder: Path, cache: Path) -> list[dict[str, Any]]:
    """Paints what the cache does not hold yet."""
    interp = midflow.Interpolator(midflow.load_model(), "cpu", protect="off")
    read = ClipFrames(3)
    rows = []
    for number, sample in enumerate(open_clips(folder, 2, PER_CLIP).samples):
        file = cache / f"{number:02}.pt"
        if not file.exists():
            pictures = [read(p) for p in (sample.img0, sample.truths[0], sample.img1)]
            row: dict[str, Any] = {"plain": triplet(interp, *pictures)}
            if number % PER_CLIP == 1:
                alpha, color = lettering(*pictures[0].shape[-2:])
                lettered = [torch.lerp(x, color[None], alpha) for x in pictures]
                row |= {"alpha": to_levels(alpha), "lettered": triplet(interp, *lettered)}
                first, _, last = encoded(lettered)
                height, width = first.shape[-2:]
                truth = lettered[1][..., :height, :width]
                row["encoded"] = triplet(interp, first, truth, last)
            torch.save(row, file)
        rows.append(torch.load(file))
    return rows


def triplet(interp: midflow.Interpolator, img0: Tensor, truth: Tensor, img1: Tensor) -> Any:
    return *map(to_levels, (img0, truth, img1)), interp(img0, img1).half()


def unpacked(row: Any) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Both frames, truth, painted, and painted with protection."""
    img0, truth, img1 = (x.float() / 255 for x in row[:3])
    painted = row[3].float()
    protection = Protection()
    still = protection.find(img0, img1)
    protected = protection(painted, img0, img1, torch.tensor([0.5]), still)
    return img0, img1, truth, painted, protected


def psnr(a: Tensor, b: Tensor, where: Tensor | None = None) -> float:
    error = (a - b).square().mean(1, keepdim=True)
    mean = error.mean() if where is None else (error * where).sum() / where.sum()
    return float(-10 * torch.log10(mean.clamp(min=1e-10)))


def inside(rows: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    scores = []
    for row in (row for row in rows if kind in row):
        *_, truth, painted, protected = unpacked(row[kind])
        height, width = truth.shape[-2:]
        alpha = row["alpha"][None, None, :height, :width].float() / 255
        core, touched = (alpha > 0.99).float(), (alpha > 0).float()
        ring = F.max_pool2d(touched, 2 * RING + 1, 1, RING) - touched
        one = []
        for picture in (painted, protected):
            error = ((picture - truth).abs().mean(1, keepdim=True) * core).sum() / core.sum()
            one += [255 * float(error), psnr(picture, truth, core), psnr(picture, truth, ring)]
        scores.append(one)
    mean = [round(statistics.fmean(column), 2) for column in zip(*scores, strict=True)]
    worst = [round(min(score[k] for score in scores), 2) for k in (1, 4)]
    names = ("error inside", "psnr inside", f"psnr of {RING} pixels around")
    table = {name: {"off": mean[k], "auto": mean[k + 3]} for k, name in enumerate(names)}
    return {**table, "psnr inside, worst clip": {"off": worst[0], "auto": worst[1]}}


def seconds_720p(img0: Tensor, img1: Tensor) -> float:
    """Of one processor, which other programs do not change as they do the time on the clock."""
    pair = [F.interpolate(x, (720, 1280), mode="bilinear") for x in (img0, img1)]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    taken = []
    for _ in range(5):
        start = time.process_time()
        still_overlay(*pair)
        taken.append(time.process_time() - start)
    torch.set_num_threads(threads)
    return min(taken)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clips", type=Path)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        cache = args.cache or Path(name)
        cache.mkdir(exist_ok=True)
        rows = paint(args.clips, cache)
    changes = []
    for row in rows:
        *_, truth, painted, protected = unpacked(row["plain"])
        changes.append(psnr(protected, truth) - psnr(painted, truth))
    report = {
        "benchmark": "overlays",
        "midflow": midflow.__version__,
        "samples": len(rows),
        "lettered": inside(rows, "lettered"),
        f"lettered, x264 at CRF {CRF}": inside(rows, "encoded"),
        "without lettering, change of psnr": {
            "mean": round(statistics.fmean(changes), 4),
            "least": round(min(changes), 3),
            "most": round(max(changes), 3),
        },
        "processor seconds, 1280x720, least of 5": round(
            seconds_720p(*unpacked(rows[1]["lettered"])[:2]), 3
        ),
    }
    print(json.dumps(report, indent=2))
    if args.json:
        args.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
