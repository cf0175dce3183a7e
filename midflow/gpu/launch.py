"""The Triton kernels as functions of tensors, all on one device.

Sides are those of the tensors given; everything made is new memory, contiguous. `estimate` is
(B, h, w, 16) float32: flow in pixels 4, mask logit 1, carried features, some to spare. A frame may
stand once for all samples of a batch (`expand`).
"""

from typing import NamedTuple

import torch
import triton
from torch import Tensor

from midflow.gpu.full_size_kernels import detail_inputs_kernel, paint_kernel
from midflow.gpu.kernels import (
    finish_kernel,
    halve_kernel,
    interleave_kernel,
    level_inputs_kernel,
    update_kernel,
    warp_kernel,
)
from midflow.gpu.match_kernels import correlate_kernel, misfit_kernel, normalize_kernel
from midflow.gpu.photometric_kernels import products_kernel, rows_kernel, solve_kernel
from midflow.native.packing import STATE, VIEW
from midflow.nets.photometric import DAMPING, LONGEST
from midflow.nets.prediction import Prediction
from midflow.nets.pyramid_blocks import NORM_FLOOR, SHARPNESS
from midflow.nets.pyramid_config import CELL

COLORS = 8
"""Channels the encoder reads, 3 of them used: cuDNN's quick kernels take multiples of 8."""
PASSING_SLOTS = 8
"""Channels that what passes by takes, 3 of them used."""
PIXELS = 128  # of a program that holds few channels of each; not tuned, no GPU has run it
WIDE_PIXELS = 64  # of one that holds all features
MATCH_PIXELS = 32  # of one that holds those of two pixels: with more, registers do not suffice


