"""How well scene cuts are found: clips joined by cuts, and what only looks like one.

    python benchmarks/scene_cuts.py CLIPS [--json OUT]

Every sample is a pair of neighbouring frames. Cuts: frames of two clips, of neighbouring pieces of
one film, and of two clips brought to one brightness and contrast. No cuts: neighbouring frames as
they are, cross-fades of 8 and 24 frames from clip to clip, fades from and to black, flashes (a
frame burnt out by a third, two thirds, nine tenths; to plain white), pans by an eighth to a half of
the picture in one frame, and frames four and eight apart.
"""

import argparse
import itertools
import json
import random
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

import midflow
from midflow.scenes import SCENE_CUT_SSIM, is_cut, similarity, thumbnail
from midflow.video.color import to_rgb
from midflow.video.reader import VideoReader

Pair = tuple[Tensor, Tensor]
CUT = ("cuts between clips", "cuts within a film", "cuts at one brightness")
FRAMES = 24
WINDOW = 0.5  # of the width of a frame, seen at once in a pan


def read(path: Path) -> tuple[list[Tensor], list[tuple[float, Pair]]]:
    """Thumbnails of the first frames of a clip, and pans over the first."""
    small: list[Tensor] = []
    pans: list[tuple[float, Pair]] = []
    with VideoReader(path) as reader:
        for frame in itertools.islice(reader, FRAMES):
            rgb = to_rgb(frame, reader.info)
            if not small:
                pans = list(pan(rgb))
            small.append(thumbnail(rgb))
    return small, pans


def pan(rgb: Tensor) -> Iterator[tuple[float, Pair]]:
    """A window moves over a frame by a share of its own width."""
    width = int(WINDOW * rgb.shape[-1])
    first = thumbnail(rgb[..., :width])
    for share in (0.125, 0.25, 0.375, 0.5):
        left = int(share * width)
        yield share, (first, thumbnail(rgb[..., left : left + width]))


def level_like(image: Tensor, other: Tensor) -> Tensor:
    scaled = (image - image.mean()) / image.std().clamp(min=1e-3) * other.std() + other.mean()
    return scaled.clamp(0, 1)


def samples(folder: Path) -> dict[str, list[Pair]]:
    """Pairs of each kind."""
    clips = {path.stem: read(path) for path in sorted(folder.glob("*.mp4"))}
    films = {name: small for name, (small, _) in clips.items()}
    pairs: dict[str, list[Pair]] = {name: [] for name in CUT}
    dice = random.Random(0)
    for (name0, a), (name1, b) in itertools.permutations(films.items(), 2):
        is_film = name0.rpartition("_")[0] == name1.rpartition("_")[0]
        cut = dice.choice(a), dice.choice(b)
        pairs["cuts within a film" if is_film else "cuts between clips"].append(cut)
        if not is_film and dice.random() < 0.3:
            pairs["cuts at one brightness"].append((cut[0], level_like(cut[1], cut[0])))
    pairs["neighbours"] = [p for a in films.values() for p in itertools.pairwise(a)]
    for gap in (4, 8):
        pairs[f"frames {gap} apart"] = [
            p for a in films.values() for p in zip(a, a[gap:], strict=False)
        ]
    for share in (0.125, 0.25, 0.375, 0.5):
        pairs[f"pan by {share:g}"] = [
            p for _, pans in clips.values() for s, p in pans if s == share
        ]
    ring = list(films.values())
    for length in (8, 24):
        pairs[f"cross-fade of {length}"] = [
            p
            for a, b in zip(ring, ring[1:] + ring[:1], strict=True)
            for p in itertools.pairwise(fade(a, b, length))
        ]
    black = [torch.zeros_like(ring[0][0])] * FRAMES
    pairs["fade to black"] = [p for a in ring for p in itertools.pairwise(fade(a, black, 8))]
    pairs["fade from black"] = [p for a in ring for p in itertools.pairwise(fade(black, a, 8))]
    for burn in (0.33, 0.67, 0.9, 1.0):
        pairs[f"flash {burn:g}"] = [
            p
            for a in ring
            for k in (4, 12)
            for lit in [torch.lerp(a[k], torch.ones_like(a[k]), burn)]
            for p in ((a[k - 1], lit), (lit, a[k + 1]))
        ]
    return pairs


def fade(a: list[Tensor], b: list[Tensor], length: int) -> list[Tensor]:
    steps = range(min(length + 1, len(a), len(b)))
    return [torch.lerp(a[k], b[k], k / (len(steps) - 1)) for k in steps]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clips", type=Path)
    parser.add_argument("--threshold", type=float, default=SCENE_CUT_SSIM)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    pairs = samples(args.clips)
    found = {
        kind: [is_cut(*pair, args.threshold) for pair in group] for kind, group in pairs.items()
    }
    cuts = sum(len(found[kind]) for kind in CUT)
    hits = sum(sum(found[kind]) for kind in CUT)
    alarms = sum(sum(group) for kind, group in found.items() if kind not in CUT)
    report = {
        "benchmark": "scene_cuts",
        "midflow": midflow.__version__,
        "clips": "24 held-out clips",
        "threshold": args.threshold,
        "recall": round(hits / cuts, 4),
        "precision": round(hits / (hits + alarms), 4),
        "found as cuts": {
            kind: f"{sum(group)} of {len(group)}"
            + (f", least similarity {least(pairs[kind])}" if kind not in CUT else "")
            for kind, group in found.items()
        },
    }
    print(json.dumps(report, indent=2))
    if args.json:
        args.json.write_text(json.dumps(report, indent=2) + "\n")


def least(group: list[Pair]) -> str:
    return f"{min(similarity(*pair) for pair in group):.2f}"


if __name__ == "__main__":
    main()
