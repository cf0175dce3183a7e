"""Methods to evaluate that cost nothing."""

import torch
from torch import Tensor

from midflow.interpolator import Interpolator
from midflow.nets.config import IFNetConfig
from midflow.nets.ifnet import IFNet


class Counting:
    """Paints frame 0 and counts how often."""

    def __init__(self, identity: str | None = "counting") -> None:
        self.identity = identity
        self.calls = 0

    def __call__(self, img0: Tensor, img1: Tensor, timestep: float) -> Tensor:
        self.calls += 1
        return img0


def small_network(seed: int) -> Interpolator:
    torch.manual_seed(seed)
    return Interpolator(IFNet(IFNetConfig(channels=(8, 8), scales=(2, 1), depths=(1, 1))), "cpu")
