"""Whether an exported network paints what the network itself paints."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from midflow.errors import MidflowError
from midflow.export.engines import Run
from midflow.export.graph import MiddleGraph, TimeGraph, cell_size

TOLERANCE = 2e-3
"""Largest difference of a pixel or weight in [0, 1]: half a level of 255. Engines add up in other
orders."""
FLOW_TOLERANCE = 0.02
"""Largest difference of the flow, in pixels."""
_CASES = ((2, 2, 0.5), (2, 3, 0.25), (5, 2, 0.8))  # cells high and wide, timestep


class Check(NamedTuple):
    """One size and time at which both were run."""

    height: int
    """Pixels."""
    width: int
    """Pixels."""
    timestep: float
    """In [0, 1]."""
    difference: float
    """Largest difference of a pixel or weight, in units of white."""
    flow_difference: float
    """Largest difference of the flow, in pixels."""

    def __str__(self) -> str:
        return (
            f"{self.width}x{self.height} at {self.timestep:g}: largest difference "
            f"{self.difference:.1e}, of the flow {self.flow_difference:.1e} pixels"
        )

    @property
    def is_good(self) -> bool:
        """Whether both are the same but for rounding; what is no number is not."""
        return self.difference <= TOLERANCE and self.flow_difference <= FLOW_TOLERANCE


def check(
    run: Run, graph: MiddleGraph, size: tuple[int, int] | None = None, fewest: int = 1
) -> list[Check]:
    """Runs both at several sizes and times on smooth pictures that move.

    Args:
        run: what was exported.
        graph: of the network.
        size: (height, width) where the file takes no other.
        fewest: cells that a side has at least; so small a picture is tried too.

    Raises:
        MidflowError: they differ.
    """
    cell = cell_size(graph.model, graph.flow_scale)
    cases = [(cell * rows, cell * columns, time) for rows, columns, time in _CASES]
    cases.append((fewest * cell, fewest * cell, 0.6))
    if size:
        cases = [(*size, time) for _, _, time in _CASES]
    checks = [_compare(run, graph, *case, seed=number) for number, case in enumerate(cases)]
    for found in checks:
        if not found.is_good:
            raise MidflowError(
                f"the exported network differs from the network itself ({found}; allowed are "
                f"{TOLERANCE:g} and {FLOW_TOLERANCE:g} pixels): it was not kept; another version "
                "of the engine may do better"
            )
    return checks


def _compare(
    run: Run, graph: MiddleGraph, height: int, width: int, timestep: float, seed: int
) -> Check:
    inputs = list(_moving(height, width, seed))
    if isinstance(graph, TimeGraph):
        inputs.append(torch.tensor([timestep]))
    with torch.no_grad():
        pairs = zip(run(*inputs), graph(*inputs), strict=True)
        frame, flow, weight = (float((a - b).abs().max()) for a, b in pairs)
    timestep = timestep if isinstance(graph, TimeGraph) else 0.5
    return Check(height, width, timestep, max(frame, weight), flow)


def _moving(height: int, width: int, seed: int) -> tuple[Tensor, Tensor]:
    """A smooth picture, and the same a few pixels on."""
    random = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, height // 8 + 2, width // 8 + 2, generator=random)
    fine = F.interpolate(coarse, scale_factor=8, mode="bicubic").clamp(0, 1)
    first, second = fine[..., :height, :width], fine[..., 2 : height + 2, 5 : width + 5]
    return first.contiguous(), second.contiguous()
