"""Whether an exported network paints what the network itself paints."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from midflow.errors import MidflowError
from midflow.export.engines import Engine
from midflow.export.graph import MiddleGraph, TimeGraph, cell_size

TOLERANCE = 2e-3
"""Largest difference of a pixel or weight in [0, 1]: half a level of 255. Engines add up in other
orders."""
FLOW_TOLERANCE = 0.02
"""Largest difference of the flow, in pixels."""
ROUNDED = 4
"""How often these, where convolutions have 11 bits of precision: in float16, and in TF32, which
GPUs take for float32."""
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

    def is_within(self, share: float) -> bool:
        """Whether both are the same but for rounding; what is no number is not.

        Args:
            share: of what is allowed where convolutions are float32.
        """
        return (
            self.difference <= share * TOLERANCE and self.flow_difference <= share * FLOW_TOLERANCE
        )


def check(
    engine: Engine,
    file: Path,
    graph: MiddleGraph,
    size: tuple[int, int] | None = None,
    precision: str = "float32",
) -> list[Check]:
    """Runs both at several sizes and times on smooth pictures that move.

    Args:
        engine: whose file it is.
        file: what was exported.
        graph: of the network, on the CPU.
        size: (height, width) where the file takes no other; else the smallest is tried too.
        precision: of the convolutions in the file.

    Raises:
        MidflowError: they differ.
    """
    cell = cell_size(graph.model, graph.flow_scale)
    cases = [(cell * rows, cell * columns, time) for rows, columns, time in _CASES]
    cases.append((engine.fewest * cell, engine.fewest * cell, 0.6))
    if size:
        cases = [(*size, time) for _, _, time in _CASES]
    opened = engine.open(file)

    def run(*inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(found.cpu() for found in opened(*(x.to(engine.device) for x in inputs)))

    checks = [_compare(run, graph, *case, seed=number) for number, case in enumerate(cases)]
    share = ROUNDED if precision != "float32" or engine.device == "cuda" else 1
    for found in checks:
        if not found.is_within(share):
            raise MidflowError(
                f"the exported network differs from the network itself ({found}; allowed are "
                f"{share * TOLERANCE:g} and {share * FLOW_TOLERANCE:g} pixels): it was not kept; "
                "another version of the engine may do better"
            )
    return checks


def _compare(
    run: Callable[..., tuple[Tensor, ...]],
    graph: MiddleGraph,
    height: int,
    width: int,
    timestep: float,
    seed: int,
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
