"""Convolutions with bias and activation in one pass, as a Triton kernel.

Implicit matrix products: a program makes `columns` x `rows` pixels of one sample, in `wide` of the
channels that come out, as a product of what these pixels see and the weights. The long side of the
product, over which sums are taken, is every tap of every channel. Tensors lie channels last.
"""

import triton
import triton.language as tl


# Compiled once for all sizes: what a size is a multiple of makes no difference to the code.
@triton.jit(do_not_specialize=["width", "height", "out_width", "out_height", "tiles_across"])
def convolve_kernel(
    x, weight, bias, out, width, height, out_width, out_height, tiles_across,
    channels: tl.constexpr, outputs: tl.constexpr, stride: tl.constexpr, split: tl.constexpr,
    together: tl.constexpr, finishes: tl.constexpr, leaky: tl.constexpr,
    precision: tl.constexpr, columns: tl.constexpr, rows: tl.constexpr, wide: tl.constexpr,
    deep: tl.constexpr,
):  # fmt: skip
    """`x` (B, height, width, channels) to (B, out_height, out_width, outputs), by 3 x 3 taps.

    A transposed convolution is four, one for each parity of an output's row and column: `out` is
    (B, 2 out_height, 2 out_width, outputs). With `split` 4 these are programs of their own, with
    2 x 2 taps; with `together` 4 the channels of all lie side by side in the product, with 3 x 3
    taps. Else both are 1.

    `weight` is (split, together * outputs, steps * deep) in the order in which it is read, zeros
    behind the last: where `deep` divides the channels, `deep` channels of every tap, then the next
    `deep`; else all channels of every tap. With `finishes`, `bias` (float32) is added, and then
    comes the leaky ReLU if there is one.
    """
    side: tl.constexpr = 2 if split == 4 else 3
    taps: tl.constexpr = side * side
    steps: tl.constexpr = (taps * channels + deep - 1) // deep
    lanes: tl.constexpr = together * outputs
    parts: tl.constexpr = (lanes + wide - 1) // wide
    part = tl.program_id(0) % parts
    parity = tl.program_id(0) // parts % split
    tile = tl.program_id(0) // (parts * split)
    sample = tl.program_id(1).to(tl.int64)
    left, top = tile % tiles_across * columns, tile // tiles_across * rows
    pixel = tl.arange(0, rows * columns)
    across, down = pixel % columns, pixel // columns
    # The first tap of each pixel, counted from the tile's corner: only that needs long numbers.
    first_column = across * stride + parity % 2 - 1
    first_row = down * stride + parity // 2 - 1
    x += ((sample * height + top * stride) * width + left * stride) * channels
    first = ((first_row * width + first_column) * channels)[:, None]
    first_column += left * stride
    first_row += top * stride
    # A bit for each tap that is in the picture.
    inside_row = tl.zeros((rows * columns,), tl.int32)
    for bit in tl.static_range(side):
        column = first_column + bit
        inside_row |= ((column >= 0) & (column < width)).to(tl.int32) << bit
    inside = tl.zeros((rows * columns,), tl.int32)
    for line in tl.static_range(side):
        row = first_row + line
        inside |= tl.where((row >= 0) & (row < height), inside_row << line * side, 0)
    inside = inside[:, None]
    lane = part * wide + tl.arange(0, wide)
    is_lane = (lane < lanes)[None, :]
    k = tl.arange(0, deep)
    weight += (parity * lanes + lane)[None, :] * (steps * deep) + k[:, None]
    total = tl.zeros((rows * columns, wide), tl.float32)
    for step in range(steps):
        if channels % deep == 0:
            tap, channel = step % taps, (step // taps * deep + k)[None, :]
        else:
            place = (step * deep + k)[None, :]
            tap, channel = place // channels, place % channels
        place = first + (tap // side * width + tap % side) * channels + channel
        is_in = (inside >> tap & 1) == 1
        # Through the first cache, where the next taps find the same pixels.
        seen = tl.load(x + place, mask=is_in, other=0.0, cache_modifier=".ca")
        factors = tl.load(weight + step * deep, mask=is_lane, other=0.0)
        total = tl.dot(seen, factors, total, input_precision=precision)
    channel = lane % outputs
    if finishes:
        total += tl.load(bias + channel, mask=lane < lanes, other=0.0)[None, :]
        if leaky:
            total = tl.where(total < 0, 0.2 * total, total)
    enlarged: tl.constexpr = 2 if split * together == 4 else 1
    out_row_length = out_width * enlarged
    out += ((sample * out_height + top) * enlarged * out_row_length + left * enlarged) * outputs
    place = ((down * out_row_length + across) * enlarged * outputs)[:, None] + channel[None, :]
    if together == 4:
        parity = (lane // outputs)[None, :]
    place += (parity // 2 * out_row_length + parity % 2) * outputs
    is_out = ((across + left < out_width) & (down + top < out_height))[:, None] & is_lane
    tl.store(out + place, total.to(out.dtype.element_ty), mask=is_out)
