"""Published data sets of triplets, read from the folders their authors distribute.

Each function lists the shots of one layout, for `Shots(vimeo_triplet(folder), workers=4)`. Pictures
are read when they are needed.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from midflow.errors import OptionError, VideoError
from midflow.train.footage import CLIP_SUFFIXES
from midflow.train.moments import Moments, TripletOptions, find_moments
from midflow.train.shots import PictureShot
from midflow.video.image import IMAGE_SUFFIXES, natural_sort

SPLITS = ("train", "test")
LEVELS = ("easy", "medium", "hard", "extreme")
CLIPS = "clips"
"""The layout of folders of video files."""
X4K_SPAN = 32  # frames at 1000 a second; the paper trains with at most this distance

_SHOWN = 6  # entries of a wrong folder that a message lists


def vimeo_triplet(folder: Path, split: str = "train") -> list[PictureShot]:
    """Vimeo90K triplets (Xue et al., 2019): tri_trainlist.txt, sequences/00001/0001/im1.png to 3.

    Raises:
        OptionError: the folder has another layout, or the split is unknown.
    """
    return _vimeo(folder, "Vimeo90K triplets", f"tri_{_split(split)}list.txt", 3)


def vimeo_septuplet(folder: Path, split: str = "train") -> list[PictureShot]:
    """Vimeo90K septuplets: sep_trainlist.txt, sequences/00001/0001/im1.png to im7.png.

    Raises:
        OptionError: the folder has another layout, or the split is unknown.
    """
    return _vimeo(folder, "Vimeo90K septuplets", f"sep_{_split(split)}list.txt", 7)


def x4k1000fps(folder: Path, split: str = "train") -> list[PictureShot]:
    """X4K1000FPS (Sim et al., 2021): train/002/occ008.320/0000.png to 0064.png (test: 0032.png).

    Raises:
        OptionError: the folder has another layout, or the split is unknown.
    """
    layout = f"X4K1000FPS: {_split(split)}/<scene>/<clip>/0000.png, 0001.png, ..."
    root = _first_folder(folder, layout, [split])
    shots = []
    for clip in _sorted_folders(root.glob("*/*")):
        files = _pictures(clip)
        if len(files) >= 3:
            moments = _even_moments(len(files), X4K_SPAN)
            shots.append(PictureShot(f"{clip.parent.name}/{clip.name}", files, moments))
    return _checked(shots, folder, layout)


def atd12k(folder: Path, split: str = "train") -> list[PictureShot]:
    """ATD-12K (Li et al., 2021): train_10k/<name>/frame1.jpg to frame3.jpg, or test_2k_540p/.

    Raises:
        OptionError: the folder has another layout, or the split is unknown.
    """
    names = {"train": ["train_10k"], "test": ["test_2k_540p", "test_2k_original"]}[_split(split)]
    layout = f"ATD-12K: {' or '.join(names)}/<name>/frame1.jpg, frame2.jpg, frame3.jpg"
    return _triplets_in(_first_folder(folder, layout, names), folder, layout, "frame")


def snu_film(folder: Path, level: str = "hard") -> list[PictureShot]:
    """SNU-FILM (Choi et al., 2020): test-hard.txt, or eval_modes/test-hard.txt, and test/.

    Every line of a list names three pictures; the folders its paths begin with may be missing here.

    Raises:
        OptionError: the folder has another layout, or the level is unknown.
    """
    if level not in LEVELS:
        raise OptionError(f"level must be one of {', '.join(LEVELS)}, got {level!r}")
    layout = (
        f"SNU-FILM: test-{level}.txt or eval_modes/test-{level}.txt, lines of three paths; test/"
    )
    lists = [folder / f"test-{level}.txt", folder / "eval_modes" / f"test-{level}.txt"]
    return listed_triplets(next((p for p in lists if p.is_file()), lists[0]), folder, layout)


def listed_triplets(file: Path, folder: Path, layout: str = "") -> list[PictureShot]:
    """Triplets from a text file: three paths a line, as they are or from `folder`.

    Raises:
        OptionError: the file is missing or empty, a line has not three paths, or a picture of the
            first line is not found.
    """
    layout = layout or "a list of triplets: a text file with three paths a line"
    if not file.is_file():
        raise _wrong(folder, layout)
    moments, skip = _even_moments(3), 0
    shots: list[PictureShot] = []
    for number, line in enumerate(file.read_text().splitlines(), start=1):
        names = line.split()
        if not names:
            continue
        if len(names) != 3:
            raise OptionError(f"{file}, line {number}: three paths are required, got {len(names)}")
        # all lines lack the same folders: only the first is looked up
        if not shots:
            skip = _missing_parts(names[0], folder, file)
        files = tuple(folder.joinpath(*Path(name).parts[skip:]) for name in names)
        shots.append(PictureShot(names[1], files, moments))
    return _checked(shots, folder, layout)


def triplet_folders(folder: Path) -> list[PictureShot]:
    """Folders of three pictures each, in natural order, at any depth.

    Raises:
        OptionError: there is no such folder.
    """
    return _triplets_in(folder, folder, "triplets: <any folder>/ with three pictures in each", "")


LAYOUTS: dict[str, Callable[..., list[PictureShot]]] = {
    "vimeo_triplet": vimeo_triplet,
    "vimeo_septuplet": vimeo_septuplet,
    "x4k1000fps": x4k1000fps,
    "atd12k": atd12k,
    "snu_film": snu_film,
    "triplets": triplet_folders,
}
"""The layouts by name."""
_HAS_SPLIT = ("vimeo_triplet", "vimeo_septuplet", "x4k1000fps", "atd12k")
_MARKS = {
    "vimeo_triplet": ("tri_trainlist.txt", "tri_testlist.txt"),
    "vimeo_septuplet": ("sep_trainlist.txt", "sep_testlist.txt"),
    "x4k1000fps": ("train/*/*/0000.png", "test/*/*/0000.png"),
    "atd12k": ("train_10k", "test_2k_540p", "test_2k_original"),
    "snu_film": ("test-hard.txt", "eval_modes/test-hard.txt"),
}
"""Files and folders that tell a layout."""


def detect_layout(folder: Path) -> str:
    """The layout of a folder: one of `LAYOUTS`, or "clips" where there are video files.

    Raises:
        OptionError: it has none of them.
        VideoError: it is no folder.
    """
    for name, marks in _MARKS.items():
        if any(next(folder.glob(mark), None) for mark in marks):
            return name
    if any(path.suffix.lower() in CLIP_SUFFIXES for path in folder.rglob("*")):
        return CLIPS
    known = ", ".join(f"{name} ({marks[0]})" for name, marks in _MARKS.items())
    layout = f"clips ({', '.join(CLIP_SUFFIXES)}), {known} or triplets (three pictures a folder)"
    if any(len(_pictures(place)) == 3 for place in _sorted_folders((folder, *folder.rglob("*")))):
        return "triplets"
    raise _wrong(folder, layout)


def open_layout(name: str, folder: Path, split: str = "train") -> list[PictureShot]:
    """The shots of a data set by the name of its layout.

    Args:
        name: one of `LAYOUTS`.
        folder: of the data set.
        split: "train" or "test", where the layout has both.

    Raises:
        OptionError: the name is unknown, or the folder has another layout.
    """
    if name not in LAYOUTS:
        raise OptionError(f"layout must be one of {', '.join(LAYOUTS)}, got {name!r}")
    return LAYOUTS[name](folder, split) if name in _HAS_SPLIT else LAYOUTS[name](folder)


def _vimeo(folder: Path, title: str, list_name: str, length: int) -> list[PictureShot]:
    layout = f"{title}: {list_name}; sequences/00001/0001/im1.png to im{length}.png"
    file = folder / list_name
    if not file.is_file() or not (folder / "sequences").is_dir():
        raise _wrong(folder, layout)
    moments = _even_moments(length)
    shots = []
    for name in file.read_text().split():
        place = folder / "sequences" / name
        files = tuple(place / f"im{k}.png" for k in range(1, length + 1))
        shots.append(PictureShot(name, files, moments))
    if shots and not shots[0].files[0].is_file():
        raise _wrong(folder, layout, f"{shots[0].files[0]}, the first in the list, is missing")
    return _checked(shots, folder, layout)


def _triplets_in(root: Path, folder: Path, layout: str, prefix: str) -> list[PictureShot]:
    moments = _even_moments(3)
    shots = []
    for place in _sorted_folders((root, *root.rglob("*"))):
        files = tuple(file for file in _pictures(place) if file.name.startswith(prefix))
        if len(files) == 3:
            name = place.name if place == root else str(place.relative_to(root))
            shots.append(PictureShot(name, files, moments))
    return _checked(shots, folder, layout)


def _even_moments(length: int, span: int | None = None) -> Moments:
    options = TripletOptions(max_span=span or max(2, length - 1), max_seconds=math.inf)
    return find_moments(np.arange(length, dtype=np.float64), [range(length)], options)


def _split(name: str) -> str:
    if name not in SPLITS:
        raise OptionError(f"split must be one of {', '.join(SPLITS)}, got {name!r}")
    return name


def _first_folder(folder: Path, layout: str, names: Sequence[str]) -> Path:
    for name in names:
        if (folder / name).is_dir():
            return folder / name
    raise _wrong(folder, layout)


def _sorted_folders(paths: Iterable[Path]) -> list[Path]:
    return sorted(path for path in paths if path.is_dir())


def _pictures(folder: Path) -> tuple[Path, ...]:
    return tuple(
        natural_sort(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    )


def _missing_parts(name: str, folder: Path, file: Path) -> int:
    """How many leading folders of `name` are to be left out to find it in `folder`."""
    parts = Path(name).parts
    for skip in range(len(parts)):
        if folder.joinpath(*parts[skip:]).is_file():
            return skip
    raise OptionError(f"{name}, the first picture in {file}, is not found in {folder}")


def _checked(shots: list[PictureShot], folder: Path, layout: str) -> list[PictureShot]:
    if not shots:
        raise _wrong(folder, layout)
    return shots


def _wrong(folder: Path, layout: str, reason: str = "") -> OptionError:
    """The error that says which layout was expected and what is there instead."""
    try:
        entries = sorted(path.name for path in folder.iterdir())
    except OSError as error:
        raise VideoError(f"{folder} cannot be read as a folder: {error.strerror}") from error
    shown = ", ".join(entries[:_SHOWN]) + (", ..." if len(entries) > _SHOWN else "")
    found = reason or f"it holds {shown or 'nothing'}"
    return OptionError(f"{folder} has not the layout of {layout} ({found})")
