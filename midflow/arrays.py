"""Sequences as people hold them: tensors, numpy arrays, PIL images; the same kind comes back."""

from fractions import Fraction
from itertools import groupby
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from midflow.errors import OptionError

if TYPE_CHECKING:
    from midflow.engine import EncodedFrame
    from midflow.interpolator import Interpolator

Frames = TypeVar("Frames", Tensor, "np.ndarray[Any, Any]", list[Any])

LARGEST_VALUE = 8.0  # above it a picture is surely not in [0, 1] but 0..255
_LARGEST = {torch.uint8: 255, torch.uint16: 65535}


def interpolate(interp: "Interpolator", frames: Frames, factor: int | float | Fraction) -> Frames:
    """See `Interpolator.sequence`."""
    rate = _checked_factor(factor)
    if isinstance(frames, Tensor):
        return _from_tensor(interp, frames, rate)
    if isinstance(frames, np.ndarray):
        if frames.ndim != 4 or frames.shape[-1] != 3:
            raise OptionError(f"an array must have shape (N, H, W, 3), got {frames.shape}")
        planes = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)
        result = _from_tensor(interp, planes, rate)
        return result.permute(0, 2, 3, 1).contiguous().numpy()
    if isinstance(frames, list):
        return _from_images(interp, frames, rate)
    raise OptionError(
        "frames must be a tensor (N, 3, H, W), an array (N, H, W, 3) or a list of PIL images, "
        f"got {type(frames).__name__}"
    )


def check_image(img: object) -> None:
    """Refuses what is not a batch of frames (B, 3, H, W), float RGB in [0, 1].

    Raises:
        OptionError: naming what came.
    """
    if not isinstance(img, Tensor):
        raise OptionError(f"a frame must be a torch.Tensor, got {type(img).__name__}")
    if img.dim() != 4 or img.shape[1] != 3 or img.numel() == 0:
        raise OptionError(f"a frame must have shape (B, 3, H, W), got {tuple(img.shape)}")
    if not img.is_floating_point():
        raise OptionError(f"a frame must be float RGB in [0, 1], got {img.dtype}; divide by 255")
    if float(img.detach().amax()) > LARGEST_VALUE:
        raise OptionError("a frame must be RGB in [0, 1], got values up to 255; divide by 255")


def _checked_factor(factor: int | float | Fraction) -> Fraction:
    try:
        rate = Fraction(factor).limit_denominator(100_000)
    except (TypeError, ValueError, OverflowError) as error:
        raise OptionError(f"factor must be a number of at least 1, got {factor = }") from error
    if rate < 1:
        raise OptionError(f"factor must be at least 1, got {factor = }")
    return rate


def _from_tensor(interp: "Interpolator", frames: Tensor, rate: Fraction) -> Tensor:
    if frames.dim() != 4 or frames.shape[1] != 3 or len(frames) == 0:
        raise OptionError(f"a sequence must have shape (N, 3, H, W), got {tuple(frames.shape)}")
    largest = _LARGEST.get(frames.dtype)
    if largest is None and not frames.is_floating_point():
        raise OptionError(f"frames must be float, uint8 or uint16, got {frames.dtype}")
    count = int((len(frames) - 1) * rate) + 1
    result = torch.empty((count, *frames.shape[1:]), dtype=frames.dtype, device=frames.device)
    encoded: dict[int, EncodedFrame] = {}
    for left, outputs in groupby(range(count), lambda k: int(k / rate)):
        encoded = {k: v for k, v in encoded.items() if k == left}
        between = [k for k in outputs if not _is_input(k, rate, left, result, frames)]
        if not between:
            continue
        for k in {left, left + 1} - encoded.keys():
            image = frames[k : k + 1].to(torch.float32)
            encoded[k] = interp.encode(image / largest if largest else image)
        times = [float(k / rate - left) for k in between]
        pictures = interp(encoded[left], encoded[left + 1], times)
        if largest:
            pictures = (pictures * largest).round_().clamp_(0, largest)
        result[between[0] : between[-1] + 1] = pictures.to(frames)
    return result


def _is_input(k: int, rate: Fraction, left: int, result: Tensor, frames: Tensor) -> bool:
    """Copies the input frame where output `k` falls on it."""
    if k / rate != left:
        return False
    result[k] = frames[left]
    return True


def _from_images(interp: "Interpolator", images: list[Any], rate: Fraction) -> list[Any]:
    try:
        from PIL import Image
    except ImportError as error:
        raise OptionError("a list must hold PIL images, and Pillow is not installed") from error
    wrong = [type(image).__name__ for image in images if not isinstance(image, Image.Image)]
    if wrong or not images:
        raise OptionError(f"a list must hold PIL images, got {wrong[0] if wrong else 'none'}")
    sizes = {image.size for image in images}
    if len(sizes) > 1:
        raise OptionError(f"all images must have one size, got {sorted(sizes)}")
    array = np.stack([np.asarray(image.convert("RGB")) for image in images])
    return [Image.fromarray(frame) for frame in interpolate(interp, array, rate)]


def with_inputs(frames: Tensor, img0: Tensor, img1: Tensor, times: Tensor) -> Tensor:
    """Puts the inputs themselves at timesteps 0 and 1, and where both are the same frame."""
    same = [torch.equal(before, after) for before, after in zip(img0, img1, strict=True)]
    is_same = torch.tensor(same, device=times.device)
    is_first, is_last = (times == 0) | is_same, times == 1
    if bool((is_first | is_last).any()):
        frames = torch.where(is_last.view(-1, 1, 1, 1), img1, frames)
        frames = torch.where(is_first.view(-1, 1, 1, 1), img0, frames)
    return frames
