"""How alike the views of both frames are, as Triton kernels (nets/correlation.py)."""

import triton
import triton.language as tl

from midflow.gpu.sampling import pixel_block, read_pixels


@triton.jit
def normalize_kernel(
    matched, bias, count, floor: tl.constexpr, channels: tl.constexpr, padded: tl.constexpr,
    block: tl.constexpr,
):  # fmt: skip
    """Features of `count` pixels less their mean and of length 1, in place."""
    index = (tl.program_id(0) * block + tl.arange(0, block)).to(tl.int64)[:, None]
    lanes = tl.arange(0, padded)[None, :]
    mask = (index < count) & (lanes < channels)
    value = tl.load(matched + index * channels + lanes, mask=mask, other=0.0).to(tl.float32)
    value += tl.load(bias + lanes, mask=lanes < channels, other=0.0)
    value -= (tl.sum(value, 1) * (1.0 / channels))[:, None]
    value = tl.where(mask, value, 0.0)
    length = tl.sqrt(tl.sum(value * value, 1))
    value *= (1.0 / tl.maximum(length, floor))[:, None]
    tl.store(matched + index * channels + lanes, value, mask=mask)


@triton.jit
def misfit_kernel(unit, misfit, count, channels: tl.constexpr, padded: tl.constexpr,
                  block: tl.constexpr):  # fmt: skip
    """Squared distance of the features of both views, (B, H, W) float32; `count` B * H * W."""
    index = (tl.program_id(0) * block + tl.arange(0, block)).to(tl.int64)
    lanes = tl.arange(0, padded)[None, :]
    mask = (index < count)[:, None] & (lanes < channels)
    place = unit + index[:, None] * channels + lanes
    apart = tl.load(place, mask=mask, other=0.0).to(tl.float32)
    apart -= tl.load(place + count * channels, mask=mask, other=0.0).to(tl.float32)
    tl.store(misfit + index, tl.sum(apart * apart, 1), mask=index < count)


@triton.jit
def _misfit_at(misfit, row, column, width, is_there):
    return tl.load(misfit + row * width + column, mask=is_there, other=0.0)


@triton.jit
def correlate_kernel(
    unit, misfit, entered, bias, merged, width, height, matched: tl.constexpr, padded: tl.constexpr,
    radius: tl.constexpr, channels: tl.constexpr, channels_padded: tl.constexpr,
    slots: tl.constexpr, spare: tl.constexpr, sharpness: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """What merge reads: the entrance's output, the likeness under every displacement, what passes.

    `unit` (2 B, H, W, matched); `misfit` (B, H, W); `entered` (B, H, W, channels), whose bias and
    activation are due; `merged` (B, H, W, channels + (2 radius + 1) slots + spare): `slots` for
    each row of displacements, `spare` for what passes, the last ones 0.
    """
    sample = tl.program_id(1).to(tl.int64)
    count = width * height
    index, column, row, is_in = pixel_block(width, count, block)
    pixel = (sample * count + index)[:, None]
    side: tl.constexpr = 2 * radius + 1
    to = merged + pixel * (channels + side * slots + spare)
    lanes = tl.arange(0, channels_padded)[None, :]
    mask = is_in[:, None] & (lanes < channels)
    value = tl.load(entered + pixel * channels + lanes, mask=mask, other=0.0).to(tl.float32)
    value += tl.load(bias + lanes, mask=lanes < channels, other=0.0)
    tl.store(to + lanes, tl.where(value < 0, 0.2 * value, value), mask=mask)
    unit0 = unit + sample * count * matched
    unit1 = unit0 + tl.num_programs(1).to(tl.int64) * count * matched
    lanes = tl.arange(0, padded)
    places = tl.arange(0, slots)[None, :]
    misfit += sample * count
    most = tl.full((block,), float("-inf"), tl.float32)
    total = tl.zeros((block,), tl.float32)
    across, down = total, total
    for i in range(side):
        dy = i - radius
        is_row = is_in & (row - dy >= 0) & (row - dy < height)
        is_row = is_row & (row + dy >= 0) & (row + dy < height)
        found = tl.zeros((block, slots), tl.float32)
        for j in tl.static_range(side):
            dx = radius - j
            is_there = is_row & (column - dx >= 0) & (column - dx < width)
            is_there = is_there & (column + dx >= 0) & (column + dx < width)
            a = read_pixels(unit0, row - dy, column - dx, width, lanes, matched, is_there)
            b = read_pixels(unit1, row + dy, column + dx, width, lanes, matched, is_there)
            alike = tl.sum(a * b, 1)
            found += tl.where(places == j, alike[:, None], 0.0)
            surely = sharpness * alike * _misfit_at(misfit, row - dy, column - dx, width, is_there)
            surely *= _misfit_at(misfit, row + dy, column + dx, width, is_there)
            before, most = most, tl.maximum(most, surely)
            fading, share = tl.exp(before - most), tl.exp(surely - most)
            total = total * fading + share
            across = across * fading + share * dx
            down = down * fading + share * dy
        found = tl.where(found < 0, 0.2 * found, found)
        tl.store(to + channels + i * slots + places, found, mask=is_in[:, None] & (places < slots))
    places = tl.arange(0, spare)[None, :]
    passing = tl.where(places == 0, (across / total)[:, None], 0.0)
    passing = tl.where(places == 1, (down / total)[:, None], passing)
    most = tl.minimum(most, sharpness) / sharpness
    passing = tl.where(places == 2, most[:, None], passing)
    tl.store(to + channels + side * slots + places, passing, mask=is_in[:, None])
