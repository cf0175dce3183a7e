"""Layered scenes whose motion is known: exact flows, exact visibility, exactly linear time.

A scene is a background and some layers before it, back to front. Every point p of a layer (in the
true frame) moves on a straight line at a constant speed v(p) = v0 + V (p - c), so that at time s it
is at x = p + (s - t) v(p). A frame at time s is painted by going back from x to p, an affine map,
and from p to the layer's canvas, another one. The flows of the true frame are -t v and (1 - t) v of
the foremost layer there; a pixel is visible in a frame unless it leaves the picture or a nearer
layer covers it.

The approach follows AutoFlow (Sun et al., CVPR 2021) with straight instead of free motion.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from midflow.errors import OptionError
from midflow.nets.warp import Mode
from midflow.train.augment import Augmentation, augment
from midflow.train.batch import Batch, concatenate, random_stream
from midflow.train.motion import Affine, draw_motion, frame_maps
from midflow.train.textures import COLORS, OVERLAYS, SHAPES, draw_names, paint

_SCENE, _CHANGE = 31, 32  # random streams
_CANVAS = 1.5  # sides of a canvas over those of the picture
_PATTERN_MOTION = 1.0, 16.0  # pixels that a repeating pattern moves at most: drawn between these
_FOREMOST = 0.75  # share of a pixel's light by which one layer counts as what it shows
_ONCE = {"cpu": 4, "cuda": 128}  # scenes painted together: what fits the caches, what fills the GPU

SYNTHETIC_AUGMENTATION = Augmentation(
    scale=0, flip=0, transpose=0, reverse=0, ramp=0.1, sharpen=0, noise=0.15, jitter=0.2
)
"""Scenes need no turning or scaling; noise, colours and brightness ramps they do."""


@dataclass(frozen=True)
class LayerOptions:
    """What synthetic scenes are like."""

    layers: int = 4
    """Most layers before the background, at least 1, besides the overlay."""
    overlay: float = 0.5
    """Share of the scenes with text, a panel or lines that stand still in front of everything."""
    translucent: float = 0.1
    """Share of the layers one can see through."""
    max_motion: float = 72.0
    """Fastest motion from the first to the last frame in pixels; at most 0.4 of the crop."""
    start_motion: float = 8.0
    """The same at step 0."""
    curriculum_steps: int = 0
    """Steps over which the motion grows from the one to the other; 0: the fastest from the
    start."""
    central_share: float = 0.5
    """Share of the scenes at timestep 0.5; the others lie anywhere from 0.05 to 0.95."""

    def __post_init__(self) -> None:
        for name in ("overlay", "translucent", "central_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise OptionError(f"{name} must lie in [0, 1], got {getattr(self, name)}")
        if self.layers < 1 or self.curriculum_steps < 0:
            raise OptionError(
                "layers must be at least 1 and curriculum_steps at least 0, "
                f"got {self.layers} and {self.curriculum_steps}"
            )
        if not 0 < self.start_motion <= self.max_motion:
            raise OptionError(
                "motion must grow from a start above 0, "
                f"got {self.start_motion = }, {self.max_motion = }"
            )

    def motion(self, step: int, crop: int) -> float:
        """Fastest motion at a step, in pixels."""
        progress = min(1.0, step / self.curriculum_steps) if self.curriculum_steps else 1.0
        growth = math.pow(self.max_motion / self.start_motion, progress)
        return min(self.start_motion * growth, 0.4 * crop)


@dataclass(frozen=True)
class _Layer:
    """One layer of those scenes that have it."""

    rows: Tensor
    """(R,) numbers of the scenes, on the device."""
    canvas: Tensor
    """(R, 4, C, C)."""
    velocity: Affine
    """(R, 2, 3): velocity of a pixel of the true frame."""
    maps: Tensor
    """(R, 3, 2, 3): pixel of img0, truth, img1 to place on the canvas in [-1, 1]."""
    is_background: bool


class Layers:
    """A source of synthetic scenes, the same on CPU and GPU up to rounding (and the noise).

    Args:
        photographs: (3, H, W) uint8 each, the larger the better, on any device; None or an empty
            list paints procedural textures only.
        options: what the scenes are like.
        augmentation: what is changed afterwards; the scale is not used.
        seed: another seed, other scenes.
    """

    def __init__(
        self,
        photographs: Sequence[Tensor] | None = None,
        options: LayerOptions | None = None,
        *,
        augmentation: Augmentation = SYNTHETIC_AUGMENTATION,
        seed: int = 0,
    ) -> None:
        self.photographs = list(photographs or ())
        for picture in self.photographs:
            if picture.dim() != 3 or len(picture) != 3 or picture.dtype != torch.uint8:
                raise OptionError(
                    "photographs must be (3, H, W) uint8, got "
                    f"{tuple(picture.shape)} {picture.dtype}"
                )
        self.options = options or LayerOptions()
        self.augmentation = augmentation
        self.seed = seed

    def batch(
        self, step: int, size: int, crop: int, *, device: torch.device, rank: int = 0
    ) -> Batch:
        """See `Source`; flow and visibility are always known."""
        random = random_stream(self.seed, step, rank, _SCENE)
        motion, once = self.options.motion(step, crop), _ONCE.get(device.type, _ONCE["cpu"])
        batch = concatenate(
            [
                self._scenes(min(once, size - start), crop, motion, random, device)
                for start in range(0, size, once)
            ]
        )
        return augment(batch, self.augmentation, random_stream(self.seed, step, rank, _CHANGE))

    def _scenes(
        self, count: int, crop: int, motion: float, random: torch.Generator, device: torch.device
    ) -> Batch:
        times = 0.05 + 0.9 * torch.rand(count, generator=random)
        central = torch.rand(count, generator=random) < self.options.central_share
        times = torch.where(central, 0.5, times)
        layers = self._layers(count, crop, motion, times, random, device)
        frames, velocity, foremost = _compose(layers, count, crop, device)
        timestep = times.to(device)
        t = timestep[:, None, None, None]
        flow = torch.cat((-t * velocity, (1 - t) * velocity), 1)
        return Batch(
            img0=frames[:, 0],
            truth=frames[:, 1],
            img1=frames[:, 2],
            timestep=timestep,
            flow=flow,
            visible=_visible(layers, flow, foremost),
            has_flow=torch.ones(count, dtype=torch.bool, device=device),
        )

    def _layers(
        self,
        count: int,
        crop: int,
        motion: float,
        times: Tensor,
        random: torch.Generator,
        device: torch.device,
    ) -> list[_Layer]:
        """Background, layers, overlay; each for the scenes that have it."""
        options = self.options
        numbers = torch.randint(1, options.layers + 1, (count,), generator=random)
        has_overlay = torch.rand(count, generator=random) < options.overlay
        camera = draw_motion(count, crop, motion, random, None)
        side = 2 * round(_CANVAS * crop / 2)
        layers = []
        for slot in range(options.layers + 2):
            is_overlay, is_background = slot > options.layers, slot == 0
            rows = (has_overlay if is_overlay else numbers >= slot).nonzero()[:, 0]
            if not len(rows):
                continue
            moving = camera[rows]
            if not is_background:
                moving = draw_motion(len(rows), crop, motion, random, moving, is_overlay)
            kinds = draw_names(OVERLAYS if is_overlay else SHAPES, len(rows), random)
            colors = draw_names(COLORS, len(rows), random)
            if is_background:
                kinds = ["all"] * len(rows)
            repeats = torch.tensor([color == "periodic" for color in colors])
            slowest, fastest = _PATTERN_MOTION
            limit = slowest * (fastest / slowest) ** torch.rand(len(rows), generator=random)
            moving = moving.slowed(torch.where(repeats, limit, math.inf))
            canvas = paint(kinds, colors, side, self.photographs, random, device, moving.travel())
            if not is_background:
                canvas = canvas * self._opacity(len(rows), random).to(device)
            layers.append(
                _Layer(
                    rows.to(device),
                    canvas,
                    moving.velocity().to(device),
                    frame_maps(moving, times[rows], crop, side).to(device),
                    is_background,
                )
            )
        return layers

    def _opacity(self, count: int, random: torch.Generator) -> Tensor:
        chance, opacity = torch.rand(2, count, 1, 1, 1, generator=random)
        return torch.where(chance < self.options.translucent, 0.25 + 0.5 * opacity, 1.0)


def _compose(
    layers: list[_Layer], count: int, crop: int, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Paints the layers over one another.

    Returns:
        Frames (B, 3, 3, crop, crop): img0, truth, img1. Velocity (B, 2, crop, crop) of the foremost
        layer in the true frame. Number of that layer (B, 1, crop, crop), -1 where several mix.
    """
    frames = torch.zeros(count, 3, 3, crop, crop, device=device)
    velocity = torch.zeros(count, 2, crop, crop, device=device)
    strongest = torch.zeros(count, 1, crop, crop, device=device)
    foremost = torch.full((count, 1, crop, crop), -1.0, device=device)
    points = _pixels(crop, device)
    for number, layer in enumerate(layers):
        places = layer.maps.flatten(1, 2) @ points
        seen = _look_up(layer, places, layer.canvas, crop, "bicubic").clamp_(0, 1)
        cover = seen[:, :, 3:]
        color = torch.minimum(seen[:, :, :3], cover)  # bicubic sampling overshoots at outlines
        rows = layer.rows
        frames[rows] = frames[rows] * (1 - cover) + color
        light = strongest[rows] * (1 - cover[:, 1])
        is_first = cover[:, 1] > light
        moved = (layer.velocity @ points).view(-1, 2, crop, crop)
        velocity[rows] = torch.where(is_first, moved, velocity[rows])
        foremost[rows] = torch.where(is_first, float(number), foremost[rows])
        strongest[rows] = torch.where(is_first, cover[:, 1], light)
    return frames, velocity, foremost.masked_fill_(strongest < _FOREMOST, -1)


