"""One evaluation from its options to its report: what `midflow eval` does."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from midflow.errors import MissingExtraError, OptionError
from midflow.evaluate.baselines import check_baseline, installed_baselines, open_baseline
from midflow.evaluate.benchmarks import BENCHMARKS, find_benchmarks, open_benchmark
from midflow.evaluate.cases import find_worst
from midflow.evaluate.clips import FACTORS, open_clips
from midflow.evaluate.dataset import Dataset
from midflow.evaluate.evaluation import EvalProgress, Evaluation, Method, evaluate
from midflow.evaluate.hard import open_hard
from midflow.evaluate.report import make_folder, write_report
from midflow.evaluate.scores import check_metrics

CLIPS, HARD = "clips", "hard"
DATASETS = (CLIPS, HARD, *BENCHMARKS)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvalOptions:
    """What `run` evaluates on, and how."""

    folder: Path | None = None
    """Where the dataset lies; None for `hard`."""
    dataset: str = CLIPS
    """`clips` for any folder of videos, `hard` for scenes that are drawn, or the name of a
    published set in `BENCHMARKS`."""
    factor: int = 2
    """Clips: one frame of this many is kept; 2, 4 or 8."""
    per_clip: int | None = 4
    """Clips: samples of each clip; None for every run of frames, end to end."""
    metrics: tuple[str, ...] = ()
    """Names of `scores.METRICS`; empty for those the papers report on the dataset."""
    baselines: tuple[str, ...] | None = None
    """Among `average` and `dis`; None for every one that is installed."""
    limit: int | None = None
    """Evaluate this many samples, spread evenly over the set; None for all."""
    records: Path | None = None
    """JSON-lines file of finished samples, from which a stopped run goes on; None: records.jsonl
    in the folder of the report."""
    report: Path | None = None
    """Folder for report.html, report.json and worst.png; None writes none."""
    worst: int = 5
    """Frames in the report: those the first method paints worst, one of each clip or scene."""

    def __post_init__(self) -> None:
        if self.dataset not in DATASETS:
            raise OptionError(f"dataset must be one of {', '.join(DATASETS)}, got {self.dataset!r}")
        if self.folder is None and self.dataset != HARD:
            raise OptionError(f"dataset {self.dataset} is read from a folder: say which")
        if self.folder is not None and self.dataset == HARD:
            raise OptionError(f"dataset hard is drawn: leave the folder out, got {self.folder}")
        if self.factor not in FACTORS:
            raise OptionError(f"factor must be one of {FACTORS}, got {self.factor = }")
        for name, value in (("per_clip", self.per_clip), ("limit", self.limit)):
            if value is not None and value < 1:
                raise OptionError(f"{name} must be at least 1, got {value}")
        if self.worst < 1:
            raise OptionError(f"worst must be at least 1, got {self.worst}")
        for name in self.baselines or ():
            check_baseline(name)
        check_metrics(self.metrics)

    @property
    def record_file(self) -> Path | None:
        """Where finished samples are kept; None where they are not."""
        if self.records is None and self.report is not None:
            return self.report / "records.jsonl"
        return self.records


def open_dataset(options: EvalOptions) -> Dataset:
    """The dataset that options name.

    Raises:
        OptionError: it is not there, or laid out in another way.
        VideoError: a clip cannot be read.
    """
    if options.folder is None:
        dataset = open_hard()
    elif options.dataset == CLIPS:
        dataset = _open_clips(options.folder, options)
    else:
        dataset = open_benchmark(options.dataset, options.folder)
    return dataset.spread(options.limit)


def _open_clips(folder: Path, options: EvalOptions) -> Dataset:
    try:
        return open_clips(folder, options.factor, options.per_clip)
    except OptionError as error:
        names = find_benchmarks(folder)
        if not names:
            raise
        raise OptionError(f"{error}\nthis looks like dataset {' or '.join(names)}") from error


def with_baselines(methods: Mapping[str, Method], options: EvalOptions) -> dict[str, Method]:
    """Methods, followed by the baselines that options name.

    Raises:
        OptionError: there is no baseline of a name, or a model has the name of one.
        MissingExtraError: one needs a package that is not installed.
    """
    baselines: Mapping[str, Method]
    if options.baselines is None:
        baselines = installed_baselines()
        if "dis" not in baselines:
            log.warning("DIS flow is left out: %s", MissingExtraError("OpenCV", "eval"))
    else:
        baselines = {name: open_baseline(name) for name in options.baselines}
    if taken := methods.keys() & baselines.keys():
        raise OptionError(f"{taken.pop()!r} is a baseline: give the model another name")
    return {**methods, **baselines}


def run(
    options: EvalOptions,
    methods: Mapping[str, Method],
    on_progress: Callable[[EvalProgress], None] | None = None,
) -> Evaluation:
    """Evaluates methods and baselines as options say, and writes the report.

    Raises:
        OptionError: the dataset is not as expected, or the report cannot be written.
        VideoError: a frame cannot be read.
        MissingExtraError: a baseline or metric needs a package that is not installed.
        MidflowError: a method gives a frame of another size, or values that are not finite.
    """
    dataset = open_dataset(options)
    compared = with_baselines(methods, options)
    if options.report is not None:
        make_folder(options.report)  # before hours of work, not after
    evaluation = evaluate(
        compared,
        dataset,
        metrics=options.metrics,
        records=options.record_file,
        on_progress=on_progress,
    )
    if options.report is not None:
        write_report(
            evaluation, find_worst(evaluation, compared, dataset, options.worst), options.report
        )
    return evaluation
