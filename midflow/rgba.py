"""Pictures with transparency: colour and opacity carried along the same flow.

The network sees the colours alone and paints frame F. Opacity a and premultiplied colour a c are
warped by its flow and mixed by its weight (Porter and Duff, Compositing Digital Images, 1984), so
that what is transparent adds nothing to the colour of an edge. With P the plain colours treated
alike,

    colour = F + (mixed a c) / (mixed a) - P

keeps whatever the network adds to a mere mixture; where both frames are opaque it is F itself.
"""

import logging
from collections.abc import Iterator, Sequence
from fractions import Fraction

import torch
from torch import Tensor

from midflow.bisection import nearest_dyadic, plan_depth
from midflow.engine import EncodedFrame
from midflow.interpolator import Interpolator
from midflow.nets.warp import warp
from midflow.video.frame import ClipInfo
from midflow.video.pixel import layout

log = logging.getLogger(__name__)

_NEARLY_NOTHING = 1e-4  # opacity below which a colour cannot be told, a fifteenth of an 8-bit step


class Rgba:
    """A frame with its opacity.

    Args:
        encoded: the colours, (1, 3, H, W), as `Interpolator.encode` keeps them.
        alpha: opacity, (1, 1, H, W) in [0, 1].
    """

    def __init__(self, encoded: EncodedFrame, alpha: Tensor) -> None:
        self.encoded = encoded
        self.alpha = alpha

    @property
    def color(self) -> Tensor:
        """(1, 3, H, W) in [0, 1], not premultiplied."""
        return self.encoded.image


@torch.inference_mode()
def paint_rgba(
    interpolator: Interpolator, left: Rgba, right: Rgba, timesteps: Sequence[float]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Colour (1, 3, H, W), not premultiplied, and opacity (1, 1, H, W) at each of `timesteps`."""
    if interpolator.has_timestep:
        for timestep in timesteps:
            if timestep in (0, 1):
                yield (right.color, right.alpha) if timestep else (left.color, left.alpha)
            else:
                yield _between(interpolator, left, right, timestep)
        return
    depth = plan_depth(list(timesteps))
    known = {Fraction(0): left, Fraction(1): right}
    for timestep in timesteps:
        frame = _reach(interpolator, nearest_dyadic(timestep, depth), known)
        yield frame.color, frame.alpha


def blend_rgba(
    color0: Tensor, alpha0: Tensor, color1: Tensor, alpha1: Tensor, weight1: Tensor | float
) -> tuple[Tensor, Tensor]:
    """Colour and opacity of a mixture, `weight1` in [0, 1] of it the second picture."""
    alpha = alpha0 + (alpha1 - alpha0) * weight1
    premultiplied0, premultiplied1 = color0 * alpha0, color1 * alpha1
    mixed = premultiplied0 + (premultiplied1 - premultiplied0) * weight1
    plain = color0 + (color1 - color0) * weight1
    return torch.where(alpha > _NEARLY_NOTHING, mixed / alpha.clamp(_NEARLY_NOTHING), plain), alpha


def warn_of_lost_alpha(info: ClipInfo, encoder: str, pixel_format: str) -> None:
    """Says so where a clip has transparency and its output will not."""
    if info.has_alpha and not layout(pixel_format).has_alpha:
        log.warning(
            "%s has transparency (%s), which %s in this container does not keep: it is left out;"
            " ffv1 in .mkv, prores or png in .mov and vp9 in .webm keep it",
            info.path,
            info.source_format,
            encoder,
        )


def _between(
    interpolator: Interpolator, left: Rgba, right: Rgba, timestep: float
) -> tuple[Tensor, Tensor]:
    painted = interpolator.predict(left.encoded, right.encoded, timestep)
    flow0, flow1 = painted.flow[:, :2], painted.flow[:, 2:]
    weight1 = 1 - painted.weight
    both = [warp(torch.cat((frame.color * frame.alpha, frame.color, frame.alpha), 1), flow)
            for frame, flow in ((left, flow0), (right, flow1))]  # fmt: skip
    mixed = both[0] + (both[1] - both[0]) * weight1
    premultiplied, plain, alpha = mixed[:, :3], mixed[:, 3:6], mixed[:, 6:]
    straight = premultiplied / alpha.clamp(_NEARLY_NOTHING)
    color = painted.frame + torch.where(alpha > _NEARLY_NOTHING, straight - plain, 0)
    return color.clamp(0, 1), alpha.clamp(0, 1)


def _reach(interpolator: Interpolator, time: Fraction, known: dict[Fraction, Rgba]) -> Rgba:
    """A frame by halving, for networks that know the middle only."""
    if time not in known:
        half = Fraction(1, time.denominator)
        before = _reach(interpolator, time - half, known)
        after = _reach(interpolator, time + half, known)
        color, alpha = _between(interpolator, before, after, 0.5)
        known[time] = Rgba(interpolator.encode(color), alpha)
    return known[time]
