"""A network into a file that another engine runs, kept only if it paints the same."""

import copy
import tempfile
from pathlib import Path

from midflow.errors import OptionError, VideoError
from midflow.export.check import Check, check
from midflow.export.engines import engine_of
from midflow.export.graph import cell_size, export_program, frame_graph
from midflow.nets.layout import Network


def export_model(
    model: Network,
    path: Path,
    *,
    flow_scale: float = 1.0,
    ensemble: bool = False,
    size: tuple[int, int] | None = None,
    overwrite: bool = False,
) -> list[Check]:
    """Writes a network as one graph: img0, img1, timestep -> frame, flow, weight.

    Shapes are those of `midflow.export.graph`. The file is run beside the network at several sizes
    and times and only kept if both paint the same.

    Args:
        model: from `midflow.load_model`.
        path: ends in .onnx, .xml (OpenVINO, with a .bin beside it) or .pt2 (torch.export).
        flow_scale: as for `Interpolator`; it is fixed in the file.
        ensemble: as for `Interpolator`; likewise.
        size: (height, width) in pixels, the only one the file takes; None: any multiples of what
            the network pads to.
        overwrite: replace what is there.

    Returns:
        What the comparison found.

    Raises:
        OptionError: another suffix, flow_scale or size, or an ensemble that is not there.
        MissingExtraError: the engine is not installed.
        VideoError: the file exists, or cannot be written.
        MidflowError: the file does not paint what the network paints.
    """
    engine = engine_of(path)
    engine.version()  # before a minute's work
    model = copy.deepcopy(model).cpu()
    graph = frame_graph(model, flow_scale, ensemble)
    if size:
        _check_size(size, cell_size(model, flow_scale))
    if path.exists() and not overwrite:
        raise VideoError(f"{path} exists: give another name, or overwrite it")
    try:
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
            written = engine.write(export_program(graph, size), Path(folder) / path.name)
            checks = check(engine.open(written[0]), graph, size, engine.fewest)
            for file in reversed(written):  # the one asked for last: it is there when all are
                file.replace(path.with_name(file.name))
    except OSError as error:
        raise VideoError(f"{path} cannot be written: {error.strerror or error}") from error
    return checks


def _check_size(size: tuple[int, int], cell: int) -> None:
    for name, length in zip(("height", "width"), size, strict=True):
        if length < cell or length % cell:
            near = cell * max(1, -(-length // cell))
            raise OptionError(
                f"{name} must be a multiple of {cell}, which the network pads to, got {length}: "
                f"take {near}"
            )
