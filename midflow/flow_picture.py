"""Draws optical flow with the Middlebury colour wheel: hue is direction, saturation is speed.

In picture coordinates (x to the right, y down) motion to the right is red, down yellow, to the left
cyan and up violet; no motion is white. The wheel is the one of Baker et al., "A Database and
Evaluation Methodology for Optical Flow" (IJCV 2011), so pictures compare with those in papers.
"""

import math

import torch
from torch import Tensor

from midflow.errors import OptionError

# Colours from each corner to the next: few from green to cyan, where the eye tells few apart.
_STEPS = (15, 6, 4, 11, 13, 6)
_CORNERS = ((1, 0, 0), (1, 1, 0), (0, 1, 0), (0, 1, 1), (0, 0, 1), (1, 0, 1))  # R Y G C B M
_TOO_FAST = 0.75  # motion above the maximum is drawn in full colour, darkened by this


def flow_to_rgb(flow: Tensor, max_motion: float | None = None) -> Tensor:
    """Colours for a flow field.

    Args:
        flow: (B, 2, H, W) or (2, H, W), (dx, dy) in pixels; black where not finite.
        max_motion: length in pixels drawn in full colour; None takes the longest of each picture.

    Returns:
        float32 RGB in [0, 1], (B, 3, H, W) or (3, H, W).

    Raises:
        OptionError: the flow has not 2 channels, or max_motion is not above 0.
    """
    if flow.dim() not in (3, 4) or flow.shape[-3] != 2:
        raise OptionError(
            f"flow must be (B, 2, H, W) or (2, H, W), got {tuple(flow.shape)}: "
            "of a pair of flows take [:, :2] (to frame 0) or [:, 2:] (to frame 1)"
        )
    if max_motion is not None and not max_motion > 0:
        raise OptionError(f"max_motion must be above 0 pixels, got {max_motion = }")
    is_known = flow.isfinite().all(-3, keepdim=True)
    dx, dy = torch.where(is_known, flow.float(), 0).unbind(-3)
    speed = torch.hypot(dx, dy)
    limit = speed.amax((-2, -1), keepdim=True) if max_motion is None else max_motion
    rgb = _shade(_hues(dx, dy), (speed / limit).nan_to_num(0).unsqueeze(-1))
    return torch.where(is_known, rgb.movedim(-1, -3), 0)


def color_wheel() -> Tensor:
    """The 55 saturated colours, (55, 3) in [0, 1]: red, yellow, green, cyan, blue, magenta, to red.

    Each of the six ranges runs linearly, in whole 8-bit levels, from its corner towards the next.
    """
    colors = []
    corners = torch.tensor(_CORNERS, dtype=torch.float32)
    for steps, start, end in zip(_STEPS, corners, corners.roll(-1, 0), strict=True):
        level = (255 * torch.arange(steps) / steps).floor() / 255
        colors.append(start + level[:, None] * (end - start))
    return torch.cat(colors)


def _hues(dx: Tensor, dy: Tensor) -> Tensor:
    """Fully saturated colours of the directions, (..., 3), interpolated on the wheel."""
    wheel = color_wheel().to(dx.device)
    turn = torch.atan2(-dy, -dx) / math.pi  # from -1 to 1, clockwise from the right
    last = len(wheel) - 1
    position = (turn + 1) / 2 * last % last  # a full turn, which -0.0 can give, is none
    first = position.floor().long()
    share = (position - first).unsqueeze(-1)
    return torch.lerp(wheel[first], wheel[(first + 1) % len(wheel)], share)


def _shade(hue: Tensor, speed: Tensor) -> Tensor:
    """Fades hues (..., 3) to white for slow motion; `speed` (..., 1) is relative to the maximum."""
    return torch.where(speed <= 1, 1 - speed * (1 - hue), _TOO_FAST * hue)
