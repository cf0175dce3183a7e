"""What lies between the convolutions of a PyramidNet's encoder and levels, as Triton kernels.

A program works on `block` pixels of one sample. Tensors lie channels last; an `estimate` has 16
channels a pixel, float32: flow 4, mask logit 1, carried features, and some to spare. `time` is
(B,) float32, `missed` the photometric step (B, 2, H, W). Frames come with the distance between
their samples, which is 0 where one frame meets many times.
"""

import triton
import triton.language as tl

from midflow.gpu.sampling import (
    bilinear,
    inside,
    pixel_block,
    read_pixels,
    resized_pixels,
    resized_plane,
)


@triton.jit
def interleave_kernel(image, picture, elements, count, wide: tl.constexpr, block: tl.constexpr):
    """Planes (B, 3, H, W) to pixels: (B, H, W, 4) float32, and `wide` channels for the encoder."""
    sample = tl.program_id(1).to(tl.int64)
    index = tl.program_id(0) * block + tl.arange(0, block)
    is_in = index < count
    source = image + sample * 3 * count + index
    red = tl.load(source, mask=is_in, other=0.0)
    green = tl.load(source + count, mask=is_in, other=0.0)
    blue = tl.load(source + 2 * count, mask=is_in, other=0.0)
    lanes = tl.arange(0, wide)[None, :]
    color = tl.where(lanes == 1, green[:, None], tl.where(lanes == 2, blue[:, None], 0.0))
    color = tl.where(lanes == 0, red[:, None], color)
    pixel = (sample * count + index)[:, None]
    tl.store(elements + pixel * wide + lanes, color, mask=is_in[:, None])
    tl.store(picture + pixel * 4 + lanes, color, mask=is_in[:, None] & (lanes < 4))


