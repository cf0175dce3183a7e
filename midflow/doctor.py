"""What this machine can do for midflow, and what would make it do more.

`diagnose` tries things rather than reading lists: it encodes a frame with every encoder and loads
the bundled model. It returns plain data; printing is the caller's.
"""

import importlib.metadata
import os
import platform
import re
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import av
import psutil
import torch

import midflow
from midflow.device import choose_device
from midflow.encoder_probe import ENCODERS, try_encoder
from midflow.errors import MidflowError
from midflow.native.library import find_openmp, load_library
from midflow.native.network import has_bfloat16
from midflow.nets.cache import BUNDLED, cache_folder
from midflow.nets.checkpoint import load_model
from midflow.nets.releases import available_models, describe_config

_TORCH_INSTALL = "https://pytorch.org/get-started/locally"
_USEFUL_FEATURES = ("avx2", "avx512_f", "avx512_bf16", "avx512_vnni", "amx_bf16", "sve", "bf16")
_MEMORY_LIMIT = Path("/sys/fs/cgroup/memory.max")
_EXTRA = re.compile(r"^([\w.-]+).*;.*\bextra\s*==\s*['\"]([\w.-]+)['\"]")


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    name: str
    """What it is."""
    value: str
    """What was found, for people to read."""
    is_good: bool = True
    """Whether it is there and works; what is only optional may be False on a healthy machine."""
    advice: str = ""
    """What to do about it; empty where there is nothing to do."""


@dataclass(frozen=True)
class Section:
    """Findings that belong together."""

    title: str
    """Heading."""
    findings: tuple[Finding, ...]
    """In the order to show them."""
    is_optional: bool = False
    """Whether midflow works without any of it."""


@dataclass(frozen=True)
class Report:
    """All that `diagnose` found."""

    sections: tuple[Section, ...]
    """In the order to show them."""

    @property
    def is_healthy(self) -> bool:
        """Whether everything midflow cannot do without is there."""
        needed = (section for section in self.sections if not section.is_optional)
        return all(finding.is_good for section in needed for finding in section.findings)

    def section(self, title: str) -> Section:
        """The section with the given title.

        Raises:
            KeyError: there is none.
        """
        for section in self.sections:
            if section.title == title:
                return section
        raise KeyError(title)

    def as_dict(self) -> dict[str, Any]:
        """The same as dictionaries, lists and strings, ready for JSON."""
        return {"is_healthy": self.is_healthy, **asdict(self)}


def diagnose() -> Report:
    """Looks at this machine; takes a second or two and changes nothing."""
    return Report(
        (
            Section("Software", tuple(_software())),
            Section("Processor", tuple(_processor())),
            Section("Device", tuple(_device())),
            Section("GPUs", tuple(_gpus()), is_optional=True),
            Section("Models", tuple(_models())),
            Section("Encoders", tuple(_encoders(is_hardware=False))),
            Section("Hardware encoders", tuple(_encoders(is_hardware=True)), is_optional=True),
            Section("Extras", tuple(_extras()), is_optional=True),
        )
    )


def _software() -> Iterator[Finding]:
    yield Finding("midflow", midflow.__version__)
    yield Finding("Python", f"{platform.python_version()} ({sys.executable})")
    yield Finding("system", platform.platform())
    yield Finding("torch", torch.__version__)
    yield Finding("PyAV", av.__version__)
    yield Finding("FFmpeg", f"{av.ffmpeg_version_info} (inside PyAV)")


def _processor() -> Iterator[Finding]:
    facts = _cpu_facts()
    yield Finding("model", str(facts.get("cpu_name") or platform.processor() or platform.machine()))
    yield Finding(
        "cores", f"{_usable_cores()} usable, torch computes with {torch.get_num_threads()}"
    )
    yield Finding("torch kernels", torch.backends.cpu.get_cpu_capability())
    features = [name for name in _USEFUL_FEATURES if facts.get(name)]
    if features:
        yield Finding("instructions", ", ".join(features))
    yield _kernels()
    yield Finding("memory", _memory())


def _kernels() -> Finding:
    if load_library() is None:
        advice = "install midflow again, or a C compiler first: painting gets several times quicker"
        return Finding("midflow's kernels", "not compiled", advice=advice)
    multiplied = "bfloat16" if has_bfloat16() else "float32"
    advice = "" if find_openmp() else "torch's OpenMP was not found: they run in one thread"
    return Finding("midflow's kernels", f"compiled, convolutions in {multiplied}", advice=advice)


