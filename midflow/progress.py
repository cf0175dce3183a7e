"""What a video job says of itself: at the start, on the way and at the end."""

from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from midflow.schedule import rate_label


@dataclass(frozen=True)
class VideoJob:
    """What is being done, settled before the first frame."""

    source: Path
    target: Path
    width: int
    height: int
    source_rate: Fraction
    """Nominal or average frames per second of the source."""
    frame_rate: Fraction
    """Frames per second of the output."""
    model: str
    """Release of the network, or the name of its class."""
    device: str
    device_reason: str
    """Why this device."""
    backend: str
    """What runs the network."""
    precision: str
    encoder: str
    """FFmpeg's name of the encoder."""
    pixel_format: str
    """Planar pixel format of the output."""

    def __str__(self) -> str:
        rates = f"{rate_label(self.source_rate)} -> {rate_label(self.frame_rate)} frames/s"
        return (
            f"{self.source.name} -> {self.target.name}, {self.width}x{self.height}, {rates}\n"
            f"model {self.model}, {self.precision}, {self.backend} on {self.device}"
            f" ({self.device_reason}); {self.encoder} {self.pixel_format}"
        )


@dataclass(frozen=True)
class Rates:
    """Frames per second of each stage while it works, waiting not counted; 0 before the first."""

    decode_fps: float
    """Input frames read."""
    network_fps: float
    """Output frames made, colour conversion included."""
    encode_fps: float
    """Output frames written, and the other streams copied."""


@dataclass(frozen=True)
class Progress:
    """How far a job has come."""

    job: VideoJob
    frames_done: int
    """Output frames made."""
    frames_total: int | None
    """Output frames in all; an estimate, None where the source does not tell its duration."""
    seconds: float
    """Since the first frame was asked for."""
    rates: Rates
    frames_kept: int = 0
    """Of those made, the ones an earlier run had finished."""

    @property
    def eta_seconds(self) -> float | None:
        """Seconds left at the speed so far; None where that cannot be told."""
        painted = self.frames_done - self.frames_kept
        if self.frames_total is None or painted == 0:
            return None
        return max(0.0, self.seconds / painted * (self.frames_total - self.frames_done))

    def __str__(self) -> str:
        total = "?" if self.frames_total is None else self.frames_total
        rates = self.rates
        eta = "" if self.eta_seconds is None else f", {format_seconds(self.eta_seconds)} left"
        return (
            f"{self.frames_done}/{total} frames in {format_seconds(self.seconds)}{eta}; frames/s: "
            f"decode {rates.decode_fps:.1f}, network {rates.network_fps:.1f}, "
            f"encode {rates.encode_fps:.1f}"
        )


@dataclass(frozen=True)
class VideoResult:
    """What a job did."""

    job: VideoJob
    frames_in: int
    frames_out: int
    seconds: float
    """From opening the source to the finished file."""
    cuts: tuple[Fraction, ...]
    """Times, in the source, of the first frames of scenes found while painting."""
    damaged: int
    """Packets and frames of the source that could not be decoded whole."""
    rates: Rates

    def as_dict(self) -> dict[str, Any]:
        """All of it in types that JSON knows; rates of clips as fractions in text."""
        job = {
            name: str(value) if isinstance(value, Path | Fraction) else value
            for name, value in asdict(self.job).items()
        }
        return {
            **job,
            "frames_in": self.frames_in,
            "frames_out": self.frames_out,
            "seconds": round(self.seconds, 3),
            "cuts": [round(float(pts), 6) for pts in self.cuts],
            "damaged": self.damaged,
            **{name: round(value, 2) for name, value in asdict(self.rates).items()},
        }

    def __str__(self) -> str:
        rates = self.rates
        count = len(self.cuts)
        cuts = f", {count} scene cut{'s' * (count > 1)}" if count else ""
        return (
            f"{self.job.target}: {self.frames_out} frames from {self.frames_in}{cuts} in "
            f"{format_seconds(self.seconds)}; frames/s: decode {rates.decode_fps:.1f}, "
            f"network {rates.network_fps:.1f}, encode {rates.encode_fps:.1f}"
        )


def format_seconds(seconds: float) -> str:
    """A length of time for people: "9.3 s", "2:05", "1:02:05"."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def per_second(count: int, seconds: float) -> float:
    """A rate; 0 where no time has passed."""
    return count / seconds if seconds else 0.0
