"""The only loop over a video: decode -> schedule -> scenes -> interpolate -> encode.

Decoding and encoding have a thread each; painting stays on the caller's. Queues between them are
bounded in bytes and at most three decoded frames are kept, so memory does not grow with the clip.
"""

import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from fractions import Fraction
from itertools import groupby, islice
from pathlib import Path

from torch import nn

from midflow.cut_list import write_cuts
from midflow.dedup import open_reader
from midflow.interpolator import Interpolator
from midflow.job import Straight, open_file, open_writer
from midflow.manifest import describe_job, summarize
from midflow.naming import default_target
from midflow.nets.checkpoint import load_model
from midflow.options import NETWORK_OPTIONS, VideoOptions
from midflow.painter import Painter, Picture, make_painter
from midflow.parallel import Crew, Part, is_shared
from midflow.progress import Progress, Rates, VideoJob, VideoResult, per_second
from midflow.schedule import OutputFrame, Rate, ntsc_rate
from midflow.segments import NO_LIMIT, Role, Segments
from midflow.time_plan import TimePlan, plan_times
from midflow.timeline import read_from
from midflow.video.device_copies import Download
from midflow.video.frame import Frame, byte_size
from midflow.video.output import check_target
from midflow.video.pipe_input import is_pipe
from midflow.video.reader import VideoReader
from midflow.video.segment import ONE_PIECE
from midflow.video.writer import container_format
from midflow.workers import Feed, Sink
from midflow.workfolder import WorkFolder

log = logging.getLogger(__name__)

QUEUE_BYTES = 64 << 20  # of decoded frames waiting, and as much of painted ones
_REPORT_SECONDS = 0.1  # between two calls of on_progress


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
    or not there; after an error, Ctrl-C or a crash the same call goes on where it stopped.

    Args:
        source: the clip; "-" for standard input.
        target: the output; "-" for standard output; a folder for `name.60fps.mp4` in it, with the
            rate it gets and the source's container where that is common; None for the same beside
            the source.
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
    with open_reader(source, options) as reader:
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
        if is_pipe(source) or is_pipe(target):
            with open_writer(target, info, times, options) as stream:
                interpolator = make_interpolator(model, options, options.device)
                job = summarize(info, stream, interpolator, rate)
                painter = make_painter(
                    interpolator, info, stream.color, stream.pixel_format, options
                )
                straight = Straight(stream, times.schedule(info))
                run = Run(reader, straight, painter, job, times.frame_count(info), on_progress)
                run.work()
        else:
            named = default_target(Path(source), rate, times.speed)
            path = named if target is None else Path(target)
            path = path / named.name if os.path.isdir(path) else path
            run = _in_segments(reader, path, times, model, options, on_progress)
    result = run.result(time.perf_counter() - started)
    if options.write_cuts:
        write_cuts(options.write_cuts, result.cuts)
    return result


def _in_segments(
    reader: VideoReader,
    path: Path,
    times: TimePlan,
    model: str | Path | nn.Module | None,
    options: VideoOptions,
    on_progress: Callable[[Progress], object] | None,
) -> "Run":
    """A job to a file, kept in segments until it is whole."""
    info, rate = reader.info, times.frame_rate
    container_format(path)
    check_target(path, options.overwrite, info.path)
    with (
        WorkFolder(path) as folder,
        open_file(path, info, times, options, folder.joined.with_suffix(path.suffix)) as writer,
    ):
        device = options.devices[0] if options.devices else options.device
        interpolator = make_interpolator(model, options, device)
        job = summarize(info, writer, interpolator, rate)
        wish = {"frame rate": rate, "encoder": f"{writer.encoder} {writer.pixel_format}"}
        described = describe_job(info.path, wish, options, interpolator)
        folder.begin(described, restart=options.restart)
        painter = make_painter(interpolator, info, writer.color, writer.pixel_format, options)
        length = NO_LIMIT if writer.encoder in ONE_PIECE else options.segment_frames
        total = times.frame_count(info)
        part = Part(model, options, times, writer.settings, writer.color, writer.pixel_format, job)
        crew = Crew(part) if is_shared(options, total, length) else None
        role = Role.CALLER if crew else Role.ALONE
        with Segments(folder, writer.settings, times.schedule(info), length, role) as segments:
            run = Run(reader, segments, painter, job, total, on_progress, crew)
            run.work()
            segments.join(writer)
    return run


def make_interpolator(
    model: str | Path | nn.Module | None, options: VideoOptions, device: str
) -> Interpolator:
    """The network that a job asks for, on a device."""
    given = {name: getattr(options, name) for name in NETWORK_OPTIONS}
    network = model if isinstance(model, nn.Module) else load_model(model)
    return Interpolator(network, device=device, **given)


