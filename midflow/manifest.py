"""What a video job is: for people, and everything the bytes of its result depend on."""

import hashlib
from collections.abc import Mapping
from dataclasses import fields
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import torch
from torch import nn

import midflow
from midflow.interpolator import Interpolator
from midflow.options import VideoOptions
from midflow.progress import VideoJob
from midflow.video.frame import ClipInfo
from midflow.video.pipe_output import PipeWriter
from midflow.video.writer import VideoWriter

NO_EFFECT = {"overwrite", "restart", "device", "devices", "workers", "write_cuts"}
"""Options that leave the frames as they are; of the device its kind counts."""
_WHOLE = 64 << 20  # bytes; of larger files so much is read, in pieces spread over them
_PIECES = 64


def describe_job(
    source: Path, wish: Mapping[str, Any], options: VideoOptions, interpolator: Interpolator
) -> dict[str, str]:
    """Everything that settles the result, by what a user calls it.

    Args:
        source: the clip.
        wish: what was asked for besides the options: the rate, the length of segments.
        options: of the job.
        interpolator: with the network and its device.
    """
    named = {f.name: getattr(options, f.name) for f in fields(options) if f.name not in NO_EFFECT}
    return {
        "source": _fingerprint(source),
        **{name: _text(value) for name, value in {**wish, **named}.items()},
        "model": _model(interpolator.model),
        "backend": interpolator.backend,
        "device": _device(interpolator.device),
        "version": f"midflow {midflow.__version__}, torch {torch.__version__}, av {av.__version__}",
    }


def summarize(
    info: ClipInfo, writer: VideoWriter | PipeWriter, interpolator: Interpolator, rate: Fraction
) -> VideoJob:
    """What is told of a job before its first frame; `rate` is that of the output."""
    model = interpolator.model
    return VideoJob(
        source=info.path,
        target=writer.path,
        width=info.width,
        height=info.height,
        source_rate=info.frame_rate,
        frame_rate=rate,
        model=getattr(model, "release", None) or type(model).__name__,
        device=str(interpolator.device),
        device_reason=interpolator.device_reason,
        backend=interpolator.backend,
        precision=interpolator.precision,
        encoder=writer.encoder,
        pixel_format=writer.pixel_format,
    )


def _text(value: Any) -> str:
    """An option's value; of a file, what is in it."""
    if isinstance(value, str | Path) and Path(value).is_file():
        return _fingerprint(Path(value))
    if isinstance(value, Mapping):
        return ":".join(f"{key}={value[key]}" for key in sorted(value)) or "none"
    if isinstance(value, float):
        return str(Fraction(value).limit_denominator(1_000_000))
    return "not given" if value is None else str(value)


def _fingerprint(path: Path) -> str:
    """Size and hash of a file; a large one is read in places and its date counts too."""
    status = path.stat()
    digest = hashlib.sha256()
    with path.open("rb") as file:
        if status.st_size <= _WHOLE:
            digest.update(file.read())
        else:
            digest.update(str(status.st_mtime_ns).encode())
            for piece in range(_PIECES):
                file.seek((status.st_size - _WHOLE // _PIECES) * piece // (_PIECES - 1))
                digest.update(file.read(_WHOLE // _PIECES))
    return f"{status.st_size} bytes ({digest.hexdigest()[:16]})"


def _model(model: nn.Module) -> str:
    digest = hashlib.sha256(repr(getattr(model, "config", None)).encode())
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        data = value.detach().cpu().contiguous().flatten().view(torch.uint8)
        digest.update(data.numpy().tobytes())
    name = getattr(model, "release", None) or type(model).__name__
    return f"{name} ({digest.hexdigest()[:16]})"


def _device(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
