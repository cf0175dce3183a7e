"""Triplets a run is measured on and never learns from."""

from collections.abc import Sequence
from pathlib import Path

import torch

from midflow.errors import OptionError
from midflow.train.batch import Batch
from midflow.train.footage import decode, list_clips
from midflow.train.layouts import CLIPS, detect_layout, open_layout
from midflow.train.moments import TripletOptions
from midflow.train.shots import FilmShot, Shot, Window, spread

HELD_COUNT = 24
"""Triplets, about as many of each clip."""
HELD_SIDE = 384
"""Side in pixels of the square in the middle of the frames that is looked at."""

_FRAMES = 60  # from the beginning of each clip
_CHOICE = TripletOptions(max_span=2, central_share=1)


def held_triplets(folder: Path, training: Sequence[Path] = ()) -> list[Batch]:
    """Triplets at timestep 0.5 from a folder of clips, or from the test part of a data set.

    Args:
        folder: of the clips or the data set.
        training: clips that must not be among them.

    Raises:
        OptionError: there is no triplet, a clip is one of `training`, or the folder has no layout
            known here.
        VideoError: it cannot be read.
    """
    held: list[Batch] = []
    layout = detect_layout(folder)
    if layout == CLIPS:
        paths = list_clips(folder)
        _require_apart(paths, training)
        chosen = spread(paths, HELD_COUNT)
        for path in chosen:
            held += _triplets(FilmShot(decode(path, _FRAMES), _CHOICE), len(chosen))
    else:
        shots = spread(open_layout(layout, folder, "test"), HELD_COUNT)
        for shot in shots:
            held += _triplets(shot, len(shots))
    if not held:
        raise OptionError(
            f"{folder} holds no three frames of one scene with motion in them: hold out other clips"
        )
    return held


def _triplets(shot: Shot, shots: int) -> list[Batch]:
    """Those of one shot of several, each a batch of one."""
    rows = shot.moments.central_rows
    height, width = shot.size
    side = min(height, width, HELD_SIDE)
    window = Window((height - side) // 2, (width - side) // 2, side)
    held = []
    for row in spread(rows, -(-HELD_COUNT // shots)):
        frames = shot.cut_out(shot.moments.indices[row].tolist(), window).float().div_(255)
        img0, truth, img1 = frames[:, None]
        held.append(Batch(img0, img1, truth, torch.tensor([0.5])))
    return held


def _require_apart(held: Sequence[Path], training: Sequence[Path]) -> None:
    both = {path.resolve() for path in held} & {path.resolve() for path in training}
    if both:
        raise OptionError(
            f"{min(both)} is both held out and to be learnt from: give other clips to one of them"
        )
