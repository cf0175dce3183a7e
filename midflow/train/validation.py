"""A look at triplets that are never trained on."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from midflow.evaluate.metrics import psnr
from midflow.padding import Padding
from midflow.train.batch import Batch
from midflow.train.config import TrainableNet


@dataclass(frozen=True)
class Validation:
    """How the averaged weights do on held-out triplets."""

    psnr: float
    """dB, mean over the triplets, on rounded pictures."""
    truth: Tensor
    """(3, H, W): the first true frame."""
    frame: Tensor
    """(3, H, W): what the network made of it."""
    flow: Tensor
    """(2, H, W): its flow to the earlier frame, pixels."""


@torch.no_grad()
def validate(network: TrainableNet, held: Sequence[Batch], device: torch.device) -> Validation:
    """Measures a network in float32.

    Args:
        network: in evaluation mode.
        held: at least one batch, of any sizes.
        device: of the network.
    """
    values = []
    pictures: tuple[Tensor, Tensor, Tensor] | None = None
    for triplets in held:
        batch = triplets.to(device)
        height, width = batch.truth.shape[-2:]
        padding = Padding(height, width, network.config.pad_multiple)
        prediction = network(padding.pad(batch.img0), padding.pad(batch.img1), batch.timestep)
        frame = padding.unpad(prediction.frame)
        values.append(psnr(frame, batch.truth))
        if pictures is None:
            pictures = batch.truth[0], frame[0], padding.unpad(prediction.flow)[0, :2]
    assert pictures is not None
    truth, first, flow = (picture.float().cpu() for picture in pictures)
    return Validation(torch.cat(values).mean().item(), truth, first, flow)
