"""Raw YUV 4:2:0 files of the HD benchmark, converted as the papers' script converts them.

That script takes luma as full range and multiplies chroma of [-0.5, 0.5] with the matrix of analog
PAL YUV, whose chroma is narrower: colours come out somewhat paler than in a player, while luma,
which is all that is scored, stays as it is. Figures compare with the papers only if this is kept.
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from midflow.errors import VideoError
from midflow.evaluate.dataset import Picture

# RGB from Y, U, V of analog PAL (Rec. 470), the inverse of its definition.
_TO_RGB = torch.linalg.inv(
    torch.tensor(
        [
            [0.299, 0.587, 0.114],
            [-0.14714119, -0.28886916, 0.43601035],
            [0.61497538, -0.51496512, -0.10001026],
        ],
        dtype=torch.float64,
    )
).float()


def frame_count(path: Path, width: int, height: int) -> int:
    """Whole 8-bit 4:2:0 frames in a raw file."""
    return path.stat().st_size // _frame_bytes(width, height)


def read_frame(picture: Picture, width: int, height: int) -> Tensor:
    """(1, 3, H, W) RGB in whole 8-bit levels, cut off and not rounded, as the papers' script does.

    Raises:
        VideoError: the file ends before the frame does.
    """
    size = _frame_bytes(width, height)
    with picture.path.open("rb") as file:
        file.seek(picture.index * size)
        codes = np.frombuffer(file.read(size), np.uint8)
    if len(codes) < size:
        raise VideoError(f"{picture.path} has no frame {picture.index} of {width}x{height}")
    planes = torch.from_numpy(codes.astype(np.float32) / 255)
    luma = planes[: width * height].view(1, 1, height, width)
    chroma = planes[width * height :].view(1, 2, height // 2, width // 2) - 0.5
    chroma = F.interpolate(chroma, scale_factor=2, mode="nearest")
    rgb = torch.einsum("rc,bchw->brhw", _TO_RGB, torch.cat((luma, chroma), 1))
    return rgb.clamp(0, 1).mul(255).floor().div(255)


def _frame_bytes(width: int, height: int) -> int:
    return width * height * 3 // 2
