"""Writing an exported network in each engine's format, and running it there."""

import importlib
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.export import ExportedProgram

from midflow.errors import MissingExtraError, OptionError
from midflow.export import tensorrt
from midflow.export.graph import FEWEST_CELLS, INPUTS, OUTPUTS

ONNX_OPSET = 18
"""The lowest that torch writes; GridSample of 20 gives wrong results in TensorRT (its 4646)."""

Run = Callable[..., tuple[Tensor, Tensor, Tensor]]
"""An exported network at work: its inputs, float32 on its device -> frame, flow and weight."""


class Engine(NamedTuple):
    """A format, told by the suffix of the file."""

    name: str
    """What users call it."""
    write: Callable[[ExportedProgram, Path], list[Path]]
    """Writes the file, and beside it those it needs; gives all of them, the one asked for first."""
    open: Callable[[Path], Run]
    """Opens what was written."""
    version: Callable[[], str]
    """Of what reads and writes it.

    Raises MissingExtraError where that is not installed."""
    fewest: int = 1
    """Cells that a side must have at least, where sizes are free."""
    precisions: tuple[str, ...] = ("float32",)
    """That convolutions in a file may have."""
    at_work: tuple[str, ...] = ("float32",)
    """Those of a backend: half precision makes nothing quicker on a CPU."""
    device: str = "cpu"
    """The kind it runs on."""
    is_sized: bool = False
    """Whether a file takes one size only."""


def _imported(extra: str, *names: str) -> list[Any]:
    """Packages of an extra.

    Raises:
        MissingExtraError: one is not installed.
    """
    try:
        return [importlib.import_module(name) for name in names]
    except ImportError as error:
        raise MissingExtraError(error.name or names[0], extra) from error


def _versions(extra: str, *names: str) -> str:
    packages = zip(names, _imported(extra, *names), strict=True)
    return ", ".join(f"{name} {package.__version__}" for name, package in packages)


def _write_onnx(program: ExportedProgram, path: Path) -> list[Path]:
    with _quiet_exporter():
        made = torch.onnx.export(
            program,
            input_names=_inputs_of(program),
            output_names=list(OUTPUTS),
            opset_version=ONNX_OPSET,
            dynamo=True,
            verbose=False,
        )
    assert made is not None
    made.save(path, external_data=False)
    return [path]


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Holds back what torch's exporter says of itself: that torchvision is not there, and more."""
    log = logging.getLogger("torch.onnx._internal.exporter._registration")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(before)


def _open_onnx(path: Path) -> Run:
    (onnxruntime,) = _imported("onnx", "onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [port.name for port in session.get_inputs()]
    states = onnxruntime.capi.onnxruntime_pybind11_state

    def run(*inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        feed = {name: value.numpy() for name, value in zip(names, inputs, strict=True)}
        try:
            found = session.run(list(OUTPUTS), feed)
        except (states.RuntimeException, states.Fail) as error:  # memory that ran out, above all
            raise RuntimeError(str(error)) from error
        frame, flow, weight = map(torch.from_numpy, found)
        return frame, flow, weight

    return run


def _write_openvino(program: ExportedProgram, path: Path) -> list[Path]:
    """By way of ONNX: OpenVINO's own converter does not take free sizes of such a program."""
    (openvino,) = _imported("openvino", "openvino")
    (onnx_file,) = _write_onnx(program, path.with_suffix(".onnx"))
    openvino.save_model(openvino.convert_model(onnx_file), path, compress_to_fp16=False)
    onnx_file.unlink()
    return [path, path.with_suffix(".bin")]


def _open_openvino(path: Path) -> Run:
    # Other precisions would hold coordinates in bfloat16 too, and frames would be wrong.
    settings = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
    }
    (openvino,) = _imported("openvino", "openvino")
    compiled = openvino.Core().compile_model(path, "CPU", settings)

    def run(*inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        found = compiled([value.numpy() for value in inputs])
        frame, flow, weight = (torch.from_numpy(found[name].copy()) for name in OUTPUTS)
        return frame, flow, weight

    return run


def _write_tensorrt(program: ExportedProgram, path: Path) -> list[Path]:
    (onnx_file,) = _write_onnx(program, path.with_suffix(".onnx"))
    tensorrt.build(onnx_file, path)
    onnx_file.unlink()
    return [path]


def _tensorrt_version() -> str:
    return f"{tensorrt.version()}, {_versions('tensorrt', 'onnx', 'onnxscript')}"


def _write_program(program: ExportedProgram, path: Path) -> list[Path]:
    torch.export.save(program, path)
    return [path]


def _open_program(path: Path) -> Run:
    graph = torch.export.load(path).module()

    def run(*inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        frame, flow, weight = graph(*inputs)
        return frame, flow, weight

    return run


def _inputs_of(program: ExportedProgram) -> list[str]:
    return list(INPUTS[: len(program.graph_signature.user_inputs)])


ENGINES = {
    ".onnx": Engine(
        "ONNX",
        _write_onnx,
        _open_onnx,
        partial(_versions, "onnx", "onnx", "onnxscript", "onnxruntime"),
        precisions=("float32", "float16"),
    ),
    ".xml": Engine(
        "OpenVINO",
        _write_openvino,
        _open_openvino,
        partial(_versions, "openvino", "openvino", "onnx", "onnxscript"),
    ),
    ".pt2": Engine("torch.export", _write_program, _open_program, lambda: "", FEWEST_CELLS),
    ".engine": Engine(
        "TensorRT",
        _write_tensorrt,
        tensorrt.TensorRT,
        _tensorrt_version,
        precisions=("float32", "float16"),
        at_work=("float32", "float16"),
        device=tensorrt.KIND,
        is_sized=True,
    ),
}
"""By the suffix of the file."""


def engine_of(path: Path) -> Engine:
    """The engine whose file this is to be.

    Raises:
        OptionError: another suffix.
    """
    if path.suffix not in ENGINES:
        known = ", ".join(f"{suffix} ({engine.name})" for suffix, engine in ENGINES.items())
        raise OptionError(f"an exported network must end in {known}, got {path.name!r}")
    return ENGINES[path.suffix]
