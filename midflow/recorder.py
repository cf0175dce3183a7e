"""Launches on a GPU, recorded once and played again: CUDA graphs, or what stands in for them."""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

Part = tuple[Tensor, ...]
"""Tensors that belong together, such as all that is kept of one frame."""


class Recorder(Protocol):
    """Records launches; all its recordings share memory, and one is at work at a time."""

    def record(self, work: Callable[[], Part]) -> tuple[Callable[[], object], Part]:
        """Runs `work` under recording.

        Returns:
            What repeats it, and its outputs, which every repetition writes anew.

        Raises:
            RuntimeError: it cannot be recorded.
        """

    def close(self) -> None:
        """Waits until nothing recorded is at work."""


class CudaRecorder:
    """Records CUDA graphs."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()

    def record(self, work: Callable[[], Part]) -> tuple[Callable[[], object], Part]:
        """As `Recorder` says."""
        graph = torch.cuda.CUDAGraph()
        # The outer stream is current again even where recording fails. Other threads may use the
        # device meanwhile: their launches are not recorded and need not stop.
        with (
            torch.cuda.stream(torch.cuda.current_stream()),
            torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"),
        ):
            outputs = work()
        return graph.replay, outputs

    def close(self) -> None:
        """As `Recorder` says."""
        torch.cuda.synchronize()
