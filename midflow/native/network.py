"""NativeNetwork: what a network computes, without gradients, several times faster on a CPU."""

import threading
from functools import cache
from typing import Any

import torch
from torch import Tensor

from midflow.errors import OptionError
from midflow.native import ifnet_painter, pyramid_painter
from midflow.native.ifnet_painter import IFNetPainter
from midflow.native.library import load_library
from midflow.native.pyramid_painter import PyramidPainter
from midflow.nets.ifnet import IFNet
from midflow.nets.prediction import Encoded, Prediction, joined, one_batch, one_by_one
from midflow.nets.pyramid import PyramidNet


def why_not(model: object, device: torch.device, precision: str) -> str | None:
    """Why `NativeNetwork` cannot run a network there; None where it can."""
    if device.type != "cpu":
        return f"its kernels are for CPUs, the device is {device}"
    if precision == "float16":
        return "it knows the precisions float32 and bfloat16"
    if _painter_class(model) is None:
        return "its kernels are made for networks like midflow-2, 4.25 and 4.26"
    if load_library() is None:
        return "midflow was installed without a C compiler, which makes its kernels"
    if precision == "bfloat16" and not _convolves_bfloat16():
        return "oneDNN makes no convolutions in bfloat16 on this processor; float32 is quicker"
    return None


def _convolves_bfloat16() -> bool:
    return bool(getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", bool)())


@cache
def has_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 by itself, and oneDNN uses it."""
    questions = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    is_there = any(getattr(torch.cpu, question, bool)() for question in questions)
    return is_there and _convolves_bfloat16()


def _painter_class(model: object) -> type[PyramidPainter] | type[IFNetPainter] | None:
    if isinstance(model, PyramidNet) and pyramid_painter.fits(model.config):
        return PyramidPainter
    if isinstance(model, IFNet) and ifnet_painter.fits(model.config):
        return IFNetPainter
    return None


class NativeNetwork:
    """Stands in for a network in an `Interpolator`.

    Under autocast with bfloat16 the convolutions are in bfloat16; flow, sampling and blending are
    float32 always.

    Args:
        model: the network, of which `why_not` says nothing; its weights are copied.
    """

    can_omit_flow = True

    def __init__(self, model: Any) -> None:
        self.config = model.config
        self._model = model
        found = _painter_class(model)
        assert found is not None
        self._painter_class = found
        self._painters: dict[torch.dtype, PyramidPainter | IFNetPainter] = {}
        self._lock = threading.Lock()

    def encode_frame(self, image: Tensor) -> Encoded:
        """As the network's; what is kept lies otherwise in memory."""
        return self._encode_at(image, 1.0)

    def __call__(
        self,
        frame0: Tensor | Encoded,
        frame1: Tensor | Encoded,
        timestep: float | Tensor = 0.5,
        *,
        flow_scale: float = 1.0,
        ensemble: bool = False,
        only_frame: bool = False,
    ) -> Prediction:
        """As the network's `forward`; with `only_frame` flow and weight are not kept, and empty."""
        if ensemble:
            raise OptionError("backend native has no ensemble; backend torch may")
        if not self._painter_class.encodes_scale and flow_scale > 1:  # grids finer than the frame
            images = (x.image if isinstance(x, Encoded) else x for x in (frame0, frame1))
            prediction: Prediction = self._model(*images, timestep, flow_scale=flow_scale)
            return prediction
        if self._painter_class.encodes_scale and flow_scale != 1:
            frame0, frame1 = (self._encode_at(frame, flow_scale) for frame in (frame0, frame1))
        enc0, enc1, t = one_batch(self.encode_frame, frame0, frame1, timestep)
        with self._lock:
            painter = self._painter()
            return one_by_one(
                lambda a, b, time: painter.paint(a, b, float(time), flow_scale, only_frame),
                enc0,
                enc1,
                t,
            )

    def _encode_at(self, frame: Tensor | Encoded, flow_scale: float) -> Encoded:
        image = frame.image if isinstance(frame, Encoded) else frame
        with self._lock:
            painter = self._painter()
            samples = [painter.encode(image[i : i + 1], flow_scale) for i in range(len(image))]
        return Encoded(image, tuple(joined(parts) for parts in zip(*samples, strict=True)))

    def _painter(self) -> PyramidPainter | IFNetPainter:
        """In the precision of the moment."""
        is_half = torch.is_autocast_enabled("cpu")
        dtype = torch.get_autocast_dtype("cpu") if is_half else torch.float32
        if dtype not in self._painters:
            self._painters[dtype] = self._painter_class(self._model, dtype)
        return self._painters[dtype]
