"""How the published test sets lie on disk: a folder in, samples out.

Each function returns the samples of a set in a fixed order, or none where the folder is laid out in
another way. A set counts as found wherever its own top folder, or the folder above, is given.
"""

import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

from midflow.errors import OptionError
from midflow.evaluate.dataset import Picture, Sample
from midflow.evaluate.raw import frame_count
from midflow.video.image import IMAGE_SUFFIXES, natural_sort

XIPH_CLIPS = (
    "BoxingPractice", "Crosswalk", "DrivingPOV", "FoodMarket",
    "FoodMarket2", "RitualDance", "SquareAndTimelapse", "Tango",
)  # fmt: skip
# class of resolution -> files of HD, by the names they were published with
HD_CLIPS = {
    "544p": (
        "Sintel_Alley2_1280x544.yuv", "Sintel_Market5_1280x544.yuv",
        "Sintel_Temple1_1280x544.yuv", "Sintel_Temple2_1280x544.yuv",
    ),
    "720p": ("parkrun_1280x720_50.yuv", "shields_1280x720_60.yuv", "stockholm_1280x720_60.yuv"),
    "1080p": (
        "BlueSky.yuv", "Kimono1_1920x1080_24.yuv", "ParkScene_1920x1080_24.yuv",
        "sunflower_1080p25.yuv",
    ),
}  # fmt: skip
HD_SIZES = {"544p": (1280, 544), "720p": (1280, 720), "1080p": (1920, 1080)}
_HD_FACTOR, _HD_FRAMES = 4, 100
_X4K_STEP, _X4K_FACTOR = 32, 8
_XIPH_LAST = 98


def middlebury(folder: Path) -> list[Sample]:
    """`other-data` and `other-gt-interp` side by side, or all three frames in one folder each."""
    inputs, truths = folder / "other-data", folder / "other-gt-interp"
    if not inputs.is_dir():
        inputs = truths = folder
    return [
        _triplet(
            path.parent.name,
            path.parent / "frame10.png",
            path,
            truths / path.parent.name / "frame10i11.png",
        )
        for path in sorted(inputs.glob("*/frame11.png"))
        if (truths / path.parent.name / "frame10i11.png").is_file()  # some scenes have no truth
    ]


def ucf101(folder: Path) -> list[Sample]:
    """Numbered folders of `frame_00.png`, `frame_01_gt.png`, `frame_02.png`."""
    root = _root(folder, "ucf101_interp_ours")
    return [
        _triplet(path.parent.name, path.parent / "frame_00.png", path.parent / "frame_02.png", path)
        for path in natural_sort(root.glob("*/frame_01_gt.png"))
    ]


def vimeo90k(folder: Path) -> list[Sample]:
    """`tri_testlist.txt` with `target` (test download) or `sequences` (whole set) beside it."""
    for root in (folder, folder / "vimeo_interp_test", folder / "vimeo_triplet"):
        sequences = next((d for d in (root / "target", root / "sequences") if d.is_dir()), None)
        if (root / "tri_testlist.txt").is_file() and sequences is not None:
            names = (root / "tri_testlist.txt").read_text().split()
            return [
                _triplet(name, at / "im1.png", at / "im3.png", at / "im2.png")
                for name in names
                for at in (sequences / name,)
            ]
    return []


def snu_film(folder: Path, level: str) -> list[Sample]:
    """`test-<level>.txt`: three paths a line, first, true middle and last frame.

    The lists name files from where the authors kept them; what counts is the end of each path.
    """
    for root in (folder, folder / "SNU-FILM"):
        listing = next(
            (p for p in (root / f"test-{level}.txt", root / "eval_modes" / f"test-{level}.txt")
             if p.is_file()), None,
        )  # fmt: skip
        if listing is not None:
            lines = [line.split() for line in listing.read_text().splitlines() if line.strip()]
            return [_listed(root, listing, line) for line in lines]
    return []


def xiph(folder: Path) -> list[Sample]:
    """`<Clip>-001.png` to `<Clip>-100.png`; every even frame up to 98 is painted."""
    root = _root(folder, "netflix")

    def frame(clip: str, number: int) -> Path:
        return root / f"{clip}-{number:03d}.png"

    return [
        _triplet(f"{clip}-{k:03d}", frame(clip, k - 1), frame(clip, k + 1), frame(clip, k), clip)
        for clip in XIPH_CLIPS
        if frame(clip, 1).is_file()
        for k in range(2, _XIPH_LAST + 1, 2)
    ]


