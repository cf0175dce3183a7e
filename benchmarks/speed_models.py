"""Seconds a painted frame takes, model beside model: same frames, alternating.

    python benchmarks/speed_models.py [--model midflow-2 4.25] [--backend torch onnx] [--json OUT]

A frame is one frame encoded and one painted, as a video of twice the rate asks for, by the network
alone: still overlays are not looked for. Releases that are not here run with random weights, whose
values cost nothing.
"""

import argparse
import json
import platform
import statistics
import time
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from speed_forward import any_model, pair

import midflow


def interpolator(name: str, precision: str, backend: str) -> midflow.Interpolator:
    # a backend's cache knows the weights again
    return midflow.Interpolator(any_model(name), "cpu", precision, backend=backend, protect="off")


def versions() -> dict[str, str]:
    """Of the engines that are installed."""
    found = {}
    for name in ("onnxruntime", "openvino", "onnxscript"):
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def seconds(interp: midflow.Interpolator, img0: torch.Tensor, img1: torch.Tensor) -> float:
    start = time.perf_counter()
    interp(interp.encode(img0), img1)
    both = time.perf_counter()
    interp.encode(img0)  # at a steady rate each frame is encoded once
    return both - start - (time.perf_counter() - both)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", nargs="*", default=["midflow-2", "4.25"])
    parser.add_argument("--precision", nargs="*", default=["float32", "bfloat16"])
    parser.add_argument(
        "--backend", nargs="*", default=["torch", "native"], help="others have float32 only"
    )
    parser.add_argument("--size", default="1280x720")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    width, height = map(int, args.size.split("x"))
    img0, img1 = pair(height, width)
    runs = {
        (name, precision, backend): interpolator(name, precision, backend)
        for name in args.model
        for precision in args.precision
        for backend in args.backend
    }
    taken: dict[tuple[str, ...], list[float]] = {key: [] for key in runs}
    for interp in runs.values():
        seconds(interp, img0, img1)  # warm-up
    for _ in range(args.rounds):
        for key, interp in runs.items():
            taken[key].append(seconds(interp, img0, img1))
    cpu = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    report = {
        "benchmark": "speed_models",
        "midflow": midflow.__version__,
        "torch": torch.__version__,
        **versions(),
        "machine": f"{cpu}, {args.threads} threads",
        "size": args.size,
        "seconds": {
            " ".join(key): round(statistics.median(values), 3) for key, values in taken.items()
        },
    }
    print(json.dumps(report, indent=2))
    if args.json:
        args.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
