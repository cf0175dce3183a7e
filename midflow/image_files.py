"""Files of pictures: which ones a folder holds, what output is called, what must not be touched."""

import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path

from midflow.errors import OptionError, VideoError
from midflow.video.image import IMAGE_SUFFIXES, natural_sort

logger = logging.getLogger(__name__)

StrPath = str | os.PathLike[str]

_NUMBER = re.compile(r"%(0?\d*)d")


def output_paths(
    out: StrPath, count: int, suffix: str, *, is_folder: bool | None = None
) -> list[Path]:
    """Names of `count` output pictures.

    `out` may be a picture's name: out.png for one, out_1.png to out_7.png for several (zeros keep
    them in order: out_01.png to out_12.png); a name with a number's place: shot_%04d.png; or a
    folder, which is any name without an extension and any folder that exists: 00000001.png, ...,
    with `suffix`, or .png where that is no picture's.

    Raises:
        OptionError: the name has the extension of something else.
    """
    path = Path(out)
    if is_folder is None:
        is_folder = path.is_dir() or not path.suffix
    if is_folder:
        suffix = suffix.lower() if suffix.lower() in IMAGE_SUFFIXES else ".png"
        return [path / f"{k:08d}{suffix}" for k in range(1, count + 1)]
    require_picture_name(path)
    if _NUMBER.search(path.name):
        return [path.with_name(_numbered(path.name, k)) for k in range(1, count + 1)]
    if count == 1:
        return [path]
    width = len(str(count))
    return [path.with_stem(f"{path.stem}_{k:0{width}d}") for k in range(1, count + 1)]


def _numbered(pattern: str, number: int) -> str:
    return _NUMBER.sub(lambda found: f"{number:{found[1]}d}", pattern)


def list_pictures(folder: Path) -> list[Path]:
    """The pictures a folder holds, in natural order; hidden files are left out.

    Raises:
        VideoError: it is no folder, or holds none.
    """
    if not folder.is_dir():
        raise VideoError(f"{folder} is not a folder: give one that holds pictures, or two pictures")
    files = [path for path in folder.iterdir() if _is_picture_name(path) and path.is_file()]
    if not files:
        raise VideoError(f"{folder} holds no pictures ({', '.join(IMAGE_SUFFIXES)})")
    return natural_sort(files)


def _is_picture_name(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def make_folder(folder: Path) -> None:
    """Makes a folder and those above it, where they are missing.

    Raises:
        VideoError: that is not possible.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise VideoError(f"{folder} cannot be made ({error.strerror}): choose another") from error


def require_picture_name(path: Path) -> None:
    """Raises OptionError unless the name is that of a picture midflow can write."""
    if not _is_picture_name(path):
        choices = ", ".join(IMAGE_SUFFIXES)
        raise OptionError(f"the name of a picture must end in {choices}, got {path.name!r}")


def require_free(paths: Sequence[Path], inputs: Sequence[Path], overwrite: bool) -> None:
    """Raises VideoError where a file to be written is an input, or is there and must stay."""
    for path in paths:
        if not path.exists():
            continue
        if any(source.exists() and os.path.samefile(path, source) for source in inputs):
            raise VideoError(f"{path} is an input itself: give the output another name")
        if not overwrite:
            raise VideoError(f"{path} exists already: give another name, or allow overwriting")


def require_unused(folder: Path, paths: set[Path], overwrite: bool) -> None:
    """Raises VideoError where a folder holds pictures already, unless that is allowed."""
    if folder.exists() and not folder.is_dir():
        raise VideoError(f"{folder} is a file: give a folder for the output")
    there = [p for p in folder.iterdir() if _is_picture_name(p)] if folder.exists() else []
    if there and not overwrite:
        raise VideoError(
            f"{folder} holds {len(there)} pictures already: give another folder, "
            "or allow overwriting"
        )
    stay = [path.name for path in there if path not in paths]
    if stay:
        logger.warning("%s keeps %d other pictures, such as %s", folder, len(stay), min(stay))
