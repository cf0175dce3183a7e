"""Painting what `midflow.wires` finds: the background without the wire, the wire upon it."""

import weakref
from collections import deque

import torch
from torch import Tensor

from midflow.nets.prediction import Prediction
from midflow.nets.warp import read_at
from midflow.places import draw, largest, mask_of, read, values_at
from midflow.wires import CONTRAST, Thin, Wires, between_cells, find_thin, find_wires, median_flow

WIRES_WORDS = ("auto", "off")
_NEXT = (0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)  # a pixel before those beside it


class WirePainter:
    """Puts wires into painted frames; what is thin in a frame is found once, for both its pairs."""

    def __init__(self) -> None:
        self._known: deque[tuple[weakref.ref[Tensor], list[Thin]]] = deque(maxlen=2)

    def __call__(
        self, prediction: Prediction, img0: Tensor, img1: Tensor, times: Tensor
    ) -> Prediction:
        """The same with the wires of each pair in its frames.

        Args:
            prediction: of T times.
            img0: (B, 3, H, W) in [0, 1], B being T or 1.
            img1: the later frame.
            times: (T,) in [0, 1], or one for all.
        """
        frames = list(torch.split(prediction.frame, 1))
        flows = torch.split(prediction.flow, 1)
        thin0, thin1 = self._thin(img0), self._thin(img1)
        found: dict[int, Wires | None] = {}
        for k, time in enumerate(times.expand(len(frames)).tolist()):
            one = min(k, len(img0) - 1)
            if one not in found:
                found[one] = find_wires(thin0[one], thin1[one], flows[k], time)
            if (wires := found[one]) is not None:
                pair = img0[one : one + 1], img1[one : one + 1]
                thin = thin0[one], thin1[one]
                frames[k] = paint_wires(frames[k], flows[k], pair, thin, time, wires)
        if all(wires is None for wires in found.values()):
            return prediction
        return prediction._replace(frame=torch.cat(frames))

    def _thin(self, image: Tensor) -> list[Thin]:
        for known, thin in self._known:
            if known() is image:
                return thin
        thin = [find_thin(one) for one in torch.split(image, 1)]
        self._known.append((weakref.ref(image), thin))
        return thin


def paint_wires(
    frame: Tensor,
    flow: Tensor,
    images: tuple[Tensor, Tensor],
    thin: tuple[Thin, Thin],
    time: float,
    wires: Wires,
) -> Tensor:
    """The frame (1, 3, H, W) at `time` with the wires of its pair.

    Args:
        frame: painted by a network.
        flow: (1, 4, H, W) that it was painted by.
        images: both frames, (1, 3, H, W) in [0, 1].
        thin: things of theirs.
        time: in [0, 1].
        wires: from `find_wires`.
    """
    size = frame.shape[-2:]
    there = wires.places + wires.motion
    shown = [largest(mask_of(places, size), 1) for places in (wires.places, there)]
    path = _path(wires, time, size)
    copies = wires.places + time * wires.background, there - (1 - time) * wires.background
    copied = largest(torch.maximum(*(mask_of(places, size) for places in copies)), 1)
    row, column = torch.maximum(path[:, 2:], copied)[0, 0].nonzero(as_tuple=True)
    places = torch.stack((column, row), 1).float()
    still = median_flow(flow)
    motion, is_wire = torch.split(values_at(path, places), [2, 1], 1)
    now, here = values_at(frame, places), (1 - time, time)
    seen, behind, colors, covers = [], [], [], []
    for k, at in enumerate((places - time * motion, places + (1 - time) * motion)):
        to = places + between_cells(still[:, 2 * k : 2 * k + 2], places)
        seen.append(here[k] * (1 - values_at(shown[k], to)))
        behind.append(seen[k] * read_at(images[k], to))
        color, cover = _middle(images[k], thin[k].contrast * shown[k], at)
        colors.append(color)
        covers.append(cover)
    share = seen[0] + seen[1]
    hidden = torch.where(share > 0, (behind[0] + behind[1]) / share.clamp(min=1e-6), now)
    cover = is_wire * torch.lerp(covers[0], covers[1], time)
    painted = torch.lerp(hidden, torch.lerp(colors[0], colors[1], time), cover)
    frame = frame.clone()
    frame[0, :, row, column] = painted.clamp_(0, 1).T
    return frame


def _path(wires: Wires, time: float, size: torch.Size) -> Tensor:
    """(1, 3, H, W): motion of the wire at each pixel at `time`, and 1 where one is, or next to."""
    values = torch.cat((wires.motion, torch.ones_like(wires.motion[:, :1])), 1)
    at = (wires.places + time * wires.motion).round()
    places = torch.cat([at + at.new_tensor(step) for step in _NEXT])
    return draw(places, values.repeat(len(_NEXT), 1), size)[None]


def _middle(image: Tensor, strength: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """Colour (N, 3) of the middle of the wire there, and how much of a place (N, 1) it covers."""
    best, color = places.new_full((len(places), 1), -1), places.new_zeros(len(places), 3)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            at = places + places.new_tensor((dx, dy))
            found = values_at(strength, at)
            color = torch.where(found > best, values_at(image, at), color)
            best = torch.maximum(found, best)
    most = values_at(largest(strength, 2), places)
    return color, (read(strength, places) / most.clamp(min=CONTRAST / 255)).clamp_(0, 1)
