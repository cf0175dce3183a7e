"""Recipes: a folder in, the whole configuration of a run out.

config = replace(default_cpu(Path("runs/mine")), seconds=3600)
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from midflow.errors import OptionError
from midflow.nets.cache import BUNDLED
from midflow.nets.checkpoint import load_model
from midflow.nets.config import RIFE_CONFIG, IFNetConfig
from midflow.nets.pyramid_config import DEFAULT_CONFIG, PyramidConfig
from midflow.train.config import LearningRate, LossWeights, Stage, TrainConfig

# 95 % of Vimeo90K's 51,313 training triplets in batches of 64, 300 times (the paper's code).
PAPER_STEPS = 300 * 761

DEBUG_NETWORK = IFNetConfig(
    channels=(8, 8),
    scales=(4, 2),
    depths=(1, 1),
    encoder="named",
    encoder_width=4,
    encoder_planes=4,
    spare=0,
    features=2,
    resolution=2,
)


def debug(folder: Path) -> TrainConfig:
    """A run of seconds, to see that everything works: a tiny network, 40 steps."""
    return TrainConfig(
        folder,
        network=DEBUG_NETWORK,
        steps=40,
        crop=64,
        batch=4,
        rate=LearningRate(peak=2e-3, floor=1e-4, warmup_steps=5),
        ema=0.9,
        channels_last=False,
        device="cpu",
        checkpoint_minutes=0,
        checkpoint_steps=10,
        log_every=5,
        validate_every=20,
        tensorboard=False,
    )


def paper(folder: Path) -> TrainConfig:
    """RIFE as in the paper and its code: Vimeo90K triplets, crops of 224, 300 epochs."""
    return TrainConfig(
        folder,
        network=replace(RIFE_CONFIG, teacher=True),
        objective="paper",
        losses=LossWeights(distill=0.01),
        steps=PAPER_STEPS,
        crop=224,
        batch=64,
        rate=LearningRate(peak=3e-4, floor=3e-6, warmup_steps=2000, hold=0.0),
        weight_decay=1e-3,
        decay_everything=True,
        clip=0.0,
        ema=0.0,
        zero_heads=False,
        channels_last=False,
        prefetch=2,
    )


def paper_m(folder: Path) -> TrainConfig:
    """RIFE_m, which knows any timestep: the same on Vimeo90K septuplets."""
    return replace(
        paper(folder),
        network=replace(RIFE_CONFIG, teacher=True, has_timestep=True),
        losses=LossWeights(distill=0.005),
    )


def default_gpu(folder: Path) -> TrainConfig:
    """The bundled network on one GPU or more: 40 minutes, or as long as `seconds` says."""
    return TrainConfig(
        folder,
        network=DEFAULT_CONFIG,
        losses=LossWeights(flow=0.03, flow_exponent=1.0, fade=0.8),
        seconds=2400,
        crop=256,
        batch=64,
        stages=(Stage(0.6, 320, 48),),
        rate=LearningRate(peak=8e-4, kernels=5e-3, floor=1.5e-6, warmup_steps=100, hold=0.35),
        optimizer="muon",
        ema=0.9995,
        precision="bfloat16",
        prefetch=3,
        log_every=100,
    )


def default_cpu(folder: Path) -> TrainConfig:
    """The bundled network on processor cores: small crops, two hours, or what `seconds` says.

    Convolutions are bfloat16 where the processor has instructions for it: with them they are 3 to 4
    times faster than float32, without them 3 times slower.
    """
    return TrainConfig(
        folder,
        network=DEFAULT_CONFIG,
        losses=LossWeights(flow=0.03, flow_exponent=1.0, fade=0.8),
        seconds=7200,
        crop=128,
        batch=16,
        rate=LearningRate(peak=8e-4, kernels=5e-3, floor=1e-5, warmup_steps=150),
        optimizer="muon",
        guide=True,
        precision="bfloat16" if _has_bfloat16() else "float32",
        device="cpu",
        log_every=25,
    )


def finetune(folder: Path, init: str = BUNDLED) -> TrainConfig:
    """Any network of the 4.x family or ours, gently further on own clips.

    Args:
        folder: of the run.
        init: weights to start from, a path or a release; they say which network it is.

    Raises:
        OptionError: the weights are of an earlier generation.
        CheckpointError, UnknownModelError: they cannot be loaded.
    """
    network = load_model(init).config
    if not isinstance(network, IFNetConfig | PyramidConfig):
        raise OptionError(
            f"fine-tuning needs a network of the 4.x family or midflow's own, {init} is older"
        )
    return TrainConfig(
        folder,
        network=network,
        init=init,
        steps=5000,
        crop=256,
        batch=8,
        rate=LearningRate(peak=5e-5, floor=1e-6, warmup_steps=200, hold=0.3),
        losses=LossWeights(flow=0.0, mask=0.0),
    )


def _has_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 in hardware (AVX512-bf16 or AMX)."""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


RECIPES: dict[str, Callable[[Path], TrainConfig]] = {
    "debug": debug,
    "paper": paper,
    "paper_m": paper_m,
    "default_gpu": default_gpu,
    "default_cpu": default_cpu,
    "finetune": finetune,
}
"""By name, for the command line."""
