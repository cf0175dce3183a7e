"""What `--dedup` is worth: clips on twos and threes, against the frames that were dropped.

    python benchmarks/repeats.py CLIPS [--clips 6] [--frames 9] [--json OUT]

Of each clip every second (third) frame is shown two (three) times, encoded by x264 at CRF 18, and
the whole brought back to its own rate by `interpolate_video` with and without `dedup`. PSNR of the
frames that had been dropped, in whole 8-bit levels.
"""

import argparse
import json
import tempfile
from itertools import islice
from pathlib import Path

import numpy as np

import midflow
from midflow.options import VideoOptions
from midflow.pipeline import interpolate_video
from midflow.video.encoders import WriterOptions
from midflow.video.frame import Frame
from midflow.video.reader import VideoReader
from midflow.video.writer import VideoWriter


def plant(source: Path, target: Path, hold: int, count: int) -> list[Frame]:
    """Writes `count` frames, each replaced by the one before it that is a multiple of `hold`."""
    with VideoReader(source) as reader:
        frames, info = list(islice(reader, count)), reader.info
    options = WriterOptions(crf=18, overwrite=True)
    with VideoWriter(
        target,
        None,
        info.width,
        info.height,
        info.frame_rate,
        info.color,
        info.pixel_format,
        options,
    ) as writer:
        for k in range(len(frames)):
            writer.write(frames[k - k % hold].data, k / info.frame_rate)
    return frames


def psnr(frame: Frame, truth: Frame) -> float:
    """Of luma."""
    error = np.square(frame.data[0].astype(float) - truth.data[0]).mean()
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


def run(source: Path, folder: Path, hold: int, count: int, model: object) -> dict[str, float]:
    planted = folder / "planted.mkv"
    truth = plant(source, planted, hold, count)
    scores = {}
    for dedup in (False, True):
        options = VideoOptions(codec="ffv1", device="cpu", dedup=dedup, overwrite=True)
        out = folder / "out.mkv"
        interpolate_video(planted, out, factor=1, model=model, options=options)
        with VideoReader(out) as reader:
            painted = list(reader)
        assert len(painted) == len(truth)
        last = (count - 1) // hold * hold  # nothing comes after its run
        dropped = [k for k in range(last) if k % hold]
        scores["dedup" if dedup else "off"] = float(
            np.mean([psnr(painted[k], truth[k]) for k in dropped])
        )
    return scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clips", type=Path)
    parser.add_argument("--clips", dest="most", type=int, default=6)
    parser.add_argument("--frames", type=int, default=10)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    model = midflow.load_model()
    paths = sorted(args.clips.glob("*.mp4"))
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        for path in paths[:: max(1, len(paths) // args.most)][: args.most]:
            for name, hold in (("twos", 2), ("threes", 3)):
                rows[f"{path.stem} on {name}"] = run(path, Path(folder), hold, args.frames, model)
                print(path.stem, name, rows[f"{path.stem} on {name}"], flush=True)
    report = {
        "benchmark": "repeats",
        "midflow": midflow.__version__,
        "clips": args.most,
        "frames": args.frames,
        "psnr of luma": {
            name: {
                key: round(np.mean([row[key] for k, row in rows.items() if k.endswith(name)]), 2)
                for key in ("off", "dedup")
            }
            for name in ("twos", "threes")
        },
    }
    print(json.dumps(report, indent=2))
    if args.json:
        args.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
