"""What runs a network: torch, torch.compile, midflow's kernels, or engines of exported graphs.

A backend makes, of a network, something that is used just like it (`Painter`); neither `Engine` nor
`Interpolator` knows which it has. Another one is a function and a line in `BACKENDS`.
"""

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from midflow.errors import MidflowError, OptionError
from midflow.gpu import network as gpu
from midflow.gpu.graphs import Graphs
from midflow.memory import Settings
from midflow.native import network as native
from midflow.nets.prediction import Encoded, Prediction, one_by_one

logger = logging.getLogger(__name__)


class Painter(Protocol):
    """A network as `midflow.engine.Engine` uses it."""

    config: Any
    """Of the network: `pad_multiple` is read."""

    def encode_frame(self, image: Tensor) -> Encoded:
        """Does once what depends on one frame only: (B, 3, H, W) in [0, 1], sides padded."""

    def __call__(
        self,
        frame0: Encoded,
        frame1: Encoded,
        timestep: Tensor,
        *,
        flow_scale: float,
        ensemble: bool,
    ) -> Prediction:
        """Paints at `timestep` (B,); one pair may meet many times."""


Make = Callable[[nn.Module, torch.device, Settings, bool], Painter]
"""(network, device, settings, ensemble) -> what runs it there; the network is set to evaluation.

Raises OptionError for a device, a precision or an ensemble that the backend does not have.
"""


class Opened(NamedTuple):
    """A backend at work."""

    name: str
    """Which of `BACKENDS`."""
    painter: Painter
    """What runs the network."""
    settings: Settings
    """As asked for, but for the precision where that was "auto"."""


def open_backend(
    name: str, model: nn.Module, device: torch.device, settings: Settings, *, ensemble: bool
) -> Opened:
    """Opens a backend for a network.

    Args:
        name: one of `BACKENDS`, or "auto": native on a CPU and triton on a GPU where they can run
            the network, else torch.
        model: the network; it is moved to `device` and set to evaluation.
        device: where it is to run.
        settings: as asked for; flow scale and tiles may change later. The precision "auto" is
            float16 where the backend is triton or tensorrt, bfloat16 where it is native and the
            processor multiplies that by itself, else float32.
        ensemble: whether both directions are averaged in every block.

    Raises:
        OptionError: no backend has the name, or it cannot do what is asked for.
        MissingExtraError: what it needs is not installed.
    """
    choices = ("auto", *BACKENDS)
    if name not in choices:
        raise OptionError(f"backend must be one of {', '.join(choices)}, got {name!r}")
    is_auto, asked = name == "auto", settings
    if is_auto:
        name = _best(model, device, settings, ensemble)
    try:
        return _open(name, model, device, asked, ensemble)
    except MidflowError as error:
        if not is_auto or name == "torch":
            raise
        logger.warning("%s: going on with backend torch", error)
    return _open("torch", model, device, asked, ensemble)


def _best(model: nn.Module, device: torch.device, settings: Settings, ensemble: bool) -> str:
    """The quickest backend that is made for a network and needs nothing first."""
    if not ensemble and native.why_not(model, device, settings.precision) is None:
        return "native"
    if not ensemble and device.type == "cuda" and gpu.why_not(model, device) is None:
        return "triton"
    return "torch"


def _open(
    name: str, model: nn.Module, device: torch.device, settings: Settings, ensemble: bool
) -> Opened:
    if settings.precision == "auto":
        settings = replace(settings, precision=_quick_precision(name))
    painter = BACKENDS[name](model.to(device).eval(), device, settings, ensemble)
    return Opened(name, painter, settings)


def _quick_precision(name: str) -> str:
    """What "auto" stands for."""
    if name in ("triton", "tensorrt"):
        # As quick as bfloat16 on every GPU that has both, and rounds eight times finer. What it
        # cannot hold, above 65504, is painted again in float32 (`midflow.engine`).
        return "float16"
    return "bfloat16" if name == "native" and native.has_bfloat16() else "float32"


