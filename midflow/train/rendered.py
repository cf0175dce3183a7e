"""Synthetic scenes rendered ahead into a folder, where painting is slower than training."""

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from midflow.errors import OptionError, VideoError
from midflow.train.augment import Augmentation, augment
from midflow.train.batch import Batch, Source, random_stream

logger = logging.getLogger(__name__)

_PICK, _CHANGE = 41, 42  # random streams
_CHUNK = {"cpu": 16, "cuda": 128}  # scenes rendered and written together
_DESCRIPTION = "rendered.json"
# file, planes of a scene, type: pictures are img0, truth, img1; motion is from img0 to img1 in
# pixels, as seen in the true frame; visible has bit 0 for img0, bit 1 for img1
_FILES: tuple[tuple[str, int, Any], ...] = (
    ("pictures.u8", 9, np.uint8),
    ("motion.f16", 2, np.float16),
    ("visible.u8", 1, np.uint8),
)

RENDERED_AUGMENTATION = Augmentation(scale=0, ramp=0, sharpen=0.1, noise=0)
"""Rendered scenes are seen many times: turned and recoloured, each time otherwise."""


def render_ahead(
    path: Path,
    source: Source,
    count: int,
    crop: int,
    *,
    label: str = "",
    device: torch.device | str = "cpu",
    on_progress: Callable[[int, int], None] | None = None,
) -> None:
    """Renders scenes into a folder of plain files; what is there already is kept and continued.

    A scene takes 14 bytes a pixel: 225 kB at a crop of 128.

    Args:
        path: the folder, made if need be.
        source: gives true flows along straight lines at constant speed, as `Layers` does.
        count: number of scenes.
        crop: their side in pixels.
        label: says what the source is; a folder is only continued under the same label.
        device: where to render.
        on_progress: called with the numbers of scenes written and to be written.

    Raises:
        OptionError: the folder holds scenes of another size or label, or the source has no flows.
        VideoError: the folder cannot be written to, as when the disk is full; what was written
            before stays usable.
    """
    wanted = {"crop": crop, "label": label}
    done, times = 0, list[float]()
    chunk = _CHUNK.get(torch.device(device).type, _CHUNK["cpu"])
    if (path / _DESCRIPTION).exists():
        found = _describe(path)
        if {key: found[key] for key in wanted} != wanted:
            raise OptionError(
                f"{path} holds other scenes ({found['crop']} pixels, {found['label']!r}; wanted "
                f"{crop} pixels, {label!r}): give another folder, or delete it"
            )
        times, done = found["times"], len(found["times"])
    try:
        path.mkdir(parents=True, exist_ok=True)
        while done < count:
            # chunks have one size, so that a continued folder equals one made in one go
            batch = source.batch(done // chunk, chunk, crop, device=torch.device(device))
            _append(path, batch, done)
            times += batch.timestep.tolist()
            _replace(path / _DESCRIPTION, json.dumps({**wanted, "times": times}))
            done += chunk
            if on_progress is not None:
                on_progress(min(done, count), count)
    except OSError as error:
        raise VideoError(
            f"scenes cannot be written to {path}: {error.strerror}; {done} are there and usable"
        ) from error


def _append(path: Path, batch: Batch, done: int) -> None:
    """Writes a batch behind the `done` scenes of each file, over what an interrupted run left."""
    if batch.flow is None or batch.visible is None:
        raise OptionError("scenes to render ahead must have true flows: take Layers as the source")
    pictures = torch.cat((batch.img0, batch.truth, batch.img1), 1)
    planes = (
        pictures.mul(255).round_().to(torch.uint8),
        (batch.flow[:, 2:] - batch.flow[:, :2]).half(),
        (batch.visible[:, :1] + 2 * batch.visible[:, 1:]).to(torch.uint8),
    )
    for (name, _, _), values in zip(_FILES, planes, strict=True):
        data = values.cpu().numpy().tobytes()
        file = path / name
        file.touch()
        with file.open("r+b") as out:
            out.seek(done * (len(data) // len(batch)))
            out.write(data)


def _replace(path: Path, text: str) -> None:
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        partial.write_text(text)
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def _describe(path: Path) -> dict[str, Any]:
    try:
        found = json.loads((path / _DESCRIPTION).read_text())
        return {key: found[key] for key in ("crop", "label", "times")}
    except (OSError, ValueError, KeyError) as error:
        raise OptionError(
            f"{path} holds no rendered scenes: {_DESCRIPTION} is missing or damaged; "
            "render_ahead writes it"
        ) from error


class Rendered:
    """A source of scenes that `render_ahead` has written.

    Args:
        path: the folder.
        augmentation: how they are changed; the scale is not used.
        seed: another seed, another order.
        device: where the scenes are kept; on the CPU they stay in their files until looked at.

    Raises:
        OptionError: there are no rendered scenes.
    """

    def __init__(
        self,
        path: Path,
        *,
        augmentation: Augmentation = RENDERED_AUGMENTATION,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        found = _describe(path)
        self.crop: int = found["crop"]
        self._times = torch.tensor(found["times"], dtype=torch.float32)
        shape = (len(self._times), self.crop, self.crop)
        self._maps = [
            torch.from_numpy(
                np.memmap(path / name, kind, "c", shape=(shape[0], planes, *shape[1:]))
            ).to(device)
            for name, planes, kind in _FILES
        ]
        self.path, self.augmentation, self.seed = path, augmentation, seed

    def __len__(self) -> int:
        return len(self._times)

    def batch(
        self, step: int, size: int, crop: int, *, device: torch.device, rank: int = 0
    ) -> Batch:
        """See `Source`; smaller crops are cut out of the scenes at random places.

        Raises:
            OptionError: the crop is larger than the scenes.
        """
        if crop > self.crop:
            raise OptionError(
                f"the crop of {crop} pixels is larger than the scenes in {self.path}, "
                f"{self.crop}: take a smaller crop, or render larger scenes"
            )
        random = random_stream(self.seed, step, rank, _PICK)
        which = torch.randint(len(self), (size,), generator=random)
        places = torch.randint(self.crop - crop + 1, (size, 2), generator=random)
        pictures, motion, seen = (
            self._cut(values, which, places, crop).to(device) for values in self._maps
        )
        img0, truth, img1 = torch.chunk(pictures.float().div_(255), 3, 1)
        timestep = self._times[which].to(device)
        t, motion = timestep[:, None, None, None], motion.float()
        batch = Batch(
            img0,
            img1,
            truth,
            timestep,
            torch.cat((-t * motion, (1 - t) * motion), 1),
            self._inside(torch.cat((seen & 1, seen >> 1), 1).float(), motion, timestep),
            torch.ones(size, dtype=torch.bool, device=device),
        )
        return augment(batch, self.augmentation, random_stream(self.seed, step, rank, _CHANGE))

    def _cut(self, values: Tensor, which: Tensor, places: Tensor, crop: int) -> Tensor:
        pieces = [
            values[i, :, y : y + crop, x : x + crop]
            for i, (y, x) in zip(which.tolist(), places.tolist(), strict=True)
        ]
        return torch.stack(pieces)

    def _inside(self, visible: Tensor, motion: Tensor, timestep: Tensor) -> Tensor:
        """Nothing outside the crop is visible, even where the whole scene showed it."""
        crop = motion.shape[-1]
        line = torch.arange(crop, device=motion.device, dtype=torch.float32)
        place = torch.stack((line.expand(crop, crop), line[:, None].expand(crop, crop)))
        for frame in (0, 1):
            moved = place + (frame - timestep[:, None, None, None]) * motion
            visible[:, frame] *= ((moved >= 0) & (moved <= crop - 1)).all(1)
        return visible
