"""What a training step minimises: the losses by name, and their weighted sum.

`Objective` runs the network on a batch and returns one number to descend, with its parts. The
network runs under autocast; flows, warps and losses are float32. Every loss is a mean over all
pixels of the batch, so the mean over processes is the loss of their samples together.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from midflow.nets.ifnet import IFNet
from midflow.nets.prediction import Level, Prediction
from midflow.nets.pyramid import PyramidNet
from midflow.train.batch import Batch
from midflow.train.config import LossWeights, TrainableNet, TrainConfig
from midflow.train.losses import (
    census_loss,
    charbonnier_loss,
    decayed_sum,
    distillation_loss,
    flow_loss,
    full_laplacian_loss,
    mask_loss,
)
from midflow.train.pyramid_objective import pyramid_losses
from midflow.train.teacher import Distillation


class Outcome(NamedTuple):
    """One batch seen through the objective."""

    loss: Tensor
    """Weighted sum, a scalar with gradient."""
    parts: dict[str, Tensor]
    """Each loss before its weight, detached scalars by name."""
    squared_error: Tensor
    """Mean squared error of the final frame, a detached scalar."""


class Objective(nn.Module):
    """The network and its losses in one forward call, as DistributedDataParallel needs it.

    Args:
        network: the network in training.
        config: of the run.
    """

    def __init__(self, network: TrainableNet, config: TrainConfig) -> None:
        super().__init__()
        self.network = network
        self.config = config
        if isinstance(network, PyramidNet):
            self._measure = self._pyramid
        else:
            self._measure = self._paper if config.objective == "paper" else self._deep
        if config.compile:
            self._measure = torch.compile(self._measure)

    def forward(self, batch: Batch, fading: Tensor, encoder: nn.Module | None = None) -> Outcome:
        """Compares the network with the truth.

        Args:
            batch: crops of a size that suits the network and the Laplacian loss.
            fading: scalar in [0, 1], factor of the flow loss.
            encoder: frozen; its features are compared where `LossWeights.features` counts.
        """
        losses, frame = self._measure(batch, encoder)
        weights = _weights(self.config.losses, self.config.objective == "paper")
        fade = {"flow": fading}
        terms = [weights[name] * fade.get(name, 1.0) * loss for name, loss in losses.items()]
        error = (frame.detach().float() - batch.truth).square().mean()
        parts = {name: loss.detach() for name, loss in losses.items()}
        return Outcome(torch.stack(terms).sum(), parts, error)

    def _autocast(self, like: Tensor) -> torch.autocast:
        is_half = self.config.precision == "bfloat16"
        return torch.autocast(like.device.type, torch.bfloat16, enabled=is_half)

    def _pyramid(self, batch: Batch, encoder: nn.Module | None) -> tuple[dict[str, Tensor], Tensor]:
        assert isinstance(self.network, PyramidNet)
        losses, frame = pyramid_losses(
            self.network, batch, self.config.losses, self._autocast(batch.img0)
        )
        if encoder is not None:
            with self._autocast(batch.img0):
                losses["features"] = feature_loss(encoder, frame, batch.truth)
        return losses, frame

    def _paper(self, batch: Batch, encoder: nn.Module | None) -> tuple[dict[str, Tensor], Tensor]:
        assert isinstance(self.network, IFNet)
        with self._autocast(batch.img0):
            time = batch.timestep if self.network.config.has_timestep else 0.5
            lesson = Distillation(self.network)(batch.img0, batch.img1, batch.truth, time)
        losses = {
            "laplacian": lesson.loss_student,
            "teacher": lesson.loss_teacher,
            "distill": lesson.loss_distill,
        }
        return losses, lesson.student.frame

    def _deep(self, batch: Batch, encoder: nn.Module | None) -> tuple[dict[str, Tensor], Tensor]:
        net, weights = self.network, self.config.losses
        assert isinstance(net, IFNet)
        with self._autocast(batch.img0):
            enc0, enc1 = net.encode_frame(batch.img0), net.encode_frame(batch.img1)
            levels = net.levels(enc0, enc1, batch.timestep)
        blends = [net.render(enc0, enc1, level, refine=False).frame for level in levels]
        frame = blends[-1]
        if net.config.refine:
            with self._autocast(batch.img0):
                frame = net.render(enc0, enc1, levels[-1]).frame.float()
            blends.append(frame)
        losses = picture_losses(blends, batch.truth, weights)
        losses |= motion_losses(levels, batch, weights)
        if encoder is not None:
            with self._autocast(batch.img0):
                losses["features"] = feature_loss(encoder, frame, batch.truth)
        if net.config.teacher:
            with self._autocast(batch.img0):
                taught = net.teach(enc0, enc1, batch.timestep, levels[-1], batch.truth)
            teacher = net.render(enc0, enc1, taught, refine=False)
            losses |= teacher_losses(levels, blends, teacher, batch.truth)
        return losses, frame


def picture_losses(
    blends: Sequence[Tensor], truth: Tensor, weights: LossWeights
) -> dict[str, Tensor]:
    """What compares pictures: every level's blend, and more closely the last.

    Args:
        blends: (B, 3, H, W) after each level, coarse to fine.
        truth: (B, 3, H, W).
        weights: losses of weight 0 are left out.
    """
    losses = {}
    if weights.charbonnier:
        losses["charbonnier"] = deep_charbonnier_loss(blends, truth, weights.level_decay)
    if weights.laplacian:
        losses["laplacian"] = full_laplacian_loss(blends[-1], truth)
    if weights.census:
        losses["census"] = census_loss(blends[-1], truth)
    return losses


def motion_losses(levels: Sequence[Level], batch: Batch, weights: LossWeights) -> dict[str, Tensor]:
    """What compares flows and masks with the known ones, and keeps flows short."""
    losses = {}
    if weights.motion:
        losses["motion"] = levels[-1].flow.abs().mean()
    if batch.flow is None or batch.visible is None or batch.has_flow is None:
        return losses
    known = batch.visible * batch.has_flow[:, None, None, None]
    if weights.flow:  # flows are smooth: a quarter of the pixels tells as much
        flows = [_every_other(level.flow) for level in levels]
        truth = _every_other(batch.flow)
        losses["flow"] = deep_flow_loss(flows, truth, _every_other(known), weights)
    if weights.mask:
        losses["mask"] = mask_loss(levels[-1].logit, batch.visible, batch.has_flow)
    return losses


def teacher_losses(
    levels: Sequence[Level], blends: Sequence[Tensor], teacher: Prediction, truth: Tensor
) -> dict[str, Tensor]:
    """The teacher's own picture, and the pull of the student's flows towards its flow."""
    blends = blends[: len(levels)]
    flows = [level.flow for level in levels]
    picture = charbonnier_loss(teacher.frame, truth) + full_laplacian_loss(teacher.frame, truth)
    pull = distillation_loss(blends, flows, teacher.frame, teacher.flow, truth)
    return {"teacher": picture, "distill": pull}


def deep_charbonnier_loss(blends: Sequence[Tensor], truth: Tensor, decay: float) -> Tensor:
    """Sum over levels k = 1..L of decay^(L - k) times the Charbonnier loss of blend k."""
    terms = [charbonnier_loss(blend, truth) for blend in blends]
    return decayed_sum(terms, decay)


def deep_flow_loss(
    flows: Sequence[Tensor], truth: Tensor, known: Tensor, weights: LossWeights
) -> Tensor:
    """Sum over levels k = 1..L of level_decay^(L - k) times `flow_loss` of flow k."""
    terms = [flow_loss(flow, truth, known, weights.flow_exponent) for flow in flows]
    return decayed_sum(terms, weights.level_decay)


def feature_loss(encoder: nn.Module, prediction: Tensor, truth: Tensor) -> Tensor:
    """Mean absolute difference of what a frozen encoder sees in both pictures."""
    with torch.no_grad():
        target = encoder(truth).float()
    difference: Tensor = encoder(prediction).float() - target
    return difference.abs().mean()


def frozen_encoder(network: nn.Module) -> nn.Module:
    """The encoder of a network, to be used by `feature_loss`."""
    return network.get_submodule("encode")


def _every_other(x: Tensor) -> Tensor:
    return x[..., ::2, ::2]


def _weights(losses: LossWeights, is_paper: bool) -> dict[str, float]:
    """Weights by name of loss; the paper's pictures count 1."""
    weights = {
        "charbonnier": losses.charbonnier,
        "laplacian": losses.laplacian,
        "census": losses.census,
        "flow": losses.flow,
        "mask": losses.mask,
        "motion": losses.motion,
        "features": losses.features,
        "teacher": losses.teacher,
        "distill": losses.distill,
    }
    return weights | {"laplacian": 1.0} if is_paper else weights
