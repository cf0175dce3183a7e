"""Pictures in files: frames between two, a folder at a higher rate, the flow of a pair drawn.

Pictures go through `midflow.video.image`: 16-bit PNG in gives 16-bit PNG out, transparency stays.
Every file appears under its name only when it is whole; if a run stops, the files that are done
stay.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from itertools import groupby
from pathlib import Path

from torch import Tensor

from midflow.engine import EncodedFrame
from midflow.errors import OptionError, VideoError
from midflow.flow_picture import flow_to_rgb
from midflow.image_files import (
    StrPath,
    list_pictures,
    make_folder,
    output_paths,
    require_free,
    require_picture_name,
    require_unused,
)
from midflow.interpolator import Interpolator
from midflow.rgba import Rgba, paint_rgba
from midflow.schedule import Rate, parse_rate
from midflow.video.image import read_rgba, write_image

BATCH_PIXELS = 2**22  # of the frames between one pair that are painted together


class _Picture:
    """A picture file, read, and encoded once when that is first needed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rgb, self.alpha, self.bits = read_rgba(path)
        self._encoded: EncodedFrame | None = None

    def encoded(self, interpolator: Interpolator) -> EncodedFrame:
        if self._encoded is None:
            self._encoded = interpolator.encode(self.rgb)
        return self._encoded

    def rgba(self, interpolator: Interpolator) -> Rgba:
        """Colour and opacity; a picture without transparency is opaque."""
        alpha = self.rgb.new_ones(self.rgb[:, :1].shape) if self.alpha is None else self.alpha
        return Rgba(self.encoded(interpolator), alpha.to(interpolator.device))


def even_timesteps(count: int) -> list[Fraction]:
    """`count` times that divide the way between two frames evenly: 3 gives 1/4, 1/2, 3/4.

    Raises:
        OptionError: the count is below 1.
    """
    if count < 1:
        raise OptionError(f"the number of frames between must be at least 1, got {count}")
    return [Fraction(k, count + 1) for k in range(1, count + 1)]


def interpolate_images(
    img0: StrPath,
    img1: StrPath,
    out: StrPath,
    interpolator: Interpolator,
    timesteps: Sequence[float | Fraction],
    *,
    overwrite: bool = False,
) -> list[Path]:
    """Paints the frames at `timesteps` between two picture files.

    Args:
        img0: the earlier picture.
        img1: the later picture, same size.
        out: see `output_paths`.
        interpolator: what paints them.
        timesteps: at least one, each in [0, 1].
        overwrite: whether existing files are replaced; the two inputs never are.

    Returns:
        The files written, in the order of `timesteps`.

    Raises:
        OptionError: no timestep, one outside [0, 1], or a name that is not a picture's.
        VideoError: a picture cannot be read or written, the sizes differ, or a file exists already.
    """
    if not timesteps:
        raise OptionError("at least one timestep is needed, got none")
    paths = output_paths(out, len(timesteps), Path(img0).suffix)
    require_free(paths, (Path(img0), Path(img1)), overwrite)
    first, second = _Picture(Path(img0)), _Picture(Path(img1))
    frames = _between(first, second, interpolator, [float(t) for t in timesteps])
    if paths[0].parent == Path(out):
        make_folder(Path(out))
    bits = max(first.bits, second.bits)
    for path, (frame, alpha) in zip(paths, frames, strict=True):
        write_image(path, frame, bits, overwrite=overwrite, alpha=alpha)
    return paths


