"""Which machine and versions a benchmark ran on."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import av
import numpy as np
import psutil
import torch

import midflow
from midflow.device import choose_device

_CPUINFO = Path("/proc/cpuinfo")


def describe_machine(device: str) -> dict[str, Any]:
    """Processor, memory, device, versions, commit (of a checkout, where git tells), and the time.

    Raises:
        OptionError: the device cannot be used.
    """
    chosen, _ = choose_device(device)
    return {
        "processor": _processor(),
        "cores": usable_cores(),
        "torch_threads": torch.get_num_threads(),
        "torch_kernels": torch.backends.cpu.get_cpu_capability(),
        "load_average": _load_average(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "device": str(chosen),
        "gpu": torch.cuda.get_device_name(chosen) if chosen.type == "cuda" else None,
        "system": platform.platform(),
        "python": platform.python_version(),
        "midflow": midflow.__version__,
        "commit": _commit(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "av": av.__version__,
        "ffmpeg": str(av.ffmpeg_version_info),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def usable_cores() -> int:
    """Cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _processor() -> str:
    if _CPUINFO.exists():
        for line in _CPUINFO.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _load_average() -> float | None:
    """Threads at work, of all programs, in the minute before."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def _commit() -> str | None:
    """Of the checkout the package lies in, "+" where files differ from it."""
    folder = Path(midflow.__file__).parents[1]
    if not (folder / ".git").exists():
        return None
    try:
        commit = _git(folder, "rev-parse", "--short", "HEAD")
        return commit + "+" * bool(_git(folder, "status", "--porcelain", "-uno", "midflow"))
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", *words], cwd=folder, capture_output=True, text=True, check=True, timeout=10
    )
    return done.stdout.strip()
