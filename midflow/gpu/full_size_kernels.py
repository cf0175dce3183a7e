"""The last steps of a PyramidNet, at the size of the frame, and an IFNet's, as Triton kernels.

Shapes as in kernels.py.
"""

import triton
import triton.language as tl

from midflow.gpu.kernels import both_ways, cell_of
from midflow.gpu.sampling import (
    bicubic,
    pixel_block,
    read_pixels,
    resized_pixels,
)


@triton.jit
def _copy(picture, row, column, width, fourth, to, is_in):
    """A pixel's colours and a fourth value."""
    lanes = tl.arange(0, 4)
    color = read_pixels(picture, row, column, width, lanes, 4, is_in)
    color = tl.where(lanes[None, :] == 3, fourth[:, None], color)
    tl.store(to + lanes[None, :], color, mask=is_in[:, None] & (lanes < 4)[None, :])


@triton.jit
def detail_inputs_kernel(
    warped0, warped_stride0, warped1, warped_stride1, picture0, stride0, picture1, stride1,
    estimate, missed, time, x, width, height, previous_width, previous_height, ratio, step,
    block: tl.constexpr,
):  # fmt: skip
    """What the last block reads of every 2 x 2 pixels: (B, H / 2, W / 2, 80).

    For each of the four: warped pictures, pictures, photometric step; then the estimate, enlarged
    `ratio` times to the size of the cells, and the time.
    """
    sample = tl.program_id(1).to(tl.int64)
    count = width * height
    index, column, row, is_in = pixel_block(width, count, block)
    warped0, warped1 = warped0 + sample * warped_stride0, warped1 + sample * warped_stride1
    picture0, picture1 = picture0 + sample * stride0, picture1 + sample * stride1
    step_x = tl.load(missed + sample * 2 * count + index, mask=is_in, other=0.0)
    step_y = tl.load(missed + (sample * 2 + 1) * count + index, mask=is_in, other=0.0)
    cell, part = cell_of(column, row, width)
    to = x + (sample * (count // 4) + cell)[:, None] * 80
    pixel = to + part[:, None] * 16
    nothing = tl.zeros((block,), tl.float32)
    _copy(warped0, row, column, width, nothing, pixel, is_in)
    _copy(warped1, row, column, width, nothing, pixel + 4, is_in)
    _copy(picture0, row, column, width, step_x, pixel + 8, is_in)
    _copy(picture1, row, column, width, step_y, pixel + 12, is_in)
    is_first = is_in & (part == 0)
    lanes = tl.arange(0, 16)
    estimate += sample * previous_width * previous_height * 16
    known = resized_pixels(
        estimate, column // 2, row // 2, step, previous_width, previous_height, lanes, 16, is_first
    )
    lanes = lanes[None, :]
    known = tl.where(lanes < 4, known * ratio, known)
    known = tl.where(lanes == 15, tl.load(time + sample), known)
    tl.store(to + 64 + lanes, known, mask=is_first[:, None] & (lanes < 16))


@triton.jit
def _store_planes(values, to, count, planes: tl.constexpr, lanes, is_in):
    """The first channels of (block, lanes) into planes."""
    for k in tl.static_range(planes):
        plane = tl.sum(tl.where(lanes[None, :] == k, values, 0.0), 1)
        tl.store(to + k * count, plane, mask=is_in)


@triton.jit
def paint_kernel(
    picture0, stride0, picture1, stride1, ends0, ends_stride0, ends1, ends_stride1, estimate, out,
    bias, missed, time, frame, flow, weights, width, height, previous_width, previous_height,
    ratio, step, only_frame: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Corrects the estimate at full size, reads both frames along it and mixes them.

    `out`, (B, H / 2, W / 2, 4 x 8): change of the flow and logit, share of the photometric step.
    `ends`, (B, 2): what a picture reaches from and to. `frame` (B, 3, H, W), `flow` (B, 4, H, W)
    and `weights` (B, 1, H, W) float32; the latter two are left alone with `only_frame`.
    """
    sample = tl.program_id(1).to(tl.int64)
    count = width * height
    index, column, row, is_in = pixel_block(width, count, block)
    cell, part = cell_of(column, row, width)
    lanes = tl.arange(0, 8)
    start = (sample * count + cell.to(tl.int64) * 4 + part) * 8
    estimate += sample * previous_width * previous_height * 16
    found = tl.load(
        out + start[:, None] + lanes[None, :], mask=is_in[:, None] & (lanes < 8)[None, :], other=0.0
    ).to(tl.float32)
    found += tl.load(bias + part[:, None] * 8 + lanes[None, :])
    share = tl.sum(tl.where(lanes[None, :] == 5, found, 0.0), 1)
    along = share * tl.load(missed + sample * 2 * count + index, mask=is_in, other=0.0)
    down = share * tl.load(missed + (sample * 2 + 1) * count + index, mask=is_in, other=0.0)
    known = resized_pixels(
        estimate, column, row, step, previous_width, previous_height, lanes, 16, is_in
    )
    found += tl.where(lanes[None, :] < 4, known * ratio, known)
    found += both_ways(along[:, None], down[:, None], tl.load(time + sample), lanes[None, :])
    dx0 = tl.sum(tl.where(lanes[None, :] == 0, found, 0.0), 1)
    dy0 = tl.sum(tl.where(lanes[None, :] == 1, found, 0.0), 1)
    dx1 = tl.sum(tl.where(lanes[None, :] == 2, found, 0.0), 1)
    dy1 = tl.sum(tl.where(lanes[None, :] == 3, found, 0.0), 1)
    logit = tl.sum(tl.where(lanes[None, :] == 4, found, 0.0), 1)
    weight = 1.0 / (1.0 + tl.exp(-logit))
    if not only_frame:
        _store_planes(found, flow + sample * 4 * count + index, count, 4, lanes, is_in)
        tl.store(weights + sample * count + index, weight, mask=is_in)
    colors = tl.arange(0, 4)
    picture0, picture1 = picture0 + sample * stride0, picture1 + sample * stride1
    before = bicubic(picture0, column, row, dx0, dy0, width, height, colors, 4, is_in)
    after = bicubic(picture1, column, row, dx1, dy1, width, height, colors, 4, is_in)
    mixed = after + weight[:, None] * (before - after)
    ends0, ends1 = ends0 + sample * ends_stride0, ends1 + sample * ends_stride1
    low = tl.minimum(tl.load(ends0), tl.load(ends1))
    high = tl.maximum(tl.load(ends0 + 1), tl.load(ends1 + 1))
    mixed = tl.minimum(tl.maximum(mixed, low), high)
    _store_planes(mixed, frame + sample * 3 * count + index, count, 3, colors, is_in)
