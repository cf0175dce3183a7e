"""The forward passes that run against the one step by step: same weights and frames, alternating.

    python benchmarks/speed_forward.py [--model 4.25] [--size 1280x720] [--rounds 9] [--json OUT]

Prints the medians, the ratios of the plain one to the others, and how near their frames are to its.
Native, where it can run the network, is measured as an Interpolator uses it: both frames encoded.
"""

import argparse
import json
import math
import platform
import statistics
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

import midflow
from midflow.native.network import NativeNetwork, why_not
from midflow.nets.cache import find_weights
from midflow.nets.ifnet import IFNet
from midflow.nets.layout import build_network
from midflow.nets.plain import plain_forward
from midflow.nets.prediction import Prediction
from midflow.nets.releases import RELEASES
from midflow.padding import Padding


def network(name: str) -> IFNet:
    """A release with random weights: values cost nothing."""
    torch.manual_seed(0)
    return IFNet(RELEASES[name].config).eval()


def any_model(name: str) -> Any:
    """A release as it is here, else with random weights, the same each time."""
    torch.manual_seed(0)
    return midflow.load_model(name) if find_weights(name) else build_network(RELEASES[name].config)


def pair(height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A smooth picture and the same picture 6 pixels further."""
    torch.manual_seed(0)
    wide = F.interpolate(
        torch.rand(1, 3, height // 24, width // 24), (height, width + 6), mode="bicubic"
    )
    return wide[..., 6:].clamp(0, 1), wide[..., :-6].clamp(0, 1)


def measure(name: str, height: int, width: int, rounds: int) -> dict[str, Any]:
    net = network(name)
    padding = Padding(height, width, net.config.pad_multiple)
    img0, img1 = (padding.pad(x) for x in pair(height, width))
    forwards = {"plain": lambda: plain_forward(net, img0, img1), "torch": lambda: net(img0, img1)}
    if why_not(net, img0.device, "auto") is None:
        native = NativeNetwork(net)

        def half() -> Prediction:
            with torch.autocast("cpu", torch.bfloat16):
                return native(img0, img1, only_frame=True)

        forwards |= {
            "native": lambda: native(img0, img1, only_frame=True),
            "native bfloat16": half,
        }
    seconds: dict[str, list[float]] = {key: [] for key in forwards}
    frames = {key: forward().frame for key, forward in forwards.items()}  # warm-up
    for _ in range(rounds):
        for key, forward in forwards.items():
            start = time.perf_counter()
            forward()
            seconds[key].append(time.perf_counter() - start)
    medians = {key: statistics.median(values) for key, values in seconds.items()}
    return {
        "model": name,
        "size": f"{width}x{height}",
        "seconds": {key: round(value, 4) for key, value in medians.items()},
        "ratio": {key: round(medians["plain"] / value, 3) for key, value in medians.items()},
        "max_difference": {
            key: float((frame - frames["plain"]).abs().max()) for key, frame in frames.items()
        },
        "psnr": {key: round(psnr(frame, frames["plain"]), 1) for key, frame in frames.items()},
    }


def psnr(frame: torch.Tensor, reference: torch.Tensor) -> float:
    return -10 * math.log10(float((frame - reference).square().mean()) + 1e-12)


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
