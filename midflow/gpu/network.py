"""TritonNetwork: what a network computes, without gradients, in fused kernels on a GPU."""

import importlib.util
import os
from collections.abc import Hashable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from midflow.errors import OptionError
from midflow.gpu.graphs import Graphs, Parts, Work
from midflow.native import ifnet_painter
from midflow.nets.ifnet import IFNet
from midflow.nets.prediction import Encoded, Prediction
from midflow.nets.pyramid import PyramidNet
from midflow.nets.pyramid_config import PyramidConfig
from midflow.recorder import Part

if TYPE_CHECKING:  # they need Triton
    from midflow.gpu.convolution import MakeConvolution
    from midflow.gpu.ifnet_painter import IFNetPainter
    from midflow.gpu.pyramid_painter import PyramidPainter

_NEAR = 0.01  # of white, on average: float16 stays below a tenth of that
_MOST_FEATURES = 8  # what fits into an estimate of 16 channels beside flow, logit and time


def why_not(model: object, device: torch.device) -> str | None:
    """Why `TritonNetwork` cannot run a network there; None where it can."""
    if device.type != "cuda" and not (device.type == "cpu" and _is_interpreted()):
        return f"its kernels are for CUDA devices, the device is {device}"
    if not _fits(model):
        return "its kernels are made for networks like midflow-2, 4.25 and 4.26"
    if importlib.util.find_spec("triton") is None:
        return "Triton, which compiles its kernels, is not installed"
    return None


def _is_interpreted() -> bool:
    """Whether Triton runs kernels step by step on the CPU, as tests have it."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def _fits(model: object) -> bool:
    """Whether the kernels are made for such a network."""
    if isinstance(model, IFNet):
        return ifnet_painter.fits(model.config)
    return isinstance(model, PyramidNet) and _fits_pyramid(model.config)


def _fits_pyramid(config: PyramidConfig) -> bool:
    return (
        config.width % 8 == 0
        and config.matched % 8 == 0
        and config.features <= _MOST_FEATURES
        and config.detail > 0
    )


class TritonNetwork:
    """Stands in for a network in an `Interpolator`.

    Under autocast the convolutions are in its precision; flow, sampling and blending are float32
    always.

    Args:
        model: the network, of which `why_not` says nothing, on its device; its weights are copied.
        graphs: records what is done for a size; None does it as it is.
        make: the class of the convolutions; None: cuDNN's, `midflow.gpu.convolution.Convolution`.
    """

    can_omit_flow = True

    def __init__(
        self, model: Any, graphs: Graphs | None = None, make: "MakeConvolution | None" = None
    ) -> None:
        self.config = model.config
        self._model = model
        self._graphs = graphs
        self._make = make
        self._device = next(model.parameters()).device
        self._painters: dict[torch.dtype, PyramidPainter | IFNetPainter] = {}

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
            raise OptionError("backend triton has no ensemble; backend torch may")
        painter = self._painter()
        if not painter.encodes_scale and flow_scale > 1:  # grids finer than the frame
            images = (x.image if isinstance(x, Encoded) else x for x in (frame0, frame1))
            prediction: Prediction = self._model(*images, timestep, flow_scale=flow_scale)
            return prediction
        scale = flow_scale if painter.encodes_scale else 1.0
        enc0, enc1 = (
            frame if isinstance(frame, Encoded) and scale == 1 else self._encode_at(frame, scale)
            for frame in (frame0, frame1)
        )
        time = torch.as_tensor(timestep, dtype=torch.float32, device=self._device).flatten()
        parts = enc0.features, enc1.features, (time.contiguous(),)

        def paint(parts: Parts) -> Part:
            batch = max(len(part[0]) for part in parts)
            before, after = (Encoded(part[0], part).expand(batch) for part in parts[:2])
            times = parts[2][0].expand(batch).contiguous()
            return tuple(painter.paint(before, after, times, flow_scale, only_frame))

        tag = "paint", painter.dtype, flow_scale, only_frame
        return Prediction(*self._run(tag, parts, paint))

    def release_memory(self) -> None:
        """Lets go of what is kept for sizes used before; it is made again when needed."""
        if self._graphs is not None:
            self._graphs.release()

    def try_out(self, dtype: torch.dtype) -> str | None:
        """Paints a small pair with the kernels and with the network.

        The first time on a machine, Triton compiles the kernels for it, which takes half a minute.

        Args:
            dtype: of the convolutions.

        Returns:
            What went wrong; None where both paint the same.
        """
        side = 4 * self.config.pad_multiple
        img0, img1 = _pair(side, self._device)
        kind = self._device.type
        with (
            torch.inference_mode(),
            torch.autocast(kind, dtype, enabled=dtype is not torch.float32),
        ):
            try:  # with graphs twice, as the second time is recorded
                found = [self(img0, img1).frame for _ in range(1 if self._graphs is None else 2)][
                    -1
                ]
            except Exception as error:  # compilers and drivers fail in ways without a common type
                return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
            difference = float((found - self._model(img0, img1).frame).abs().mean())
        if difference < _NEAR:
            return None
        return f"its kernels paint other frames than torch, by {difference:.3g} of white on average"

    def _encode_at(self, frame: Tensor | Encoded, flow_scale: float) -> Encoded:
        image = frame.image if isinstance(frame, Encoded) else frame
        painter = self._painter()

        def encode(parts: Parts) -> Part:
            return painter.encode(parts[0][0], flow_scale).features

        tag = "encode", painter.dtype, flow_scale
        return Encoded(image, self._run(tag, ((image,),), encode))

    def _run(self, tag: Hashable, parts: Parts, work: Work) -> Part:
        with self._on_device():
            return work(parts) if self._graphs is None else self._graphs.run(tag, parts, work)

    def _on_device(self) -> AbstractContextManager[object]:
        """Triton launches on the current device, whatever the tensors' is."""
        return torch.cuda.device(self._device) if self._device.type == "cuda" else nullcontext()

    def _painter(self) -> "PyramidPainter | IFNetPainter":
        """In the precision of the moment."""
        kind = self._device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else torch.float32
        if dtype not in self._painters:
            self._painters[dtype] = _make_painter(self._model, dtype, self._make)
        return self._painters[dtype]


def _make_painter(
    model: Any, dtype: torch.dtype, make: "MakeConvolution | None"
) -> "PyramidPainter | IFNetPainter":
    from midflow.gpu.convolution import Convolution
    from midflow.gpu.ifnet_painter import IFNetPainter
    from midflow.gpu.pyramid_painter import PyramidPainter

    make = make or Convolution
    if isinstance(model, IFNet):
        return IFNetPainter(model, dtype, make)
    return PyramidPainter(model, dtype, make)


def _pair(side: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Waves, and the same a pixel further: (1, 3, side, side) each."""
    place = torch.arange(side + 1, device=device, dtype=torch.float32)
    phases = torch.arange(3, device=device).view(3, 1, 1)
    wave = 0.5 + 0.25 * (torch.sin(place / 3 + phases) + torch.cos(place / 4)[:, None])
    return wave[None, :, :side, :side], wave[None, :, :side, 1:]
