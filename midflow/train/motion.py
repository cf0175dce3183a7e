"""Straight motion of flat layers: each point at its own constant speed, affine in its place."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

Affine = Tensor
"""(..., 2, 3): (x, y, 1) to (x, y) by a product."""

_SLOWEST = 0.25  # pixels from the first to the last frame, of what moves at all
_STILL, _CARRIED = 0.12, 0.1  # shares of cameras or layers that stand, and layers that go along
_TURN, _ZOOM, _SHEAR = 0.25, 0.2, 0.08  # most per unit of time, at 48 pixels of motion
_FULL_MOTION = 48.0
_SCALED_CANVAS = 0.35  # largest logarithm of canvas pixels per pixel


@dataclass(frozen=True)
class Motion:
    """How R layers lie and move. Places are pixels of the true frame; all on the CPU."""

    center: Tensor
    """(R, 2): the middle of the canvas."""
    speed: Tensor
    """(R, 2): velocity of the centre, pixels from the first to the last frame."""
    change: Tensor
    """(R, 2, 2): how velocity grows with the distance from the centre."""
    placing: Tensor
    """(R, 2, 2): from the centre in pixels to the middle of the canvas in canvas pixels."""

    def __getitem__(self, rows: Tensor) -> "Motion":
        return Motion(self.center[rows], self.speed[rows], self.change[rows], self.placing[rows])

    def slowed(self, fastest: Tensor) -> "Motion":
        """The same at no more than `fastest` (R,) pixels from the first to the last frame."""
        share = (fastest / self.speed.norm(dim=1).clamp_min(1e-6)).clamp_max(1)
        return replace(
            self, speed=self.speed * share[:, None], change=self.change * share[:, None, None]
        )

    def travel(self) -> Tensor:
        """(R,): canvas pixels from the first to the last frame."""
        length: Tensor = (self.placing @ self.speed[:, :, None])[:, :, 0].norm(dim=1)
        return length

    def velocity(self) -> Affine:
        """(R, 2, 3): velocity of a pixel of the true frame."""
        offset = self.speed - (self.change @ self.center[:, :, None])[:, :, 0]
        return torch.cat((self.change, offset[:, :, None]), 2)


def draw_motion(
    count: int,
    crop: int,
    fastest: float,
    random: torch.Generator,
    camera: Motion | None,
    is_overlay: bool = False,
) -> Motion:
    """Draws how `count` layers lie and move.

    Args:
        count: number of layers R.
        crop: side of the picture.
        fastest: pixels from the first to the last frame.
        random: on the CPU.
        camera: motion of the background of the same scenes; None for backgrounds themselves.
        is_overlay: stands still, aligned with the pixels.
    """
    numbers = torch.rand(14, count, generator=random)
    if is_overlay:
        still = torch.zeros(count, 2, 2)
        place = (numbers[:2].T * crop).round()
        return Motion(place, torch.zeros(count, 2), still, torch.eye(2).expand(count, 2, 2))
    length = _SLOWEST * (fastest / _SLOWEST) ** numbers[0].sqrt()
    angle = 2 * math.pi * numbers[1]
    speed = length[:, None] * torch.stack((angle.cos(), angle.sin()), 1)
    grows = min(1.0, fastest / _FULL_MOTION) * (numbers[2] < 0.5)
    change = _change(numbers[3:7], grows)
    center = numbers[7:9].T * 1.2 * crop - 0.1 * crop
    if camera is None:
        center = torch.full((count, 2), (crop - 1) / 2) + numbers[7:9].T
    else:
        is_carried = (numbers[9] < _CARRIED)[:, None]
        carried = camera.speed + (camera.change @ (center - camera.center)[:, :, None])[:, :, 0]
        speed = torch.where(is_carried, carried, carried + speed)
        change = torch.where(is_carried[:, :, None], camera.change, camera.change + change)
    speed = speed * (fastest / speed.norm(dim=1, keepdim=True).clamp_min(1e-6)).clamp_max(1)
    is_still = (numbers[10] < _STILL)[:, None]
    return Motion(
        center,
        torch.where(is_still, 0.0, speed),
        torch.where(is_still[:, :, None], 0.0, change),
        _placing(numbers[11:14]),
    )


def frame_maps(motion: Motion, times: Tensor, crop: int, side: int) -> Affine:
    """From the pixels of img0, truth and img1 to places on the canvas, in [-1, 1] for grid_sample.

    Args:
        motion: of R layers.
        times: (R,) timestep of the true frame.
        crop: side of the picture.
        side: side of the canvas.

    Returns:
        (R, 3, 2, 3).
    """
    after = torch.stack((-times, torch.zeros_like(times), 1 - times), 1).double()  # (R, 3)
    after = after[:, :, None, None]
    change, speed = motion.change.double()[:, None], motion.speed.double()[:, None, :, None]
    center = motion.center.double()[:, None, :, None]
    # x - c = (I + s V) (p - c) + s v0, solved for p - c
    back = motion.placing.double()[:, None] @ torch.linalg.inv(torch.eye(2) + after * change)
    offset = -back @ (center + after * speed)
    maps = torch.cat((back, offset), 3) * (2 / side)
    maps[..., 2] += 1 / side  # the middle of the canvas is the corner of four pixels
    return maps.float()


def _change(numbers: Tensor, grows: Tensor) -> Tensor:
    """(R, 2, 2): a turn, a zoom and a shear, each about as often small as large."""
    turn, zoom, across, along = (2 * numbers - 1).pow(3) * grows
    turn, zoom, across, along = _TURN * turn, _ZOOM * zoom, _SHEAR * across, _SHEAR * along
    rows = torch.stack((zoom + along, across - turn, across + turn, zoom - along), 1)
    return rows.view(-1, 2, 2)


def _placing(numbers: Tensor) -> Tensor:
    """(R, 2, 2): half of the layers stay upright, the others are turned; all are scaled a bit."""
    size = ((2 * numbers[0] - 1) * _SCALED_CANVAS).exp()
    angle = torch.where(numbers[1] < 0.5, 0.0, 2 * math.pi * numbers[2])
    cos, sin = size * angle.cos(), size * angle.sin()
    return torch.stack((cos, -sin, sin, cos), 1).view(-1, 2, 2)