class Run:
    """The way through a clip: every output frame of the segments that are still to be made."""

    def __init__(
        self,
        reader: VideoReader,
        segments: Segments | Straight,
        painter: Painter,
        job: VideoJob,
        total: int | None,
        on_progress: Callable[[Progress], object] | None,
        crew: Crew | None = None,
    ) -> None:
        self._reader = reader
        self._crew = crew
        self._segments = segments
        self._painter = painter
        self._job = job
        self._on_progress = on_progress
        self._start = start = segments.find_start()
        self._schedule = start.schedule
        self._number = start.number  # of the next output frame
        self._frames_in = start.index
        self._pictures: dict[int, Picture] = {}
        frames = read_from(reader, start)
        self._feed: Feed[Frame] = Feed(frames, lambda frame: byte_size(frame.data), QUEUE_BYTES)
        self._sink: Sink[tuple[int, Download, Fraction, Fraction | None, Sequence[Fraction]]]
        self._sink = Sink(
            lambda item: segments.write(item[0], item[1].wait(), *item[2:]),
            lambda item: item[1].nbytes,
            QUEUE_BYTES,
        )
        self._painting_seconds = 0.0
        self._painted = 0
        self._segment, self._first_cut = -1, 0
        self._total = total
        self._started = self._reported = time.perf_counter()

    def work(self) -> None:
        """Makes every frame that is missing."""
        self._report(is_due=True)
        last_duration = Fraction(0)
        if self._start.index and self._schedule.needs(0):
            self._pictures[0] = self._painter.picture(next(iter(self._reader)))
        with self._feed as frames, self._sink, self._crew or nullcontext():
            for index, frame in enumerate(frames, self._start.index):
                self._frames_in = index + 1
                self._pictures[index] = self._painter.picture(frame)
                self._segments.see(index, frame)
                self._make(self._schedule.add(frame.pts))
                self._forget()
                last_duration = frame.duration
                if self._crew:
                    self._crew.check()
                    self._report()
            self._make(self._schedule.finish(last_duration))
            if self._crew:
                self._crew.wait(self._report)
        self._segments.finish(self._number)
        self._report(is_due=True)

    def result(self, seconds: float) -> VideoResult:
        """What has been done, in `seconds`."""
        return VideoResult(
            job=self._job,
            frames_in=self._frames_in,
            frames_out=self._number,
            seconds=seconds,
            cuts=self._segments.cuts,
            damaged=self._reader.damaged,
            rates=self._rates(),
        )

    def _make(self, outputs: Iterable[OutputFrame]) -> None:
        """Paints what is lacking; a batch never reaches across a pair of frames or a segment."""
        for (segment, left, right), group in groupby(
            self._numbered(outputs), lambda item: (item[0], item[1].left, item[1].right)
        ):
            if not self._segments.lacks(segment):
                continue
            if segment != self._segment:
                self._segment, self._first_cut = segment, len(self._painter.cuts)
            frames = (output for _, output in group)
            while batch := list(islice(frames, self._painter.batch)):
                started = time.perf_counter()
                images = self._images(self._pictures[left], self._pictures[right], batch)
                self._painting_seconds += time.perf_counter() - started
                cuts = self._painter.cuts[self._first_cut :]
                for planes, output in zip(images, batch, strict=True):
                    self._sink.put((segment, planes, output.pts, output.duration, cuts))
                self._painted += len(batch)
                self._report()

    def _numbered(self, outputs: Iterable[OutputFrame]) -> Iterator[tuple[int, OutputFrame]]:
        """Each with the segment it belongs to."""
        for output in outputs:
            yield self._number // self._segments.length, output
            self._number += 1

    def _images(self, left: Picture, right: Picture, batch: list[OutputFrame]) -> list[Download]:
        if left is right:
            return [self._painter.keep(left)] * len(batch)
        return list(self._painter.paint(left, right, [output.timestep for output in batch]))

    def _forget(self) -> None:
        for index in [index for index in self._pictures if not self._schedule.needs(index)]:
            del self._pictures[index]

    def _rates(self) -> Rates:
        if self._crew:
            decode_fps = per_second(self._feed.count, self._feed.busy_seconds)
            return Rates(decode_fps, self._crew.network_fps, self._crew.encode_fps)
        return Rates(
            decode_fps=per_second(self._feed.count, self._feed.busy_seconds),
            network_fps=per_second(self._painted, self._painting_seconds),
            encode_fps=per_second(self._sink.count, self._sink.busy_seconds),
        )

    def _report(self, *, is_due: bool = False) -> None:
        present = time.perf_counter()
        if self._on_progress is None or not (is_due or present - self._reported > _REPORT_SECONDS):
            return
        self._reported = present
        painted = self._crew.frames if self._crew else self._painted
        done = self._segments.kept_frames + painted
        total = self._total and max(self._total, done)
        seconds, kept = present - self._started, self._segments.kept_frames
        self._on_progress(Progress(self._job, done, total, seconds, self._rates(), kept))
