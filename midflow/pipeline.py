"""The only loop over a video: decode -> schedule -> scenes -> interpolate -> encode.

Decoding and encoding have a thread each; painting stays on the caller's. Queues between them are
bounded in bytes and at most three decoded frames are kept, so memory does not grow with the clip.
"""

import logging
import time
from collections.abc import Callable, Iterable
from fractions import Fraction
from itertools import groupby, islice
from pathlib import Path

from torch import nn

from midflow.interpolator import Interpolator
from midflow.nets.checkpoint import load_model
from midflow.options import VideoOptions
from midflow.painter import Painter, Picture
from midflow.progress import Progress, Rates, VideoJob, VideoResult
from midflow.rgba import warn_of_lost_alpha
from midflow.schedule import OutputFrame, Rate, ntsc_rate, rate_label
from midflow.time_plan import TimePlan, plan_times
from midflow.video.frame import Frame, Planes
from midflow.video.reader import VideoReader
from midflow.video.writer import VideoWriter
from midflow.workers import Feed, Sink

log = logging.getLogger(__name__)

QUEUE_BYTES = 64 << 20  # of decoded frames waiting, and as much of painted ones
_REPORT_SECONDS = 0.1  # between two calls of on_progress
_WRITABLE = (".mp4", ".m4v", ".mkv", ".mov", ".webm")  # kept for an output that is not named


def interpolate_video(
    source: str | Path,
    target: str | Path | None = None,
    *,
    fps: Rate | None = None,
    factor: Rate | None = None,
    model: str | Path | nn.Module | None = None,
    options: VideoOptions | None = None,
    on_progress: Callable[[Progress], object] | None = None,
) -> VideoResult:
    """Writes a clip at another frame rate, its speed and all its other streams unchanged.

    The output has a constant rate: frame k stands exactly k / rate seconds after the first. There
    are `round(duration * rate)` frames, halves rounded up; after the last frame of the source, that
    frame is held. The options change each of these: `speed`, `vfr`, `end`. A file is either whole
    or, after an error or Ctrl-C, not there.

    Args:
        source: the clip.
        target: the output; None for `name.60fps.mp4` beside the source, with the rate it gets and
            the source's container where that is common.
        fps: frames per second of the output: 60, "59.94" (exactly 5994/100), "60000/1001".
        factor: or the multiple of the source's average rate, at least 1. If neither is given it is
            2, or 1 where `options.speed` is not 1.
        model: as for `midflow.load_model`, or a network.
        options: everything else.
        on_progress: called before the first frame, then up to ten times a second, and at the end.
            What it raises ends the job.

    Raises:
        VideoError: the source cannot be read, or the target not be written.
        OptionError: an option is outside its range, or the network or the encoder does not take it.
        UnknownModelError: no model has the name.
        CheckpointError: the weights cannot be used.
    """
    started = time.perf_counter()
    options = options or VideoOptions()
    with VideoReader(source, options.start, options.duration, options.deinterlace) as reader:
        info = reader.info
        times = plan_times(
            info,
            fps=fps,
            factor=factor,
            speed=options.exact_speed,
            end=options.end,
            vfr=options.vfr,
        )
        rate = times.frame_rate
        if fps is not None and (exact := ntsc_rate(rate)):
            log.warning("fps %s is taken literally; the rate of NTSC video is %s", fps, exact)
        named = default_target(Path(source), rate, times.speed)
        path = named if target is None else Path(target)
        with VideoWriter(
            path,
            info,
            info.width,
            info.height,
            rate,
            None,
            info.pixel_format,
            options,
            times.time_base,
        ) as writer:
            warn_of_lost_alpha(info, writer.encoder, writer.pixel_format)
            interpolator = _interpolator(model, options)
            run = _Run(reader, writer, interpolator, times, options, on_progress)
            run.work()
    return run.result(time.perf_counter() - started)


def default_target(source: Path, rate: Fraction, speed: Fraction = Fraction(1)) -> Path:
    """`clip.mkv` at 60 frames/s -> `clip.60fps.mkv`; containers few write become mp4.

    At another speed it is told too: `clip.0.25x.60fps.mkv`.
    """
    suffix = source.suffix if source.suffix.lower() in _WRITABLE else ".mp4"
    pace = "" if speed == 1 else f".{rate_label(speed)}x"
    return source.with_name(f"{source.stem}{pace}.{rate_label(rate)}fps{suffix}")


