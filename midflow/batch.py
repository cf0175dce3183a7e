"""Many videos one after another: what is read, where each goes, and one summary at the end."""

import logging
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from midflow.errors import MidflowError, OptionError
from midflow.progress import VideoResult
from midflow.video.output import TargetExistsError

log = logging.getLogger(__name__)

VIDEO_SUFFIXES = frozenset(
    ".3gp .avi .flv .m2ts .m4v .mkv .mov .mp4 .mpeg .mpg .mts .mxf .nut .ogv .ts .webm .wmv"
    " .y4m".split()
)
"""Names that are taken for videos in a folder."""
# what `default_target` adds to a name
_MADE = re.compile(r"(.+?)(\.[\d.]+x)?\.[\d.]+fps")


@dataclass(frozen=True)
class Task:
    """A video to make."""

    source: Path
    target: Path | None
    """The output, a folder for it, or None for one beside the source."""


@dataclass
class Summary:
    """What became of a queue."""

    done: list[VideoResult] = field(default_factory=list)
    skipped: list[Path] = field(default_factory=list)
    """Sources whose outputs were there already."""
    failed: list[tuple[Path, MidflowError]] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """All of it in types that JSON knows."""
        return {
            "done": [result.as_dict() for result in self.done],
            "skipped": [str(path) for path in self.skipped],
            "failed": [{"source": str(path), "error": str(e)} for path, e in self.failed],
        }

    def __str__(self) -> str:
        counts = [(len(self.done), "done"), (len(self.skipped), "there already")]
        counts.append((len(self.failed), "failed"))
        lines = [", ".join(f"{count} {what}" for count, what in counts if count) or "nothing to do"]
        return "\n".join(lines + [f"  {path}: {error}" for path, error in self.failed])


def plan_tasks(
    paths: Sequence[Path], out_dir: Path | None = None, list_file: Path | None = None
) -> list[Task] | Task:
    """What the arguments of `midflow video` ask for.

    Args:
        paths: IN, IN OUT, or several inputs with an existing folder at the end. An input that is a
            folder stands for the videos in it.
        out_dir: where all outputs go; then all paths are inputs.
        list_file: further inputs, one a line, relative to the list's own folder.

    Returns:
        One task where one file is asked for, else a queue.

    Raises:
        OptionError: it is not clear what goes where, or two outputs would have one name.
    """
    inputs = list(paths)
    if out_dir is None and len(inputs) > 1 and (os.path.isdir(inputs[-1]) or list_file is None):
        if len(inputs) == 2 and not os.path.isdir(inputs[0]) and list_file is None:
            return Task(inputs[0], inputs[1])
        out_dir = inputs.pop()
        if not os.path.isdir(out_dir):
            raise OptionError(
                f"several inputs need a folder for their outputs, got {out_dir}: create it, or"
                " give --out-dir FOLDER"
            )
    listed = [] if list_file is None else _read_list(list_file)
    if not inputs and not listed:
        raise OptionError("video needs an input: a clip, a folder of clips, or --list FILE")
    if len(inputs) == 1 and list_file is None and not os.path.isdir(inputs[0]):
        return Task(inputs[0], _made(out_dir))
    sources = [video for path in (*inputs, *listed) for video in _videos(path)]
    _check_names(sources, out_dir)
    return [Task(source, _made(out_dir)) for source in sources]


def run_tasks(
    tasks: Iterable[Task], work: Callable[[Task], VideoResult], *, skip_existing: bool
) -> Summary:
    """Works on one after another; a failure does not end the queue.

    Args:
        tasks: the queue.
        work: makes one video.
        skip_existing: whether an output that exists is no failure.
    """
    summary = Summary()
    for task in tasks:
        try:
            summary.done.append(work(task))
        except OptionError:
            raise  # it concerns them all
        except MidflowError as error:
            if skip_existing and isinstance(error, TargetExistsError):
                summary.skipped.append(task.source)
                continue
            log.error("%s: %s", task.source, error)
            summary.failed.append((task.source, error))
    return summary


def _made(folder: Path | None) -> Path | None:
    if folder is not None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OptionError(f"{folder} cannot be created ({error.strerror})") from error
    return folder


def _read_list(path: Path) -> list[Path]:
    """The paths in a file, one a line; empty lines and those that begin with # mean nothing."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise OptionError(f"the list {path} cannot be read: {error}") from error
    names = [line.strip() for line in lines]
    return [path.parent / name for name in names if name and not name.startswith("#")]


def _videos(path: Path) -> list[Path]:
    """The file itself, or the videos in a folder except those midflow made of others there."""
    if not os.path.isdir(path):
        return [path]
    try:
        items = sorted(path.iterdir())
    except OSError as error:
        raise OptionError(f"the folder {path} cannot be read ({error.strerror})") from error
    found = [
        item
        for item in items
        if item.suffix.lower() in VIDEO_SUFFIXES and not item.name.startswith(".")
    ]
    if not found:
        raise OptionError(f"{path} holds no videos ({' '.join(sorted(VIDEO_SUFFIXES))})")
    stems = {item.stem for item in found}
    made = {item for item in found if (m := _MADE.fullmatch(item.stem)) and m[1] in stems}
    return [item for item in found if item not in made]


def _check_names(sources: Sequence[Path], out_dir: Path | None) -> None:
    if out_dir is None:
        return
    seen: dict[str, Path] = {}
    for source in sources:
        other = seen.setdefault(source.stem, source)
        if other != source:
            raise OptionError(
                f"{other} and {source} would have one output in {out_dir}: rename one, or give"
                " them folders of their own"
            )
