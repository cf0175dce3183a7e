"""Sequences of pictures as people hold them: tensors, numpy arrays, PIL images; the same kind comes back."""

from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from midflow.errors import OptionError

if TYPE_CHECKING:
    from midflow.interpolator import Interpolator

Frames = TypeVar("Frames", Tensor, "np.ndarray[Any, Any]", list[Any])

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
    times = [k / rate for k in range(int((len(frames) - 1) * rate) + 1)]
    result = torch.empty((len(times), *frames.shape[1:]), dtype=frames.dtype, device=frames.device)
    row = 0
    for left, picture in _pictures(interp, frames, times, largest):
        if picture is None:
            result[row] = frames[left]
        elif largest:
            result[row] = (picture * largest).round_().clamp_(0, largest).to(frames)
        else:
            result[row] = picture.to(frames)
        row += 1
    return result


def _pictures(
    interp: "Interpolator", frames: Tensor, times: list[Fraction], largest: int | None
) -> Iterator[tuple[int, Tensor | None]]:
    """For each time its left frame, and the picture (3, H, W) in between, None on a frame itself."""
    left, encoded = -1, {}
    for at in times:
        if int(at) != left:
            left = int(at)
            encoded = {k: v for k, v in encoded.items() if k == left}
        if at == left:
            yield left, None
            continue
        for k in (left, left + 1):
            if k not in encoded:
                image = frames[k : k + 1].to(torch.float32)
                encoded[k] = interp.encode(image / largest if largest else image)
        yield left, interp(encoded[left], encoded[left + 1], float(at - left))[0]


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
