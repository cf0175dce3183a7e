"""The forward pass that runs against the one step by step: same weights, same frames, alternating.

    python benchmarks/speed_forward.py [--model 4.25] [--size 1280x720] [--rounds 9] [--json OUT]

Prints the medians of both, their ratio and the largest difference of the frames.
"""

import argparse
import json
import platform
import statistics
import time
from pathlib import Path

import torch
import torch.nn.functional as F

import midflow
from midflow.nets.ifnet import IFNet
from midflow.nets.plain import plain_forward
from midflow.nets.releases import RELEASES
from midflow.padding import Padding


def network(name: str) -> IFNet:
    """A release with random weights: values cost nothing."""
    torch.manual_seed(0)
    return IFNet(RELEASES[name].config).eval()


def pair(height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A smooth picture and the same picture 6 pixels further."""
    torch.manual_seed(0)
    wide = F.interpolate(
        torch.rand(1, 3, height // 24, width // 24), (height, width + 6), mode="bicubic"
    )
    return wide[..., 6:].clamp(0, 1), wide[..., :-6].clamp(0, 1)


def measure(name: str, height: int, width: int, rounds: int) -> dict[str, float | str]:
    net = network(name)
    padding = Padding(height, width, net.config.pad_multiple)
    img0, img1 = (padding.pad(x) for x in pair(height, width))
    forwards = {"plain": lambda: plain_forward(net, img0, img1), "fast": lambda: net(img0, img1)}
    seconds: dict[str, list[float]] = {"plain": [], "fast": []}
    frames = {key: forward().frame for key, forward in forwards.items()}  # warm-up
    for _ in range(rounds):
        for key, forward in forwards.items():
            start = time.perf_counter()
            forward()
            seconds[key].append(time.perf_counter() - start)
    plain, fast = (statistics.median(seconds[key]) for key in ("plain", "fast"))
    return {
        "model": name,
        "size": f"{width}x{height}",
        "plain_seconds": round(plain, 4),
        "fast_seconds": round(fast, 4),
        "ratio": round(plain / fast, 3),
        "max_difference": float((frames["plain"] - frames["fast"]).abs().max()),
    }


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", nargs="*", default=["4.25"])
    parser.add_argument("--size", default="1280x720")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    width, height = map(int, args.size.split("x"))
    rows = [measure(name, height, width, args.rounds) for name in args.model]
    cpu = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    report = {
        "benchmark": "speed_forward",
        "midflow": midflow.__version__,
        "torch": torch.__version__,
        "machine": f"{cpu}, {args.threads} threads",
        "rows": rows,
    }
    print(json.dumps(report, indent=1))
    if args.json:
        args.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
