"""Each stage of the pipeline at work by itself, and all of them together.

Nothing here is a copy of the pipeline: the reader, the painter within the pipeline's own loop, the
segments with their encoder, and `interpolate_video` are what is measured.
"""

import tempfile
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from time import perf_counter
from typing import Any, cast

import torch
from torch import Tensor, nn

from midflow.bench.clips import RATE
from midflow.bench.meter import MemoryPeak, Stopwatch
from midflow.bench.record import Stage
from midflow.interpolator import Interpolator
from midflow.job import Straight, open_file
from midflow.manifest import summarize
from midflow.options import VideoOptions
from midflow.painter import make_painter
from midflow.pipeline import Run, interpolate_video
from midflow.progress import Progress
from midflow.segments import Segments
from midflow.time_plan import TimePlan, plan_times
from midflow.video.encoders import EncoderPlan, plan_encoder
from midflow.video.frame import ClipInfo, Frame, Planes
from midflow.video.reader import VideoReader
from midflow.video.writer import VideoWriter
from midflow.workfolder import WorkFolder

Written = tuple[Planes, Fraction, Fraction | None]
"""What a writer is given: planes, time, duration."""


class Timed:
    """An interpolator whose calls are timed; to the painter it is one.

    Args:
        interpolator: does the work.
    """

    def __init__(self, interpolator: Interpolator) -> None:
        self._interpolator = interpolator
        self.seconds = 0.0
        """Inside the interpolator so far, in `encode` and calls."""
        self.painted = 0
        """Frames made so far."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._interpolator, name)

    def encode(self, img: Tensor) -> Any:
        """As `Interpolator.encode`."""
        started = perf_counter()
        encoded = self._interpolator.encode(img)
        self._stop(started)
        return encoded

    def __call__(self, img0: Any, img1: Any, timestep: Sequence[float]) -> Tensor:
        """As `Interpolator`."""
        started = perf_counter()
        frames = self._interpolator(img0, img1, timestep)
        self._stop(started)
        self.painted += len(frames)
        return frames

    def _stop(self, started: float) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.seconds += perf_counter() - started


class _Kept:
    """A writer that keeps what it is given."""

    path = Path("nowhere.mp4")

    def __init__(self, plan: EncoderPlan) -> None:
        self.encoder, self.color = plan.encoder, plan.color
        self.pixel_format = plan.planar_format
        self.items: list[Written] = []

    def write(self, planes: Planes, pts: Fraction, duration: Fraction | None = None) -> None:
        self.items.append((planes, pts, duration))


class Bench:
    """One clip, factor and set of options, to be measured stage by stage.

    Args:
        clip: the source.
        count: frames of it to take.
        factor: output frames for each input frame.
        options: of the job; the part of the clip and what stands at its end are set here.
    """

    def __init__(self, clip: Path, count: int, factor: Fraction, options: dict[str, Any]) -> None:
        self._clip = clip
        self._factor = factor
        self.options = VideoOptions(**options, duration=count / RATE, end="drop")

    def read(self) -> Iterator[Frame]:
        """The frames that are taken."""
        with VideoReader(self._clip, duration=self.options.duration) as reader:
            yield from reader

    def decode(self) -> Stage:
        """Reads them and lets them go."""
        with Stopwatch() as watch:
            count = sum(1 for _ in self.read())
        return watch.stage(count)

    def network(self, interpolator: Timed) -> tuple[Stage, list[Written]]:
        """Makes all output frames of frames that have been read, for nobody.

        Returns:
            The stage, and the output frames.
        """
        info, times = self._plan()
        frames = list(self.read())
        size = info.width, info.height
        plan = plan_encoder(self.options, "mp4", info.pixel_format, size, info.color, info.hdr)
        kept, painting = _Kept(plan), cast(Interpolator, interpolator)
        job = summarize(info, cast(VideoWriter, kept), painting, times.frame_rate)
        painter = make_painter(painting, info, kept.color, kept.pixel_format, self.options)
        straight = Straight(cast(VideoWriter, kept), times.schedule(info))
        run = Run(cast(VideoReader, frames), straight, painter, job, None, None)
        with Stopwatch() as watch:
            run.work()
        return watch.stage(len(kept.items)), kept.items

    def encode(self, items: Sequence[Written]) -> Stage:
        """Encodes output frames in segments, and joins these."""
        info, times = self._plan()
        with tempfile.TemporaryDirectory() as folder, Stopwatch() as watch:
            path = Path(folder) / "encoded.mp4"
            with (
                WorkFolder(path) as work,
                open_file(
                    path, info, times, self.options, work.joined.with_suffix(path.suffix)
                ) as writer,
            ):
                length = self.options.segment_frames
                schedule = times.schedule(info)
                with Segments(work, writer.settings, schedule, length) as segments:
                    for number, item in enumerate(items):
                        segments.write(number // length, *item, ())
                    segments.finish(len(items))
                    segments.join(writer)
        return watch.stage(len(items))

    def whole(self, model: nn.Module, device: torch.device) -> tuple[Stage, float, MemoryPeak]:
        """Runs `interpolate_video`.

        Returns:
            The stage, from before the first frame to the finished file; the seconds before that;
            and the memory taken.
        """
        began = Stopwatch()
        opened = perf_counter()
        opening: list[float] = []

        def on_progress(_: Progress) -> None:
            if not opening:
                opening.append(perf_counter() - opened)
                began.__enter__()

        with tempfile.TemporaryDirectory() as folder, MemoryPeak(device) as peak:
            opened = perf_counter()
            result = interpolate_video(
                self._clip,
                Path(folder) / "whole.mp4",
                factor=self._factor,
                model=model,
                options=self.options,
                on_progress=on_progress,
            )
            began.__exit__(None, None, None)
        return began.stage(result.frames_out), opening[0], peak

    def _plan(self) -> tuple[ClipInfo, TimePlan]:
        with VideoReader(self._clip, duration=self.options.duration) as reader:
            info = reader.info
        options = self.options
        return info, plan_times(
            info,
            fps=None,
            factor=self._factor,
            speed=options.exact_speed,
            end=options.end,
            vfr=options.vfr,
        )
