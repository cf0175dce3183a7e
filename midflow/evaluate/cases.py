"""The worst frames of an evaluation as pictures: input, truth, and each method's output beside it.

Every case has two views: the whole frame, and the window where the first method errs most.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from midflow.evaluate.dataset import Dataset, Frames, to_levels
from midflow.evaluate.evaluation import Evaluation, Method, Row, paint
from midflow.evaluate.scores import METRICS
from midflow.flow_picture import flow_to_rgb

# Mean error of a pixel over its channels, in levels, that is drawn white.
ERROR_WHITE = 64
_HEAT = ((0.0, 0.0, 0.0), (0.55, 0.0, 0.2), (1.0, 0.35, 0.0), (1.0, 0.85, 0.2), (1.0, 1.0, 1.0))
_DETAIL = 5  # the window is this part of the frame's sides


@dataclass(frozen=True)
class Painted:
    """What a method made of a case, (1, 3, H, W) each."""

    name: str
    scores: dict[str, float]
    output: Tensor
    error: Tensor
    """`heat` of the error."""
    flow: Tensor | None
    """Colours of the motion from time t to frame 1; None for a method without flow."""


@dataclass(frozen=True)
class Case:
    """One painted frame of a dataset, by every method."""

    name: str
    timestep: str
    img0: Tensor
    img1: Tensor
    truth: Tensor
    painted: tuple[Painted, ...]
    window: tuple[int, int, int, int]
    """Top, left, height, width of where the first method errs most."""

    def detail(self, image: Tensor) -> Tensor:
        """The window of a picture, (1, 3, h, w)."""
        top, left, height, width = self.window
        return image[..., top : top + height, left : left + width]


def find_worst(
    evaluation: Evaluation,
    methods: Mapping[str, Method],
    dataset: Dataset,
    count: int = 4,
) -> list[Case]:
    """The frames that the first method paints worst by the first metric, one of each clip or scene.

    They are painted again, so that an evaluation need not keep pictures.

    Raises:
        VideoError: a frame cannot be read any more.
    """
    first, metric = next(iter(methods)), evaluation.metrics[0]
    rows = [row for row in evaluation.rows if row.method == first]
    rows.sort(key=lambda row: row.scores[metric], reverse=not METRICS[metric].is_higher_better)
    worst: dict[str, Row] = {}
    for row in rows:
        worst.setdefault(row.group, row)
    chosen = list(worst.values())[:count]
    return [_case(row, evaluation, methods, dataset) for row in chosen]


def heat(prediction: Tensor, truth: Tensor) -> Tensor:
    """Error as colour, (1, 3, H, W): black for none, by red and yellow to white at ERROR_WHITE."""
    error = (to_levels(prediction) - truth).abs().mean(1)[0] * 255 / ERROR_WHITE
    colors = torch.tensor(_HEAT)
    place = error.clamp(0, 1) * (len(colors) - 1)
    below = place.floor().long().clamp(max=len(colors) - 2)
    mixed = torch.lerp(colors[below], colors[below + 1], (place - below)[..., None])
    return mixed.permute(2, 0, 1)[None]


def _case(
    row: Row, evaluation: Evaluation, methods: Mapping[str, Method], dataset: Dataset
) -> Case:
    sample = next(sample for sample in dataset if sample.name == row.sample)
    index = sample.timesteps.index(row.timestep)
    frames = dataset.load(sample)
    truth = frames.truths[index]
    scores = {
        other.method: other.scores
        for other in evaluation.rows
        if (other.sample, other.timestep) == (row.sample, row.timestep)
    }
    flows = {name: _flow(method, frames, row) for name, method in methods.items()}
    longest = max((float(f.norm(dim=1).max()) for f in flows.values() if f is not None), default=0)
    painted = []
    for name, method in methods.items():
        output = paint(method, frames, (row.timestep,))[0].clamp(0, 1)
        flow = flows[name]
        colors = None if flow is None else flow_to_rgb(flow, longest or None)
        painted.append(Painted(name, scores[name], output, heat(output, truth), colors))
    window = _find_window((painted[0].output - truth).abs().mean(1, keepdim=True))
    return Case(
        sample.name, str(row.timestep), frames.img0, frames.img1, truth, tuple(painted), window
    )


def _flow(method: Any, frames: Frames, row: Row) -> Tensor | None:
    """Motion from time t to frame 1, (1, 2, H, W), of a method that has any at that time."""
    if not hasattr(method, "flow") or not (
        getattr(method, "has_timestep", True) or row.timestep * 2 == 1
    ):
        return None
    with torch.inference_mode():
        flow, _ = method.flow(frames.img0, frames.img1, float(row.timestep))
    return flow[:, 2:].float().cpu()  # type: ignore[no-any-return]


def _find_window(error: Tensor) -> tuple[int, int, int, int]:
    """Where a window of a frame's proportions holds the greatest sum of (1, 1, H, W)."""
    height, width = (max(1, side // _DETAIL) for side in error.shape[-2:])
    sums = F.avg_pool2d(error.double(), (height, width), stride=1)
    top, left = divmod(int(sums.argmax()), sums.shape[-1])
    return top, left, height, width
