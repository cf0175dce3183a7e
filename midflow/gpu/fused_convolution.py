"""Convolutions by a kernel of midflow's own, in place of cuDNN's and the pass behind them."""

from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
import triton
from torch import Tensor

from midflow.gpu.convolution_kernels import convolve_kernel
from midflow.native.convolution import Form, with_identity

PROGRAMS = 132  # multiprocessors of an H100 or H200: with fewer programs, some have nothing to do
WIDEST = 128  # channels of a program: the sums of more do not fit into registers
FEW = 16  # channels with which a transposed convolution is one product instead of four


class Tile(NamedTuple):
    """What one program of a convolution makes. Columns, rows and channels are powers of two."""

    columns: int
    rows: int
    wide: int
    """Channels that come out."""
    warps: int
    stages: int
    """Steps of the sum that are in shared memory or on their way there."""


class FusedConvolution:
    """As `midflow.gpu.convolution.Convolution`, without cuDNN.

    The tile depends on the shapes alone, and not on the batch, so that every process, and every
    batch a frame may be in, has the same sums in the same order.

    Args:
        weight: as `Convolution` has it.
        bias: likewise.
        dtype: likewise.
        form: likewise.
        deep: terms of the sum in a step, 32 or 64; None: `depth` chooses.
        tile: for every size; None: `choose_tile` chooses.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor,
        dtype: torch.dtype,
        form: Form,
        deep: int | None = None,
        tile: Tile | None = None,
    ) -> None:
        weight = with_identity(weight) if form.residual else weight
        taps = weight.permute(2, 3, 1, 0) if form.transposed else weight.permute(2, 3, 0, 1)
        self.outputs, self.channels = taps.shape[2:]
        self.split = self.together = 1
        if form.transposed and self.outputs <= FEW:
            self.together = 4
        elif form.transposed:
            self.split = 4
        self.deep = deep or depth(self.channels, dtype)
        parts = [taps]
        if form.transposed:
            parts = _joined(_parities(taps)) if self.together == 4 else _parities(taps)
        self.weight = packed(torch.stack(parts).to(dtype), self.deep)
        self.bias = bias.float().contiguous()
        self.form = form
        self._tile = tile

    def __call__(self, x: Tensor) -> Tensor:
        """(B, h, w, C) -> (B, h', w', C'), contiguous."""
        return self._convolve(x, finishes=True)

    def product(self, x: Tensor) -> Tensor:
        """The same before bias and activation, for a kernel that does these itself."""
        return self._convolve(x, finishes=False)

    def tile(self, height: int, width: int) -> Tile:
        """With which an input of that size is worked on."""
        stride = self.form.stride
        return self._tile or choose_tile(
            triton.cdiv(height, stride),
            triton.cdiv(width, stride),
            self.together * self.outputs,
            self.split,
            is_half=self.weight.dtype.itemsize == 2,
            is_exact=self._is_exact(),
        )

    def _is_exact(self) -> bool:
        return self.weight.dtype is torch.float32 and not torch.backends.cudnn.allow_tf32

    def _convolve(self, x: Tensor, *, finishes: bool) -> Tensor:
        assert x.is_contiguous() and x.shape[-1] == self.channels and x.dtype == self.weight.dtype
        batch, height, width, _ = x.shape
        stride, tile = self.form.stride, self.tile(height, width)
        rows, columns = triton.cdiv(height, stride), triton.cdiv(width, stride)
        enlarged = 2 if self.form.transposed else 1
        out = x.new_empty(batch, enlarged * rows, enlarged * columns, self.outputs)
        across, down = triton.cdiv(columns, tile.columns), triton.cdiv(rows, tile.rows)
        parts = triton.cdiv(self.together * self.outputs, tile.wide) * self.split
        convolve_kernel[across * down * parts, batch](
            x, self.weight, self.bias, out, width, height, columns, rows, across,
            channels=self.channels, outputs=self.outputs, stride=stride, split=self.split,
            together=self.together, finishes=finishes, leaky=finishes and self.form.leaky,
            precision="ieee" if self._is_exact() else "tf32", columns=tile.columns,
            rows=tile.rows, wide=tile.wide, deep=self.deep, num_warps=tile.warps,
            num_stages=tile.stages,
        )  # fmt: skip
        return out


def depth(channels: int, dtype: torch.dtype) -> int:
    """Terms of the sum that a step adds: 64, or 32 where these would waste some, or are long."""
    return 32 if dtype is torch.float32 or channels < 32 or channels % 64 == 32 else 64


def packed(taps: Tensor, deep: int) -> Tensor:
    """Kernels (parts, rows, columns, outputs, channels) in the order `convolve_kernel` reads them.

    Returns (parts, outputs, steps * deep).
    """
    terms = taps.permute(0, 3, 1, 2, 4).flatten(2, 3)
    if taps.shape[-1] % deep == 0:
        parts, outputs, count, channels = terms.shape
        terms = terms.view(parts, outputs, count, channels // deep, deep).transpose(2, 3)
    terms = terms.flatten(2)
    return F.pad(terms, (0, -terms.shape[2] % deep)).contiguous()


def _parities(taps: Tensor) -> list[Tensor]:
    """A transposed kernel (4, 4, outputs, channels) as four (2, 2, outputs, channels).

    Row 2 i + p of what comes out meets row i + p - 1 by tap 3 - p, and row i + p by tap 1 - p.
    """
    pairs = [3, 1], [2, 0]
    return [taps[down][:, across] for down in pairs for across in pairs]


def _joined(parities: list[Tensor]) -> list[Tensor]:
    """These as one kernel (3, 3, 4 outputs, channels)."""
    wide = [
        F.pad(taps, (0, 0, 0, 0, k % 2, 1 - k % 2, k // 2, 1 - k // 2))
        for k, taps in enumerate(parities)
    ]
    return [torch.cat(wide, 2)]


@lru_cache(maxsize=1024)
def choose_tile(
    height: int, width: int, lanes: int, split: int, *, is_half: bool, is_exact: bool
) -> Tile:
    """The largest tile of which there are enough for the GPU, else the smallest.

    Args:
        height: of what comes out, of one parity where there are four.
        width: likewise.
        lanes: columns of the product.
        split: products of their own.
        is_half: whether elements have two bytes.
        is_exact: whether tensor cores are left alone; that takes more registers.
    """
    full = max(16, min(WIDEST, int(triton.next_power_of_2(lanes))))
    if lanes > WIDEST and lanes % WIDEST:
        full = WIDEST // 2  # 192 is 3 times 64
    narrow = min(full, 32)
    for pixels, wide in ((64 if is_exact else 128, full), (64, full), (64, narrow), (32, narrow)):
        columns, rows = _sides(height, width, pixels)
        tiles = triton.cdiv(width, columns) * triton.cdiv(height, rows)
        if tiles * triton.cdiv(lanes, wide) * split >= PROGRAMS:
            break
    warps = 8 if is_exact or pixels * wide > 64 * 128 else 4
    return Tile(columns, rows, wide, warps, stages=4 if is_half and wide <= 32 else 3)


def _sides(height: int, width: int, pixels: int) -> tuple[int, int]:
    """Columns and rows of the tile of so many pixels of which fewest cover a picture.

    Of several the one nearest to a square: its pixels see most of each other's taps.
    """

    def cost(rows: int) -> tuple[int, int]:
        columns = pixels // rows
        return triton.cdiv(width, columns) * triton.cdiv(height, rows), rows + columns

    rows = min((2**k for k in range(pixels.bit_length())), key=cost)
    return pixels // rows, rows
