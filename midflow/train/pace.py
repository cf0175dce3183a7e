"""What changes in the course of a run: how much of it is over, and what follows from that."""

import math

from midflow.train.config import LearningRate, TrainConfig


def run_share(config: TrainConfig, step: int, seconds: float) -> float:
    """How much of the run is over, by steps or by time, whichever is further; 1: all of it."""
    by_steps = step / config.steps if config.steps else 0.0
    by_time = seconds / config.seconds if config.seconds else 0.0
    return min(max(by_steps, by_time), 1.0)


def learning_rate(rate: LearningRate, step: int, share: float, warmup: float = 0.0) -> float:
    """The rate of a step: up from 0, flat at the peak, down to the floor.

    Args:
        rate: its shape.
        step: from 0.
        share: of the run that is over, in [0, 1].
        warmup: share of the run the warm-up takes: no decay before its end.
    """
    start = min(max(rate.hold, warmup), 1.0)
    fallen = (share - start) / (1 - start) if share > start else 0.0
    height = (1 + math.cos(math.pi * fallen)) / 2 if rate.decay == "cosine" else 1 - fallen
    decayed = rate.floor + (rate.peak - rate.floor) * height
    if step < rate.warmup_steps:
        return min(rate.peak * step / rate.warmup_steps, decayed)
    return decayed


def warmup_share(config: TrainConfig) -> float:
    """Share of the run its warm-up takes, where its length in steps is known."""
    return config.rate.warmup_steps / config.steps if config.steps else 0.0


def flow_fading(fade: float, share: float) -> float:
    """Factor of the flow loss: from 1 linearly to 0 over the first `fade` of the run."""
    return max(0.0, 1 - share / fade) if fade else 1.0
