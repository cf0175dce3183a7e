"""The forward pass of an IFNet step by step, every picture at full size.

What the fast one is held to, by the tests and by benchmarks/speed_forward.py.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from midflow.nets.ifnet import IFNet
from midflow.nets.prediction import Prediction
from midflow.nets.warp import warp


def plain_forward(
    net: IFNet, img0: Tensor, img1: Tensor, timestep: float = 0.5, flow_scale: float = 1.0
) -> Prediction:
    """The same as `net(img0, img1, timestep)`, for networks without refinement and retry.

    Args:
        net: the network.
        img0: (B, 3, H, W) in [0, 1], sides multiples of the network's `pad_multiple`.
        img1: likewise.
        timestep: in [0, 1].
        flow_scale: as in `IFNet.forward`.
    """
    config, resolution = net.config, net.config.resolution
    picture0, picture1 = _resize(img0, 1 / resolution), _resize(img1, 1 / resolution)
    encoded = config.encoder != "none"
    feat0 = net.encode(img0) if encoded else picture0[:, :0]
    feat1 = net.encode(img1) if encoded else picture1[:, :0]
    t = torch.full_like(picture0[:, :1], timestep)
    flow = mask = features = None
    for k, scale in enumerate(config.scales):
        step = scale / resolution / flow_scale
        block = net.get_submodule(f"block{k}")
        if flow is None or mask is None or features is None:
            x = _resize(torch.cat((picture0, picture1, feat0, feat1, t), 1), 1 / step)
        else:
            to0, to1 = flow[:, :2], flow[:, 2:]
            warped = warp(picture0, to0), warp(picture1, to1), warp(feat0, to0), warp(feat1, to1)
            x = _resize(torch.cat((*warped, t, mask, features), 1), 1 / step)
            x = torch.cat((x, _resize(flow, 1 / step) / step), 1)
        out = block(x)
        grid = picture0.shape[-1] / out.shape[-1]
        out = _resize(out, grid)
        dflow, dmask, features = out[:, :4] * grid, out[:, 4:5], out[:, 5 : 5 + config.features]
        flow = dflow if flow is None else flow + dflow
        mask = mask + dmask if mask is not None and config.has_residual_mask else dmask
    assert flow is not None and mask is not None
    flow, weight = _resize(flow, resolution) * resolution, torch.sigmoid(_resize(mask, resolution))
    frame = warp(img0, flow[:, :2]) * weight + warp(img1, flow[:, 2:]) * (1 - weight)
    return Prediction(frame, flow, weight)


def _resize(x: Tensor, factor: float) -> Tensor:
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)