@triton.jit
def halve_kernel(
    source, source_width, source_height, picture, elements, width, height, whole_width,
    whole_height, wide: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """The means of 2 x 2 pixels; where the source ends, its last ones again.

    `picture` is (B, height, width, 4); `elements`, for the encoder, repeat its last row and column
    up to the whole size.
    """
    sample = tl.program_id(1).to(tl.int64)
    index, column, row, is_in = pixel_block(whole_width, whole_width * whole_height, block)
    source += sample * source_width * source_height * 4
    lanes = tl.arange(0, wide)
    top = inside(2 * tl.minimum(row, height - 1), source_height)
    left = inside(2 * tl.minimum(column, width - 1), source_width)
    bottom, right = inside(top + 1, source_height), inside(left + 1, source_width)
    mean = read_pixels(source, top, left, source_width, lanes, 4, is_in)
    mean += read_pixels(source, top, right, source_width, lanes, 4, is_in)
    mean += read_pixels(source, bottom, left, source_width, lanes, 4, is_in)
    mean += read_pixels(source, bottom, right, source_width, lanes, 4, is_in)
    mean *= 0.25
    lanes = lanes[None, :]
    whole = (sample * whole_width * whole_height + index)[:, None]
    tl.store(elements + whole * wide + lanes, mean, mask=is_in[:, None])
    is_kept = (is_in & (row < height) & (column < width))[:, None] & (lanes < 4)
    pixel = (sample * width * height + row * width + column)[:, None]
    tl.store(picture + pixel * 4 + lanes, mean, mask=is_kept)


@triton.jit
def finish_kernel(x, bias, count, channels: tl.constexpr, padded: tl.constexpr,
                  leaky: tl.constexpr, block: tl.constexpr):  # fmt: skip
    """Adds the bias of a convolution, and the leaky ReLU, in place: `count` pixels."""
    index = (tl.program_id(0) * block + tl.arange(0, block)).to(tl.int64)[:, None]
    lanes = tl.arange(0, padded)[None, :]
    mask = (index < count) & (lanes < channels)
    value = tl.load(x + index * channels + lanes, mask=mask, other=0.0).to(tl.float32)
    value += tl.load(bias + lanes, mask=lanes < channels, other=0.0)
    if leaky:
        value = tl.where(value < 0, 0.2 * value, value)
    tl.store(x + index * channels + lanes, value, mask=mask)


@triton.jit
def flow_of(estimate, column, row, ratio, step, width, height, is_in):
    """The four components of an estimate's flow at `ratio` times its size."""
    a = resized_plane(estimate, column, row, step, width, height, 0, 16, is_in) * ratio
    b = resized_plane(estimate, column, row, step, width, height, 1, 16, is_in) * ratio
    c = resized_plane(estimate, column, row, step, width, height, 2, 16, is_in) * ratio
    d = resized_plane(estimate, column, row, step, width, height, 3, 16, is_in) * ratio
    return a, b, c, d


@triton.jit
def warp_kernel(
    picture0, stride0, picture1, stride1, estimate, warped, width, height, previous_width,
    previous_height, ratio, step, block: tl.constexpr,
):  # fmt: skip
    """Both pictures warped along an estimate of 1 / ratio their size: (2, B, H, W, 4) float32."""
    sample = tl.program_id(1).to(tl.int64)
    count = width * height
    index, column, row, is_in = pixel_block(width, count, block)
    estimate += sample * previous_width * previous_height * 16
    dx0, dy0, dx1, dy1 = flow_of(
        estimate, column, row, ratio, step, previous_width, previous_height, is_in
    )
    lanes = tl.arange(0, 4)
    mask = is_in[:, None] & (lanes < 4)[None, :]
    picture0, picture1 = picture0 + sample * stride0, picture1 + sample * stride1
    to = warped + (sample * count + index)[:, None] * 4 + lanes[None, :]
    color = bilinear(picture0, column, row, dx0, dy0, width, height, lanes, 4, is_in)
    tl.store(to, color, mask=mask)
    color = bilinear(picture1, column, row, dx1, dy1, width, height, lanes, 4, is_in)
    tl.store(to + tl.num_programs(1).to(tl.int64) * count * 4, color, mask=mask)


@triton.jit
def _store_view(features, color, pixel, row, column, dx, dy, width, height, view, x, at,
                wide: tl.constexpr, padded: tl.constexpr, has_previous: tl.constexpr,
                is_in):  # fmt: skip
    """Warped features into the matcher's and the block's input, the picture behind the former."""
    lanes = tl.arange(0, padded)
    if has_previous:
        taken = bilinear(features, column, row, dx, dy, width, height, lanes, wide, is_in)
    else:
        taken = read_pixels(features, row, column, width, lanes, wide, is_in)
    mask = is_in[:, None] & (lanes < wide)[None, :]
    tl.store(view + lanes[None, :], taken, mask=mask)
    tl.store(x + at + lanes[None, :], taken, mask=mask)
    rest = tl.arange(0, 8)
    last = read_pixels(color, row, column, width, rest, 4, is_in)
    tl.store(view + wide + rest[None, :], last, mask=is_in[:, None])


@triton.jit
def _copy_color(picture, row, column, width, to, is_in):
    lanes = tl.arange(0, 4)
    color = read_pixels(picture, row, column, width, lanes, 4, is_in)
    tl.store(to + lanes[None, :], color, mask=is_in[:, None] & (lanes < 4)[None, :])


@triton.jit
def level_inputs_kernel(
    features0, features_stride0, features1, features_stride1, warped0, warped_stride0, warped1,
    warped_stride1, picture0, stride0, picture1, stride1, estimate, missed, time, views, x, width,
    height, previous_width, previous_height, ratio, step, wide: tl.constexpr,
    padded: tl.constexpr, has_previous: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """What the block of a level reads.

    `views`, (2 B, H, W, wide + 8), for the matcher: features, then the picture. `x`, (B, H, W,
    2 wide + 32), for the entrance: features 0, features 1, the estimate (its last three channels
    are time and photometric step), pictures warped, pictures as they are.
    """
    sample = tl.program_id(1).to(tl.int64)
    count = width * height
    index, column, row, is_in = pixel_block(width, count, block)
    pixel = (sample * count + index)[:, None]
    estimate += sample * previous_width * previous_height * 16
    features0, features1 = (
        features0 + sample * features_stride0,
        features1 + sample * features_stride1,
    )
    warped0, warped1 = warped0 + sample * warped_stride0, warped1 + sample * warped_stride1
    picture0, picture1 = picture0 + sample * stride0, picture1 + sample * stride1
    nothing = tl.zeros((block,), tl.float32)
    dx0, dy0, dx1, dy1 = nothing, nothing, nothing, nothing
    lanes = tl.arange(0, 16)
    known = tl.zeros((block, 16), tl.float32)
    if has_previous:
        dx0, dy0, dx1, dy1 = flow_of(
            estimate, column, row, ratio, step, previous_width, previous_height, is_in
        )
        known = resized_pixels(
            estimate, column, row, step, previous_width, previous_height, lanes, 16, is_in
        )
    view = views + pixel * (wide + 8)
    to = x + pixel * (2 * wide + 32)
    _store_view(features0, warped0, pixel, row, column, dx0, dy0, width, height, view, to, 0, wide,
                padded, has_previous, is_in)  # fmt: skip
    view += tl.num_programs(1).to(tl.int64) * count * (wide + 8)
    _store_view(features1, warped1, pixel, row, column, dx1, dy1, width, height, view, to, wide,
                wide, padded, has_previous, is_in)  # fmt: skip
    step_x = tl.load(missed + sample * 2 * count + index, mask=is_in, other=0.0)[:, None]
    step_y = tl.load(missed + (sample * 2 + 1) * count + index, mask=is_in, other=0.0)[:, None]
    lanes = lanes[None, :]
    known = tl.where(lanes < 4, known * ratio, known)
    known = tl.where(lanes == 13, tl.load(time + sample), known)
    known = tl.where(lanes == 14, step_x, tl.where(lanes == 15, step_y, known))
    to += 2 * wide
    tl.store(to + lanes, known, mask=is_in[:, None])
    _copy_color(warped0, row, column, width, to + 16, is_in)
    _copy_color(warped1, row, column, width, to + 20, is_in)
    _copy_color(picture0, row, column, width, to + 24, is_in)
    _copy_color(picture1, row, column, width, to + 28, is_in)


@triton.jit
def both_ways(along, down, t, lanes):
    """A motion from frame 0 to frame 1, (block, 1) each, as flow from time t to both, in lanes."""
    shift = tl.where((lanes == 0) | (lanes == 2), along, down)
    shift *= tl.where(lanes < 2, -t, 1 - t)
    return tl.where(lanes < 4, shift, 0.0)


@triton.jit
def cell_of(column, row, width):
    """The cell of 2 x 2 pixels a pixel is in, and which of the four it is."""
    return row // 2 * (width // 2) + column // 2, row % 2 * 2 + column % 2


@triton.jit
def update_kernel(
    out, bias, previous, missed, time, estimate, width, height, previous_width, previous_height,
    ratio, step, slowest, share: tl.constexpr, has_previous: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """The estimate after a level from what its block found, `out` (B, H / 2, W / 2, 4 x 16).

    Channel `share` of a pixel's 16 is how much of the photometric step to take. Where the square of
    the motion is below `slowest`, nothing is left.
    """
    sample = tl.program_id(1).to(tl.int64)
    count = width * height
    index, column, row, is_in = pixel_block(width, count, block)
    lanes = tl.arange(0, 16)
    cell, part = cell_of(column, row, width)
    start = (sample * count + cell.to(tl.int64) * 4 + part) * 16
    mask = is_in[:, None] & (lanes < 16)[None, :]
    found = tl.load(out + start[:, None] + lanes[None, :], mask=mask, other=0.0).to(tl.float32)
    found += tl.load(bias + part[:, None] * 16 + lanes[None, :])
    taken = tl.load(out + start + share, mask=is_in, other=0.0).to(tl.float32)
    taken += tl.load(bias + part * 16 + share)
    along = taken * tl.load(missed + sample * 2 * count + index, mask=is_in, other=0.0)
    down = taken * tl.load(missed + (sample * 2 + 1) * count + index, mask=is_in, other=0.0)
    found += both_ways(along[:, None], down[:, None], tl.load(time + sample), lanes[None, :])
    if has_previous:
        previous += sample * previous_width * previous_height * 16
        before = resized_pixels(
            previous, column, row, step, previous_width, previous_height, lanes, 16, is_in
        )
        found += tl.where(lanes[None, :] < 4, before * ratio, 0.0)
    way = tl.where((lanes == 2) | (lanes == 3), 1.0, tl.where(lanes < 2, -1.0, 0.0))[None, :]
    is_across = (lanes % 2 == 0)[None, :]
    across = tl.sum(tl.where(is_across, way * found, 0.0), 1)
    down = tl.sum(tl.where(is_across, 0.0, way * found), 1)
    is_slow = across * across + down * down < slowest
    found = tl.where(is_slow[:, None], 0.0, found)
    to = estimate + (sample * count + index)[:, None] * 16 + lanes[None, :]
    tl.store(to, found, mask=mask)
