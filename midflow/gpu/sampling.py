"""Reading pictures inside Triton kernels: the equations of nets/warp.py, for a block of pixels.

Pictures and features lie channels last: a pixel's channels are read in one go. What is called
`column`, `row`, `dx`, `dy` is a vector of `block` pixels; `picture` points to the first pixel of
one sample, and `lanes` are the channels 0, 1, ... of which those below `channels` are there.
"""

import triton
import triton.language as tl


@triton.jit
def pixel_block(width, count, block: tl.constexpr):
    """This program's pixels of a picture: their index, column and row, and which are in it."""
    index = tl.program_id(0) * block + tl.arange(0, block)
    return index, index % width, index // width, index < count


@triton.jit
def read_pixels(picture, row, column, width, lanes, channels: tl.constexpr, is_in):
    """(block, lanes) float32; 0 where `is_in` is not, and beyond the channels."""
    pixel = (row * width + column).to(tl.int64) * channels
    mask = is_in[:, None] & (lanes < channels)[None, :]
    return tl.load(picture + pixel[:, None] + lanes[None, :], mask=mask, other=0.0).to(tl.float32)


@triton.jit
def inside(place, length):
    """Whole numbers limited to [0, length)."""
    return tl.minimum(tl.maximum(place, 0), length - 1)


@triton.jit
def split(position, length):
    """Neighbours on either side of float positions, the border repeated, and the way between."""
    position = tl.minimum(tl.maximum(position, 0.0), (length - 1) * 1.0)
    low = inside(position.to(tl.int32), length)
    return low, inside(low + 1, length), position - low.to(tl.float32)


@triton.jit
def _between(
    picture, left, right, across, top, bottom, down, width, lanes, channels: tl.constexpr, is_in
):
    """(block, lanes) of four neighbours, mixed by how far across and down it is."""
    across, down = across[:, None], down[:, None]
    upper = read_pixels(picture, top, left, width, lanes, channels, is_in) * (1 - across)
    upper += read_pixels(picture, top, right, width, lanes, channels, is_in) * across
    lower = read_pixels(picture, bottom, left, width, lanes, channels, is_in) * (1 - across)
    lower += read_pixels(picture, bottom, right, width, lanes, channels, is_in) * across
    return upper * (1 - down) + lower * down


@triton.jit
def bilinear(picture, column, row, dx, dy, width, height, lanes, channels: tl.constexpr, is_in):
    """(block, lanes) of a picture where the flow points to, the border repeated outside."""
    left, right, across = split(column.to(tl.float32) + dx, width)
    top, bottom, down = split(row.to(tl.float32) + dy, height)
    return _between(picture, left, right, across, top, bottom, down, width, lanes, channels, is_in)


@triton.jit
def cubic(rest, k: tl.constexpr):
    """Weight of tap `k` of 4 at `rest` behind tap 1 (Keys, 1981, a = -0.75)."""
    if k == 0 or k == 3:
        x = rest + 1 if k == 0 else 2 - rest
        weight = ((-0.75 * x + 3.75) * x - 6.0) * x + 3.0
    else:
        x = rest if k == 1 else 1 - rest
        weight = (1.25 * x - 2.25) * x * x + 1.0
    return weight


@triton.jit
def split_cubic(position, length):
    """The second of the four taps around float positions, and the way beyond it.

    More than two pixels outside all taps read the border, so that positions end there: what is
    far away, or no number, stays a whole number that a register holds.
    """
    position = tl.minimum(tl.maximum(position, -3.0), (length + 2) * 1.0)
    low = tl.floor(position)
    return tl.minimum(tl.maximum(low.to(tl.int32), -3), length + 2), position - low


@triton.jit
def bicubic(picture, column, row, dx, dy, width, height, lanes, channels: tl.constexpr, is_in):
    """Likewise, bicubic."""
    left, across = split_cubic(column.to(tl.float32) + dx, width)
    top, down = split_cubic(row.to(tl.float32) + dy, height)
    total = tl.zeros((column.shape[0], lanes.shape[0]), tl.float32)
    for j in tl.static_range(4):
        line = inside(top + (j - 1), height)
        weight = cubic(down, j)
        for i in tl.static_range(4):
            place = inside(left + (i - 1), width)
            taken = read_pixels(picture, line, place, width, lanes, channels, is_in)
            total += taken * (weight * cubic(across, i))[:, None]
    return total


@triton.jit
def resized(place, step, length):
    """Where a pixel of a picture lies in one `step` times its size, with pixel areas aligned."""
    return split((place.to(tl.float32) + 0.5) * step - 0.5, length)


@triton.jit
def resized_pixels(picture, column, row, step, width, height, lanes, channels: tl.constexpr, is_in):
    """(block, lanes) of what `resize` by 1 / step makes of a picture of width x height."""
    left, right, across = resized(column, step, width)
    top, bottom, down = resized(row, step, height)
    return _between(picture, left, right, across, top, bottom, down, width, lanes, channels, is_in)


@triton.jit
def resized_plane(
    picture, column, row, step, width, height, plane: tl.constexpr, channels: tl.constexpr, is_in
):
    """One channel of the same, (block,)."""
    left, right, across = resized(column, step, width)
    top, bottom, down = resized(row, step, height)
    picture += plane
    top, bottom = top * width, bottom * width
    a = tl.load(picture + (top + left).to(tl.int64) * channels, mask=is_in, other=0.0)
    b = tl.load(picture + (top + right).to(tl.int64) * channels, mask=is_in, other=0.0)
    c = tl.load(picture + (bottom + left).to(tl.int64) * channels, mask=is_in, other=0.0)
    d = tl.load(picture + (bottom + right).to(tl.int64) * channels, mask=is_in, other=0.0)
    upper = a.to(tl.float32) * (1 - across) + b.to(tl.float32) * across
    return upper * (1 - down) + (c.to(tl.float32) * (1 - across) + d.to(tl.float32) * across) * down
