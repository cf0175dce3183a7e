"""Runs cases in one process, each through the command line's own code; `run.py` watches it.

    python -m tests.fuzz.worker MATERIAL LIMITS < requests > answers

A request is a line of JSON: {"kind", "seed", "index"} or {"replay": folder}, with "folder" to work
in. The answer is a line of JSON too: {"fault": "" or what went wrong, "exit": code, ...}.
"""

import contextlib
import faulthandler
import gc
import json
import os
import resource
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import av
import torch
from typer.testing import CliRunner

import midflow
from midflow import cli, pipeline
from midflow.nets.checkpoint import load_model
from tests.crossfade import CrossFade
from tests.fuzz.cases import Case, load_case, save_case, write_case
from tests.fuzz.material import make_material

_LAST_NET = 6 << 30  # bytes of address space a case may add before allocations fail
_OUR_THREADS = ("Feed", "Sink")


@dataclass(frozen=True)
class Limits:
    """What one case may use."""

    wall_seconds: float = 40
    """The process ends, with its stack on stderr, where a case takes longer."""
    cpu_seconds: float = 20
    """Of all threads."""
    memory: int = 1 << 30
    """Bytes resident beyond those before the case."""
    pixels: int = 4_000_000
    """MIDFLOW_MAX_PIXELS."""


def main() -> None:
    """Serves requests until stdin ends."""
    material, limits = Path(sys.argv[1]), Limits(**json.loads(sys.argv[2]))
    os.environ["MIDFLOW_MAX_PIXELS"] = str(limits.pixels)
    torch.set_num_threads(1)
    make_material(material)
    _use_stub()
    gc.freeze()  # else each collection in a case goes through all of torch
    answers = os.fdopen(os.dup(1), "w")  # whatever a library prints goes elsewhere
    os.dup2(2, 1)
    for line in sys.stdin:
        answer = serve(json.loads(line), material, limits)
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _use_stub() -> None:
    """Fades instead of painting, but for models given as files."""

    def load(source: Any = None, **given: Any) -> Any:
        return CrossFade() if source is None else load_model(source, **given)

    pipeline.load_model = load
    midflow.load_model = load


def serve(request: dict[str, Any], material: Path, limits: Limits) -> dict[str, Any]:
    """Makes a case, runs it and says what happened."""
    folder = Path(request["folder"])
    if "replay" in request:
        case = load_case(Path(request["replay"]))
    else:
        case = write_case(request["kind"], request["seed"], request["index"], material, folder)
    save_case(case, folder.with_name(folder.name + ".about"))
    return {**asdict(case), **run_case(case, folder, limits)}


def run_case(case: Case, folder: Path, limits: Limits) -> dict[str, Any]:
    """Runs a case whose files are in `folder`."""
    before, inputs = _usage(), _files(folder)
    with _bounds(limits), contextlib.chdir(folder), _home(case):
        result = CliRunner().invoke(cli.app, case.command)
    after = _usage()
    if after["handles"] > before["handles"]:
        gc.collect()  # what PyAV's objects hold in circles is released some time later
        after["handles"] = _usage()["handles"]
    spent = {name: after[name] - before[name] for name in after}
    spent["memory"] = _peak_bytes() - before["memory"]
    added = {path: size for path, size in _files(folder).items() if inputs.get(path) != size}
    fault = _fault_of(case, result, folder, added) or _fault_of_use(spent, limits)
    return {
        "fault": fault,
        "exit": result.exit_code,
        "said": (result.output or "")[-600:],
        **{name: round(value, 3) for name, value in spent.items()},
    }


def _fault_of(case: Case, result: Any, folder: Path, added: dict[str, int]) -> str:
    """What is wrong with how a command ended or what it left; empty for nothing.

    A job that failed may keep its work folder, where a segment in it is finished.
    """
    error = result.exception
    if error is not None and not isinstance(error, SystemExit):
        return "exception: " + "".join(traceback.format_exception(error))[-4000:]
    if result.exit_code not in (0, 1, 2):
        return f"exit code {result.exit_code}"
    if result.exit_code and not result.output.strip():
        return "an error without a word"
    if threads := [t.name for t in threading.enumerate() if t.name in _OUR_THREADS]:
        return f"threads are left: {threads}"
    if result.exit_code and any(name.endswith(".packets") for name in added):
        added = {name: size for name, size in added.items() if ".midflow/" not in name}
    if strange := sorted(set(added) - set(case.outputs)):
        return f"files are left: {strange}"
    if result.exit_code and added and "in" not in case.command:  # of a folder, done pictures stay
        return f"a failed command left {sorted(added)}"
    if result.exit_code == 0 and set(added) != set(case.outputs):
        return f"success without {sorted(set(case.outputs) - set(added))}"
    return _fault_of_output(case, result, folder) if result.exit_code == 0 else ""


def _fault_of_output(case: Case, result: Any, folder: Path) -> str:
    """Whether the output can be read and has as many frames as the command said."""
    if case.command[0] != "video":
        return ""
    said = json.loads(result.stdout)["frames_out"]
    with av.open(str(folder / case.outputs[0])) as output:
        count = sum(1 for _ in output.decode(video=0))
    return "" if count == said else f"the output has {count} frames, {said} were reported"


def _fault_of_use(spent: dict[str, float], limits: Limits) -> str:
    if spent["cpu"] > limits.cpu_seconds:
        return f"took {spent['cpu']:.1f} s of processor time"
    if spent["memory"] > limits.memory:
        return f"used {spent['memory'] / 1e6:.0f} MB of memory"
    return f"{spent['handles']} files are left open" if spent["handles"] > 0 else ""


@contextlib.contextmanager
def _bounds(limits: Limits) -> Iterator[None]:
    """Ends the process where it hangs; lets allocations fail before the machine suffers."""
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    resource.setrlimit(resource.RLIMIT_AS, (size + _LAST_NET, resource.RLIM_INFINITY))
    faulthandler.dump_traceback_later(limits.wall_seconds, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)


@contextlib.contextmanager
def _home(case: Case) -> Iterator[None]:
    os.environ["MIDFLOW_HOME"] = str(Path(case.home or "none").absolute())
    yield
    del os.environ["MIDFLOW_HOME"]


def _files(folder: Path) -> dict[str, int]:
    """Name -> bytes of everything below a folder but the model cache's own notes."""
    found = {str(p.relative_to(folder)): p.stat().st_size for p in folder.rglob("*") if p.is_file()}
    return {name: size for name, size in found.items() if not name.startswith("home/")}


def _usage() -> dict[str, float]:
    status = Path("/proc/self/statm").read_text().split()
    return {
        "seconds": time.perf_counter(),
        "cpu": time.process_time(),
        "handles": len(os.listdir("/proc/self/fd")),
        "memory": int(status[1]) * resource.getpagesize(),
    }


def _peak_bytes() -> int:
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in x)
    return int(line.split()[1]) << 10


if __name__ == "__main__":
    faulthandler.enable()
    main()
