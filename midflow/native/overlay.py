"""Still overlays on a CPU: what midflow/overlay.py finds, in fewer passes over the picture."""

import ctypes
import threading

import torch
from torch import Tensor

from midflow.native.library import Buffers, load_library, the_library

_PLANES = ("img0", "img1", "slope", "still")
_MASKS = ("lies", "near", "kept")
_MOST_REACH = 4
_kept = threading.local()  # memory that each thread works in


class _Job(ctypes.Structure):
    """`struct overlay` of overlay.c; what is not given is 0."""

    _fields_ = (
        *((name, ctypes.c_int32) for name in ("height", "width", "reach", "company_reach")),
        *(
            (name, ctypes.c_float)
            for name in (
                "edge", "aligned", "noise", "share", "loudest", "company", "soft", "led_away",
            )
        ),
        *((name, ctypes.c_void_p) for name in (*_PLANES, "has_edges", *_MASKS)),
        *((name, ctypes.c_void_p) for name in ("cover", "flow", "carried", "cells")),
    )  # fmt: skip


def can_run(image: Tensor) -> bool:
    """Whether the kernels are there and can read a picture: float32, on a CPU."""
    if image.device.type != "cpu" or image.dtype is not torch.float32:
        return False
    library = load_library()
    return library is not None and library.midflow_overlay_size() == ctypes.sizeof(_Job)


def still_overlay(img0: Tensor, img1: Tensor, **rule: float) -> Tensor:
    """(B, 1, H, W) as `midflow.overlay.still_overlay`.

    Args:
        img0: (B, 3, H, W), of which `can_run` says yes.
        img1: likewise.
        rule: numbers of `midflow.overlay`, by their names in the C code.
    """
    assert max(rule["reach"], rule["company_reach"]) <= _MOST_REACH
    batch, _, height, width = img0.shape
    found = torch.empty(batch, 1, height, width)
    buffers = _buffers(height, width)
    masks = buffers.get("masks", (len(_MASKS), height, width), torch.uint8)
    job = _Job(height=height, width=width, **rule)
    job.slope = buffers.get("slope", (height, width)).data_ptr()
    job.has_edges = buffers.get("has_edges", (height,), torch.uint8).data_ptr()
    for name, mask in zip(_MASKS, masks, strict=True):
        setattr(job, name, mask.data_ptr())
    for before, after, still in zip(img0.contiguous(), img1.contiguous(), found, strict=True):
        job.img0, job.img1, job.still = before.data_ptr(), after.data_ptr(), still.data_ptr()
        the_library().midflow_find_still(ctypes.byref(job), torch.get_num_threads())
    return found


def carried(cover: Tensor, flow: Tensor, led_away: float) -> Tensor:
    """How much of each pixel is taken from what is covered, by either flow: (T, 2, H, W).

    What it gives is overwritten by the thread's next call.

    Args:
        cover: (T, 1, H, W), of which `can_run` says yes.
        flow: (T, 4, H, W) float32, in pixels to frame 0 and to frame 1.
        led_away: square of the flow from which on it is.
    """
    batch, _, height, width = flow.shape
    buffers = _buffers(height, width)
    found = buffers.get("carried", (batch, 2, height, width))
    cells = buffers.get("cells", (height // 8 + 1, width // 8 + 1), torch.uint8)
    job = _Job(height=height, width=width, led_away=led_away, cells=cells.data_ptr())
    parts = (x.contiguous() for x in (cover, flow))
    for covered, led, taken in zip(*parts, found, strict=True):
        job.cover, job.flow, job.carried = (x.data_ptr() for x in (covered, led, taken))
        the_library().midflow_find_carried(ctypes.byref(job), torch.get_num_threads())
    return found


def _buffers(height: int, width: int) -> Buffers:
    if not hasattr(_kept, "buffers"):
        _kept.buffers = Buffers()
    buffers: Buffers = _kept.buffers
    buffers.fit((height, width))
    return buffers