def _visible(layers: list[_Layer], flow: Tensor, foremost: Tensor) -> Tensor:
    """(B, 2, H, W): 1 where the point seen in the true frame is seen in img0, then in img1."""
    count, _, height, crop = flow.shape
    points = _pixels(crop, flow.device)
    # (B, 2 frames, 3, H * W): where the point is in each of them
    ones = flow.new_ones(count, 2, 1, height * crop)
    places = torch.cat((flow.view(count, 2, 2, -1) + points[:2], ones), 2)
    inside = ((places[:, :, :2] >= 0) & (places[:, :, :2] <= crop - 1)).all(2)
    light = (inside.view(count, 2, height, crop) & (foremost >= 0)).float()
    for number, layer in enumerate(layers):
        if layer.is_background:
            continue
        on_canvas = layer.maps[:, [0, 2]] @ places[layer.rows]  # (R, 2, 2, H * W)
        cover = _look_up(layer, on_canvas.flatten(1, 2), layer.canvas[:, 3:], crop)[:, :, 0]
        is_before = foremost[layer.rows] < number
        light[layer.rows] *= torch.where(is_before, 1 - cover, 1)
    return (light > _FOREMOST).float()


def _look_up(
    layer: _Layer, places: Tensor, canvas: Tensor, crop: int, mode: Mode = "bilinear"
) -> Tensor:
    """Reads the canvas for n pictures at once.

    Args:
        layer: whose canvas.
        places: (R, 2 n, H * W), x and y on the canvas in [-1, 1] of each picture in turn.
        canvas: (R, C, side, side).
        crop: H and W.
        mode: bicubic for what is looked at: it stays as crisp between pixels as on them.

    Returns:
        (R, n, C, H, W).
    """
    rows = len(places)
    grid = places.view(rows, -1, 2, crop * crop).movedim(2, -1)  # (R, n, H * W, 2)
    read = F.grid_sample(
        canvas,
        grid,
        mode=mode,
        padding_mode="reflection" if layer.is_background else "zeros",
        align_corners=False,
    )
    return read.view(rows, canvas.shape[1], -1, crop, crop).transpose(1, 2)


def _pixels(crop: int, device: torch.device) -> Tensor:
    """x, y and 1 of every pixel, (3, crop * crop)."""
    line = torch.arange(crop, device=device, dtype=torch.float32)
    y, x = torch.meshgrid(line, line, indexing="ij")
    return torch.stack((x, y, torch.ones_like(x))).flatten(1)
