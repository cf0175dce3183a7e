"""Lists of scene cuts in text files, to be read instead of looking for cuts, and written.

One cut a line, named by the first frame of the new scene: a whole number counts frames of the clip
from 0, anything with a point or a colon is a time on the clip's own axis (12.48, 1:02.5,
0:01:02.500). What follows a # is not read, nor are empty lines.
"""

import os
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from midflow.errors import OptionError, VideoError
from midflow.options import parse_time
from midflow.video.frame import ClipInfo


@dataclass(frozen=True)
class CutList:
    """The cuts of a file."""

    times: tuple[Fraction, ...] = ()
    """Seconds on the clip's own time axis."""
    frames: tuple[int, ...] = ()
    """Numbers of frames, the first of the clip being 0."""

    def of(self, info: ClipInfo) -> "Cuts":
        """The cuts of a clip, all as times; frames are counted at its nominal rate."""
        counted = (info.start + frame / info.frame_rate for frame in self.frames)
        return Cuts(tuple(sorted({*self.times, *counted})))


@dataclass(frozen=True)
class Cuts:
    """Times of cuts, in order."""

    times: tuple[Fraction, ...]

    def is_between(self, left: Fraction, right: Fraction) -> bool:
        """Whether a scene begins with the frame at `right`, the one before being at `left`.

        A time belongs to the frame it is nearest to, so that rounded ones do.
        """
        half = (right - left) / 2
        place = bisect_right(self.times, right - half)
        return place < len(self.times) and self.times[place] <= right + half


def read_cuts(path: str | Path) -> CutList:
    """Reads a list of cuts.

    Raises:
        OptionError: the file cannot be read, or a line is neither a time nor a number.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise OptionError(f"the list of cuts {path} cannot be read: {error}") from error
    times, frames = [], []
    for number, line in enumerate(lines, start=1):
        text = line.partition("#")[0].strip()
        if text.isdecimal():
            frames.append(int(text))
        elif text:
            times.append(parse_time(text, f"line {number} of {path}"))
    return CutList(tuple(times), tuple(frames))


def write_cuts(path: str | Path, cuts: Iterable[Fraction]) -> None:
    """Writes a list that `read_cuts` reads; the file is whole or not there.

    Raises:
        VideoError: it cannot be written.
    """
    lines = ["# first frames of scenes, seconds", *(f"{float(cut):.6f}" for cut in cuts)]
    partial = Path(path).with_name(f".{Path(path).name}.part")
    try:
        partial.write_text("\n".join(lines) + "\n", encoding="utf-8")
        os.replace(partial, path)
    except OSError as error:
        raise VideoError(f"the list of cuts {path} cannot be written: {error}") from error
