"""What synthetic layers are painted with: canvases of colour and cover.

A canvas is (4, C, C) float32: RGB times cover, then cover, both in [0, 1]. All choices are drawn
from a CPU generator and are the same on every device; the painting happens on the device.
"""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

Random = torch.Generator

# How often each kind of shape and colour is drawn, relative to the others.
SHAPES = {"blob": 32, "box": 15, "ellipse": 13, "lines": 28, "text": 12}
OVERLAYS = {"text": 45, "panel": 35, "lines": 20}
COLORS = {"photograph": 56, "periodic": 16, "flat": 8, "cloud": 8, "grain": 12}

_GLYPH, _LINE = 6, 9  # cells from one letter to the next, from one line of text to the next
_WIDEST_LINE = 3.0  # pixels
_PLAIN_LINES = 0.7  # share of the lines that have one colour: wires, ropes, poles
_PERIOD = 2.3  # of a pattern over its motion: beyond half a period nobody can tell the motion


def paint(
    kinds: Sequence[str],
    colors: Sequence[str],
    side: int,
    photographs: Sequence[Tensor],
    random: Random,
    device: torch.device,
    travel: Tensor | None = None,
) -> Tensor:
    """Paints one canvas for each kind of shape: (N, 4, side, side) on `device`.

    Args:
        kinds: names out of `SHAPES` or `OVERLAYS`, or "all" for a canvas covered everywhere.
        colors: names out of `COLORS`.
        side: height and width of the canvases.
        photographs: (3, H, W) uint8 of any size; without any, clouds stand in for them.
        random: on the CPU.
        device: where to paint.
        travel: (N,) canvas pixels that each moves from the first to the last frame; patterns that
            repeat are drawn wide enough for that.
    """
    travel = torch.zeros(len(kinds)) if travel is None else travel
    canvases = torch.empty(len(kinds), 4, side, side, device=device)
    if not photographs:
        colors = ["cloud" if color == "photograph" else color for color in colors]
    for color, rows in _groups(colors):
        if color == "periodic":
            canvases[rows, :3] = _periodic(_PERIOD * travel[rows], side, random, device)
        else:
            canvases[rows, :3] = _COLORS[color](len(rows), side, photographs, random, device)
    for kind, rows in _groups(kinds):
        cover, ink = _SHAPES[kind](len(rows), side, random, device)
        picture = canvases[rows, :3]
        if ink is not None:
            picture = torch.lerp(picture, _flat(len(rows), side, (), random, device), ink)
        canvases[rows] = torch.cat((picture * cover, cover), 1)
    return canvases


def draw_names(choices: dict[str, int], count: int, random: Random) -> list[str]:
    """`count` names, each as often as its number says."""
    names = list(choices)
    weights = torch.tensor(list(choices.values()), dtype=torch.float32)
    return [names[i] for i in torch.multinomial(weights, count, True, generator=random)]


def _groups(names: Sequence[str]) -> list[tuple[str, list[int]]]:
    return [
        (name, [i for i, other in enumerate(names) if other == name])
        for name in dict.fromkeys(names)
    ]


def _uniform(random: Random, low: float, high: float, *shape: int) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=random)


def _smooth_noise(
    count: int, planes: int, cells: int, side: int, random: Random, device: torch.device
) -> Tensor:
    """Random values on a coarse grid, enlarged: (count, planes, side, side), about -1.5 to 1.5."""
    coarse = torch.randn(count, planes, cells, cells, generator=random).clamp_(-1.5, 1.5)
    fine = F.interpolate(coarse.to(device), (side, side), mode="bicubic", align_corners=False)
    return fine


