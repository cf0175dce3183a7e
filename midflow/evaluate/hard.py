"""Scenes that are hard to interpolate, drawn with their exact truth: a test set without files.

Every scene is a formula of place and time, so that its middle frame is drawn as the outer ones are.
Positions and motions are in pixels of a 848 x 480 picture, motions from the first to the last
frame.
"""

import math
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from midflow.evaluate.dataset import Dataset, Picture, Sample, to_levels
from midflow.evaluate.lettering import LINE, caption

HARD_METRICS = ("psnr", "ssim", "ie")
_WIDTH, _HEIGHT = 848, 480
_TIMES = (0.0, 0.5, 1.0)
_CELLS = (48, 24, 12, 6, 3)  # sizes of what a texture shows, in pixels
_EDGE = 4  # steepness of the outlines of the largest
_BEYOND = 48  # how far a texture goes on around the picture, in pixels

Scene = Callable[[Tensor, Tensor, float], Tensor]
"""x (1, W) and y (H, 1) in pixels and the time to a picture (3, H, W)."""


def open_hard() -> Dataset:
    """One sample of each scene, the middle frame to be painted.

    The file that holds the frames is this one: records of an evaluation end when it changes.
    """
    samples = []
    for place, name in enumerate(SCENES):
        img0, truth, img1 = (Picture(Path(__file__), len(_TIMES) * place + k) for k in range(3))
        samples.append(Sample(name, name, img0, img1, (truth,)))
    note = "scenes drawn by midflow, not a published set"
    return Dataset("hard", Path(__file__), tuple(samples), HARD_METRICS, draw, (note,))


def draw(picture: Picture) -> Tensor:
    """(1, 3, 480, 848) in whole 8-bit levels; `index` counts the frames of one scene by another."""
    place, moment = divmod(picture.index, len(_TIMES))
    scene = tuple(SCENES.values())[place]
    x = torch.arange(_WIDTH, dtype=torch.float32)[None]
    y = torch.arange(_HEIGHT, dtype=torch.float32)[:, None]
    return to_levels(scene(x, y, _TIMES[moment]))[None]


def _still_text(x: Tensor, y: Tensor, t: float) -> Tensor:
    """A caption and a logo stand still before a background that pans by 24 pixels."""
    image = _texture(x + 24 * t, y, 1)
    letters = torch.zeros(_HEIGHT, _WIDTH)
    size = 4
    ink = 1 - caption("Still text, moving picture 01", _WIDTH - 20, size)[0]
    letters[400 : 400 + LINE * size, 20:] = ink
    ring = _disc(x, y, 760, 70, 40) - _disc(x, y, 760, 70, 28)
    return _over(_over(image, letters, (1, 1, 1)), ring + _disc(x, y, 760, 70, 14), (1, 0.8, 0.1))


def _thin_lines(x: Tensor, y: Tensor, t: float) -> Tensor:
    """Wires of 1.5 pixels move by 20 to the right, the background by 6 to the left."""
    return draw_wires(x, y, t, motion=20, background=-6, width=1.5)[0]


def draw_wires(
    x: Tensor, y: Tensor, t: float, *, motion: float, background: float, width: float
) -> tuple[Tensor, Tensor]:
    """Six wires that move to the right before a texture that moves on its own.

    Returns:
        The picture (3, H, W), and each pixel's distance to the nearest wire, (H, W) in pixels.
    """
    image = _texture(x - background * t, y, 2)
    nearest = torch.full((_HEIGHT, _WIDTH), math.inf)
    for wire in range(6):
        turn = math.radians(50 + 16 * wire)
        left = 80 + 135 * wire + motion * t
        distance = ((x - left) * math.sin(turn) - (y - _HEIGHT / 2) * math.cos(turn)).abs()
        image = _over(image, (width / 2 + 0.5 - distance).clamp(0, 1), (0.05, 0.05, 0.05))
        nearest = torch.minimum(nearest, distance)
    return image, nearest


def _large_motion(x: Tensor, y: Tensor, t: float) -> Tensor:
    """The picture pans by 32 pixels and a disc falls by 32 before it."""
    disc = _disc(x, y, 420 - 8 * t, 200 + 32 * t, 100)
    return torch.lerp(_texture(x - 32 * t, y, 3), _texture(x + 8 * t, y - 32 * t, 4), disc)


def _repeated_pattern(x: Tensor, y: Tensor, t: float) -> Tensor:
    """A grating of period 16 moves by 7 with the board it is on."""
    left = x - 7 * t
    board = (310 - (left - 420).abs()).clamp(0, 1) * (170 - (y - 240).abs()).clamp(0, 1)
    grating = 0.5 + 4 * torch.sin(left * math.tau / 16) * torch.sin(y * math.tau / 16)
    pattern = (0.1 + 0.8 * grating.clamp(0, 1)).expand(3, -1, -1)
    return torch.lerp(_texture(x, y, 5), pattern, board)


def _small_and_fast(x: Tensor, y: Tensor, t: float) -> Tensor:
    """Balls of 14 and 8 pixels across fly 64 pixels, each its own way."""
    image = _texture(x + 4 * t, y, 6)
    image = _over(image, _disc(x, y, 200 + 64 * t, 150, 7), (1, 1, 1))
    return _over(image, _disc(x, y, 600 - 45 * t, 260 + 45 * t, 4), (0.9, 0.1, 0.1))


SCENES: dict[str, Scene] = {
    "still text": _still_text,
    "thin lines": _thin_lines,
    "large motion": _large_motion,
    "repeated pattern": _repeated_pattern,
    "small and fast": _small_and_fast,
}


def _texture(x: Tensor, y: Tensor, seed: int) -> Tensor:
    """Blots with edges, and grain of many sizes, without repetition, (3, H, W) in [0, 1]."""
    random = torch.Generator().manual_seed(seed)
    image = torch.full((3, _HEIGHT, _WIDTH), 0.5)
    for cell in _CELLS:
        noise = _noise(x, y, cell, random)
        image += 0.2 * (_EDGE * noise).tanh() if cell == _CELLS[0] else 0.03 * noise
    return image.clamp(0, 1)


def _noise(x: Tensor, y: Tensor, cell: int, random: torch.Generator) -> Tensor:
    """Smooth values between random ones `cell` pixels apart, (3, H, W), of variance about 1."""
    high, wide = (side // cell + 2 * _BEYOND // cell + 3 for side in (_HEIGHT, _WIDTH))
    lattice = torch.randn(1, 3, high, wide, generator=random)
    places = torch.stack(
        (
            ((x + _BEYOND) / cell / (wide - 1) * 2 - 1).expand(_HEIGHT, -1),
            ((y + _BEYOND) / cell / (high - 1) * 2 - 1).expand(-1, _WIDTH),
        ),
        -1,
    )
    return F.grid_sample(lattice, places[None], "bicubic", align_corners=True)[0]


def _disc(x: Tensor, y: Tensor, center_x: float, center_y: float, radius: float) -> Tensor:
    """Share of each pixel that a disc covers, (H, W)."""
    return (radius + 0.5 - torch.hypot(x - center_x, y - center_y)).clamp(0, 1)


def _over(image: Tensor, cover: Tensor, color: tuple[float, float, float]) -> Tensor:
    return torch.lerp(image, image.new_tensor(color).view(3, 1, 1), cover)
