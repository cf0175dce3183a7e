"""A network that knows how everything moves, at no cost."""

from types import SimpleNamespace

import torch
from torch import nn

from midflow.nets.prediction import Encoded, Prediction
from midflow.nets.warp import warp


class Translation(nn.Module):
    """Stands in for a network that knows everything moves `pixels` to the right."""

    def __init__(self, pixels, *, adds=0.0, has_timestep=True):
        super().__init__()
        self.config = SimpleNamespace(
            pad_multiple=16, has_timestep=has_timestep, has_ensemble=False
        )
        self.release, self.pixels, self.adds = "translation", pixels, adds

    def encode_frame(self, image):
        return Encoded(image)

    def forward(self, frame0, frame1, timestep=0.5, *, flow_scale=1.0, ensemble=False):
        t = timestep.view(-1, 1, 1, 1)
        flow = torch.zeros(len(t), 4, *frame0.image.shape[-2:])
        flow[:, :1], flow[:, 2:3] = -self.pixels * t, self.pixels * (1 - t)
        warped0, warped1 = warp(frame0.image, flow[:, :2]), warp(frame1.image, flow[:, 2:])
        weight = (1 - t).expand_as(flow[:, :1])
        frame = weight * warped0 + (1 - weight) * warped1 + self.adds
        return Prediction(frame, flow, weight)
