"""Microseconds of every convolution of a frame on a GPU: cuDNN's and midflow's own.

    python benchmarks/gpu_convolutions.py                            # 1080p, on a CUDA device
    python benchmarks/gpu_convolutions.py --search                   # and by every tile
    TRITON_INTERPRET=1 python benchmarks/gpu_convolutions.py --device cpu --size 64x64 --repeats 1

A frame is one frame encoded and one painted. Each of its convolutions is done with numbers of its
own, with bias and activation where these are not left to the kernel behind it: by `Convolution`
(cuDNN and what follows) and by `FusedConvolution` (one pass). On a GPU a CUDA graph does it many
times over, always of the same input, which a cache may then hold more of than in a network. The
two alternate; medians count. `difference` is the largest between both, relative to the largest
number that comes out; `tile` is (columns, rows, channels, warps, stages), `deep` the terms of a
step of the sum.
"""

import argparse
import statistics
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from speed_forward import any_model
from speed_gpu import publish
from torch import Tensor
from triton.errors import TritonError

from midflow.bench.machine import describe_machine
from midflow.gpu.convolution import Convolution
from midflow.gpu.fused_convolution import FusedConvolution, Tile
from midflow.gpu.launch import finish
from midflow.gpu.network import TritonNetwork
from midflow.native.convolution import Form
from midflow.padding import Padding

RESULT = Path(__file__).parent / "results" / "gpu_convolutions.json"
SIDES = (16, 8), (8, 8), (16, 2)
PIPELINES = (4, 3), (4, 4), (8, 3)  # warps, stages
Call = Callable[[], Tensor]


class Layer(NamedTuple):
    """What convolutions must have in common to take the same time."""

    shape: tuple[int, ...]
    """(B, h, w, C) that goes in."""
    outputs: int
    form: Form
    finishes: bool


class Noted(Convolution):
    """Notes what it is asked for."""

    calls: ClassVar[Counter[Layer]] = Counter()

    def __call__(self, x: Tensor) -> Tensor:
        self.note(x, finishes=True)
        return finish(super().product(x), self.bias, leaky=self.form.leaky)

    def product(self, x: Tensor) -> Tensor:
        self.note(x, finishes=False)
        return super().product(x)

    def note(self, x: Tensor, *, finishes: bool) -> None:
        Noted.calls[Layer(tuple(x.shape), len(self.bias), self.form, finishes)] += 1


def layers(name: str, size: str, device: torch.device, dtype: torch.dtype) -> Counter[Layer]:
    """How often a frame has each."""
    width, height = map(int, size.split("x"))
    model = any_model(name)
    padding = Padding(height, width, model.config.pad_multiple)
    img0, img1 = padding.pad(torch.rand(2, 1, 3, height, width)).to(device).unbind()
    painter = TritonNetwork(model.to(device).eval(), make=Noted)
    with torch.autocast(device.type, dtype, enabled=dtype is not torch.float32):
        before = painter.encode_frame(img0)
        Noted.calls.clear()
        painter(before, painter.encode_frame(img1), 0.5, only_frame=True)
    return Counter(Noted.calls)


def recorded(call: Call, repeats: int, device: torch.device) -> Callable[[], float]:
    """A measurement of `call`: microseconds of one of many, one after another."""
    if device.type != "cuda":

        def measure() -> float:
            start = time.perf_counter()
            for _ in range(repeats):
                call()
            return 1e6 * (time.perf_counter() - start) / repeats

        return measure
    torch.cuda.synchronize(device)
    stream, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
    with torch.cuda.stream(stream):  # compiled, and what cuDNN keeps
        call()
    stream.synchronize()
    with torch.cuda.graph(graph, stream=stream):
        for _ in range(repeats):
            call()

    def measure() -> float:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        return 1e3 * start.elapsed_time(end) / repeats

    return measure


def medians(calls: list[Call], args: argparse.Namespace, device: torch.device) -> list[float]:
    measures = [recorded(call, args.repeats, device) for call in calls]
    taken: list[list[float]] = [[] for _ in calls]
    for _ in range(args.rounds):
        for measure, found in zip(measures, taken, strict=True):
            found.append(measure())
    return [statistics.median(found) for found in taken]


