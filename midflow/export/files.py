"""A network into a file that another engine runs, kept only if it paints the same."""

import copy
import tempfile
from pathlib import Path

import torch
from torch import nn
from torch.nn.utils import fuse_conv_bn_eval

from midflow.errors import OptionError, VideoError
from midflow.export.check import Check, check
from midflow.export.engines import Engine, engine_of
from midflow.export.graph import cell_size, export_program, frame_graph
from midflow.nets.layout import Network


def export_model(
    model: Network,
    path: Path,
    *,
    flow_scale: float = 1.0,
    ensemble: bool = False,
    size: tuple[int, int] | None = None,
    precision: str = "float32",
    overwrite: bool = False,
) -> list[Check]:
    """Writes a network as one graph: img0, img1, timestep -> frame, flow, weight.

    Shapes are those of `midflow.export.graph`. The file is run beside the network at several sizes
    and times and only kept if both paint the same.

    Args:
        model: from `midflow.load_model`.
        path: ends in .onnx, .xml (OpenVINO, with a .bin beside it), .pt2 (torch.export) or .engine
            (TensorRT, for the GPU that is in use).
        flow_scale: as for `Interpolator`; it is fixed in the file.
        ensemble: as for `Interpolator`; likewise.
        size: (height, width) in pixels, the only one the file takes; None: any multiples of what
            the network pads to. TensorRT needs one.
        precision: of the convolutions: "float32", or for .onnx and .engine "float16". What goes in
            and comes out, coordinates and the mix of both frames are float32 always.
        overwrite: replace what is there.

    Returns:
        What the comparison found.

    Raises:
        OptionError: another suffix, flow_scale, size or precision, an ensemble that is not there,
            or no GPU for TensorRT.
        MissingExtraError: the engine is not installed.
        VideoError: the file exists, or cannot be written.
        MidflowError: the file does not paint what the network paints.
    """
    engine = engine_of(path)
    _check_engine(engine, size, precision)
    engine.version()  # before a minute's work
    model = copy.deepcopy(model).cpu()
    _fold_norms(model)
    graph = frame_graph(model, flow_scale, ensemble)
    if size:
        _check_size(size, cell_size(model, flow_scale))
    if path.exists() and not overwrite:
        raise VideoError(f"{path} exists: give another name, or overwrite it")
    try:
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
            with _convolutions_in(precision):
                written = engine.write(export_program(graph, size), Path(folder) / path.name)
            checks = check(engine, written[0], graph, size, precision)
            for file in reversed(written):  # the one asked for last: it is there when all are
                file.replace(path.with_name(file.name))
    except OSError as error:
        raise VideoError(f"{path} cannot be written: {error.strerror or error}") from error
    return checks


def _convolutions_in(precision: str) -> torch.autocast:
    """Where a network is made into a graph with convolutions of that precision."""
    return torch.autocast("cpu", torch.float16, enabled=precision == "float16")


def _fold_norms(model: nn.Module) -> None:
    """Makes batch norms behind convolutions (HD 1.x) part of these, as they are linear too.

    ONNX's optimizer would do so later, and leave a float16 convolution with float32 weights.
    """
    for part in model.modules():
        if isinstance(part, nn.Sequential):
            for at in range(len(part) - 1):
                first, second = part[at], part[at + 1]
                if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                    part[at] = fuse_conv_bn_eval(first.eval(), second.eval())
                    part[at + 1] = nn.Identity()


def _check_engine(engine: Engine, size: tuple[int, int] | None, precision: str) -> None:
    if precision not in engine.precisions:
        known = " or ".join(engine.precisions)
        raise OptionError(f"precision must be {known} for {engine.name}, got {precision!r}")
    if engine.is_sized and size is None:
        raise OptionError(f"a file of {engine.name} takes one size: give height and width")


def _check_size(size: tuple[int, int], cell: int) -> None:
    for name, length in zip(("height", "width"), size, strict=True):
        if length < cell or length % cell:
            near = cell * max(1, -(-length // cell))
            raise OptionError(
                f"{name} must be a multiple of {cell}, which the network pads to, got {length}: "
                f"take {near}"
            )
