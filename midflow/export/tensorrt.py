"""TensorRT: an ONNX file built into an engine for one size and the GPU that is there, and run.

Two libraries have the same interface: `tensorrt`, for every GPU, and `tensorrt_rtx`, smaller, for
GeForce and RTX cards from Turing on. Where both are installed it is the first.
"""

import importlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from midflow.errors import MidflowError, MissingExtraError, OptionError
from midflow.export.graph import INPUTS, OUTPUTS

LIBRARIES = ("tensorrt", "tensorrt_rtx")
"""What to import, the first that is there."""
KIND = "cuda"
"""Of the devices that engines run on."""


def library() -> Any:
    """The library.

    Raises:
        MissingExtraError: neither is installed.
    """
    for name in LIBRARIES:
        with suppress(ImportError):
            return importlib.import_module(name)
    raise MissingExtraError("TensorRT", "tensorrt")


def version() -> str:
    """All that an engine's file depends on besides the graph: the library and the GPU in use.

    Raises:
        MissingExtraError: TensorRT is not installed.
        OptionError: no GPU is there.
    """
    trt = library()
    if not torch.cuda.is_available():
        raise OptionError("TensorRT needs an NVIDIA GPU that torch can use: there is none")
    gpu = torch.cuda.get_device_properties(torch.cuda.current_device())
    return f"{trt.__name__} {trt.__version__}, {gpu.name}, {gpu.major}.{gpu.minor}"


def build(onnx_file: Path, path: Path) -> None:
    """Builds an engine of a graph, whose sizes and types are taken as they stand there.

    `tensorrt_rtx` does so without a GPU too, for compute capability 8.0 and above.

    Args:
        onnx_file: with fixed sizes.
        path: of the engine.

    Raises:
        MidflowError: TensorRT cannot build it.
    """
    trt = library()
    notes = _notes(trt)
    builder = _required(trt.Builder(notes), notes)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, notes)
    if not parser.parse_from_file(str(onnx_file)):
        raise MidflowError(f"TensorRT cannot read the graph: {parser.get_error(0).desc()}")
    settings = builder.create_builder_config()
    if trt.__name__ == "tensorrt_rtx" and torch.cuda.is_available():
        settings.num_compute_capabilities = 1  # Turing is not among those it builds for unasked
        settings.set_compute_capability(trt.ComputeCapability.CURRENT, 0)
    plan = _required(builder.build_serialized_network(network, settings), notes)
    path.write_bytes(plan)


class TensorRT:
    """An engine at work on the current GPU: float32 there in, frame, flow and weight there out.

    Args:
        path: of the file that `build` wrote.

    Raises:
        MidflowError: TensorRT cannot load it.
    """

    def __init__(self, path: Path) -> None:
        trt = library()
        self._notes = _notes(trt)
        self._runtime = _required(trt.Runtime(self._notes), self._notes)
        engine = self._runtime.deserialize_cuda_engine(path.read_bytes())
        self._engine = _required(engine, self._notes)
        self._context = _required(self._engine.create_execution_context(), self._notes)

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Runs it, behind what the GPU has been given so far."""
        given = [value.contiguous() for value in inputs]
        found = [self._empty(name, given[0]) for name in OUTPUTS]
        # a network that knows t = 0.5 only has no third input
        self._bind((*INPUTS[: len(given)], *OUTPUTS), (*given, *found))
        if not _enqueue(self._context):
            raise RuntimeError(f"TensorRT: {self._notes.last}")
        frame, flow, weight = found
        return frame, flow, weight

    def _empty(self, name: str, like: Tensor) -> Tensor:
        return like.new_empty(tuple(self._engine.get_tensor_shape(name)))

    def _bind(self, names: Sequence[str], tensors: Sequence[Tensor]) -> None:
        for name, tensor in zip(names, tensors, strict=True):
            shape = tuple(self._engine.get_tensor_shape(name))
            if tensor.shape != shape or tensor.dtype != torch.float32:
                got = f"{tuple(tensor.shape)} {tensor.dtype}"
                raise OptionError(f"the engine takes {name} as {shape} torch.float32, got {got}")
            self._context.set_tensor_address(name, tensor.data_ptr())


def _enqueue(context: Any) -> bool:
    """Starts it on a stream of its own, as TensorRT waits for the whole GPU on the usual one."""
    usual = torch.cuda.current_stream()
    own = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    own.wait_stream(usual)
    is_started = bool(context.execute_async_v3(own.cuda_stream))
    usual.wait_stream(own)  # what comes after it there, and reuses its memory, comes after it
    return is_started


def _required(made: Any, notes: Any) -> Any:
    """What TensorRT made; it gives None where it failed, and says why to the logger.

    Raises:
        MidflowError: it is None.
    """
    if made is None:
        raise MidflowError(f"TensorRT failed: {notes.last}")
    return made


def _notes(trt: Any) -> Any:
    """A logger for TensorRT that keeps the last error instead of printing."""

    class Notes(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.last = "it does not say why"

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self.last = message.strip().partition("\n")[0]

    return Notes()
