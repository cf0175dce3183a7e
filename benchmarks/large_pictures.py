"""Large pictures: peak memory against the estimate, tiles and half precision against the whole.

    python benchmarks/large_pictures.py CLIPS [--size 3840x2160] [--only whole tiles ...]
        [--keep FOLDER] [--json OUT]

The pair is a mosaic of frames of clips, four apart. Every way has a process of its own: its peak
memory is that of the system, less what it holds before it paints.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

import torch
import torch.nn.functional as F

import midflow
from midflow.bench.meter import MemoryPeak
from midflow.memory import Settings, estimate_bytes
from midflow.video.color import to_rgb
from midflow.video.image import write_image
from midflow.video.reader import VideoReader

GAP = 2
EXACT = {"precision": "float32"}
WAYS: dict[str, dict[str, object]] = {
    "whole": EXACT,
    "bfloat16": {"precision": "bfloat16"},
    "flow_scale 0.5": {"flow_scale": 0.5, **EXACT},
    "tiles of 1024": {"tile": 1024, **EXACT},
    "tiles of 512": {"tile": 512, **EXACT},
    "tiles of 256": {"tile": 256, **EXACT},
}


def mosaic(folder: Path, width: int, height: int) -> list[torch.Tensor]:
    """Two pictures (1, 3, H, W) of cells of about 960 x 540."""
    columns, rows = max(1, round(width / 960)), max(1, round(height / 540))
    pair = [torch.zeros(1, 3, height, width) for _ in range(2)]
    paths = sorted(folder.glob("*.mp4"))
    for cell in range(columns * rows):
        row, column = divmod(cell, columns)
        top, bottom = row * height // rows, (row + 1) * height // rows
        left, right = column * width // columns, (column + 1) * width // columns
        with VideoReader(paths[cell % len(paths)]) as reader:
            frames = list(islice(reader, GAP + 1))
            for picture, frame in zip(pair, (frames[0], frames[GAP]), strict=True):
                rgb = to_rgb(frame, reader.info)
                picture[..., top:bottom, left:right] = F.interpolate(
                    rgb, (bottom - top, right - left), mode="bicubic"
                ).clamp(0, 1)
    return pair


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def paint(folder: Path, way: str) -> None:
    """Paints one way, in this process; leaves the picture, its time and its memory in `folder`."""
    torch.set_num_threads(2)
    img0, img1 = torch.load(folder / "pair.pt")
    interp = midflow.Interpolator(midflow.load_model(), "cpu", protect="off", **WAYS[way])
    interp(img0[..., :64, :64], img1[..., :64, :64])
    before, started = resident_bytes(), time.perf_counter()
    with MemoryPeak(interp.device) as peak:
        frame = interp(img0, img1)
    assert peak.host_mb is not None
    note = {
        "seconds": round(time.perf_counter() - started, 1),
        "peak": round(peak.host_mb * 1e6) - before,
        "settings": str(interp.settings),
    }
    torch.save(frame, folder / f"{way}.pt")
    (folder / f"{way}.json").write_text(json.dumps(note))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clips", type=Path)
    parser.add_argument("--size", default="3840x2160")
    parser.add_argument("--only", nargs="*", default=list(WAYS))
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--paint", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.paint:
        return paint(args.clips, args.paint)
    width, height = map(int, args.size.split("x"))
    report: dict[str, object] = {"benchmark": "large_pictures", "size": args.size}
    with tempfile.TemporaryDirectory() as name:
        folder = args.keep or Path(name)
        folder.mkdir(exist_ok=True)
        torch.save(mosaic(args.clips, width, height), folder / "pair.pt")
        for way in args.only:
            command = [sys.executable, __file__, str(folder), "--paint", way]
            subprocess.run(command, check=True)
            note = json.loads((folder / f"{way}.json").read_text())
            asked = {k: v for k, v in WAYS[way].items()}
            estimate = estimate_bytes(
                midflow.load_model().config, (1, 3, height, width), Settings(**asked)
            )
            row = {
                **note,
                "estimate": estimate,
                "bytes a pixel": round(note["peak"] / width / height),
            }
            if way != "whole" and (folder / "whole.pt").exists():
                whole, other = (torch.load(folder / f"{k}.pt") for k in ("whole", way))
                row["psnr to whole"] = round(
                    float(-10 * torch.log10((whole - other).square().mean())), 2
                )
            report[way] = row
            print(way, json.dumps(row), flush=True)
            if args.keep:
                write_image(folder / f"{way}.png", torch.load(folder / f"{way}.pt"), overwrite=True)
    if args.json:
        args.json.write_text(json.dumps(report, indent=2) + "\n")
    return None


if __name__ == "__main__":
    main()