def interleave(image: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Planes (B, 3, H, W) float32 as pixels: (B, H, W, 4) float32, and what the encoder reads."""
    batch, _, height, width = image.shape
    image = image.float().contiguous()
    picture = image.new_empty(batch, height, width, 4)
    elements = image.new_empty(batch, height, width, COLORS, dtype=dtype)
    count = height * width
    interleave_kernel[programs(count, batch, PIXELS)](
        image, picture, elements, count, wide=COLORS, block=PIXELS
    )
    return picture, elements


def halve(picture: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Half of a picture (B, H, W, 4), in whole cells, and what the encoder reads of the next."""
    batch, rows, columns, _ = picture.shape
    height, width = (_rounded(side, 2 * CELL) // 2 for side in (rows, columns))
    high, wide = (_rounded(side, 2 * CELL) for side in (height, width))
    half = picture.new_empty(batch, height, width, 4)
    elements = picture.new_empty(batch, high, wide, COLORS, dtype=dtype)
    halve_kernel[programs(high * wide, batch, PIXELS)](
        picture, columns, rows, half, elements, width, height, wide, high, wide=COLORS,
        block=PIXELS,
    )  # fmt: skip
    return half, elements


def finish(x: Tensor, bias: Tensor, *, leaky: bool) -> Tensor:
    """`x` (B, h, w, C) plus bias, then the leaky ReLU, in place."""
    channels = x.shape[-1]
    count = x.numel() // channels
    finish_kernel[programs(count, 1, WIDE_PIXELS)](
        x, bias, count, channels=channels, padded=_power(channels), leaky=leaky, block=WIDE_PIXELS
    )
    return x


def warp_both(picture0: Tensor, picture1: Tensor, estimate: Tensor, ratio: float) -> Tensor:
    """Both pictures (B, H, W, 4) warped along an estimate enlarged `ratio` times.

    Returns (2, B, H, W, 4) float32.
    """
    batch, height, width, _ = picture0.shape
    warped = picture0.new_empty(2, batch, height, width, 4)
    rows, columns = estimate.shape[1:3]
    warp_kernel[programs(height * width, batch, PIXELS)](
        *_frames(picture0, picture1), estimate, warped, width, height, columns, rows,
        ratio, 1 / ratio, block=PIXELS,
    )  # fmt: skip
    return warped


def photometric_step(first: Tensor, second: Tensor, time: Tensor) -> Tensor:
    """As nets/photometric.py: pictures (B, H, W, 4), times (B,); (B, 2, H, W) float32."""
    batch, height, width, _ = first.shape
    products = first.new_empty(batch, 5, height, width)
    smooth, missed = torch.empty_like(products), first.new_empty(batch, 2, height, width)
    grid = programs(height * width, batch, PIXELS)
    products_kernel[grid](*_frames(first, second), time, products, width, height, block=PIXELS)
    rows_kernel[grid](products, smooth, width, height, block=PIXELS)
    solve_kernel[grid](
        smooth, missed, width, height, damping=DAMPING, longest=LONGEST, block=PIXELS
    )
    return missed


class Level(NamedTuple):
    """A level of the pyramid, and what is known when its turn comes."""

    picture0: Tensor
    """(B, H, W, 4) float32."""
    features0: Tensor
    """(B, H, W, width)."""
    picture1: Tensor
    features1: Tensor
    estimate: Tensor | None
    """After the level before, half the size or somewhat more; None at the first."""
    time: Tensor
    """(B,) float32."""


def level_inputs(
    level: Level, warped0: Tensor, warped1: Tensor, missed: Tensor
) -> tuple[Tensor, Tensor]:
    """What the block of a level reads.

    Args:
        level: both frames, and the estimate so far.
        warped0: (B, H, W, 4), the earlier picture along it.
        warped1: the later one.
        missed: (B, 2, H, W), the photometric step.

    Returns:
        (B, H, W, 2 width + 32) for the entrance, (2 B, H, W, width + 8) for the matcher.
    """
    batch, height, width, channels = level.features0.shape
    x = level.features0.new_empty(batch, height, width, 2 * channels + 2 * STATE)
    views = level.features0.new_empty(2 * batch, height, width, channels + VIEW)
    estimate, columns, rows = _known(level.estimate, missed)
    level_inputs_kernel[programs(height * width, batch, WIDE_PIXELS)](
        *_frames(level.features0, level.features1), *_frames(warped0, warped1),
        *_frames(level.picture0, level.picture1), estimate, missed, level.time, views, x, width,
        height, columns, rows, 2.0, 0.5, wide=channels, padded=_power(channels),
        has_previous=level.estimate is not None, block=WIDE_PIXELS,
    )  # fmt: skip
    return x, views


def match(unit: Tensor, unit_bias: Tensor, entered: Tensor, bias: Tensor, radius: int) -> Tensor:
    """What merge reads: the entrance's output, the likeness of the views and what passes by.

    Args:
        unit: (2 B, h, w, matched), the matcher's output before its bias; it is overwritten.
        unit_bias: (matched,) float32.
        entered: (B, h, w, C), the entrance's output before its bias and activation.
        bias: (C,) float32.
        radius: largest displacement on either side.

    Returns:
        (B, h, w, C + side * slots + PASSING_SLOTS): each row of displacements fills `slots`.
    """
    batch, height, width, channels = entered.shape
    matched, count, side = unit.shape[-1], height * width, 2 * radius + 1
    normalize_kernel[programs(2 * batch * count, 1, WIDE_PIXELS)](
        unit, unit_bias, 2 * batch * count, floor=NORM_FLOOR, channels=matched,
        padded=_power(matched), block=WIDE_PIXELS,
    )  # fmt: skip
    misfit = unit.new_empty(batch, height, width, dtype=torch.float32)
    misfit_kernel[programs(batch * count, 1, WIDE_PIXELS)](
        unit, misfit, batch * count, channels=matched, padded=_power(matched), block=WIDE_PIXELS
    )
    wide = channels + side * slots(radius) + PASSING_SLOTS
    merged = entered.new_empty(batch, height, width, wide)
    correlate_kernel[programs(count, batch, MATCH_PIXELS)](
        unit, misfit, entered, bias, merged, width, height, matched=matched,
        padded=_power(matched), radius=radius, channels=channels, channels_padded=_power(channels),
        slots=slots(radius), spare=PASSING_SLOTS, sharpness=SHARPNESS, block=MATCH_PIXELS,
    )  # fmt: skip
    return merged


def slots(radius: int) -> int:
    """Channels that the likeness under a row of displacements takes, a multiple of 8."""
    return max(8, _power(2 * radius + 1))


def update(
    out: Tensor, bias: Tensor, level: Level, missed: Tensor, share: int, slowest: float
) -> Tensor:
    """The estimate (B, H, W, 16) after a level.

    Args:
        out: (B, H / 2, W / 2, 4 * 16), what its block found, before the bias.
        bias: (64,) float32.
        level: as `level_inputs` had it.
        missed: (B, 2, H, W).
        share: the channel, of a pixel's 16, with the share of the photometric step.
        slowest: motion in pixels below which a pixel's estimate is dropped.
    """
    batch, height, width, _ = level.picture0.shape
    found = missed.new_empty(batch, height, width, STATE)
    previous, columns, rows = _known(level.estimate, missed)
    update_kernel[programs(height * width, batch, PIXELS)](
        out, bias, previous, missed, level.time, found, width, height, columns, rows, 2.0, 0.5,
        slowest * slowest, share=share, has_previous=level.estimate is not None, block=PIXELS,
    )  # fmt: skip
    return found


class Whole(NamedTuple):
    """Both frames at full size, and what is known before the last block."""

    picture0: Tensor
    """(B, H, W, 4) float32."""
    ends0: Tensor
    """(B, 1, 1, 2) float32: what the picture reaches from and to, [0, 1] at least."""
    picture1: Tensor
    ends1: Tensor
    estimate: Tensor
    """After the last level."""
    time: Tensor
    """(B,) float32."""

    @property
    def ratio(self) -> float:
        """How much larger the frame is than the estimate."""
        return self.picture0.shape[2] / self.estimate.shape[2]


def detail_inputs(
    whole: Whole, warped0: Tensor, warped1: Tensor, missed: Tensor, dtype: torch.dtype
) -> Tensor:
    """What the last block reads, (B, H / 2, W / 2, 80); arguments as for `level_inputs`."""
    batch, height, width, _ = whole.picture0.shape
    x = missed.new_empty(batch, height // 2, width // 2, 5 * STATE, dtype=dtype)
    rows, columns = whole.estimate.shape[1:3]
    half = whole.ratio / 2
    detail_inputs_kernel[programs(height * width, batch, PIXELS)](
        *_frames(warped0, warped1), *_frames(whole.picture0, whole.picture1), whole.estimate,
        missed, whole.time, x, width, height, columns, rows, half, 1 / half, block=PIXELS,
    )  # fmt: skip
    return x


def paint(
    whole: Whole, out: Tensor, bias: Tensor, missed: Tensor, *, only_frame: bool
) -> Prediction:
    """Corrects the estimate by what the last block found, and paints.

    Args:
        whole: both frames and the estimate.
        out: (B, H / 2, W / 2, 4 * 8) before the bias: change of flow and logit, share of the step.
        bias: (32,) float32.
        missed: (B, 2, H, W), the photometric step.
        only_frame: leave flow and weight out; they are empty.
    """
    batch, height, width, _ = whole.picture0.shape
    painted = outputs(missed, batch, height, width, only_frame=only_frame)
    rows, columns = whole.estimate.shape[1:3]
    paint_kernel[programs(height * width, batch, PIXELS)](
        *_frames(whole.picture0, whole.picture1), *_frames(whole.ends0, whole.ends1),
        whole.estimate, out, bias, missed, whole.time, *painted, width, height, columns, rows,
        whole.ratio, 1 / whole.ratio, only_frame=only_frame, block=PIXELS,
    )  # fmt: skip
    return painted


def outputs(like: Tensor, batch: int, height: int, width: int, *, only_frame: bool) -> Prediction:
    """Memory to paint into, of the kind of `like`; with `only_frame` flow and weight are empty."""
    size = (0, 0) if only_frame else (height, width)
    shapes = (3, height, width), (4, *size), (1, *size)
    return Prediction(*(like.new_empty(batch, *shape) for shape in shapes))


def _frames(first: Tensor, second: Tensor) -> tuple[Tensor, int, Tensor, int]:
    """Both, and how far their samples are apart."""
    assert first[0].is_contiguous() and second[0].is_contiguous()
    return first, first.stride(0), second, second.stride(0)


def _known(estimate: Tensor | None, nothing: Tensor) -> tuple[Tensor, int, int]:
    """An estimate, its width and height; without one, something to point to."""
    if estimate is None:
        return nothing, 0, 0
    return estimate, estimate.shape[2], estimate.shape[1]


def programs(count: int, batch: int, pixels: int) -> tuple[int, int]:
    """Programs that the pixels of each sample need."""
    return triton.cdiv(count, pixels), batch


def _power(count: int) -> int:
    return int(triton.next_power_of_2(count))


def _rounded(count: int, multiple: int) -> int:
    return -(-count // multiple) * multiple
