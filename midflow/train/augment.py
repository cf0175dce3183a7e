"""Random changes of a batch, on its device, that keep pictures, times and flows consistent.

Which rows change, and how, is drawn on the CPU, so the same samples come out on every device; only
the noise itself is drawn where the batch lies.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from midflow.errors import OptionError
from midflow.train.batch import Batch

_PICTURES = ("img0", "img1", "truth")
_MAPS = (*_PICTURES, "flow", "visible")


@dataclass(frozen=True)
class Augmentation:
    """How often a sample is changed (shares of the samples, 0 to 1), and how far."""

    scale: float = 0.6
    """Share that is resized before it is cropped."""
    scale_range: tuple[float, float] = (0.35, 1.5)
    """Smallest and largest size of a resized sample relative to the original; drawn on a
    logarithmic axis."""
    flip: float = 0.5
    """Share mirrored left to right, and likewise top to bottom."""
    transpose: float = 0.5
    """Share with rows and columns exchanged: with the flips, all quarter turns."""
    reverse: float = 0.5
    """Share played backwards."""
    swap_colors: float = 0.5
    """Share with red and blue exchanged."""
    jitter: float = 0.3
    """Share with another brightness, contrast and gamma, the same in all three frames."""
    brightness: float = 0.1
    """Largest shift of the black level, in units of white."""
    contrast: float = 0.25
    """Largest relative change of contrast around mid-grey."""
    gamma: float = 0.3
    """Largest change of the logarithm of the gamma."""
    ramp: float = 0.05
    """Share whose brightness rises or falls evenly with time."""
    ramp_gain: float = 0.15
    """Largest relative difference in brightness between the two inputs."""
    sharpen: float = 0.3
    """Share sharpened, the same in all three frames: most film is soft from its compression."""
    sharpening: float = 1.0
    """How often at most what a blur of 3 x 3 pixels takes away is added."""
    noise: float = 0.1
    """Share whose inputs get noise; the true frame stays as it is."""
    noise_level: float = 0.012
    """Largest standard deviation of the noise, in units of white."""

    def __post_init__(self) -> None:
        for name in (
            "scale flip transpose reverse swap_colors jitter ramp noise brightness "
            "contrast gamma ramp_gain noise_level sharpen"
        ).split():
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise OptionError(f"{name} must lie in [0, 1], got {value}")
        low, high = self.scale_range
        if not 0 < low <= 1 <= high:
            raise OptionError(
                f"scale_range must be a size up to 1 and one from 1 on, got {self.scale_range}"
            )


UNCHANGED = Augmentation(
    scale=0, flip=0, transpose=0, reverse=0, swap_colors=0, jitter=0, ramp=0, sharpen=0, noise=0
)
"""Samples as they are: random place, nothing else."""


def augment(batch: Batch, options: Augmentation, random: torch.Generator) -> Batch:
    """Changes a batch as the options say (all but the scale, which belongs to the cropping).

    Args:
        batch: its tensors are not changed.
        options: shares and limits.
        random: a generator on the CPU.
    """
    size = len(batch)
    numbers = torch.rand(15, size, generator=random)
    batch = batch.clone()
    _mirror(batch, _rows(numbers[0] < options.flip, batch), axis=0)
    _mirror(batch, _rows(numbers[1] < options.flip, batch), axis=1)
    if batch.img0.shape[-1] == batch.img0.shape[-2]:
        _transpose(batch, _rows(numbers[2] < options.transpose, batch))
    _reverse(batch, _rows(numbers[3] < options.reverse, batch))
    _each(batch, _PICTURES, _rows(numbers[4] < options.swap_colors, batch), lambda x: x.flip(1))
    _jitter(batch, _rows(numbers[5] < options.jitter, batch), numbers[6:9], options)
    _ramp(batch, _rows(numbers[9] < options.ramp, batch), numbers[10], options)
    _sharpen(batch, _rows(numbers[13] < options.sharpen, batch), numbers[14], options)
    _add_noise(batch, _rows(numbers[11] < options.noise, batch), numbers[12], options, random)
    return batch


def mirror(batch: Batch, axis: int) -> Batch:
    """The batch left to right (axis 0, x) or upside down (axis 1, y), flows included."""
    batch = batch.clone()
    _mirror(batch, torch.arange(len(batch), device=batch.img0.device), axis)
    return batch


def transpose(batch: Batch) -> Batch:
    """The batch with x and y exchanged, flows included; pictures are square."""
    batch = batch.clone()
    _transpose(batch, torch.arange(len(batch), device=batch.img0.device))
    return batch


def reverse(batch: Batch) -> Batch:
    """The batch played backwards: inputs exchanged, timestep t becomes 1 - t."""
    batch = batch.clone()
    _reverse(batch, torch.arange(len(batch), device=batch.img0.device))
    return batch


def _rows(chosen: Tensor, batch: Batch) -> Tensor:
    """Numbers of the chosen rows, on the device of the batch; found on the CPU, without waiting."""
    return chosen.nonzero()[:, 0].to(batch.img0.device, non_blocking=True)


def _each(
    batch: Batch, names: tuple[str, ...], rows: Tensor, change: Callable[[Tensor], Tensor]
) -> None:
    for name in names:
        values = getattr(batch, name)
        if values is not None and len(rows):
            values[rows] = change(values[rows])


def _mirror(batch: Batch, rows: Tensor, axis: int) -> None:
    _each(batch, _MAPS, rows, lambda x: x.flip(-1 - axis))
    sign = batch.img0.new_tensor([-1, 1] if axis == 0 else [1, -1]).repeat(2)[:, None, None]
    _each(batch, ("flow",), rows, lambda x: x * sign)


def _transpose(batch: Batch, rows: Tensor) -> None:
    _each(batch, _MAPS, rows, lambda x: x.transpose(-1, -2))
    _each(batch, ("flow",), rows, lambda x: x[:, [1, 0, 3, 2]])


def _reverse(batch: Batch, rows: Tensor) -> None:
    if not len(rows):
        return
    batch.img0[rows], batch.img1[rows] = batch.img1[rows], batch.img0[rows]
    batch.timestep[rows] = 1 - batch.timestep[rows]
    _each(batch, ("flow",), rows, lambda x: x[:, [2, 3, 0, 1]])
    _each(batch, ("visible",), rows, lambda x: x.flip(1))


def _jitter(batch: Batch, rows: Tensor, numbers: Tensor, options: Augmentation) -> None:
    spread = (2 * numbers - 1).to(batch.img0.device, non_blocking=True)[:, rows, None, None, None]
    shift, gain = spread[0] * options.brightness, 1 + spread[1] * options.contrast
    gamma = (spread[2] * options.gamma).exp()
    offset = 0.5 - 0.5 * gain + shift
    _each(batch, _PICTURES, rows, lambda x: x.pow(gamma).mul_(gain).add_(offset).clamp_(0, 1))


def _ramp(batch: Batch, rows: Tensor, numbers: Tensor, options: Augmentation) -> None:
    """Scales the brightness by 1 - r/2 at time 0 to 1 + r/2 at time 1, for r of either sign."""
    if not len(rows):
        return
    device = batch.img0.device
    rise = (2 * numbers - 1).mul(options.ramp_gain).to(device, non_blocking=True)[rows]
    for name, time in (("img0", 0.0), ("img1", 1.0), ("truth", batch.timestep[rows])):
        gain = (1 + rise * (time - 0.5))[:, None, None, None]
        picture = getattr(batch, name)
        picture[rows] = (picture[rows] * gain).clamp_(0, 1)


def _sharpen(batch: Batch, rows: Tensor, numbers: Tensor, options: Augmentation) -> None:
    amount = (numbers * options.sharpening).to(batch.img0.device, non_blocking=True)
    amount = amount[rows, None, None, None]

    def crisper(x: Tensor) -> Tensor:
        blurred = F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
        return torch.lerp(blurred, x, 1 + amount).clamp_(0, 1)

    _each(batch, _PICTURES, rows, crisper)


def _add_noise(
    batch: Batch, rows: Tensor, numbers: Tensor, options: Augmentation, random: torch.Generator
) -> None:
    device = batch.img0.device
    seed = int(torch.randint(2**62, (), generator=random))
    if not len(rows):
        return
    level = (numbers * options.noise_level).to(device, non_blocking=True)[rows, None, None, None]
    local = torch.Generator(device).manual_seed(seed)

    def grain(x: Tensor) -> Tensor:
        return (x + level * torch.randn(x.shape, generator=local, device=device)).clamp_(0, 1)

    _each(batch, ("img0", "img1"), rows, grain)
