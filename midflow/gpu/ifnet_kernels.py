"""What lies between the convolutions of the newest IFNets (4.22.lite, 4.25, 4.26): Triton kernels.

A frame at work has 8 channels a pixel, float32: colours 3, features 4, one to spare. A head has 16,
flow 4, logit 1, features 8, the rest to spare, as its convolution leaves them: for every cell of
2 x 2 pixels those of each, before the bias. Sides of a head are those of its pixels.
"""

import triton
import triton.language as tl

from midflow.gpu.kernels import cell_of
from midflow.gpu.sampling import bilinear, pixel_block, read_pixels, resized


@triton.jit
def work_kernel(image, encoded, bias, work, count, block: tl.constexpr):
    """Colours (B, 3, H, W) and features, channels 3 to 6 of (B, H, W, 8), as (B, H, W, 8)."""
    sample = tl.program_id(1).to(tl.int64)
    index = tl.program_id(0) * block + tl.arange(0, block)
    is_in = index < count
    source = image + sample * 3 * count + index
    red = tl.load(source, mask=is_in, other=0.0)[:, None]
    green = tl.load(source + count, mask=is_in, other=0.0)[:, None]
    blue = tl.load(source + 2 * count, mask=is_in, other=0.0)[:, None]
    lanes = tl.arange(0, 8)[None, :]
    place = (sample * count + index)[:, None] * 8 + lanes
    mask = is_in[:, None] & (lanes < 8)
    value = tl.load(encoded + place, mask=mask, other=0.0).to(tl.float32) + tl.load(bias + lanes)
    value = tl.where(lanes == 0, red, tl.where(lanes == 1, green, value))
    value = tl.where(lanes == 2, blue, tl.where(lanes == 7, 0.0, value))
    tl.store(work + place, value, mask=mask)


@triton.jit
def _head_pixels(head, bias, row, column, width, lanes, is_in):
    """(block, lanes) of a head's pixels."""
    cell, part = cell_of(column, row, width)
    place = (cell.to(tl.int64) * 4 + part)[:, None] * 16 + lanes[None, :]
    mask = is_in[:, None] & (lanes < 16)[None, :]
    value = tl.load(head + place, mask=mask, other=0.0).to(tl.float32)
    return value + tl.load(bias + part[:, None] * 16 + lanes[None, :])


@triton.jit
def _head_resized(head, bias, column, row, step, width, height, lanes, is_in):
    """(block, lanes) of what `resize` by 1 / step makes of a head."""
    left, right, across = resized(column, step, width)
    top, bottom, down = resized(row, step, height)
    across, down = across[:, None], down[:, None]
    upper = _head_pixels(head, bias, top, left, width, lanes, is_in) * (1 - across)
    upper += _head_pixels(head, bias, top, right, width, lanes, is_in) * across
    lower = _head_pixels(head, bias, bottom, left, width, lanes, is_in) * (1 - across)
    lower += _head_pixels(head, bias, bottom, right, width, lanes, is_in) * across
    return upper * (1 - down) + lower * down


@triton.jit
def _column_of(values, lanes, k: tl.constexpr):
    return tl.sum(tl.where(lanes[None, :] == k, values, 0.0), 1)


