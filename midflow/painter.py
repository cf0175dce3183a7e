"""Output frames from pairs of input frames: passed through, painted, or filled across a cut."""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import cached_property

import numpy as np
from torch import Tensor

from midflow.cut_list import Cuts, read_cuts
from midflow.engine import EncodedFrame
from midflow.interpolator import Interpolator
from midflow.options import VideoOptions
from midflow.rgba import Rgba, blend_rgba, paint_rgba
from midflow.scenes import fill_cut, is_cut, thumbnail
from midflow.video.color import begin_from_rgb, to_alpha, to_rgb
from midflow.video.device_copies import Download
from midflow.video.frame import ClipInfo, ColorSpec, Frame
from midflow.video.pixel import layout

MAX_BATCH_PIXELS = 1 << 22  # of all output frames painted at once: two of 1080p, one of 4K
_MAX_BATCH = 64  # frames painted at once by halving, which works frame by frame


class Picture:
    """An input frame, with what has been made of it, each made at most once."""

    def __init__(self, frame: Frame, info: ClipInfo, interpolator: Interpolator) -> None:
        self.frame = frame
        self._info = info
        self._interpolator = interpolator

    @cached_property
    def rgb(self) -> Tensor:
        """(1, 3, H, W) float32, nominally in [0, 1], on the interpolator's device."""
        return to_rgb(self.frame, self._info, self._interpolator.device)

    @cached_property
    def alpha(self) -> Tensor | None:
        """(1, 1, H, W) float32 opacity in [0, 1]; None where the clip has no transparency."""
        return to_alpha(self.frame, self._info.pixel_format, self._interpolator.device)

    @cached_property
    def thumbnail(self) -> Tensor:
        """(1, 3, 32, 32), for finding cuts."""
        return thumbnail(self.rgb)

    @cached_property
    def encoded(self) -> EncodedFrame:
        """What the network keeps of the frame."""
        return self._interpolator.encode(self.rgb)

    @cached_property
    def rgba(self) -> Rgba:
        """Colour and opacity, of a clip with transparency."""
        assert self.alpha is not None
        return Rgba(self.encoded, self.alpha)


class Painter:
    """Makes output frames, in the planes the writer takes, which may still be on their way.

    An input frame that is passed through takes the same way through RGB as a painted one, so that
    nothing flickers between the two.

    Args:
        interpolator: paints.
        info: of the source.
        color: of the planes to make.
        pixel_format: of the planes to make.
        scene_threshold: as in `VideoOptions`.
        scene_fill: as in `VideoOptions`.
        given_cuts: where the cuts are, instead of looking for them.
    """

    def __init__(
        self,
        interpolator: Interpolator,
        info: ClipInfo,
        color: ColorSpec,
        pixel_format: str,
        *,
        scene_threshold: float,
        scene_fill: str,
        given_cuts: Cuts | None = None,
    ) -> None:
        self.cuts: list[Fraction] = []
        """Times of the frames that begin a scene, of the pairs painted so far."""
        self._interpolator = interpolator
        self._info = info
        self._color = color
        self._pixel_format = pixel_format
        self._has_alpha = layout(pixel_format).has_alpha and layout(info.pixel_format).has_alpha
        self._threshold = scene_threshold
        self._fill = scene_fill
        self._given_cuts = given_cuts
        self._pair: tuple[Picture, Picture] | None = None
        self._is_cut = self._is_still = False
        self._passed: tuple[Picture, Download] | None = None
        pixels = info.width * info.height
        self.batch = max(1, MAX_BATCH_PIXELS // pixels) if interpolator.has_timestep else _MAX_BATCH
        """How many timesteps `paint` takes at once without using much memory."""

    def picture(self, frame: Frame) -> Picture:
        """A decoded frame, ready to be used in `keep` and `paint`."""
        return Picture(frame, self._info, self._interpolator)

    def keep(self, picture: Picture) -> Download:
        """The frame itself; the same planes when asked for again."""
        if self._passed is None or self._passed[0] is not picture:
            self._passed = picture, self._planes(picture.rgb, picture.alpha)
        return self._passed[1]

    def paint(
        self, left: Picture, right: Picture, timesteps: Sequence[Fraction]
    ) -> Iterator[Download]:
        """The frames at `timesteps`, in (0, 1), between two neighbouring frames."""
        self._compare(left, right)
        if self._is_still:
            yield from (self.keep(left) for _ in timesteps)
        elif self._is_cut:
            for timestep in timesteps:
                yield self._fill_cut(left, right, float(timestep))
        elif self._has_alpha:
            times = [float(timestep) for timestep in timesteps]
            for rgb, alpha in paint_rgba(self._interpolator, left.rgba, right.rgba, times):
                yield self._planes(rgb, alpha)
        else:
            times = [float(timestep) for timestep in timesteps]
            for rgb in self._interpolator(left.encoded, right.encoded, times):
                yield self._planes(rgb)

    def _compare(self, left: Picture, right: Picture) -> None:
        """Settles, once for each pair, whether it is two equal frames or two scenes."""
        if self._pair == (left, right):
            return
        self._pair = left, right
        planes = zip(left.frame.data, right.frame.data, strict=True)
        self._is_still = all(np.array_equal(a, b) for a, b in planes)
        self._is_cut = not self._is_still and self._is_cut_between(left, right)
        if self._is_cut and left.frame.pts < right.frame.pts:  # not where a loop closes
            self.cuts.append(right.frame.pts)

    def _is_cut_between(self, left: Picture, right: Picture) -> bool:
        if self._given_cuts is not None and left.frame.pts < right.frame.pts:
            return self._given_cuts.is_between(left.frame.pts, right.frame.pts)
        return is_cut(left.thumbnail, right.thumbnail, self._threshold)

    def _fill_cut(self, left: Picture, right: Picture, timestep: float) -> Download:
        if left.alpha is None or right.alpha is None:
            return self._planes(fill_cut(self._fill, left.rgb, right.rgb, timestep))
        if self._fill == "blend":
            both = (left.rgb, left.alpha, right.rgb, right.alpha)
            return self._planes(*blend_rgba(*both, timestep))
        return self.keep(right if self._fill == "nearest" and timestep >= 0.5 else left)

    def _planes(self, rgb: Tensor, alpha: Tensor | None = None) -> Download:
        return begin_from_rgb(rgb, self._color, self._pixel_format, alpha)


def make_painter(
    interpolator: Interpolator,
    info: ClipInfo,
    color: ColorSpec,
    pixel_format: str,
    options: VideoOptions,
) -> Painter:
    """A painter as the options ask for; the other arguments are those of `Painter`."""
    return Painter(
        interpolator,
        info,
        color,
        pixel_format,
        scene_threshold=options.scene_threshold,
        scene_fill=options.scene_fill,
        given_cuts=read_cuts(options.cuts).of(info) if options.cuts else None,
    )
