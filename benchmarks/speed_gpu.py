"""Seconds a painted frame takes on a GPU: backends and precisions beside torch's plain float32.

    python benchmarks/speed_gpu.py                              # 1080p, on a CUDA device
    python benchmarks/speed_gpu.py --device cpu --size 64x64    # that this script works
    python benchmarks/speed_gpu.py --json own.json --run "triton float16" "triton float16 own"

A frame is one frame encoded and one painted halfway, as a video of twice the rate asks for, by the
network alone, on frames that are on the device. Several follow one another without waiting, then
the device is waited for; runs alternate, medians count. Beside each: PSNR against the first, which
is torch in float32 (in TF32 where torch's own default is), and the peak of the memory taken.
"triton float16 own" has midflow's own convolutions in place of cuDNN's.

The floor is the time of the convolutions alone, one after another, as if no cache kept anything
between them: of each, the longer of its operations at the GPU's peak and its bytes (input, weights,
output, 2 bytes an element) at the bandwidth of the GPU's memory; then both frames read and one
written, float32. Everything else that is done could be done within these passes. The peaks come
from the device's properties, or from --tflops and --gbs.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from speed_forward import any_model, pair, psnr
from torch.utils._python_dispatch import TorchDispatchMode

from midflow.backends import open_backend
from midflow.bench.machine import describe_machine
from midflow.errors import MidflowError
from midflow.gpu.graphs import Graphs
from midflow.gpu.network import TritonNetwork
from midflow.memory import Settings
from midflow.padding import Padding

RESULT = Path(__file__).parent / "results" / "speed_gpu.json"
SEQUENCE = 8  # frames between two waits
RUNS = (
    "torch float32", "torch float16", "torch bfloat16", "triton float32", "triton float16",
    "triton bfloat16",
)  # fmt: skip
# Multiplications and additions, half precision summed in float32, of a multiprocessor in a clock
# cycle, by compute capability: from NVIDIA's tables of peak rates, without sparsity.
TENSOR_OPERATIONS = {
    (7, 0): 1024, (7, 5): 1024, (8, 0): 2048, (8, 6): 512, (8, 9): 512, (9, 0): 4096,
    (10, 0): 8192, (12, 0): 512,
}  # fmt: skip


aten = torch.ops.aten
CONVOLUTIONS = aten.convolution, aten.conv2d, aten.conv_transpose2d


class Convolutions(TorchDispatchMode):
    """Notes operations, and bytes at 2 an element, of every convolution that is done."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[int, int]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func.overloadpacket in CONVOLUTIONS:  # which of them, torch decides by its modes
            x, weight = args[:2]
            is_transposed = func.overloadpacket is aten.conv_transpose2d or args[6:7] == (True,)
            places = x if is_transposed else out  # each of which meets the whole kernel
            operations = 2 * places.numel() // places.shape[1] * weight.numel()
            self.found.append((operations, 2 * (x.numel() + weight.numel() + out.numel())))
        return out


def count(model: Any, img0: torch.Tensor, img1: torch.Tensor) -> list[tuple[int, int]]:
    """(operations, bytes) of the convolutions of a frame encoded and one painted."""
    before = model.encode_frame(img0)
    with Convolutions() as convolutions:
        model(before, model.encode_frame(img1), 0.5)
    return convolutions.found


def peaks(device: torch.device, args: argparse.Namespace) -> tuple[float | None, float | None]:
    """Operations and bytes a second at best; None where the device does not tell."""
    operations = args.tflops and args.tflops * 1e12
    bandwidth = args.gbs and args.gbs * 1e9
    if device.type == "cuda":
        gpu = torch.cuda.get_device_properties(device)
        each = TENSOR_OPERATIONS.get((gpu.major, gpu.minor))
        clock, memory = (getattr(gpu, name, 0) for name in ("clock_rate", "memory_clock_rate"))
        if each and clock and not operations:
            operations = each * gpu.multi_processor_count * clock * 1e3
        if memory and not bandwidth:  # both edges of the clock
            bandwidth = 2 * memory * 1e3 * gpu.memory_bus_width / 8
    return operations, bandwidth


def floor_seconds(
    convolutions: list[tuple[int, int]], pixels: int, operations: float, bandwidth: float
) -> float:
    own = sum(max(ops / operations, size / bandwidth) for ops, size in convolutions)
    return own + 3 * 3 * 4 * pixels / bandwidth


