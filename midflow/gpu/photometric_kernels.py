"""The photometric step of nets/photometric.py in three kernels: products, rows, columns and solve.

The mean over a window, taken twice, is one weighted mean of nine along each axis. Products lie in
planes, (B, 5, H, W) float32: fewer bits would leave no step where gradients are small.
"""

import triton
import triton.language as tl

from midflow.gpu.sampling import inside, pixel_block, read_pixels


@triton.jit
def _means(first, second, row, column, width, lanes, time, is_in):
    """Both pictures there, mixed as at `time`."""
    before = read_pixels(first, row, column, width, lanes, 4, is_in)
    after = read_pixels(second, row, column, width, lanes, 4, is_in)
    return after + time * (before - after)


@triton.jit
def products_kernel(
    first, first_stride, second, second_stride, time, products, width, height, block: tl.constexpr
):
    """Slopes of the mean times slopes and differences, summed over colours.

    `first`, `second`: (B, H, W, 4) float32, the last channel 0; `products`: (B, 5, H, W).
    """
    sample = tl.program_id(1).to(tl.int64)
    count = width * height
    index, column, row, is_in = pixel_block(width, count, block)
    first, second = first + sample * first_stride, second + sample * second_stride
    t = tl.load(time + sample)
    lanes = tl.arange(0, 4)
    left, right = inside(column - 1, width), inside(column + 1, width)
    above, below = inside(row - 1, height), inside(row + 1, height)
    along = _means(first, second, row, right, width, lanes, t, is_in)
    along = 0.5 * (along - _means(first, second, row, left, width, lanes, t, is_in))
    down = _means(first, second, below, column, width, lanes, t, is_in)
    down = 0.5 * (down - _means(first, second, above, column, width, lanes, t, is_in))
    difference = read_pixels(first, row, column, width, lanes, 4, is_in)
    difference -= read_pixels(second, row, column, width, lanes, 4, is_in)
    to = products + sample * 5 * count + index
    tl.store(to, tl.sum(along * along, 1), mask=is_in)
    tl.store(to + count, tl.sum(along * down, 1), mask=is_in)
    tl.store(to + 2 * count, tl.sum(down * down, 1), mask=is_in)
    tl.store(to + 3 * count, tl.sum(along * difference, 1), mask=is_in)
    tl.store(to + 4 * count, tl.sum(down * difference, 1), mask=is_in)


@triton.jit
def _share(place, length):
    """1 / how many of the five places around one there are; 0 for a place that is not."""
    there = tl.minimum(place + 2, length - 1) - tl.maximum(place - 2, 0) + 1
    is_there = (place >= 0) & (place < length)
    return tl.where(is_there, 1.0 / tl.maximum(there, 1).to(tl.float32), 0.0)


@triton.jit
def _weight(place, length, shift: tl.constexpr):
    """Weight of the value at `place + shift` in the mean of five, taken twice, at `place`."""
    total = tl.zeros_like(place).to(tl.float32)
    for j in tl.static_range(-2, 3):
        if shift - j >= -2 and shift - j <= 2:
            total += _share(place + j, length)
    is_there = (place + shift >= 0) & (place + shift < length)
    return tl.where(is_there, total * _share(place, length), 0.0)


@triton.jit
def rows_kernel(products, smooth, width, height, block: tl.constexpr):
    """Means along rows: (B, 5, H, W) to the same."""
    sample = tl.program_id(1).to(tl.int64)
    count = width * height
    index, column, _, is_in = pixel_block(width, count, block)
    start = sample * 5 * count + index
    xx = tl.zeros((block,), tl.float32)
    xy, yy, xd, yd = xx, xx, xx, xx
    for k in tl.static_range(-4, 5):
        weight = _weight(column, width, k)
        is_read = is_in & (column + k >= 0) & (column + k < width)
        source = products + start + k
        xx += weight * tl.load(source, mask=is_read, other=0.0)
        xy += weight * tl.load(source + count, mask=is_read, other=0.0)
        yy += weight * tl.load(source + 2 * count, mask=is_read, other=0.0)
        xd += weight * tl.load(source + 3 * count, mask=is_read, other=0.0)
        yd += weight * tl.load(source + 4 * count, mask=is_read, other=0.0)
    to = smooth + start
    tl.store(to, xx, mask=is_in)
    tl.store(to + count, xy, mask=is_in)
    tl.store(to + 2 * count, yy, mask=is_in)
    tl.store(to + 3 * count, xd, mask=is_in)
    tl.store(to + 4 * count, yd, mask=is_in)


@triton.jit
def solve_kernel(
    smooth,
    missed,
    width,
    height,
    damping: tl.constexpr,
    longest: tl.constexpr,
    block: tl.constexpr,
):
    """Means along columns, and the step they give: (B, 5, H, W) to (B, 2, H, W)."""
    sample = tl.program_id(1).to(tl.int64)
    count = width * height
    index, _, row, is_in = pixel_block(width, count, block)
    start = sample * 5 * count + index
    xx = tl.zeros((block,), tl.float32)
    xy, yy, xd, yd = xx, xx, xx, xx
    for k in tl.static_range(-4, 5):
        weight = _weight(row, height, k)
        is_read = is_in & (row + k >= 0) & (row + k < height)
        source = smooth + start + k * width
        xx += weight * tl.load(source, mask=is_read, other=0.0)
        xy += weight * tl.load(source + count, mask=is_read, other=0.0)
        yy += weight * tl.load(source + 2 * count, mask=is_read, other=0.0)
        xd += weight * tl.load(source + 3 * count, mask=is_read, other=0.0)
        yd += weight * tl.load(source + 4 * count, mask=is_read, other=0.0)
    xx += damping
    yy += damping
    scale = 1.0 / (xx * yy - xy * xy)
    along, down = (yy * xd - xy * yd) * scale, (xx * yd - xy * xd) * scale
    length = tl.sqrt(along * along + down * down)
    shorter = longest / tl.maximum(length, longest)
    to = missed + sample * 2 * count + index
    tl.store(to, along * shorter, mask=is_in)
    tl.store(to + count, down * shorter, mask=is_in)
