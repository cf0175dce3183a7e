"""Convolutions by the kernels of winograd.h, which take 35 to 90 % of the time of oneDNN's."""

import ctypes
import platform

import torch
from torch import Tensor

from midflow.native.convolution import SLOPE, Convolution, Form, has_onednn
from midflow.native.library import Buffers, aligned, the_library

_SAME, _UP, _DOWN = range(3)


class _Job(ctypes.Structure):
    """`struct convolution` of convolution.c."""

    _fields_ = (
        *(
            (name, ctypes.c_int32)
            for name in (
                "kind",
                "height",
                "width",
                "channels",
                "outputs",
                "is_bfloat16",
                "is_residual",
            )
        ),
        ("slope", ctypes.c_float),
        *((name, ctypes.c_void_p) for name in ("x", "weight", "bias", "out", "scratch")),
        *((name, ctypes.c_int64) for name in ("scratch_size", "weight_size")),
        ("most", ctypes.c_int32),
    )


class WinogradConvolution:
    """By products of float32, or of bfloat16 summed in float32; all else is float32.

    Arguments as of `Convolution`.
    """

    def __init__(self, weight: Tensor, bias: Tensor, dtype: torch.dtype, form: Form) -> None:
        self.dtype = dtype
        self._kind = _UP if form.transposed else _SAME if form.stride == 1 else _DOWN
        outputs, channels = weight.shape[1::-1] if form.transposed else weight.shape[:2]
        self._bias = bias.float().contiguous()
        self._job = _Job(
            kind=self._kind,
            channels=channels,
            outputs=outputs,
            is_bfloat16=dtype is torch.bfloat16,
            is_residual=form.residual,
            slope=SLOPE if form.leaky else 1.0,
            bias=self._bias.data_ptr(),
        )
        self._plan(4, 4, 1)
        self._weight = aligned(self._job.weight_size)
        self._job.weight = self._weight.data_ptr()
        kernel = weight.float().contiguous()
        the_library().midflow_pack_kernel(
            ctypes.byref(self._job),
            ctypes.c_void_p(kernel.data_ptr()),
            ctypes.c_void_p(self._weight.data_ptr()),
        )

    def __call__(self, x: Tensor, buffers: Buffers, *, keep: bool = False) -> Tensor:
        """(B, h, w, C) -> (B, h', w', C'), contiguous.

        Args:
            x: elements of the type.
            buffers: where it works; and where its output is until the next convolution but one that
                has an output of the same shape, unless it is to be kept.
            keep: puts the output into memory of its own.
        """
        batch, height, width, _ = x.shape
        sizes = {_SAME: (height, width), _UP: (2 * height, 2 * width)}
        high, wide = sizes.get(self._kind, ((height + 1) // 2, (width + 1) // 2))
        shape = batch, high, wide, self._job.outputs
        out = torch.empty(shape, dtype=self.dtype) if keep else self._turn(x, buffers, shape)
        threads = torch.get_num_threads()
        self._plan(height, width, threads)
        self._job.scratch = buffers.scratch(self._job.scratch_size * threads).data_ptr()
        for source, target in zip(x, out, strict=True):
            self._job.x, self._job.out = source.data_ptr(), target.data_ptr()
            the_library().midflow_convolve(ctypes.byref(self._job), threads)
        return out

    def _turn(self, x: Tensor, buffers: Buffers, shape: tuple[int, ...]) -> Tensor:
        """One of two buffers: the one that is not read."""
        first = buffers.get("convolved", shape, self.dtype)
        if first.data_ptr() != x.data_ptr():
            return first
        return buffers.get("convolved in turn", shape, self.dtype)

    def _plan(self, height: int, width: int, threads: int) -> None:
        """Settles, for a picture, how many tiles are worked on at a time and in how much memory."""
        self._job.height, self._job.width = height, width
        the_library().midflow_plan_convolution(ctypes.byref(self._job), threads)


AnyConvolution = Convolution | WinogradConvolution


def make_convolution(
    weight: Tensor, bias: Tensor, dtype: torch.dtype, form: Form
) -> AnyConvolution:
    """The quicker one; arguments as of `Convolution`."""
    library, is_half = the_library(), dtype is torch.bfloat16
    assert library.midflow_convolution_size() == ctypes.sizeof(_Job)
    fewest = library.midflow_fewest_channels(is_half)
    channels = weight.shape[0 if form.transposed else 1]
    fits = 0 < fewest <= min(weight.shape[:2]) and not (is_half and channels % 2)
    kind = WinogradConvolution if fits and not _is_slower(dtype) else Convolution
    return kind(weight, bias, dtype, form)


def _is_slower(dtype: torch.dtype) -> bool:
    """Whether oneDNN is there and does better: by AMX, and where the kernels have no AVX2."""
    if not has_onednn():
        return False
    if dtype is torch.bfloat16:
        return bool(getattr(torch.cpu, "_is_amx_tile_supported", bool)())
    return platform.machine() in ("x86_64", "AMD64") and the_library().midflow_processor() == 0
