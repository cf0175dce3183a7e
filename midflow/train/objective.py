"""What a training step minimises: the losses by name, and their weighted sum.

`Objective` runs the network on a batch and returns one number to descend, with its parts. The
network runs under autocast; flows, warps and losses are float32. Every loss is a mean over all
pixels of the batch, so the mean over processes is the loss of their samples together.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from midflow.nets.ifnet import IFNet
from midflow.nets.prediction import Level, Prediction
from midflow.train.batch import Batch
from midflow.train.config import LossWeights, TrainConfig
from midflow.train.losses import (
    distillation_loss,
    end_point_error_map,
    full_laplacian_loss,
)
from midflow.train.teacher import Distillation

CHARBONNIER_EPSILON = 1e-3  # a quarter of an 8-bit level: below it the loss is quadratic
_LUMA = (0.2989, 0.5870, 0.1140)  # Rec. 601 weights of R, G, B
# one of each pair of opposite neighbours in 7 x 7, (dy, dx)
_NEIGHBOURS = [(dy, dx) for dy in range(4) for dx in range(-3, 4) if dy or dx > 0]
ROBUST_EXPONENT, ROBUST_OFFSET = 0.4, 0.01  # PWC-Net (Sun et al., CVPR 2018), equation 3


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

    def __init__(self, network: IFNet, config: TrainConfig) -> None:
        super().__init__()
        self.distillation = Distillation(network)
        self.config = config
        self._measure = self._paper if config.objective == "paper" else self._deep
        if config.compile:
            self._measure = torch.compile(self._measure)

    @property
    def network(self) -> IFNet:
        """The network in training."""
        return self.distillation.flownet

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

    def _paper(self, batch: Batch, encoder: nn.Module | None) -> tuple[dict[str, Tensor], Tensor]:
        with self._autocast(batch.img0):
            time = batch.timestep if self.network.config.has_timestep else 0.5
            lesson = self.distillation(batch.img0, batch.img1, batch.truth, time)
        losses = {
            "laplacian": lesson.loss_student,
            "teacher": lesson.loss_teacher,
            "distill": lesson.loss_distill,
        }
        return losses, lesson.student.frame

    def _deep(self, batch: Batch, encoder: nn.Module | None) -> tuple[dict[str, Tensor], Tensor]:
        net, weights = self.network, self.config.losses
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
        losses["flow"] = deep_flow_loss(flows, truth, _every_other(known), weights.level_decay)
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


def charbonnier_loss(prediction: Tensor, truth: Tensor) -> Tensor:
    """Mean of sqrt(difference^2 + epsilon^2): absolute difference, smooth at 0."""
    return (prediction.float() - truth).square().add(CHARBONNIER_EPSILON**2).sqrt().mean()


def deep_charbonnier_loss(blends: Sequence[Tensor], truth: Tensor, decay: float) -> Tensor:
    """Sum over levels k = 1..L of decay^(L - k) times the Charbonnier loss of blend k."""
    terms = [charbonnier_loss(blend, truth) for blend in blends]
    return _decayed_sum(terms, decay)


def census_loss(prediction: Tensor, truth: Tensor) -> Tensor:
    """Mean soft census distance, at an eighth of the cost of `losses.census_map`.

    A pair of pixels counts the same from either end, so half of the 7 x 7 neighbours is enough; for
    each of them every other row and column is looked at, in turns, so that all pixels have equal
    parts. Pairs across the border are left out.

    Args:
        prediction: (B, 3, H, W) in [0, 1], sides even and at least 16.
        truth: likewise.
    """
    distance = (_census_signs(prediction.float()) - _census_signs(truth.float())).square()
    return (distance / (0.1 + distance)).mean()


def flow_loss(flow: Tensor, truth: Tensor, known: Tensor) -> Tensor:
    """Robust end-point error (e + 0.01)^0.4 of two flows, where they are known, over all pixels.

    Args:
        flow: (B, 4, H, W) pixels.
        truth: (B, 4, H, W) pixels.
        known: (B, 2, H, W), 1 where the flow to frame 0, to frame 1 is known and visible.
    """
    errors = [end_point_error_map(flow[:, s], truth[:, s]) for s in (slice(0, 2), slice(2, 4))]
    robust = (torch.cat(errors, 1) + ROBUST_OFFSET) ** ROBUST_EXPONENT
    return (robust * known).mean()


def deep_flow_loss(flows: Sequence[Tensor], truth: Tensor, known: Tensor, decay: float) -> Tensor:
    """Sum over levels k = 1..L of decay^(L - k) times `flow_loss` of flow k."""
    return _decayed_sum([flow_loss(flow, truth, known) for flow in flows], decay)


def mask_loss(logit: Tensor, visible: Tensor, has_flow: Tensor) -> Tensor:
    """Cross-entropy of the blend weight where exactly one frame shows the pixel, over all pixels.

    Args:
        logit: (B, 1, H, W), above 0 for frame 0.
        visible: (B, 2, H, W), 1 where frame 0, frame 1 shows what the true frame shows.
        has_flow: (B,) bool, rows that count.
    """
    seen0, seen1 = visible[:, :1], visible[:, 1:]
    decides = (seen0 - seen1).abs() * has_flow[:, None, None, None]
    entropy = F.binary_cross_entropy_with_logits(logit.float(), seen0, reduction="none")
    return (entropy * decides).mean()


def feature_loss(encoder: nn.Module, prediction: Tensor, truth: Tensor) -> Tensor:
    """Mean absolute difference of what a frozen encoder sees in both pictures."""
    with torch.no_grad():
        target = encoder(truth).float()
    difference: Tensor = encoder(prediction).float() - target
    return difference.abs().mean()


def frozen_encoder(network: IFNet) -> nn.Module:
    """The encoder of a network, to be used by `feature_loss`."""
    return network.get_submodule("encode")


def _census_signs(image: Tensor) -> Tensor:
    """(B, 3, H, W) -> (B, 24, H / 2 - 2, W / 2 - 4): squashed differences to neighbours."""
    gray = (image * image.new_tensor(_LUMA)[:, None, None]).sum(1)
    height, width = gray.shape[-2:]
    rows, columns = height - 4, width - 8
    differences = []
    for k, (dy, dx) in enumerate(_NEIGHBOURS):
        y, x = k % 2, 3 + k // 2 % 2
        center = gray[:, y : y + rows : 2, x : x + columns : 2]
        neighbour = gray[:, y + dy : y + dy + rows : 2, x + dx : x + dx + columns : 2]
        differences.append(neighbour - center)
    difference = torch.stack(differences, 1)
    return difference * (0.81 + difference.square()).rsqrt()


def _every_other(x: Tensor) -> Tensor:
    return x[..., ::2, ::2]


def _decayed_sum(terms: Sequence[Tensor], decay: float) -> Tensor:
    last = len(terms) - 1
    return torch.stack([decay ** (last - k) * term for k, term in enumerate(terms)]).sum()


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
        "teacher": 1.0,
        "distill": losses.distill,
    }
    return weights | {"laplacian": 1.0} if is_paper else weights