def tiles(lanes: int) -> list[Tile]:
    """Those that `--search` tries."""
    full = max(16, min(128, 1 << (lanes - 1).bit_length()))
    widths = sorted({full, max(16, full // 2)})
    return [
        Tile(*sides, wide, *pipeline) for sides, wide, pipeline in product(SIDES, widths, PIPELINES)
    ]


def search(
    make: Callable[..., FusedConvolution], x: Tensor, finishes: bool, lanes: int, args: Any
) -> dict[str, Any]:
    """The quickest of all tiles and depths."""
    found: list[tuple[float, int, Tile]] = []
    for deep, tile in product((32, 64), tiles(lanes)):
        own = make(deep=deep, tile=tile)
        try:
            (taken,) = medians([partial(own if finishes else own.product, x)], args, x.device)
        except TritonError:  # too large for this GPU
            continue
        found.append((taken, deep, tile))
    taken, deep, tile = min(found)
    return {"best": round(taken, 2), "best_tile": tile, "best_deep": deep}


def compare(layer: Layer, args: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    torch.manual_seed(0)
    dtype, form, channels = getattr(torch, args.precision), layer.form, layer.shape[-1]
    side, pair = (
        (4, (channels, layer.outputs)) if form.transposed else (3, (layer.outputs, channels))
    )
    weight = torch.randn(*pair, side, side, device=device) / (9 * channels) ** 0.5
    weights = weight, torch.randn(layer.outputs, device=device), dtype, form
    x = torch.randn(layer.shape, device=device).to(dtype)
    cudnn, own = Convolution(*weights), FusedConvolution(*weights)
    calls = [partial(each if layer.finishes else each.product, x) for each in (cudnn, own)]
    expected, found = (call().float() for call in calls)
    first, second = medians(calls, args, device)
    row = {
        "in": layer.shape,
        "outputs": layer.outputs,
        "form": [key for key, value in vars(form).items() if value is True]
        + [f"stride {form.stride}"] * (form.stride > 1),
        "finishes": layer.finishes,
        "cudnn": round(first, 2),
        "own": round(second, 2),
        "difference": float((found - expected).abs().max() / expected.abs().max()),
        "tile": own.tile(*layer.shape[1:3]),
        "deep": own.deep,
    }
    if args.search:
        make = partial(FusedConvolution, *weights)
        row |= search(make, x, layer.finishes, own.together * own.outputs, args)
    return row


def measure(name: str, args: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    found = layers(name, args.size, device, getattr(torch, args.precision))
    rows = [{"count": count} | compare(layer, args, device) for layer, count in found.items()]
    kinds = ["cudnn", "own"] + ["best"] * args.search

    def total(kinds: list[str]) -> float:
        """The quickest of some kinds for each layer."""
        return round(sum(row["count"] * min(row[kind] for kind in kinds) for row in rows), 1)

    frame = {kind: total([kind]) for kind in kinds} | {"quickest_of_each": total(kinds)}
    return {"model": name, "convolutions": found.total(), "frame": frame, "rows": rows}


@torch.inference_mode()
def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", nargs="*", default=["midflow-2", "4.25"])
    parser.add_argument("--size", default="1920x1080")
    parser.add_argument("--precision", default="float16")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--repeats", type=int, default=50, help="in one measurement")
    parser.add_argument("--search", action="store_true", help="try every tile; takes long")
    parser.add_argument("--json", type=Path, help="default: results/gpu_convolutions.json on a GPU")
    args = parser.parse_args(arguments)
    device = torch.device(args.device)
    report = {
        "benchmark": "gpu_convolutions",
        **describe_machine(args.device),
        "size": args.size,
        "precision": args.precision,
        "tf32": torch.backends.cudnn.allow_tf32,
        "rounds": args.rounds,
        "models": [measure(name, args, device) for name in args.model],
    }
    publish(report, args.json or (RESULT if device.type == "cuda" else None))


if __name__ == "__main__":
    main()
