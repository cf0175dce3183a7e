"""The whole network as one graph: two frames and a time in; frame, flow and blend weight out."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from midflow.errors import OptionError
from midflow.nets.config import FLOW_SCALES
from midflow.nets.layout import Network

INPUTS = ("img0", "img1", "timestep")
"""(1, 3, H, W) RGB in [0, 1], the later frame, and (1,) in [0, 1], float32; networks that know
t = 0.5 only have no `timestep`."""
OUTPUTS = ("frame", "flow", "weight")
"""As in `midflow.nets.prediction.Prediction`: (1, 3, H, W), (1, 4, H, W), (1, 1, H, W)."""

FEWEST_CELLS, MOST_CELLS = 2, 512
"""Of a side with free sizes, in multiples of `cell_size`."""
_EXAMPLE = (2, 3)  # cells in height and width: sides that differ, so that none is taken for another


class MiddleGraph(nn.Module):
    """(1, 3, H, W) twice -> frame, flow and weight halfway; no padding, no encoder cache.

    Args:
        model: its own mode and weights are used.
        flow_scale: as for `Interpolator`.
        ensemble: as for `Interpolator`.
    """

    def __init__(self, model: Network, flow_scale: float = 1.0, ensemble: bool = False) -> None:
        super().__init__()
        self.model = model
        self.flow_scale = flow_scale
        self.ensemble = ensemble

    def forward(self, img0: Tensor, img1: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Paints the frame halfway."""
        return self.paint(img0, img1, torch.full((1,), 0.5))

    def paint(self, img0: Tensor, img1: Tensor, timestep: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Frame, flow and weight, by themselves: engines number the outputs."""
        frame, flow, weight = self.model(
            img0, img1, timestep, flow_scale=self.flow_scale, ensemble=self.ensemble
        )
        return frame, flow, weight


class TimeGraph(MiddleGraph):
    """The same with a third input, the time (1,) in [0, 1]."""

    def forward(  # type: ignore[override]
        self, img0: Tensor, img1: Tensor, timestep: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Paints the frame at `timestep`."""
        return self.paint(img0, img1, timestep)


def frame_graph(model: Network, flow_scale: float = 1.0, ensemble: bool = False) -> MiddleGraph:
    """The graph of a network: with a time where it has one.

    Raises:
        OptionError: another flow_scale, or an ensemble that the network or its graph has not.
    """
    if flow_scale not in FLOW_SCALES:
        raise OptionError(f"flow_scale must be one of {FLOW_SCALES}, got {flow_scale}")
    config = model.config
    if ensemble and not config.has_ensemble:
        raise OptionError("this network has no ensemble: leave it out")
    if ensemble and getattr(config, "retry", False):
        raise OptionError(
            "a network that looks again where motion is large (4.0, 4.1, 3.8) has no graph with "
            "ensemble: leave it out, or use backend torch"
        )
    kind = TimeGraph if config.has_timestep else MiddleGraph
    return kind(model.eval(), flow_scale, ensemble)


def inputs_of(model: Network) -> tuple[str, ...]:
    """Names of what the graph takes."""
    return INPUTS if model.config.has_timestep else INPUTS[:2]


def cell_size(model: Network, flow_scale: float) -> int:
    """Height and width the graph takes are multiples of this, in pixels."""
    return int(model.config.pad_multiple * max(1, 1 / flow_scale))


def export_program(graph: MiddleGraph, size: tuple[int, int] | None = None) -> ExportedProgram:
    """The network in torch's own exchange form, for one pair at a time.

    Args:
        graph: of a network on the CPU.
        size: (height, width) in pixels, multiples of `cell_size`; None: any such size.
    """
    cell = cell_size(graph.model, graph.flow_scale)
    height, width = size or (cells * cell for cells in _EXAMPLE)
    inputs = [torch.rand(1, 3, height, width), torch.rand(1, 3, height, width)]
    free: dict[int, Any] = {}
    if size is None:
        names = ("rows", "columns")
        rows, columns = (Dim(name, min=FEWEST_CELLS, max=MOST_CELLS) for name in names)
        free = {2: cell * rows, 3: cell * columns}
    shapes: list[dict[int, Any] | None] = [free, free]
    if isinstance(graph, TimeGraph):
        inputs.append(torch.tensor([0.4]))
        shapes.append(None)
    with torch.no_grad():
        return torch.export.export(graph, tuple(inputs), dynamic_shapes=tuple(shapes))
