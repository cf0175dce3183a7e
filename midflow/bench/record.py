"""What a benchmark found, in plain data."""

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Stage:
    """A part of the pipeline, or all of it, at work by itself."""

    frames: int
    """That came out."""
    seconds: float
    """On the clock."""
    cpu_seconds: float
    """Of all threads of this process together."""

    @property
    def fps(self) -> float:
        """Frames per second."""
        return self.frames / self.seconds if self.seconds else 0.0

    @property
    def ms(self) -> float:
        """Milliseconds a frame."""
        return 1000 * self.seconds / self.frames if self.frames else 0.0

    def as_dict(self) -> dict[str, Any]:
        """With frames per second and milliseconds a frame."""
        return {
            "frames": self.frames,
            "seconds": round(self.seconds, 4),
            "cpu_seconds": round(self.cpu_seconds, 4),
            "fps": round(self.fps, 2),
            "ms": round(self.ms, 2),
        }


@dataclass(frozen=True)
class Setting:
    """What one run is of."""

    width: int
    height: int
    model: str
    """As it was asked for."""
    backend: str
    precision: str
    factor: str
    """Output frames for each input frame."""

    def __str__(self) -> str:
        return (
            f"{self.width}x{self.height} x{self.factor}, {self.model}, "
            f"{self.backend} {self.precision}"
        )


@dataclass(frozen=True)
class Case:
    """One run: each stage by itself, then the whole."""

    setting: Setting
    settings: str
    """Precision, flow scale and tiles as they were used: less than asked for on a shortage."""
    has_weights: bool
    """False: the weights are random, as those of the release are not here."""
    device: str
    cores: int
    """Of the processor that this process may use."""
    frames_in: int
    painted: int
    """Output frames that the network made; the others are input frames, or cuts."""
    decode: Stage
    """Input frames read."""
    network: Stage
    """Output frames made: conversion of colours, comparison of neighbours, painting."""
    model_seconds: float
    """Of the network stage, those inside the interpolator."""
    encode: Stage
    """Output frames encoded and the file put together."""
    whole: Stage
    """All of it at once: `interpolate_video` from its first frame to the finished file."""
    opening_seconds: float
    """Of `interpolate_video` before its first frame."""
    first_pair_seconds: float
    """The first pair of frames through a fresh interpolator."""
    peak_memory_mb: float | None
    """Largest resident set of the process during the whole."""
    peak_gpu_mb: float | None
    """Most memory torch took on the GPU during the whole."""

    @property
    def model_ms(self) -> float:
        """Milliseconds of the interpolator a painted frame."""
        return 1000 * self.model_seconds / self.painted if self.painted else 0.0

    @property
    def bounds(self) -> dict[str, float]:
        """Seconds below which the whole cannot be.

        A stage cannot be quicker beside others than alone, and all stages together need their
        processor seconds from so many cores.
        """
        stages = {"decode": self.decode, "network": self.network, "encode": self.encode}
        together = sum(stage.cpu_seconds for stage in stages.values()) / self.cores
        return {**{name: stage.seconds for name, stage in stages.items()}, "cores": together}

    @property
    def bound(self) -> str:
        """Which of the bounds is the highest."""
        return max(self.bounds, key=lambda name: self.bounds[name])

    @property
    def share(self) -> float:
        """The highest bound as a share of the time the whole took."""
        return self.bounds[self.bound] / self.whole.seconds

    def as_dict(self) -> dict[str, Any]:
        """All of it in types that JSON knows."""
        stages = ("decode", "network", "encode", "whole")
        return {
            **asdict(self.setting),
            "settings": self.settings,
            "weights": "loaded" if self.has_weights else "random",
            "device": self.device,
            "frames_in": self.frames_in,
            "painted": self.painted,
            **{name: getattr(self, name).as_dict() for name in stages},
            "model_ms": round(self.model_ms, 2),
            "opening_seconds": round(self.opening_seconds, 3),
            "first_pair_seconds": round(self.first_pair_seconds, 3),
            "bounds": {name: round(seconds, 4) for name, seconds in self.bounds.items()},
            "bound": self.bound,
            "share": round(self.share, 3),
            "peak_memory_mb": _rounded(self.peak_memory_mb),
            "peak_gpu_mb": _rounded(self.peak_gpu_mb),
        }


@dataclass(frozen=True)
class Skipped:
    """A run that was not possible."""

    setting: Setting
    reason: str

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self.setting), "reason": self.reason}


@dataclass(frozen=True)
class BenchReport:
    """All that `run` found."""

    machine: dict[str, Any]
    """Processor, memory, GPU and versions."""
    pictures: str
    """What was interpolated."""
    encoder: str
    """Codec and preset."""
    start_up: dict[str, float] = field(default_factory=dict)
    """Seconds from the start of a process to what the name says."""
    cases: list[Case] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """All of it in types that JSON knows."""
        return {
            "benchmark": "midflow bench",
            "machine": self.machine,
            "pictures": self.pictures,
            "encoder": self.encoder,
            "start_up": {name: round(seconds, 3) for name, seconds in self.start_up.items()},
            "cases": [case.as_dict() for case in self.cases],
            "skipped": [skipped.as_dict() for skipped in self.skipped],
        }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)
