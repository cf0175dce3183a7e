"""Clocks and memory of a stretch of work."""

import ctypes
import gc
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil
import torch

from midflow.bench.record import Stage

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_PEAK = "5"  # of the largest resident set, see proc(5)
_MB = 1e6


class Stopwatch:
    """`with Stopwatch() as watch:` work; then `watch.stage(frames)`."""

    seconds = 0.0
    cpu_seconds = 0.0

    def __enter__(self) -> Self:
        self._started, self._cpu = time.perf_counter(), time.process_time()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.seconds = time.perf_counter() - self._started
        self.cpu_seconds = time.process_time() - self._cpu

    def stage(self, frames: int) -> Stage:
        """What the work was."""
        return Stage(frames, self.seconds, self.cpu_seconds)


class MemoryPeak:
    """`with MemoryPeak(device) as peak:` work; then `peak.host_mb` and `peak.gpu_mb`.

    The resident set is that of the whole process, torch and midflow included. Where the system
    cannot reset it (all but Linux), it is the largest since the process began.

    Args:
        device: where the work is done.
    """

    host_mb: float | None = None
    gpu_mb: float | None = None

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def __enter__(self) -> Self:
        _give_back()
        try:
            _RESET.write_text(_RESET_PEAK)
        except OSError:
            pass  # another system, or one that forbids it
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self._device)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.host_mb = _host_peak_mb()
        if self._device.type == "cuda":
            self.gpu_mb = torch.cuda.max_memory_allocated(self._device) / _MB


def _give_back() -> None:
    """Returns what earlier work has freed to the system, so that it does not count."""
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc; musl has none
        if trim is not None:
            trim(0)


def _host_peak_mb() -> float:
    if _STATUS.exists():
        lines = dict(line.split(":", 1) for line in _STATUS.read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) * 1024 / _MB
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset / _MB
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / _MB