def _torch(model: Any, device: torch.device, settings: Settings, ensemble: bool) -> Painter:
    return model  # type: ignore[no-any-return]


def _native(model: Any, device: torch.device, settings: Settings, ensemble: bool) -> Painter:
    reason = native.why_not(model, device, settings.precision)
    if reason:
        raise OptionError(f"backend native cannot run this: {reason}; backend torch can")
    return native.NativeNetwork(model)


def _triton(model: Any, device: torch.device, settings: Settings, ensemble: bool) -> Painter:
    reason = gpu.why_not(model, device)
    if reason:
        raise OptionError(f"backend triton cannot run this: {reason}; backend torch can")
    painter = gpu.TritonNetwork(model, Graphs() if device.type == "cuda" else None)
    failure = painter.try_out(getattr(torch, settings.precision))
    if failure:
        raise MidflowError(f"backend triton does not work here: {failure}; backend torch may")
    return painter


def _compiled(model: Any, device: torch.device, settings: Settings, ensemble: bool) -> Painter:
    return Compiled(model, device)


class Compiled:
    """A network compiled by torch (TorchInductor), anew for every size of the frames.

    Raises:
        MidflowError: torch cannot compile here.
    """

    def __init__(self, model: Any, device: torch.device) -> None:
        self.config = model.config
        _try_compiler(device)
        # With sizes left open, as a second size would have it, inductor fails on PyramidNet.
        self.encode_frame = torch.compile(model.encode_frame, dynamic=False)
        self._paint: Callable[..., Prediction] = torch.compile(model.forward, dynamic=False)

    def __call__(
        self,
        frame0: Encoded,
        frame1: Encoded,
        timestep: Tensor,
        *,
        flow_scale: float,
        ensemble: bool,
    ) -> Prediction:
        """Paints as the network does, one pair and time after the other."""
        return one_by_one(
            lambda a, b, t: self._paint(a, b, t, flow_scale=flow_scale, ensemble=ensemble),
            frame0,
            frame1,
            timestep,
        )


def _try_compiler(device: torch.device) -> None:
    """Compiles something small.

    Raises:
        MidflowError: that fails.
    """
    trial = torch.compile(lambda x: torch.sin(x) + 1, dynamic=False)
    try:
        trial(torch.zeros(8, device=device))
    except RuntimeError as error:  # torch's own errors of compiling are such
        needed = "a C++ compiler (g++ or clang++)" if device.type == "cpu" else "Triton"
        reason = str(error).strip().partition("\n")[0]
        raise MidflowError(
            f"backend compiled needs {needed} that torch can use on {device}: {reason}; "
            "backend torch works without"
        ) from error


def _exported(
    suffix: str, model: Any, device: torch.device, settings: Settings, ensemble: bool
) -> Painter:
    from midflow.export.engines import ENGINES
    from midflow.export.network import GraphNetwork

    engine = ENGINES[suffix]
    if device.type != engine.device:
        raise OptionError(f"{engine.name} runs on {engine.device} here: give it, got {device}")
    if settings.precision not in engine.at_work:
        raise OptionError(
            f"{engine.name} works in {' or '.join(engine.at_work)} here, got precision "
            f"{settings.precision}: leave it out, or use backend torch"
        )
    painter = GraphNetwork(model, suffix, device)
    painter.open(settings.flow_scale, ensemble)  # it is known to work before a clip is begun
    return painter


BACKENDS: dict[str, Make] = {
    "torch": _torch,
    "native": _native,
    "triton": _triton,
    "compiled": _compiled,
    "onnx": partial(_exported, ".onnx"),
    "openvino": partial(_exported, ".xml"),
    "export": partial(_exported, ".pt2"),
    "tensorrt": partial(_exported, ".engine"),
}
"""Everything that `backend=` may be, besides "auto"."""

AT_ONCE = {"cpu": ("native", "torch"), "cuda": ("triton", "torch")}
"""Those that need no file made first, by the kind of device; torch alone on others."""
