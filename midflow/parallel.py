"""Processes that make segments of one job side by side: as many as asked for, or one per device.

Each goes through the whole clip and makes the segments nobody else has claimed, so that they end
together however fast each of them is, and no process waits for another. The one that was called
records the source's frames and joins the segments, whose bytes do not depend on who made them.
"""

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from torch import nn

from midflow.dedup import open_reader
from midflow.errors import MidflowError, VideoError
from midflow.options import VideoOptions
from midflow.painter import make_painter
from midflow.progress import Progress, VideoJob
from midflow.segments import NO_LIMIT, Role, Segments
from midflow.time_plan import TimePlan
from midflow.video.frame import ColorSpec
from midflow.video.track import TrackSettings
from midflow.workfolder import WorkFolder

_POLL_SECONDS = 0.1
_FIELDS = 3  # of what a process tells: frames made, and frames/s of its network and its encoder


@dataclass(frozen=True)
class Part:
    """What a process needs to know of the job."""

    model: str | Path | nn.Module | None
    options: VideoOptions
    times: TimePlan
    settings: TrackSettings
    color: ColorSpec
    """Of the planes to make."""
    pixel_format: str
    """Of the planes to make."""
    job: VideoJob


def is_shared(options: VideoOptions, frames: int | None, length: int) -> bool:
    """Whether a job of so many output frames is one for several processes."""
    is_one_segment = length == NO_LIMIT or (frames is not None and frames <= length)
    return not is_one_segment and (options.workers > 1 or len(options.devices) > 1)


class Crew:
    """`with Crew(part) as crew: crew.wait(tell)`; leaving the `with` ends the processes.

    Args:
        part: the job.
    """

    def __init__(self, part: Part) -> None:
        options = part.options
        devices = options.devices or (options.device,) * options.workers
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        threads = max(1, (cores or 1) // len(devices))
        context = multiprocessing.get_context("spawn")  # torch and PyAV do not survive a fork
        self._told = context.Array("d", _FIELDS * len(devices))
        self._processes: list[BaseProcess] = []
        self._pipes: list[Connection] = []
        for number, device in enumerate(devices):
            here, there = context.Pipe()
            process = context.Process(
                target=_work, args=(part, device, threads, number, self._told, there), daemon=True
            )
            self._processes.append(process)
            self._pipes.append(here)
        self._theirs = there

    @property
    def frames(self) -> int:
        """Output frames made so far."""
        return int(sum(self._told[::_FIELDS]))

    @property
    def network_fps(self) -> float:
        """Frames per second of all networks together, while they work."""
        return float(sum(self._told[1::_FIELDS]))

    @property
    def encode_fps(self) -> float:
        """Frames per second of all encoders together, while they work."""
        return float(sum(self._told[2::_FIELDS]))

    def check(self) -> None:
        """See that all is well.

        Raises:
            BaseException: what a process raised.
            VideoError: a process was ended from outside.
        """
        for process, pipe in zip(self._processes, self._pipes, strict=True):
            try:
                if pipe.poll():
                    raise pipe.recv()
            except (EOFError, ConnectionError):
                pass
            if process.exitcode:
                raise VideoError(
                    f"a worker was ended from outside (exit code {process.exitcode}), perhaps for"
                    " lack of memory: give the same command again, with fewer workers"
                )

    def wait(self, tell: Callable[[], object]) -> None:
        """Wait until all segments are made, calling `tell` now and then.

        Raises:
            BaseException: as for `check`.
        """
        while alive := [process for process in self._processes if process.is_alive()]:
            wait([process.sentinel for process in alive], _POLL_SECONDS)
            self.check()
            tell()
        self.check()

    def __enter__(self) -> Self:
        for process in self._processes:
            process.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for process in self._processes:
            process.kill()
        for process, pipe in zip(self._processes, self._pipes, strict=True):
            process.join()
            pipe.close()


def _work(part: Part, device: str, threads: int, number: int, told: Any, pipe: Connection) -> None:
    """What a process does: segments, until there are none left."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the one that was called ends the others
    threading.Thread(target=_end_with_caller, args=(pipe,), daemon=True).start()
    logging.getLogger("midflow").addHandler(logging.NullHandler())  # it has said all that already
    torch.set_num_threads(threads)

    def tell(progress: Progress) -> None:
        rates = progress.rates
        fields = (progress.frames_done - progress.frames_kept, rates.network_fps, rates.encode_fps)
        told[number * _FIELDS : (number + 1) * _FIELDS] = fields

    try:
        _make_part(part, device, tell)
    except MidflowError as error:
        pipe.send(error)
    except BaseException as error:  # whatever it is, the caller must hear of it
        pipe.send(RuntimeError(f"a worker failed: {type(error).__name__}: {error}"))


def _make_part(part: Part, device: str, on_progress: Callable[[Progress], object]) -> None:
    from midflow import pipeline  # which imports this module

    options = part.options
    with open_reader(part.job.source, options) as reader:
        info = reader.info
        interpolator = pipeline.make_interpolator(part.model, options, device)
        painter = make_painter(interpolator, info, part.color, part.pixel_format, options)
        schedule, folder = part.times.schedule(info), WorkFolder(part.job.target)
        length = options.segment_frames
        with Segments(folder, part.settings, schedule, length, Role.WORKER) as segments:
            pipeline.Run(reader, segments, painter, part.job, None, on_progress).work()


def _end_with_caller(pipe: Connection) -> None:
    """Ends this process when the calling one is gone, however it went."""
    try:
        pipe.recv()
    except (EOFError, OSError):
        os._exit(1)
