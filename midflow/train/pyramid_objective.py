"""The losses of a `PyramidNet`, each level compared at its own size: a third of the work."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from midflow.nets.prediction import Encoded, Level
from midflow.nets.pyramid import Estimate, PyramidNet, blend
from midflow.train.batch import Batch
from midflow.train.config import LossWeights
from midflow.train.losses import (
    census_loss,
    charbonnier_loss,
    decayed_sum,
    flow_loss,
    full_laplacian_loss,
    mask_loss,
)


def pyramid_losses(
    net: PyramidNet, batch: Batch, weights: LossWeights, autocast: torch.autocast
) -> tuple[dict[str, Tensor], Tensor]:
    """Runs the network on a batch and compares what every level found.

    Args:
        net: in training.
        batch: crops that suit the network and the Laplacian loss.
        weights: losses of weight 0 are left out.
        autocast: the network runs under it.

    Returns:
        Losses by name, scalars; the final frame (B, 3, H, W) float32.
    """
    with autocast:
        enc0, enc1 = encode_pair(net, batch)
        estimates, full = net.estimates(enc0, enc1, batch.timestep)
    frame = net.render(enc0, enc1, full).frame
    losses = {}
    if weights.charbonnier:
        truths = _pyramid(batch.truth, estimates)
        terms = [
            _level_charbonnier(*parts)
            for parts in zip(estimates, enc0.features, enc1.features, truths, strict=True)
        ]
        terms.append(charbonnier_loss(frame, batch.truth))
        losses["charbonnier"] = decayed_sum(terms, weights.level_decay)
    if weights.laplacian:
        losses["laplacian"] = full_laplacian_loss(frame, batch.truth)
    if weights.census:
        losses["census"] = census_loss(frame, batch.truth)
    return losses | _motion_losses(estimates, full, batch, weights), frame


def encode_pair(net: PyramidNet, batch: Batch) -> tuple[Encoded, Encoded]:
    """Both frames of a batch, encoded in one go."""
    both = net.encode_frame(torch.cat((batch.img0, batch.img1)))
    views = [view.chunk(2) for view in both.features]
    return (
        Encoded(batch.img0, tuple(view[0] for view in views)),
        Encoded(batch.img1, tuple(view[1] for view in views)),
    )


def _level_charbonnier(estimate: Estimate, view0: Tensor, view1: Tensor, truth: Tensor) -> Tensor:
    """The blend of a level's pictures along its flow against the true frame at that size."""
    pictures = view0[:, :3], view1[:, :3]
    return charbonnier_loss(blend(*pictures, estimate.flow, estimate.logit.sigmoid()), truth)


def _motion_losses(
    estimates: Sequence[Estimate], full: Level, batch: Batch, weights: LossWeights
) -> dict[str, Tensor]:
    losses = {}
    if weights.motion:
        losses["motion"] = full.flow.abs().mean()
    if batch.flow is None or batch.visible is None or batch.has_flow is None:
        return losses
    known = batch.visible * batch.has_flow[:, None, None, None]
    if weights.flow:
        flows, knowns = _pyramid(batch.flow, estimates), _pyramid(known, estimates)
        terms = [
            flow_loss(estimate.flow * estimate.scale, flow, seen, weights.flow_exponent)
            for estimate, flow, seen in zip(estimates, flows, knowns, strict=True)
        ]
        terms.append(flow_loss(full.flow, batch.flow, known, weights.flow_exponent))
        losses["flow"] = decayed_sum(terms, weights.level_decay)
    if weights.mask:
        losses["mask"] = mask_loss(full.logit, batch.visible, batch.has_flow)
    return losses


def _pyramid(x: Tensor, estimates: Sequence[Estimate]) -> list[Tensor]:
    """Means of (B, C, H, W) at the size of each estimate."""
    levels = [F.avg_pool2d(x, estimates[-1].scale)]
    for _ in estimates[1:]:
        levels.append(F.avg_pool2d(levels[-1], 2))
    return levels[::-1]