def interpolate_folder(
    folder: StrPath,
    out_folder: StrPath,
    interpolator: Interpolator,
    factor: Rate = 2,
    *,
    overwrite: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Raises the rate of the pictures in a folder, taken in natural order (2 before 10).

    Writes floor((N - 1) * factor) + 1 pictures for N, the N themselves among them where `factor` is
    whole: 00000001.png, 00000002.png, ..., in the format of the first.

    Args:
        folder: holds PNG, JPEG or WebP files of one size; other files are not looked at.
        out_folder: made if need be.
        interpolator: what paints the frames between.
        factor: frames for each step from picture to picture, at least 1: 4, 2.5, "5/2".
        overwrite: whether an `out_folder` that holds pictures may be written to.
        on_progress: called with the numbers of pictures written and to be written.

    Returns:
        The files written, in order.

    Raises:
        OptionError: the factor is below 1.
        VideoError: there are no pictures, one cannot be read or written, the sizes differ, the two
            folders are one, or `out_folder` holds pictures already.
    """
    folder, out_folder = Path(folder), Path(out_folder)
    rate = parse_rate(factor, "factor")
    if rate < 1:
        raise OptionError(f"factor must be at least 1, got {factor}")
    pictures = list_pictures(folder)
    if out_folder.exists() and os.path.samefile(folder, out_folder):
        raise VideoError(f"{out_folder} is the input folder itself: give another for the output")
    count = int((len(pictures) - 1) * rate) + 1
    paths = output_paths(out_folder, count, pictures[0].suffix, is_folder=True)
    require_unused(out_folder, set(paths), overwrite)
    make_folder(out_folder)
    frames = _at_rate(pictures, rate, interpolator)
    for done, (path, (frame, alpha, bits)) in enumerate(zip(paths, frames, strict=True), start=1):
        write_image(path, frame, bits, overwrite=overwrite, alpha=alpha)
        if on_progress is not None:
            on_progress(done, count)
    return paths


def draw_flow(
    img0: StrPath,
    img1: StrPath,
    out: StrPath,
    interpolator: Interpolator,
    timestep: float = 0.5,
    *,
    max_motion: float | None = None,
    overwrite: bool = False,
) -> float:
    """Draws the motion from one picture to the next, as it passes each pixel at `timestep`.

    Args:
        img0: the earlier picture.
        img1: the later picture, same size.
        out: the picture to write, in the colours of `midflow.flow_picture`.
        interpolator: what estimates the flow.
        timestep: in [0, 1]; a network without a timestep knows 0.5.
        max_motion: pixels drawn in full colour; None takes the longest motion.
        overwrite: whether an existing file is replaced; the two inputs never are.

    Returns:
        The longest motion in the picture, in pixels.

    Raises:
        OptionError: `max_motion` is not above 0, a timestep the network does not know, or a name
            that is not a picture's.
        VideoError: a picture cannot be read or written, the sizes differ, or the file exists.
    """
    path = Path(out)
    require_picture_name(path)
    require_free([path], (Path(img0), Path(img1)), overwrite)
    first, second = _Picture(Path(img0)), _Picture(Path(img1))
    _require_one_size(first, second)
    flow, _ = interpolator.flow(first.rgb, second.rgb, timestep)
    motion = (flow[:, 2:] - flow[:, :2]).cpu()
    write_image(path, flow_to_rgb(motion, max_motion), overwrite=overwrite)
    return float(motion.norm(dim=1).max())


def _at_rate(
    pictures: Sequence[Path], rate: Fraction, interpolator: Interpolator
) -> Iterator[tuple[Tensor, Tensor | None, int]]:
    """The pictures and those between them: colour, opacity, bits; two inputs are in memory."""
    count = int((len(pictures) - 1) * rate) + 1
    left = _Picture(pictures[0])
    for index, outputs in groupby(range(count), lambda k: int(k / rate)):
        if left.path != pictures[index]:
            left = _Picture(pictures[index])
        times = [k / rate - index for k in outputs]
        if times[0] == 0:
            yield left.rgb, left.alpha, left.bits
        between = [float(t) for t in times if t]
        if between:
            right = _Picture(pictures[index + 1])
            for frame, alpha in _between(left, right, interpolator, between):
                yield frame, alpha, max(left.bits, right.bits)
            left = right


def _between(
    first: _Picture, second: _Picture, interpolator: Interpolator, times: list[float]
) -> Iterator[tuple[Tensor, Tensor | None]]:
    """The frames at `times`, colour and opacity of each, a few at once."""
    _require_one_size(first, second)
    if first.alpha is not None or second.alpha is not None:
        pair = first.rgba(interpolator), second.rgba(interpolator)
        for rgb, alpha in paint_rgba(interpolator, *pair, times):
            yield rgb.cpu(), alpha.cpu()
        return
    enc0, enc1 = first.encoded(interpolator), second.encoded(interpolator)
    batch = max(1, BATCH_PIXELS // first.rgb[0, 0].numel())
    if not interpolator.has_timestep:
        batch = len(times)  # bisection shares the frames on its way
    for start in range(0, len(times), batch):
        frames = interpolator(enc0, enc1, times[start : start + batch]).cpu()
        yield from ((frames[i : i + 1], None) for i in range(len(frames)))


def _require_one_size(first: _Picture, second: _Picture) -> None:
    if first.rgb.shape != second.rgb.shape:
        sizes = [f"{p.path} is {p.rgb.shape[3]}x{p.rgb.shape[2]}" for p in (first, second)]
        raise VideoError(f"both pictures must have one size: {' and '.join(sizes)}; resize one")
