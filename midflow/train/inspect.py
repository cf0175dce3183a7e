"""What a folder of clips holds, found out before anyone trains on it: `midflow data check`."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from midflow.errors import VideoError
from midflow.train.footage import Selection, list_clips
from midflow.train.layouts import CLIPS, detect_layout, open_layout
from midflow.train.shots import PictureShot, spread
from midflow.video.color import to_rgb
from midflow.video.image import read_image
from midflow.video.reader import VideoReader

MOST_SHOTS = 200
"""Shots of a data set of pictures that are looked at."""

_EVERY = 12  # frames from one measured pair of neighbours to the next
_REDUCTION = 2  # motion is measured at half size
_REACH = 16  # pixels at half size that are searched
_COARSE = 4  # the search begins at an eighth of the size
_BLOCK = 8  # pixels at half size that are matched together
_PLAIN = 1e-3  # difference between shifts below which a block has nothing to match


@dataclass(frozen=True)
class ClipReport:
    """One row of the report."""

    name: str
    """Path inside the folder."""
    width: int = 0
    """Pixels."""
    height: int = 0
    """Pixels."""
    frame_rate: float = 0.0
    """Frames per second."""
    frames: int = 0
    """Frames that do not repeat the one before."""
    cuts: int = 0
    """Scene changes."""
    duplicates: int = 0
    """Frames that repeat the one before."""
    motion: float = 0.0
    """Median motion between neighbouring frames in pixels, an estimate up to 32."""
    problem: str = ""
    """Why the clip cannot be used as it is; empty for a good one."""


@dataclass(frozen=True)
class FolderReport:
    """What a folder holds."""

    layout: str
    """clips, or the name of a published layout."""
    items: int
    """Clips, or shots of a data set."""
    rows: list[ClipReport]
    """Every clip; of a data set of pictures up to `MOST_SHOTS`, evenly from all."""

    @property
    def usable(self) -> list[ClipReport]:
        """The rows without a problem."""
        return [row for row in self.rows if not row.problem]


def check_folder(
    folder: Path, on_progress: Callable[[int, int], None] | None = None
) -> FolderReport:
    """Decodes what a folder holds and reports what training would find.

    Args:
        folder: of clips, searched with the folders in it, or a data set in its published layout.
        on_progress: called with the numbers of clips looked at and to be looked at.

    Raises:
        OptionError: it has no layout known here.
        VideoError: it is no folder.
    """
    layout = detect_layout(folder)
    if layout == CLIPS:
        paths = list_clips(folder)
        items = len(paths)
        checks = [partial(check_clip, path, str(path.relative_to(folder))) for path in paths]
    else:
        shots = open_layout(layout, folder)
        items = len(shots)
        checks = [partial(check_shot, shot) for shot in spread(shots, MOST_SHOTS)]
    rows = []
    for done, check in enumerate(checks, start=1):
        rows.append(check())
        if on_progress is not None:
            on_progress(done, len(checks))
    return FolderReport(layout, items, rows)


def check_clip(path: Path, name: str | None = None) -> ClipReport:
    """Decodes one clip; what cannot be read is a problem in its row, not an error."""
    name = name or path.name
    try:
        with VideoReader(path) as reader:
            seen = _look((to_rgb(frame, reader.info), float(frame.pts)) for frame in reader)
            rate, damaged = float(reader.info.frame_rate), reader.damaged
    except VideoError as error:
        return ClipReport(name, problem=str(error))
    return _row(name, seen, rate, damaged)


def check_shot(shot: PictureShot) -> ClipReport:
    """Reads the pictures of one shot, likewise; their rate is not known."""
    try:
        seen = _look((read_image(file)[0], float(k)) for k, file in enumerate(shot.files))
    except VideoError as error:
        return ClipReport(shot.name, problem=str(error))
    return _row(shot.name, seen, 0.0, 0)


@dataclass(frozen=True)
class _Seen:
    """What the frames of a clip show."""

    selection: Selection
    motions: list[Tensor]
    sizes: list[tuple[int, int]]
    """Width and height, in the order they come in."""


def _look(frames: Iterable[tuple[Tensor, float]]) -> _Seen:
    """Goes through frames, (1, 3, H, W) in [0, 1] and their seconds."""
    seen = _Seen(Selection(), [], [])
    previous: Tensor | None = None
    for rgb, time in frames:
        if (size := (rgb.shape[3], rgb.shape[2])) not in seen.sizes:
            seen.sizes.append(size)
        if len(seen.sizes) > 1:
            break
        if seen.selection.take(rgb, time) is None:
            continue
        number, is_cut = len(seen.selection.times) - 1, seen.selection.is_first_of_scene
        if number % _EVERY == 1 and previous is not None and not is_cut:
            seen.motions.append(estimate_motion(previous, rgb))
        previous = rgb
    return seen


def _row(name: str, seen: _Seen, rate: float, damaged: int) -> ClipReport:
    frames, cuts = len(seen.selection.times), len(seen.selection.cuts)
    found = torch.cat(seen.motions) if seen.motions else torch.zeros(0)
    duplicates = seen.selection.duplicates
    problem = _problem(frames, duplicates, damaged, cuts)
    if len(seen.sizes) > 1:
        problem = "its pictures are not of one size"
    width, height = seen.sizes[0] if seen.sizes else (0, 0)
    motion = float(found.median()) if len(found) else 0.0
    return ClipReport(name, width, height, rate, frames, cuts, duplicates, motion, problem)


def estimate_motion(rgb0: Tensor, rgb1: Tensor) -> Tensor:
    """Lengths of the motion of the blocks of a frame, by matching them with the next frame.

    Two steps, at an eighth and at half of the size, the second around the first one's median; the
    place of the best match is refined to a fraction of a pixel.

    Args:
        rgb0: (1, 3, H, W).
        rgb1: the next frame.

    Returns:
        One length in pixels for every block with something to match.
    """
    fine0, fine1 = (_grey(rgb, _REDUCTION) for rgb in (rgb0, rgb1))
    coarse0, coarse1 = (_grey(rgb, _REDUCTION * _COARSE) for rgb in (rgb0, rgb1))
    reach = min(_REACH // _COARSE, min(coarse0.shape[-2:]) // 4)
    rough = _match(coarse0, coarse1, torch.zeros(2, dtype=torch.long), reach)
    center = (rough.median(1).values * _COARSE).round().long() if rough.numel() else torch.zeros(2)
    vectors = _match(fine0, fine1, center.long(), 5)
    return torch.hypot(vectors[0], vectors[1]) * _REDUCTION


def _match(grey0: Tensor, grey1: Tensor, center: Tensor, reach: int) -> Tensor:
    """(2, blocks) motions (dx, dy) within `reach` of `center`, of the blocks that can be told."""
    height, width = grey0.shape[-2:]
    side = min(_BLOCK, height, width)
    cx, cy = center.tolist()
    pad = reach + max(abs(cx), abs(cy))
    padded = F.pad(grey1, (pad,) * 4, mode="replicate")
    span = range(-reach, reach + 1)
    costs = []
    for dy in span:
        for dx in span:
            top, left = pad + cy + dy, pad + cx + dx
            difference = (padded[..., top : top + height, left : left + width] - grey0).abs()
            costs.append(F.avg_pool2d(difference, side).flatten())
    cost = torch.stack(costs).view(len(span), len(span), -1)
    flat = cost.flatten(0, 1)
    best = flat.argmin(0)
    is_told = (flat.mean(0) - flat.amin(0)) > _PLAIN
    y, x = best // len(span), best % len(span)
    blocks = torch.arange(cost.shape[-1])
    dx = x - reach + cx + _peak(cost, y, x, blocks, 0, 1)
    dy = y - reach + cy + _peak(cost, y, x, blocks, 1, 0)
    return torch.stack((dx, dy))[:, is_told]


def _peak(cost: Tensor, y: Tensor, x: Tensor, blocks: Tensor, down: int, right: int) -> Tensor:
    """Where between the neighbours the least cost lies: the tip of the V through the three."""
    last = len(cost) - 1
    before = cost[(y - down).clamp(0, last), (x - right).clamp(0, last), blocks]
    after = cost[(y + down).clamp(0, last), (x + right).clamp(0, last), blocks]
    rise = torch.maximum(before, after) - cost[y, x, blocks]
    return ((before - after) / (2 * rise).clamp_min(1e-6)).clamp(-0.5, 0.5)


def _grey(rgb: Tensor, reduction: int) -> Tensor:
    return F.avg_pool2d(rgb.mean(1, keepdim=True), min(reduction, *rgb.shape[-2:]))


def _problem(frames: int, duplicates: int, damaged: int, cuts: int) -> str:
    if damaged:
        return f"damaged: {damaged} packets or frames could not be decoded whole"
    if frames < 3:
        return f"too short: {frames} frames that differ, 3 are required"
    if duplicates > frames:
        return "mostly repeated frames: was its frame rate raised?"
    if frames < 3 * (cuts + 1):
        return "cut too often: no three frames of one scene on average"
    return ""