def _interpolator(model: str | Path | nn.Module | None, options: VideoOptions) -> Interpolator:
    return Interpolator(
        model if isinstance(model, nn.Module) else load_model(model),
        device=options.device,
        precision=options.precision,
        flow_scale=options.flow_scale,
        ensemble=options.ensemble,
        tta=options.tta,
        protect=options.protect,
        tile=options.tile,
    )


class _Run:
    """One job on its way."""

    def __init__(
        self,
        reader: VideoReader,
        writer: VideoWriter,
        interpolator: Interpolator,
        times: TimePlan,
        options: VideoOptions,
        on_progress: Callable[[Progress], object] | None,
    ) -> None:
        info = reader.info
        self._reader = reader
        self._on_progress = on_progress
        self._job = _describe(reader, writer, interpolator, times.frame_rate)
        self._schedule = times.schedule(info)
        self._painter = Painter(
            interpolator,
            info,
            writer.color,
            writer.pixel_format,
            scene_threshold=options.scene_threshold,
            scene_fill=options.scene_fill,
        )
        self._pictures: dict[int, Picture] = {}
        self._feed: Feed[Frame] = Feed(reader, lambda frame: _bytes(frame.data), QUEUE_BYTES)
        self._sink: Sink[tuple[Planes, Fraction, Fraction | None]] = Sink(
            lambda item: writer.write(*item), lambda item: _bytes(item[0]), QUEUE_BYTES
        )
        self._painting_seconds = 0.0
        self._done = 0
        self._total = times.frame_count(info)
        self._started = self._reported = time.perf_counter()

    def work(self) -> None:
        """Makes every frame."""
        self._report(is_due=True)
        last_duration = Fraction(0)
        with self._feed as frames, self._sink:
            for index, frame in enumerate(frames):
                self._pictures[index] = self._painter.picture(frame)
                self._make(self._schedule.add(frame.pts))
                self._forget()
                last_duration = frame.duration
            self._make(self._schedule.finish(last_duration))
        self._report(is_due=True)

    def result(self, seconds: float) -> VideoResult:
        """What has been done, in `seconds`."""
        return VideoResult(
            job=self._job,
            frames_in=self._feed.count,
            frames_out=self._sink.count,
            seconds=seconds,
            cuts=tuple(self._painter.cuts),
            damaged=self._reader.damaged,
            rates=self._rates(),
        )

    def _make(self, outputs: Iterable[OutputFrame]) -> None:
        for (left, right), frames in groupby(outputs, lambda output: (output.left, output.right)):
            while batch := list(islice(frames, self._painter.batch)):
                started = time.perf_counter()
                images = self._images(self._pictures[left], self._pictures[right], batch)
                self._painting_seconds += time.perf_counter() - started
                for planes, output in zip(images, batch, strict=True):
                    self._sink.put((planes, output.pts, output.duration))
                self._done += len(batch)
                self._report()

    def _images(self, left: Picture, right: Picture, batch: list[OutputFrame]) -> list[Planes]:
        if left is right:
            return [self._painter.keep(left)] * len(batch)
        return list(self._painter.paint(left, right, [output.timestep for output in batch]))

    def _forget(self) -> None:
        for index in [index for index in self._pictures if not self._schedule.needs(index)]:
            del self._pictures[index]

    def _rates(self) -> Rates:
        return Rates(
            decode_fps=_rate(self._feed.count, self._feed.busy_seconds),
            network_fps=_rate(self._done, self._painting_seconds),
            encode_fps=_rate(self._sink.count, self._sink.busy_seconds),
        )

    def _report(self, *, is_due: bool = False) -> None:
        present = time.perf_counter()
        if self._on_progress is None or not (is_due or present - self._reported > _REPORT_SECONDS):
            return
        self._reported = present
        total = self._total and max(self._total, self._done)
        self._on_progress(
            Progress(self._job, self._done, total, present - self._started, self._rates())
        )


def _describe(
    reader: VideoReader, writer: VideoWriter, interpolator: Interpolator, rate: Fraction
) -> VideoJob:
    info, model = reader.info, interpolator.model
    return VideoJob(
        source=info.path,
        target=writer.path,
        width=info.width,
        height=info.height,
        source_rate=info.frame_rate,
        frame_rate=rate,
        model=getattr(model, "release", None) or type(model).__name__,
        device=str(interpolator.device),
        device_reason=interpolator.device_reason,
        backend="torch",
        precision=interpolator.precision,
        encoder=writer.encoder,
        pixel_format=writer.pixel_format,
    )


def _bytes(planes: Planes) -> int:
    return sum(plane.nbytes for plane in planes)


def _rate(count: int, seconds: float) -> float:
    return count / seconds if seconds else 0.0