def x4k1000fps(folder: Path) -> list[Sample]:
    """`Type<n>/<scene>/0000.png` to `0032.png`; the seven frames at eighths are painted."""
    samples = []
    for scene in natural_sort(_root(folder, "test").glob("Type*/*/")):
        paths = natural_sort(scene.glob("*.png"))
        for start in range(0, len(paths) - _X4K_STEP, _X4K_STEP):
            samples.append(
                _spaced(
                    f"{scene.parent.name}/{scene.name}" + (f":{start}" if start else ""),
                    f"{scene.parent.name}/{scene.name}",
                    [Picture(path) for path in paths[start : start + _X4K_STEP + 1]],
                    _X4K_FACTOR,
                )
            )
    return samples


def hd(folder: Path, level: str) -> list[Sample]:
    """Raw 4:2:0 files; of every four frames among the first hundred, three are painted."""
    root = _root(folder, "HD_dataset")
    samples = []
    for name in HD_CLIPS[level]:
        path = next((p for p in (root / f"HD{level}_GT" / name, root / name) if p.is_file()), None)
        frames = 0 if path is None else frame_count(path, *HD_SIZES[level])
        for start in range(0, min(_HD_FRAMES, frames - _HD_FACTOR), _HD_FACTOR):
            assert path is not None
            pictures = [Picture(path, start + step) for step in range(_HD_FACTOR + 1)]
            samples.append(_spaced(f"{path.stem}:{start}", path.stem, pictures, _HD_FACTOR))
    return samples


def atd12k(folder: Path) -> list[Sample]:
    """Folders of `frame1`, `frame2`, `frame3`, PNG or JPEG."""
    root = next(
        (p for name in ("test_2k_540p", "test_2k_original", "datasets/test_2k_540p")
         if (p := folder / name).is_dir()), folder,
    )  # fmt: skip
    samples = []
    for scene in natural_sort(path for path in root.glob("*/") if path.is_dir()):
        found = {path.stem: path for path in scene.iterdir() if path.suffix in IMAGE_SUFFIXES}
        if {"frame1", "frame2", "frame3"} <= found.keys():
            samples.append(_triplet(scene.name, found["frame1"], found["frame3"], found["frame2"]))
    return samples


def missing(samples: list[Sample]) -> Iterator[Path]:
    """Files that samples name and that do not exist."""
    for path in dict.fromkeys(p.path for sample in samples for p in sample.pictures):
        if not path.is_file():
            yield path


def _root(folder: Path, name: str) -> Path:
    return folder / name if (folder / name).is_dir() else folder


def _triplet(name: str, img0: Path, img1: Path, truth: Path, group: str = "") -> Sample:
    return Sample(name, group or name, Picture(img0), Picture(img1), (Picture(truth),))


def _spaced(name: str, group: str, pictures: list[Picture], factor: int) -> Sample:
    """A run of frames whose ends are kept and whose frames at k / factor are the truth."""
    step = (len(pictures) - 1) // factor
    return Sample(
        name,
        group,
        pictures[0],
        pictures[-1],
        tuple(pictures[step * k] for k in range(1, factor)),
        tuple(Fraction(k, factor) for k in range(1, factor)),
    )


def _listed(root: Path, listing: Path, line: list[str]) -> Sample:
    if len(line) != 3:
        raise OptionError(
            f"{listing} must name three frames a line (first, middle, last), got {line}"
        )
    img0, truth, img1 = (_relocate(root, path) for path in line)
    return _triplet("/".join(re.split(r"[/\\]", line[1])[-3:]), img0, img1, truth)


def _relocate(root: Path, listed: str) -> Path:
    """Where a listed file is below `root`: at the longest end of its path that exists."""
    parts = re.split(r"[/\\]", listed)
    ends = [Path(*parts[first:]) for first in range(len(parts)) if parts[first] not in ("", ".")]
    places = [place / end for end in ends for place in (root, root / "test")]
    return next((path for path in places if path.is_file()), root / "test" / ends[-1])
