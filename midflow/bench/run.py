"""Runs a benchmark: every size with every model, backend, precision and factor."""

import logging
import tempfile
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import product
from pathlib import Path
from time import perf_counter
from typing import Any

from torch import nn

from midflow.backends import AT_ONCE
from midflow.bench.clips import Clips
from midflow.bench.machine import describe_machine, usable_cores
from midflow.bench.options import FEWEST_FRAMES, BenchOptions
from midflow.bench.record import BenchReport, Case, Setting, Skipped
from midflow.bench.stages import Bench, Timed
from midflow.bench.startup import start_up_seconds
from midflow.device import choose_device
from midflow.errors import MidflowError, MissingExtraError, OptionError, VideoError
from midflow.nets.cache import find_weights
from midflow.nets.checkpoint import load_model
from midflow.nets.layout import build_network
from midflow.nets.releases import ALIASES, RELEASES
from midflow.pipeline import make_interpolator

log = logging.getLogger(__name__)

MOST_FRAMES = 120
_MOST_BYTES = 1 << 30  # of output frames that wait between the stages
_ENCODE_SECONDS = 60e-9  # of one core a pixel, roughly, to choose how many frames to take
_PROBE_FRAMES = 3

Models = dict[str, tuple[nn.Module, bool]]


def run(options: BenchOptions, on_progress: Callable[[str, int, int], object]) -> BenchReport:
    """Measures everything that is asked for.

    Args:
        options: what.
        on_progress: called with what comes next, how many runs are done, and of how many.

    Raises:
        OptionError: the device cannot be used, or a backend that was asked for not run the model.
        MissingExtraError: a backend that was asked for is not installed.
        UnknownModelError: no model has the name.
        CheckpointError: the weights cannot be used.
        VideoError: the clip cannot be read.
    """
    models = {name: _load(name) for name in options.models}
    settings = list(_settings(options))
    report = BenchReport(
        machine=describe_machine(options.device),
        pictures=options.clip.name if options.clip else "drawn",
        encoder=f"{options.codec} {options.preset or 'default preset'}",
    )
    with tempfile.TemporaryDirectory(prefix="midflow-bench-") as folder:
        clips = Clips(Path(folder), options.clip)
        on_progress("start-up", 0, len(settings))
        report.start_up.update(_start_up(clips, options))
        for done, (setting, factor) in enumerate(settings):
            on_progress(str(setting), done, len(settings))
            try:
                measured = _measure(clips, options, setting, factor, *models[setting.model])
            except MidflowError as error:
                is_wish = options.backends and isinstance(error, MissingExtraError | OptionError)
                if is_wish or isinstance(error, VideoError):
                    raise
                report.skipped.append(Skipped(setting, str(error)))
            else:
                report.cases.append(measured)
    on_progress("done", len(settings), len(settings))
    return report


def _load(name: str) -> tuple[nn.Module, bool]:
    """A network, and whether it has its weights; of a release that is not here they are random."""
    release = ALIASES.get(name, name)
    if release in RELEASES and find_weights(release) is None:
        log.warning("the weights of %s are not here: measured with random ones", name)
        return build_network(RELEASES[release].config), False
    return load_model(name), True


def _settings(options: BenchOptions) -> Iterator[tuple[Setting, Fraction]]:
    kind = choose_device(options.device)[0].type
    backends = options.backends or AT_ONCE.get(kind, ("torch",))
    by_size = product(options.sizes, options.models, backends, options.precisions)
    for (width, height), model, backend, precision in by_size:
        for factor in options.factors_at((width, height)):
            label = f"{float(factor):g}"
            yield Setting(width, height, model, backend, precision, label), factor


def _job_options(options: BenchOptions, setting: Setting) -> dict[str, Any]:
    """Fields of `VideoOptions`."""
    return {
        "device": options.device,
        "precision": setting.precision,
        "backend": setting.backend,
        "codec": options.codec,
        "preset": options.preset,
    }


def _start_up(clips: Clips, options: BenchOptions) -> dict[str, float]:
    size = min(options.sizes, key=lambda size: size[0] * size[1])
    words = ["--device", options.device, "--backend", (*options.backends, "auto")[0]]
    if find_weights(options.models[0]) or Path(options.models[0]).exists():
        words += ["--model", options.models[0]]
    return start_up_seconds(clips.get(size, _PROBE_FRAMES), size, words)


def _measure(
    clips: Clips,
    options: BenchOptions,
    setting: Setting,
    factor: Fraction,
    model: nn.Module,
    has_weights: bool,
) -> Case:
    size = setting.width, setting.height
    job = _job_options(options, setting)
    short = Bench(clips.get(size, _PROBE_FRAMES), _PROBE_FRAMES, factor, job)
    interpolator = make_interpolator(model, short.options, options.device)
    started = perf_counter()
    short.network(Timed(interpolator))
    first = (perf_counter() - started) / (_PROBE_FRAMES - 1)
    count = options.frames or _count(short, Timed(interpolator), size, factor, options.seconds)
    bench = Bench(clips.get(size, count), count, factor, job)
    timed = Timed(interpolator)
    decode = bench.decode()
    network, items = bench.network(timed)
    encode = bench.encode(items)
    settings, device = str(interpolator.settings), interpolator.device
    painted, painting_seconds = timed.painted, timed.seconds
    items.clear()
    del interpolator, timed  # and their memory: the whole has its own
    whole, opening, peak = bench.whole(model, device)
    return Case(
        setting=setting,
        settings=settings,
        has_weights=has_weights,
        device=str(device),
        cores=usable_cores(),
        frames_in=decode.frames,
        painted=painted,
        decode=decode,
        network=network,
        model_seconds=painting_seconds,
        encode=encode,
        whole=whole,
        opening_seconds=opening,
        first_pair_seconds=first,
        peak_memory_mb=peak.host_mb,
        peak_gpu_mb=peak.gpu_mb,
    )


def _count(
    short: Bench, timed: Timed, size: tuple[int, int], factor: Fraction, seconds: float
) -> int:
    """Input frames whose painting and encoding take about `seconds` each, by a second probe."""
    stage, _ = short.network(timed)
    pixels = size[0] * size[1]
    encode = float(factor) * pixels * _ENCODE_SECONDS / usable_cores()
    count = seconds / max(stage.seconds / (_PROBE_FRAMES - 1), encode)
    room = _MOST_BYTES / (1.5 * pixels * float(factor))
    return max(FEWEST_FRAMES, min(round(count), int(room), MOST_FRAMES))
