"""A classical guide: flows of real samples, sought with the true frame in hand.

Nobody knows the true flows of film. But at training the frame in between is there, and classical
optical flow from it to either input, kept where it explains what is seen, tells a young network far
more per sample than the difference of pictures does. Like the paper's privileged teacher it sees
the true frame; unlike it, it knows its trade from the first step. Its flows have errors, so its
say should fade out (`LossWeights.fade`).
"""

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from midflow.evaluate.baselines import DenseInverseSearch
from midflow.nets.warp import warp
from midflow.train.batch import Batch, Source

TOLERANCE = 0.05  # mean difference, in units of white, up to which a flow explains a pixel
_AROUND = 5  # side of the square of pixels it is averaged over


class Guided:
    """A source whose samples without known flows get those DIS optical flow finds.

    A pixel counts as visible where the frame, read along the flow, looks like the true frame.

    Args:
        source: of the samples; pictures must be at least 16 pixels wide and high.

    Raises:
        MissingExtraError: OpenCV is not installed.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self._search = DenseInverseSearch()

    def batch(
        self, step: int, size: int, crop: int, *, device: torch.device, rank: int = 0
    ) -> Batch:
        """See `Source`; flow and visibility are always known."""
        batch = self.source.batch(step, size, crop, device=device, rank=rank).with_flow()
        flow, visible, has_flow = batch.flow, batch.visible, batch.has_flow
        assert flow is not None and visible is not None and has_flow is not None
        rows = (~has_flow).nonzero()[:, 0]
        if not len(rows):
            return batch
        flow, visible = flow.clone(), visible.clone()
        truth = batch.truth[rows]
        for frame, img in enumerate((batch.img0[rows], batch.img1[rows])):
            found = self._search.search(truth, img)
            flow[rows, 2 * frame : 2 * frame + 2] = found
            visible[rows, frame] = _explains(found, img, truth)
        return replace(batch, flow=flow, visible=visible, has_flow=torch.ones_like(has_flow))


def _explains(flow: Tensor, img: Tensor, truth: Tensor) -> Tensor:
    """(B, H, W): 1 where `img` read along `flow` looks like the true frame, else 0."""
    error = (warp(img, flow) - truth).abs().mean(1, keepdim=True)
    mean = F.avg_pool2d(error, _AROUND, 1, _AROUND // 2)
    return (mean[:, 0] < TOLERANCE).float()
