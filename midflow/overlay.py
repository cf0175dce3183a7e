"""Still overlays: subtitles, logos and displays that stand before a moving picture.

A network that follows the picture carries lettering along with it. Where the picture behind it
moves far, it loses the words altogether, although both frames show them at one place.

The rule. At each pixel g0 and g1 are the slopes of luma in either frame (the difference of the
neighbours on both sides, so a step from black to white has 1), and

* an edge stands still where g0 . g1 > `EDGE`^2 and the two slopes point the same way, to within
  acos(`ALIGNED`): neither frame alone makes one, and plain areas have none;
* a pixel is still where no channel changes by more than `NOISE`, or, within `REACH` pixels of a
  still edge, by more than `SHARE` of its slope (what encoders leave around hard lettering), but
  never by more than `LOUDEST`;
* a pixel is protected where it is still, within `REACH` pixels of a still edge that is still
  itself, and `COMPANY` of the 5 x 5 pixels around it are as well.

So a slow plain background does not freeze: it has no edges. Neither does a slow edge: at half a
pixel a frame the pixels on it change by half of its slope. Protected pixels are the mix of both
frames, which are the same there; at the border `SOFT` of the mix remains for one more pixel.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from midflow.errors import OptionError
from midflow.native import overlay as native
from midflow.nets.photometric import slopes
from midflow.nets.prediction import Prediction
from midflow.nets.warp import read_at, warp
from midflow.nets.window import mean_around
from midflow.places import largest

Index = tuple[Tensor, slice, Tensor, Tensor]
"""Some pixels of (T, C, H, W), which read as (N, C): sample, all channels, row, column."""
Box = tuple[slice, slice, slice, slice]

PROTECT_WORDS = ("auto", "off")

# Measured in benchmarks/overlays.py, on clips with and without lettering on them.
EDGE = 0.2  # of white, over two pixels
ALIGNED = 0.9
NOISE = 3 / 255
SHARE = 0.04
LOUDEST = 12 / 255
REACH = 4
COMPANY = 0.3
_COMPANY_REACH = 2
SOFT = 0.5

# shares of a pixel seen beside the overlay: below the first it counts as hidden, from the second on
# it is believed as it is
_LEAST_SHOWN, _SURELY_SHOWN = 0.02, 0.25
_LED_AWAY = 3.0  # pixels of flow from which on a copy would be seen beside what it copies
_FILLED = 7  # pixels around a hidden one that are looked at


@dataclass(frozen=True)
class Protection:
    """Which pixels of painted frames stay as they are in the inputs."""

    is_automatic: bool = True
    """Find what stands still in each pair."""
    mask: Tensor | None = None
    """(1, 1, H, W) share of the input frame nearest in time, by hand."""

    def __str__(self) -> str:
        """What tells one protection from another."""
        if self.mask is None:
            return "auto" if self.is_automatic else "off"
        data = self.mask.detach().cpu().contiguous().numpy().tobytes()
        return f"mask {hashlib.sha256(data).hexdigest()}"

    def find(self, img0: Tensor, img1: Tensor) -> Tensor | None:
        """What stands still between two frames, see `still_overlay`; None where nothing does.

        Args:
            img0: (B, 3, H, W) in [0, 1].
            img1: the later frame.
        """
        if not self.is_automatic:
            return None
        still = still_overlay(img0, img1)
        return still if bool(still.any()) else None

    def __call__(
        self, frames: Tensor, img0: Tensor, img1: Tensor, times: Tensor, still: Tensor | None
    ) -> Tensor:
        """Puts protected pixels into painted frames.

        Args:
            frames: (T, 3, H, W), painted.
            img0: (B, 3, H, W) in [0, 1], B being T or 1.
            img1: the later frame.
            times: (T,) in [0, 1].
            still: what `find` found between them.

        Raises:
            OptionError: the mask has another size.
        """
        t = times.view(-1, 1, 1, 1)
        if self.mask is not None:
            kept = torch.where(t <= 0.5, img0, img1)
            return torch.lerp(frames, kept, self._mask_like(frames))
        if still is None:
            return frames
        return torch.lerp(frames, torch.lerp(img0, img1, t), still)

    def _mask_like(self, frames: Tensor) -> Tensor:
        assert self.mask is not None
        if self.mask.shape[-2:] != frames.shape[-2:]:
            sizes = [f"{x.shape[-1]}x{x.shape[-2]}" for x in (frames, self.mask)]
            raise OptionError(
                f"protect must have the size of the frames, {sizes[0]}, got {sizes[1]}"
            )
        return self.mask.to(frames)


def read_protection(protect: str | Path | Tensor) -> Protection:
    """What the option `protect` stands for.

    Args:
        protect: "auto"; "off"; a picture file, white where frames stay untouched; or the same as a
            tensor (1, 1, H, W) in [0, 1].

    Raises:
        OptionError: it is none of these.
        VideoError: the picture cannot be read.
    """
    if isinstance(protect, Tensor):
        if protect.dim() != 4 or protect.shape[:2] != (1, 1):
            raise OptionError(f"protect must have shape (1, 1, H, W), got {tuple(protect.shape)}")
        return Protection(is_automatic=False, mask=protect)
    if str(protect) in PROTECT_WORDS:
        return Protection(is_automatic=str(protect) == "auto")
    if not Path(protect).is_file():
        raise OptionError(f"protect must be auto, off or a picture that exists, got {protect}")
    from midflow.video.image import read_image

    rgb, _ = read_image(Path(protect))
    return Protection(is_automatic=False, mask=rgb.mean(1, keepdim=True))


def still_overlay(img0: Tensor, img1: Tensor) -> Tensor:
    """How much of each pixel is protected by the rule above, (B, 1, H, W) in [0, 1].

    Args:
        img0: (B, 3, H, W) in [0, 1].
        img1: likewise; the order does not matter.
    """
    if native.can_run(img0) and native.can_run(img1):
        return native.still_overlay(
            img0, img1, edge=EDGE**2, aligned=ALIGNED, noise=NOISE, share=SHARE, loudest=LOUDEST,
            reach=REACH, company=COMPANY, company_reach=_COMPANY_REACH, soft=SOFT,
        )  # fmt: skip
    slope = _still_slope(_luma(img0), _luma(img1))
    if not bool(slope.any()):
        return slope
    # nothing is protected further away, and the windows that settle it end before the margin does
    box = _box_around(slope.nonzero(as_tuple=True), slope.shape[-2:], REACH + 2 * _COMPANY_REACH)
    still = torch.zeros_like(slope)
    still[box] = _protected(img0[box], img1[box], slope[box])
    return still


def _protected(img0: Tensor, img1: Tensor, slope: Tensor) -> Tensor:
    """What `still_overlay` says of a part of the frames, given the slopes of still edges in it."""
    apart = (img0 - img1).abs_()
    change = torch.maximum(torch.maximum(apart[:, :1], apart[:, 1:2]), apart[:, 2:])
    allowed = largest(slope, REACH).mul_(SHARE).clamp_(NOISE, LOUDEST)
    is_still = (change <= allowed).view(torch.uint8)  # 1 where it is: windows of bytes are quick
    near = largest(is_still * (slope > 0), REACH) * is_still
    kept = near * (mean_around(near, _COMPANY_REACH) > COMPANY)
    return torch.maximum(kept, SOFT * mean_around(kept, 1))


def without_ghosts(prediction: Prediction, img0: Tensor, img1: Tensor, still: Tensor) -> Tensor:
    """The painted frame without copies of the overlay beside it.

    What moves behind an overlay is hidden by it in one frame after the other. A pixel whose flow
    leads onto the overlay in one frame alone is taken from the other; if it does in both, it gets
    the mean of what is seen around it.

    Args:
        prediction: of T times.
        img0: (B, 3, H, W) in [0, 1], B being T or 1.
        img1: the later frame.
        still: (B, 1, H, W) from `still_overlay`.

    Returns:
        (T, 3, H, W).
    """
    frame, flow, weight = prediction
    cover = _expand(largest(still, 1), len(frame))
    carried0, carried1 = _carried(cover, flow)
    is_led = (carried0 + carried1)[:, 0] > 0
    if not bool(is_led.any()):
        return frame
    # few pixels are: what the others would get is what they have
    sample, y, x = is_led.nonzero(as_tuple=True)
    there = sample, slice(None), y, x
    shown0 = weight[there] * (1 - carried0[there])  # (N, 1), as all that follows but colours
    shown1 = (1 - weight[there]) * (1 - carried1[there])
    shown = shown0 + shown1
    clean = torch.where(shown > _LEAST_SHOWN, shown0 / shown.clamp(min=_LEAST_SHOWN), weight[there])
    places = torch.stack((x, y), 1)
    warped0 = _read(img0, sample, places + flow[:, :2][there])
    warped1 = _read(img1, sample, places + flow[:, 2:][there])
    frame = frame.clone()
    frame[there] += (clean - weight[there]) * (warped0 - warped1)
    believed = (shown / _SURELY_SHOWN).clamp(max=1)
    if bool((believed < 1).any()):
        frame[there] = _filled(frame, cover, there, believed)
    return frame


def _filled(frame: Tensor, cover: Tensor, there: Index, believed: Tensor) -> Tensor:
    """The colours (N, 3) of some pixels, the less they are believed the more of what is around.

    Args:
        frame: (T, 3, H, W).
        cover: (T, 1, H, W), 1 where nothing is seen of what moves.
        there: which pixels.
        believed: (N, 1) in [0, 1]; all others are believed.
    """
    box = _box_around(there, frame.shape[-2:], _FILLED)
    seen = 1 - cover
    seen[there] *= believed
    seen = seen[box]
    share, sums = mean_around(seen, _FILLED), mean_around(frame[box] * seen, _FILLED)
    sample, _, y, x = there
    inside = sample, slice(None), y - box[2].start, x - box[3].start
    around = sums[inside] / share[inside].clamp(min=_LEAST_SHOWN)
    is_known = share[inside] > _LEAST_SHOWN
    return torch.where(is_known, around.lerp(frame[there], believed), frame[there])


def _box_around(there: tuple[Any, ...], size: torch.Size, margin: int) -> Box:
    """The rectangle that holds some pixels, with a margin where the picture has one."""
    bounds = []
    for places, length in zip((there[2], there[3]), size, strict=True):
        first, last = int(places.amin()), int(places.amax())
        bounds.append(slice(max(0, first - margin), min(length, last + margin + 1)))
    return slice(None), slice(None), bounds[0], bounds[1]


def _read(image: Tensor, sample: Tensor, places: Tensor) -> Tensor:
    """The colours (N, 3) of pictures (B, 3, H, W) at places (N, 2), (x, y) in pixels, bicubic.

    `sample` (N,) says in which of them, where there is more than one; it does not decrease.
    """
    if len(image) == 1:
        return read_at(image, places)
    counts = torch.bincount(sample, minlength=len(image)).tolist()
    parts = torch.split(places, counts)
    return torch.cat([read_at(image[i : i + 1], part) for i, part in enumerate(parts)])


def _carried(cover: Tensor, flow: Tensor) -> list[Tensor]:
    """How much of each pixel beside the overlay is taken from it in either frame, by a flow of 4.

    (T, 1, H, W) in [0, 1] each.
    """
    if native.can_run(cover) and native.can_run(flow):
        return list(torch.split(native.carried(cover, flow, _LED_AWAY**2), 1, 1))
    found = []
    for led in torch.split(flow, 2, 1):
        is_led_away = led.square().sum(1, keepdim=True) > _LED_AWAY**2
        found.append(warp(cover, led) * (1 - cover) * is_led_away)
    return found


def _expand(x: Tensor, batch: int) -> Tensor:
    return x.expand(batch, -1, -1, -1)


def _luma(image: Tensor) -> Tensor:
    """The mean of the channels, in a third of the time that `mean` takes."""
    return (image[:, :1] + image[:, 1:2]).add_(image[:, 2:]).div_(3)


def _still_slope(luma0: Tensor, luma1: Tensor) -> Tensor:
    """Geometric mean of both slopes at edges that stand still, 0 elsewhere."""
    x0, y0 = slopes(luma0)
    x1, y1 = slopes(luma1)
    both = (x0 * x1).add_(y0 * y1)
    there = (both > EDGE**2).nonzero(as_tuple=True)  # few are
    lengths = (x0[there] ** 2 + y0[there] ** 2) * (x1[there] ** 2 + y1[there] ** 2)
    found, steep = torch.zeros_like(both), both[there]
    found[there] = torch.where(steep > ALIGNED * lengths.sqrt(), steep, 0).sqrt()
    return found
