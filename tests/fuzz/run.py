"""Runs many damaged files through midflow's commands and keeps those it does not take well.

    scripts/fuzz --media 1000 --checkpoints 200 --seed 1 --out /tmp/fuzz
    scripts/fuzz --replay /tmp/fuzz/failed/media-1-17

Every case must end in success or in one of midflow's own errors: no crash, no hang, no memory
beyond the limit, no file that looks finished, none left over. The exit code is 1 where one did not.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from tests.fuzz.worker import Limits

_RENEWED = 1000  # cases until a worker is replaced, so that what leaks is not taken for a case's
_GRACE = 30  # seconds beyond the worker's own limit until it is killed


class Worker:
    """A process that runs cases; another one takes its place when it dies."""

    def __init__(self, out: Path, limits: Limits) -> None:
        self._out, self._limits = out, limits
        self._process: subprocess.Popen[str] | None = None
        self._served = 0

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """The answer, or one that says how the process ended."""
        process = self._started()
        assert process.stdin and process.stdout
        try:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if line:
            return dict(json.loads(line))
        code = process.wait(self._limits.wall_seconds + _GRACE)
        self._process = None
        said = (self._out / "stderr.txt").read_text(errors="replace")[-6000:]
        return {"fault": f"the process ended with {code}: {said}", "exit": code, "said": ""}

    def close(self) -> None:
        """Ends the process."""
        if self._process is not None:
            assert self._process.stdin
            self._process.stdin.close()
            self._process.wait()
            self._process = None

    def _started(self) -> subprocess.Popen[str]:
        if self._served % _RENEWED == 0:
            self.close()
        self._served += 1
        if self._process is None:
            about = json.dumps(vars(self._limits))
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.fuzz.worker", str(self._out / "material"), about],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=(self._out / "stderr.txt").open("w"),
                text=True,
            )
        return self._process


def fuzz(out: Path, requests: list[dict[str, Any]], limits: Limits) -> dict[str, Any]:
    """Runs all requests; failed cases stay in `out`/failed; returns counts."""
    worker, counts, slowest = Worker(out, limits), Counter(), {"seconds": 0.0, "memory": 0.0}
    faults, started, folder, total = [], time.monotonic(), out / "work", 0.0
    for request in requests:
        about = folder.with_name("work.about")
        for path in (folder, about):
            shutil.rmtree(path, ignore_errors=True)
            path.mkdir(parents=True)
        if "replay" in request:
            shutil.copytree(request["replay"], folder, dirs_exist_ok=True)
            (folder / "case.json").unlink()
            (folder / "fault.txt").unlink(missing_ok=True)
        answer = worker.ask({**request, "folder": str(folder)})
        counts[f"exit {answer['exit']}"] += 1
        total += answer.get("seconds", 0)
        for name in slowest:
            slowest[name] = max(slowest[name], answer.get(name, 0))
        if answer["fault"]:
            faults.append(_keep(out, about, request, answer))
            print(f"{faults[-1]}: {answer['fault'][-300:]}", file=sys.stderr, flush=True)
        elif "replay" in request:
            print(f"{answer['name']}: exit {answer['exit']}, {answer['said']}")
        if sum(counts.values()) % 500 == 0:
            print(sum(counts.values()), dict(counts), len(faults), flush=True)
    worker.close()
    shutil.rmtree(folder, ignore_errors=True)
    return {
        "cases": len(requests),
        "ends": dict(counts),
        "faults": faults,
        "seconds": round(time.monotonic() - started, 1),
        "case_seconds": round(total / max(1, len(requests)), 3),
        "longest_case_seconds": round(slowest["seconds"], 2),
        "most_memory_mb": round(slowest["memory"] / 1e6),
    }


def _keep(out: Path, about: Path, request: dict[str, Any], answer: dict[str, Any]) -> str:
    """Makes a failed case again, from its numbers, into `out`/failed/NAME; returns that."""
    if "replay" in request:
        return str(request["replay"])
    from tests.fuzz.cases import save_case, write_case

    name = "{kind}-{seed}-{index}".format(**request)
    kept = out / "failed" / name
    shutil.rmtree(kept, ignore_errors=True)
    kept.mkdir(parents=True)
    case = write_case(request["kind"], request["seed"], request["index"], out / "material", kept)
    save_case(case, kept)
    (kept / "fault.txt").write_text(f"{answer['fault']}\n\n{answer['said']}\n")
    return str(kept)


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--media", type=int, default=0, help="damaged clips and pictures")
    parser.add_argument("--checkpoints", type=int, default=0, help="damaged files of weights")
    parser.add_argument("--seed", type=int, default=0, help="another seed, other damage")
    parser.add_argument("--first", type=int, default=0, help="number of the first case of each")
    parser.add_argument("--out", type=Path, default=Path("fuzz"), help="material, failed cases")
    parser.add_argument("--replay", type=Path, nargs="+", help="folders of failed cases")
    given = parser.parse_args(arguments)
    given.out.mkdir(parents=True, exist_ok=True)
    requests = [{"replay": str(folder.absolute())} for folder in given.replay or ()]
    for kind, count in (("media", given.media), ("checkpoints", given.checkpoints)):
        numbers = range(given.first, given.first + count)
        requests += [{"kind": kind, "seed": given.seed, "index": k} for k in numbers]
    result = fuzz(given.out.absolute(), requests, Limits())
    print(json.dumps({"seed": given.seed, **result}))
    return 1 if result["faults"] else 0


if __name__ == "__main__":
    sys.exit(main())