def painting(
    model: Any, run: str, device: torch.device, frames: list[torch.Tensor]
) -> Callable[[], torch.Tensor]:
    """A call that encodes and paints through the frames; it gives the last one painted."""
    backend, precision, *own = run.split()
    if own:
        from midflow.gpu.fused_convolution import FusedConvolution  # needs Triton

        graphs = Graphs() if device.type == "cuda" else None
        painter: Any = TritonNetwork(model.to(device).eval(), graphs, FusedConvolution)
    else:
        painter = open_backend(backend, model, device, Settings(precision), ensemble=False).painter
    dtype = getattr(torch, precision)
    only = {"only_frame": True} if getattr(painter, "can_omit_flow", False) else {}
    half = torch.tensor([0.5], device=device)

    def paint() -> torch.Tensor:
        with torch.autocast(device.type, dtype, enabled=dtype is not torch.float32):
            before = painter.encode_frame(frames[0])
            for frame in frames[1:]:
                after = painter.encode_frame(frame)
                painted = painter(before, after, half, flow_scale=1.0, ensemble=False, **only)
                before = after
        return painted.frame

    return paint


@contextmanager
def waited_for(device: torch.device) -> Iterator[list[float]]:
    """The seconds until everything that was begun is done."""
    taken: list[float] = []
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    yield taken
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    taken.append(time.perf_counter() - start)


def publish(report: dict[str, Any], target: Path | None) -> None:
    """Prints a report, and writes it to a file."""
    text = json.dumps(report, indent=1)
    print(text)
    if target:
        target.write_text(text + "\n")


def measure(name: str, args: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    model = any_model(name)
    width, height = map(int, args.size.split("x"))
    padding = Padding(height, width, model.config.pad_multiple)
    img0, img1 = (padding.pad(x).to(device) for x in pair(height, width))
    frames = [(img0, img1)[k % 2].clone() for k in range(args.sequence + 1)]
    calls, rows, skipped = {}, {}, {}
    reference: torch.Tensor | None = None
    for run in dict.fromkeys(("torch float32", *args.run)):
        try:
            calls[run] = painting(model, run, device, frames)
            found = [calls[run]() for _ in range(3)][-1]  # compiled, recorded, repeated
        except (MidflowError, RuntimeError) as error:
            calls.pop(run, None)
            skipped[run] = str(error).partition("\n")[0]
            continue
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            calls[run]()
            rows[run] = {"peak_mb": round(torch.cuda.max_memory_allocated(device) / 1e6)}
        reference = found if reference is None else reference
        rows.setdefault(run, {})["psnr"] = round(psnr(found, reference), 1)
    taken: dict[str, list[float]] = {run: [] for run in calls}
    for _ in range(args.rounds):
        for run, call in calls.items():
            with waited_for(device) as seconds:
                call()
            taken[run].append(seconds[0] / args.sequence)
    convolutions = count(model.to(device), img0, img1)
    operations, bandwidth = peaks(device, args)
    floor = None
    if operations and bandwidth:
        floor = floor_seconds(convolutions, img0[0, 0].numel(), operations, bandwidth)
    first = statistics.median(taken["torch float32"])
    for run, seconds in taken.items():
        middle = statistics.median(seconds)
        rows[run] |= {
            "milliseconds": round(1e3 * middle, 4),
            "slowest": round(1e3 * max(seconds), 4),
            "times_as_quick": round(first / middle, 3),
            "share_of_floor": floor and round(floor / middle, 3),
        }
    return {
        "model": name,
        "size": args.size,
        "gigaoperations": round(sum(ops for ops, _ in convolutions) / 1e9, 3),
        "gigabytes": round(sum(size for _, size in convolutions) / 1e9, 3),
        "peak_teraoperations_a_second": operations and round(operations / 1e12, 1),
        "peak_gigabytes_a_second": bandwidth and round(bandwidth / 1e9, 1),
        "floor_milliseconds": floor and round(1e3 * floor, 4),
        "runs": rows,
        "skipped": skipped,
    }


@torch.inference_mode()
def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", nargs="*", default=["midflow-2", "4.25"])
    parser.add_argument("--run", nargs="*", default=RUNS, help='"BACKEND PRECISION [own]"')
    parser.add_argument("--size", default="1920x1080")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--sequence", type=int, default=SEQUENCE, help="frames between two waits")
    parser.add_argument("--tflops", type=float, help="the GPU's peak, instead of its properties'")
    parser.add_argument("--gbs", type=float, help="its memory's GB/s, likewise")
    parser.add_argument("--json", type=Path, help="default: results/speed_gpu.json on a GPU")
    args = parser.parse_args(arguments)
    device = torch.device(args.device)
    report = {
        "benchmark": "speed_gpu",
        **describe_machine(args.device),
        "tf32": torch.backends.cudnn.allow_tf32,
        "rounds": args.rounds,
        "rows": [measure(name, args, device) for name in args.model],
    }
    publish(report, args.json or (RESULT if device.type == "cuda" else None))


if __name__ == "__main__":
    main()
