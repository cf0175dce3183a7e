"""One Gauss-Newton step of brightness constancy: how far two warped frames still are apart.

Both frames are warped to time t along flows that miss by -t r and (1 - t) r. To first order

    warped0 - warped1 = r . (t grad warped0 + (1 - t) grad warped1)

which every pixel around a place says of the same r: least squares over a window and the three
colours (Lucas and Kanade, "An Iterative Image Registration Technique", IJCAI 1981). It is precise
to parts of a pixel where r is small and there is texture, and about 0 where there is none.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from midflow.nets.window import mean_around

RADIUS = 2  # of the window that is averaged over, twice, so that its middle counts most
DAMPING = 5e-4  # keeps steps short where gradients are below about 2 % of white a pixel
LONGEST = 1.0  # pixels; the linear view holds no further


@torch.no_grad()
def photometric_step(warped0: Tensor, warped1: Tensor, timestep: Tensor) -> Tensor:
    """The motion from frame 0 to frame 1 that the flows have missed.

    Args:
        warped0: (B, 3, H, W) in [0, 1], the earlier frame at time t.
        warped1: the later one.
        timestep: (B, 1, 1, 1) in [0, 1].

    Returns:
        (B, 2, H, W) float32 pixels (dx, dy), at most `LONGEST` long. No gradient passes.
    """
    before, after = warped0.float(), warped1.float()
    difference = before - after
    mean = torch.lerp(after, before, timestep)
    slope_x, slope_y = (slope / 2 for slope in slopes(mean))
    products = (
        slope_x * slope_x, slope_x * slope_y, slope_y * slope_y,
        slope_x * difference, slope_y * difference,
    )  # fmt: skip
    sums = torch.stack([product.sum(1) for product in products], 1)
    xx, xy, yy, xd, yd = mean_around(mean_around(sums, RADIUS), RADIUS).unbind(1)
    xx, yy = xx + DAMPING, yy + DAMPING
    solved = torch.stack((yy * xd - xy * yd, xx * yd - xy * xd), 1)
    step: Tensor = solved / (xx * yy - xy * xy)[:, None]
    length = step.square().sum(1, keepdim=True).sqrt()
    return step * (LONGEST / length.clamp(min=LONGEST))


def slopes(picture: Tensor) -> tuple[Tensor, Tensor]:
    """Differences of the neighbours on both sides, along x and y; the border is repeated.

    (B, C, H, W) each, over two pixels: half of them are slopes of one.
    """
    padded = F.pad(picture, (1, 1, 1, 1), mode="replicate")
    along_x = padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]
    along_y = padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]
    return along_x, along_y