def _cpu_facts() -> dict[str, Any]:
    """What torch knows of the processor; early releases of torch 2 do not tell."""
    tell = getattr(torch.cpu, "get_capabilities", None)
    return tell() if tell else {}


def _usable_cores() -> int:
    """Cores this process may run on, which containers and job schedulers limit."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory() -> str:
    memory, limit = psutil.virtual_memory(), _container_limit()
    allowed = f", {_gigabytes(limit)} allowed in this container" if limit else ""
    return f"{_gigabytes(memory.total)}, {_gigabytes(memory.available)} free{allowed}"


def _container_limit() -> int | None:
    """Bytes the control group allows, where it allows less than all."""
    try:
        limit = _MEMORY_LIMIT.read_text()
    except OSError:
        return None
    return None if limit.strip() == "max" else int(limit)


def _device() -> Iterator[Finding]:
    device, reason = choose_device("auto")
    yield Finding("chosen", f"{device}: {reason}")


def _gpus() -> Iterator[Finding]:
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        gpu = torch.cuda.get_device_properties(index)
        yield Finding(f"cuda:{index}", f"{gpu.name}, {_gigabytes(gpu.total_memory)}")
    if torch.cuda.is_available():
        version = (
            f"CUDA {torch.version.cuda}" if torch.version.cuda else f"ROCm {torch.version.hip}"
        )
        yield Finding("torch is built for", version)
    elif torch.version.cuda is None and torch.version.hip is None:
        advice = (
            "" if sys.platform == "darwin" else f"for a GPU, install torch from {_TORCH_INSTALL}"
        )
        yield Finding("CUDA", "this build of torch has none", False, advice)
    else:
        advice = "with an NVIDIA or AMD GPU, update its driver and run nvidia-smi or rocminfo"
        yield Finding("CUDA", "no device or driver found", False, advice)
    if torch.backends.mps.is_available():
        yield Finding("MPS", "available (Apple GPU)")
    elif sys.platform == "darwin":
        yield Finding(
            "MPS", "not available", False, "it needs an Apple GPU and macOS 12.3 or later"
        )


def _models() -> Iterator[Finding]:
    try:
        info = describe_config(load_model().config, BUNDLED)
        yield Finding(BUNDLED, f"bundled, loads, {info.parameters / 1e6:.1f} M parameters")
    except (MidflowError, OSError) as error:
        yield Finding(BUNDLED, str(error), False, "install midflow again: its weights come with it")
    folder = cache_folder()
    pulled = [info.name for info in available_models(folder) if info.status == "pulled"]
    yield Finding("cache folder", f"{folder}{'' if folder.is_dir() else ' (not made yet)'}")
    yield Finding(
        "pulled models",
        ", ".join(name for name in pulled if name) or "none",
        advice="" if pulled else "midflow models pull 4.25 fetches one; none is needed",
    )


def _encoders(is_hardware: bool) -> Iterator[Finding]:
    for encoder in ENCODERS:
        if encoder.is_hardware is is_hardware:
            problem = try_encoder(encoder)
            yield Finding(encoder.name, problem or f"works ({encoder.makes})", not problem)


def _extras() -> Iterator[Finding]:
    """One finding for each extra of midflow: what it asks for, and what of that is missing."""
    try:
        requirements = importlib.metadata.requires("midflow") or []
    except importlib.metadata.PackageNotFoundError:
        advice = "in a checkout, run pip install -e ."
        yield Finding("midflow", "runs from its source, not installed", False, advice)
        return
    packages: dict[str, list[str]] = {}
    for match in filter(None, map(_EXTRA.match, requirements)):
        packages.setdefault(match[2], []).append(match[1])
    for extra, names in packages.items():
        missing = [name for name in names if not _is_installed(name)]
        if missing:
            advice = f"pip install 'midflow[{extra}]'"
            yield Finding(extra, f"not installed: {', '.join(missing)}", False, advice)
        else:
            yield Finding(extra, f"installed: {', '.join(names)}")


def _is_installed(package: str) -> bool:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _gigabytes(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