@triton.jit
def block_inputs_kernel(
    work0, stride0, work1, stride1, flow, head, bias, time, x, width, height, full_width,
    full_height, head_width, head_height, grid, head_step, is_first: tl.constexpr,
    is_whole: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """What a block at 1 / grid of the frame reads: (B, height, width, 32).

    Both frames warped and reduced, the flow so far, logit and features of the head before, time.
    `flow` is (B, full_height, full_width, 4) float32; `is_whole`: grid is 1, else it is even.
    """
    sample = tl.program_id(1).to(tl.int64)
    count = width * height
    index, column, row, is_in = pixel_block(width, count, block)
    work0, work1 = work0 + sample * stride0, work1 + sample * stride1
    flow += sample * full_width * full_height * 4
    lanes, quads, states = tl.arange(0, 8), tl.arange(0, 4), tl.arange(0, 16)
    frame0 = tl.zeros((block, 8), tl.float32)
    frame1 = tl.zeros((block, 8), tl.float32)
    motion = tl.zeros((block, 16), tl.float32)
    taps: tl.constexpr = 1 if is_whole else 4
    for k in tl.static_range(taps):  # the pixels in the middle of a cell, whose mean it is
        down, along = row, column
        if not is_whole:
            down = row * grid + (grid // 2 - 1 + k // 2)
            along = column * grid + (grid // 2 - 1 + k % 2)
        if is_first:
            frame0 += read_pixels(work0, down, along, full_width, lanes, 8, is_in)
            frame1 += read_pixels(work1, down, along, full_width, lanes, 8, is_in)
        else:
            found = read_pixels(flow, down, along, full_width, quads, 4, is_in)
            dx0, dy0 = _column_of(found, quads, 0), _column_of(found, quads, 1)
            dx1, dy1 = _column_of(found, quads, 2), _column_of(found, quads, 3)
            frame0 += bilinear(
                work0, along, down, dx0, dy0, full_width, full_height, lanes, 8, is_in
            )
            frame1 += bilinear(
                work1, along, down, dx1, dy1, full_width, full_height, lanes, 8, is_in
            )
            motion += read_pixels(flow, down, along, full_width, states, 4, is_in)
    share: tl.constexpr = 1.0 / taps
    known = motion * (share / grid)
    if not is_first:
        head += sample * head_width * head_height * 16
        carried = _head_resized(
            head, bias, column, row, head_step, head_width, head_height, states, is_in
        )
        known += tl.where((states >= 4)[None, :] & (states < 13)[None, :], carried, 0.0)
    known = tl.where(states[None, :] == 13, tl.load(time + sample), known)
    to = x + (sample * count + index)[:, None] * 32
    tl.store(to + lanes[None, :], frame0 * share, mask=is_in[:, None])
    tl.store(to + 8 + lanes[None, :], frame1 * share, mask=is_in[:, None])
    tl.store(to + 16 + states[None, :], known, mask=is_in[:, None])


@triton.jit
def add_flow_kernel(
    head, bias, flow, width, height, head_width, head_height, ratio, step, is_first: tl.constexpr,
    block: tl.constexpr,
):  # fmt: skip
    """Adds a head's flow, enlarged `ratio` times, to `flow` (B, H, W, 4), or begins it."""
    sample = tl.program_id(1).to(tl.int64)
    count = width * height
    index, column, row, is_in = pixel_block(width, count, block)
    lanes = tl.arange(0, 4)
    head += sample * head_width * head_height * 16
    value = _head_resized(head, bias, column, row, step, head_width, head_height, lanes, is_in)
    value *= ratio
    place = flow + (sample * count + index)[:, None] * 4 + lanes[None, :]
    mask = is_in[:, None] & (lanes < 4)[None, :]
    if not is_first:
        value += tl.load(place, mask=mask, other=0.0)
    tl.store(place, value, mask=mask)


@triton.jit
def mix_kernel(
    work0, stride0, work1, stride1, flow, head, bias, frame, motion, weights, width, height,
    head_width, head_height, head_step, only_frame: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Reads both frames along the flow and mixes them by the last head's logit.

    `frame` (B, 3, H, W), `motion` (B, 4, H, W) and `weights` (B, 1, H, W) float32; the latter two
    are left alone with `only_frame`.
    """
    sample = tl.program_id(1).to(tl.int64)
    count = width * height
    index, column, row, is_in = pixel_block(width, count, block)
    work0, work1 = work0 + sample * stride0, work1 + sample * stride1
    quads, lanes = tl.arange(0, 4), tl.arange(0, 8)
    found = read_pixels(flow + sample * count * 4, row, column, width, quads, 4, is_in)
    dx0, dy0 = _column_of(found, quads, 0), _column_of(found, quads, 1)
    dx1, dy1 = _column_of(found, quads, 2), _column_of(found, quads, 3)
    head += sample * head_width * head_height * 16
    logit = _head_resized(head, bias, column, row, head_step, head_width, head_height, lanes, is_in)
    weight = 1.0 / (1.0 + tl.exp(-_column_of(logit, lanes, 4)))
    before = bilinear(work0, column, row, dx0, dy0, width, height, quads, 8, is_in)
    after = bilinear(work1, column, row, dx1, dy1, width, height, quads, 8, is_in)
    mixed = after + weight[:, None] * (before - after)
    to = frame + sample * 3 * count + index
    for k in tl.static_range(3):
        tl.store(to + k * count, _column_of(mixed, quads, k), mask=is_in)
    if not only_frame:
        to = motion + sample * 4 * count + index
        for k in tl.static_range(4):
            tl.store(to + k * count, _column_of(found, quads, k), mask=is_in)
        tl.store(weights + sample * count + index, weight, mask=is_in)