def _coordinates(side: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Places of the pixels from the middle of the canvas, x (1, side) and y (side, 1)."""
    line = torch.arange(side, device=device, dtype=torch.float32) - (side - 1) / 2
    return line[None], line[:, None]


# colours: (count, side, photographs, random, device) -> (count, 3, side, side) in [0, 1]


def _photograph(
    count: int, side: int, photographs: Sequence[Tensor], random: Random, device: torch.device
) -> Tensor:
    numbers = torch.rand(count, 3, generator=random).tolist()
    pieces = []
    for which, y, x in numbers:
        picture = photographs[int(which * len(photographs))]
        height, width = picture.shape[1:]
        high, wide = min(side, height), min(side, width)
        top, left = int(y * (height - high + 1)), int(x * (width - wide + 1))
        piece = picture[:, top : top + high, left : left + wide].to(device, non_blocking=True)
        if (high, wide) != (side, side):
            piece = F.interpolate(piece[None].float(), (side, side), mode="bilinear")[0]
        pieces.append(piece)
    if all(piece.dtype == torch.uint8 for piece in pieces):
        return torch.stack(pieces).float().div_(255)
    return torch.stack([piece.float() for piece in pieces]).div_(255)


def _cloud(
    count: int, side: int, photographs: Sequence[Tensor], random: Random, device: torch.device
) -> Tensor:
    """Coloured noise of several octaves, as strong in coarse detail as in photographs."""
    total = torch.zeros(count, 3, side, side, device=device)
    cells, strength = 4, 1.0
    while cells <= min(side // 2, 64):
        grey = _smooth_noise(count, 1, cells, side, random, device)
        tint = _smooth_noise(count, 3, cells, side, random, device)
        total += strength * (grey + 0.4 * tint)
        cells, strength = 2 * cells, 0.6 * strength
    return total.sigmoid_()


def _grain(
    count: int, side: int, photographs: Sequence[Tensor], random: Random, device: torch.device
) -> Tensor:
    """Noise as strong from pixel to pixel as from afar, partly hard-edged: leaves, gravel, bark."""
    total = torch.zeros(count, 3, side, side, device=device)
    fall = _uniform(random, 0.7, 1.1, count, 1, 1, 1).to(device)
    finest = int(torch.randint(1, 4, (), generator=random))  # pixels of the finest detail
    cells, strength = max(side // 32, 2), torch.ones(count, 1, 1, 1, device=device)
    while cells <= side // finest:
        grey = _smooth_noise(count, 1, cells, side, random, device)
        tint = _smooth_noise(count, 3, cells, side, random, device)
        total += strength * (grey + 0.3 * tint)
        cells, strength = 2 * cells, fall * strength
    hardness = _uniform(random, 0.5, 3, count, 1, 1, 1).to(device)
    one, other = torch.rand(2, count, 3, 1, 1, generator=random).to(device)
    return torch.lerp(one, other, (hardness * total).sigmoid_())


def _flat(
    count: int, side: int, photographs: Sequence[Tensor], random: Random, device: torch.device
) -> Tensor:
    color = torch.rand(count, 3, 1, 1, generator=random)
    return color.to(device).expand(count, 3, side, side)


def _periodic(shortest: Tensor, side: int, random: Random, device: torch.device) -> Tensor:
    """Stripes, checks and grids of two colours that repeat no sooner than `shortest` (N,)."""
    count = len(shortest)
    x, y = _coordinates(side, device)
    period = 5 * _uniform(random, 0, math.log(7), count, 1, 1).exp()
    period = torch.maximum(period, shortest[:, None, None])
    angle = _uniform(random, 0, math.pi, count, 1, 1)
    second = _uniform(random, 0, 1, count, 1, 1) < 0.6
    hardness = _uniform(random, 1, 6, count, 1, 1).to(device)
    kx, ky = ((2 * math.pi / period * f(angle)).to(device) for f in (torch.cos, torch.sin))
    wave = (kx * x + ky * y).sin()
    across = torch.where(second.to(device), (kx * y - ky * x).sin(), 1.0)
    share = (hardness * wave * across).sigmoid_()[:, None]
    one, other = torch.rand(2, count, 3, 1, 1, generator=random).to(device)
    return torch.lerp(one.expand(-1, -1, side, side), other, share)


# shapes: (count, side, random, device) -> cover (count, 1, side, side), ink or None


def _all(count: int, side: int, random: Random, device: torch.device) -> tuple[Tensor, None]:
    return torch.ones(count, 1, side, side, device=device), None


def _blob(count: int, side: int, random: Random, device: torch.device) -> tuple[Tensor, None]:
    """Smooth outlines: noise above a level that rises with the distance from the middle."""
    cells = (4, 6, 9, 14)[int(torch.randint(4, (), generator=random))]
    radius = side * _uniform(random, 0.15, 0.5, count, 1, 1, 1).to(device)
    rough = _uniform(random, 0.3, 1.2, count, 1, 1, 1).to(device)
    x, y = _coordinates(side, device)
    height = 1 - (x * x + y * y) / radius.square()
    height = height + rough * _smooth_noise(count, 1, cells, side, random, device)
    slope_y, slope_x = torch.gradient(height, dim=(-2, -1))
    steepness = torch.hypot(slope_x, slope_y).clamp_min_(1e-4)
    return _edge(height / steepness, count, random), None


def _box(count: int, side: int, random: Random, device: torch.device) -> tuple[Tensor, None]:
    half = (side * _uniform(random, 0.05, 0.4, 2, count, 1, 1, 1)).to(device)
    corner = torch.rand(count, 1, 1, 1, generator=random).to(device) * half.amin(0)
    return _edge(_box_depth(side, half, corner), count, random), None


def _ellipse(count: int, side: int, random: Random, device: torch.device) -> tuple[Tensor, None]:
    half = (side * _uniform(random, 0.06, 0.42, 2, count, 1, 1, 1)).to(device)
    x, y = _coordinates(side, device)
    radius = torch.hypot(x / half[0], y / half[1])
    steepness = torch.hypot(x / half[0].square(), y / half[1].square()).clamp_min_(1e-4)
    return _edge(radius * (1 - radius) / steepness, count, random), None


def _lines(count: int, side: int, random: Random, device: torch.device) -> tuple[Tensor, Tensor]:
    """Up to four straight thin lines: wires, ropes, rules."""
    x, y = _coordinates(side, device)
    angle = _uniform(random, 0, math.pi, 4, count, 1, 1)
    axes = (angle / (math.pi / 2)).round() * (math.pi / 2)
    angle = torch.where(_uniform(random, 0, 1, 1, count, 1, 1) < 0.3, axes, angle)
    offset = (side * _uniform(random, -0.35, 0.35, 4, count, 1, 1)).to(device)
    half = (_uniform(random, 1, _WIDEST_LINE, 4, count, 1, 1) / 2).to(device)
    drawn = _uniform(random, 0, 1, 4, count, 1, 1) < 0.6
    drawn[0] = True
    cover = torch.zeros(count, side, side, device=device)
    for k in range(4):
        distance = (x * angle[k].cos().to(device) + y * angle[k].sin().to(device) - offset[k]).abs()
        line = (half[k] + 0.5 - distance).clamp_(0, 1).mul_(drawn[k].to(device))
        cover = torch.maximum(cover, line)
    reach = (side * _uniform(random, 0.2, 0.7, count, 1, 1)).to(device)
    inside = (reach - torch.maximum(x.abs(), y.abs())).clamp_(0, 1)
    is_plain = (_uniform(random, 0, 1, count, 1, 1, 1) < _PLAIN_LINES).float()
    return (cover * inside)[:, None], is_plain.to(device)


def _text(count: int, side: int, random: Random, device: torch.device) -> tuple[Tensor, Tensor]:
    """Lines of letter-like patterns, with an outline in the colour of the canvas."""
    letters = _letters(count, side, random).to(device)
    if float(torch.rand((), generator=random)) < 0.5:
        return F.max_pool2d(letters, 3, 1, 1), letters
    return letters, letters


def _panel(count: int, side: int, random: Random, device: torch.device) -> tuple[Tensor, Tensor]:
    """A box, often translucent, with text on it: a caption or a display."""
    letters = _letters(count, side, random).to(device)
    half = (side * _uniform(random, 0.1, 0.4, 2, count, 1, 1, 1)).to(device)
    depth = _box_depth(side, half, half.amin(0) * 0.2)
    box = (depth + 0.5).clamp_(0, 1)
    opacity = _uniform(random, 0.3, 1.4, count, 1, 1, 1).clamp_(max=1).to(device)
    letters = letters * (depth > 1)
    return torch.maximum(box * opacity, letters), letters


def _letters(count: int, side: int, random: Random) -> Tensor:
    """(count, 1, side, side) of 0 and 1."""
    cell = int(torch.randint(1, 4, (), generator=random))
    cells = -(-side // cell)
    columns, lines = -(-cells // _GLYPH), -(-cells // _LINE)
    x, y = torch.arange(cells), torch.arange(cells)[:, None]
    bits = torch.rand(count, cells, cells, generator=random) < 0.55
    words = torch.rand(count, lines, columns, generator=random) < 0.85
    wide, high = torch.rand(2, count, 1, 1, generator=random)
    words &= (torch.arange(columns) - columns / 2).abs() < 1 + wide * columns / 2
    words &= (torch.arange(lines)[:, None] - lines / 2).abs() < 1 + high.square() * lines / 3
    bits &= words[:, y // _LINE, x // _GLYPH]
    bits &= (x % _GLYPH < _GLYPH - 1) & (y % _LINE < _LINE - 2)
    enlarged = bits.repeat_interleave(cell, 1).repeat_interleave(cell, 2)
    return enlarged[:, None, :side, :side].float()


def _box_depth(side: int, half: Tensor, corner: Tensor) -> Tensor:
    """Pixels inside (above 0) the outline of a box with rounded corners."""
    x, y = _coordinates(side, half.device)
    dx, dy = x.abs() - half[0] + corner, y.abs() - half[1] + corner
    outside = torch.hypot(dx.clamp(min=0), dy.clamp(min=0))
    return corner - outside - torch.maximum(dx, dy).clamp(max=0)


def _edge(depth: Tensor, count: int, random: Random) -> Tensor:
    """Cover from the depth in pixels: mostly an edge of one pixel, some out of focus."""
    width = _uniform(random, -6, 4, count, 1, 1, 1).clamp_(min=1).to(depth.device)
    return (depth / width + 0.5).clamp_(0, 1)


_COLORS: dict[str, Callable[[int, int, Sequence[Tensor], Random, torch.device], Tensor]] = {
    "photograph": _photograph,
    "flat": _flat,
    "cloud": _cloud,
    "grain": _grain,
}
_SHAPES: dict[str, Callable[[int, int, Random, torch.device], tuple[Tensor, Tensor | None]]] = {
    "all": _all,
    "blob": _blob,
    "box": _box,
    "ellipse": _ellipse,
    "lines": _lines,
    "text": _text,
    "panel": _panel,
}
