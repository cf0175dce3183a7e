"""NativePyramid: what a PyramidNet computes, without gradients, several times faster on a CPU."""

import threading
from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

from midflow.errors import OptionError
from midflow.native.library import load_library
from midflow.native.sample import SamplePainter
from midflow.nets.prediction import Encoded, Prediction, one_batch
from midflow.nets.pyramid import PyramidNet
from midflow.nets.pyramid_config import PyramidConfig

_MOST_FEATURES = 8  # what fits into an estimate of 16 channels beside flow, logit and time


def why_not(model: object, device: torch.device, precision: str) -> str | None:
    """Why `NativePyramid` cannot run a network there; None where it can."""
    if device.type != "cpu":
        return f"its kernels are for CPUs, the device is {device}"
    if precision == "float16":
        return "it knows the precisions float32 and bfloat16"
    if not isinstance(model, PyramidNet) or not _fits(model.config):
        return "its kernels are made for networks like midflow-2"
    if load_library() is None:
        return "midflow was installed without a C compiler, which makes its kernels"
    if not hasattr(torch.ops.mkldnn, "_convolution_pointwise"):
        return "this build of torch has no oneDNN, which makes the convolutions"
    return None


def _fits(config: PyramidConfig) -> bool:
    return (
        config.width % 8 == 0
        and config.matched % 8 == 0
        and config.matched <= 64
        and config.features <= _MOST_FEATURES
        and config.radius <= 4
        and config.detail > 0
    )


@cache
def has_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 by itself."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


class NativePyramid:
    """Stands in for a `PyramidNet` in an `Interpolator`.

    Under autocast with bfloat16 the convolutions are in bfloat16; flow, sampling and blending are
    float32 always.

    Args:
        model: the network, of which `why_not` says nothing; its weights are copied.
    """

    can_omit_flow = True

    def __init__(self, model: PyramidNet) -> None:
        self.config = model.config
        self.release = model.release
        self._model = model
        self._painters: dict[torch.dtype, SamplePainter] = {}
        self._lock = threading.Lock()

    def encode_frame(self, image: Tensor) -> Encoded:
        """As `PyramidNet.encode_frame`: pictures and features, channels last, coarse to fine."""
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
        """As `PyramidNet.forward`; with `only_frame` flow and weight are not kept, and empty."""
        if ensemble:
            raise OptionError("this network has no ensemble: its block has no swapped form")
        if flow_scale != 1:
            frame0, frame1 = (self._encode_at(frame, flow_scale) for frame in (frame0, frame1))
        enc0, enc1, t = one_batch(self.encode_frame, frame0, frame1, timestep)
        with self._lock:
            painter = self._painter()
            predictions = [
                painter.paint(enc0.sample(i), enc1.sample(i), time, only_frame)
                for i, time in enumerate(t.flatten().tolist())
            ]
        return Prediction(*(_batch(parts) for parts in zip(*predictions, strict=True)))

    def _encode_at(self, frame: Tensor | Encoded, flow_scale: float) -> Encoded:
        image = frame.image if isinstance(frame, Encoded) else frame
        with self._lock:
            painter = self._painter()
            samples = [painter.encode(image[i : i + 1], flow_scale) for i in range(len(image))]
        return Encoded(image, tuple(_batch(parts) for parts in zip(*samples, strict=True)))

    def _painter(self) -> SamplePainter:
        """In the precision of the moment."""
        is_half = torch.is_autocast_enabled("cpu")
        dtype = torch.get_autocast_dtype("cpu") if is_half else torch.float32
        if dtype not in self._painters:
            self._painters[dtype] = SamplePainter(self._model, dtype)
        return self._painters[dtype]


def _batch(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))
