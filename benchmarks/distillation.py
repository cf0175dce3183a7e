"""What privileged distillation is worth: the paper's network trained with and without its teacher.

    python benchmarks/distillation.py CLIPS HELD [--warmup 2000] [--steps 2000] [--json OUT]

RIFE_m, its blocks narrowed by `--shrink`, is trained twice on the same samples from the same
weights: with the paper's objective, and with its teacher's two terms left out. Both are compared
on dropped frames of HELD. Runs are resumable: the same command goes on.

The paper's objective needs hundreds of thousands of samples to find motion at all. `--warmup` steps
before the two part (Muon, flows to learn from, student and teacher alike) take it there sooner.
"""

import argparse
import json
import platform
from dataclasses import replace
from pathlib import Path

import torch

from midflow.evaluate.run import EvalOptions, run
from midflow.interpolator import Interpolator
from midflow.nets.checkpoint import load_model
from midflow.nets.config import RIFE_CONFIG, IFNetConfig
from midflow.train.config import LearningRate, LossWeights, TrainConfig
from midflow.train.data import FolderOptions, VideoFolder
from midflow.train.guide import Guided
from midflow.train.journal import Progress
from midflow.train.trainer import train

TEACHERS = {
    "with teacher": LossWeights(teacher=1.0, distill=0.005),
    "without": LossWeights(teacher=0.0, distill=0.0),
}


def narrowed(shrink: int) -> IFNetConfig:
    channels = tuple(width // shrink for width in RIFE_CONFIG.channels)
    return replace(RIFE_CONFIG, channels=channels, has_timestep=True, teacher=True)


def warming(folder: Path, steps: int, shrink: int) -> TrainConfig:
    return TrainConfig(
        folder,
        network=narrowed(shrink),
        losses=LossWeights(flow=0.03, flow_exponent=1.0),
        steps=steps,
        crop=64,
        batch=8,
        rate=LearningRate(peak=8e-4, kernels=5e-3, warmup_steps=steps // 20, hold=0.7),
        optimizer="muon",
        guide=True,
        device="cpu",
        tensorboard=False,
    )


def configuration(
    folder: Path, losses: LossWeights, steps: int, shrink: int, init: str
) -> TrainConfig:
    return TrainConfig(
        folder,
        network=narrowed(shrink),
        init=init,
        objective="paper",
        losses=losses,
        steps=steps,
        crop=64,
        batch=8,
        rate=LearningRate(peak=3e-4, floor=3e-6, warmup_steps=steps // 20, hold=0.0),
        decay_everything=True,
        clip=0.0,
        ema=0.0,
        zero_heads=bool(init),  # the teacher starts at the flows the student has
        channels_last=False,
        device="cpu",
        tensorboard=False,
    )


def tell(progress: Progress) -> None:
    print(progress.step, f"{progress.psnr:.2f} dB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clips", type=Path)
    parser.add_argument("held", type=Path)
    parser.add_argument("--warmup", type=int, default=0)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--shrink", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("runs/distillation"))
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--clip-frames", type=int)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    kept = FolderOptions(cache=args.cache, clip_frames=args.clip_frames)
    source = VideoFolder(args.clips, kept)
    methods, init = {}, ""
    if args.warmup:
        config = warming(args.out / "warm-up", args.warmup, args.shrink)
        init = str(train(config, Guided(source), tell).weights)
        methods["after the warm-up"] = Interpolator(load_model(init), "cpu")
    for name, losses in TEACHERS.items():
        config = configuration(args.out / name, losses, args.steps, args.shrink, init)
        result = train(config, source, tell)
        methods[name] = Interpolator(load_model(result.weights), "cpu")
    evaluation = run(EvalOptions(args.held, per_clip=1, baselines=("average",)), methods)
    scores = {
        method: {metric: round(evaluation.mean(method, metric), 3) for metric in evaluation.metrics}
        for method in evaluation.methods
    }
    report = {
        "network": f"RIFE_m, block channels / {args.shrink}",
        "warmup": args.warmup,
        "steps": args.steps,
        "batch": "8 x 64 x 64",
        "scores": scores,
        "machine": platform.processor() or platform.machine(),
        "torch": torch.__version__,
    }
    print(json.dumps(report, indent=2))
    if args.json:
        args.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
