"""Which device to compute on, and why."""

import torch

from midflow.errors import OptionError


def choose_device(device: str | torch.device = "auto") -> tuple[torch.device, str]:
    """Chooses CUDA, then MPS, then the CPU, or takes the one that is asked for.

    Returns:
        The device and the reason, for people to read.

    Raises:
        OptionError: where the device asked for is unknown or not there.
    """
    if str(device) == "auto":
        return _best_device()
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise OptionError(
            f"device must be auto, cpu, cuda, cuda:N or mps, got {device!r}"
        ) from error
    missing = _why_missing(chosen)
    if missing:
        raise OptionError(f"device {chosen} cannot be used: {missing}; use auto or cpu")
    return chosen, "asked for"


def _best_device() -> tuple[torch.device, str]:
    if torch.cuda.is_available():
        return torch.device("cuda"), f"CUDA is available ({torch.cuda.get_device_name()})"
    if torch.backends.mps.is_available():
        return torch.device("mps"), "Metal (MPS) is available"
    return torch.device("cpu"), f"no GPU: {_why_missing(torch.device('cuda'))}"


def _why_missing(device: torch.device) -> str | None:
    """Why `device` cannot be used; None where it can."""
    if device.type == "cuda":
        if torch.version.cuda is None and torch.version.hip is None:
            return "this build of torch has no CUDA"
        if not torch.cuda.is_available():
            return "no CUDA device or driver found"
        if device.index is not None and device.index >= torch.cuda.device_count():
            return f"only {torch.cuda.device_count()} CUDA devices found"
    elif device.type == "mps" and not torch.backends.mps.is_available():
        return "Metal (MPS) is not available"
    elif device.type not in ("cpu", "cuda", "mps"):
        return "midflow runs on cpu, cuda and mps"
    return None
