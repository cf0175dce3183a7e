"""What the command line shows: progress and warnings on stderr, tables on stdout."""

import logging
import time
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bars
from rich.table import Column

from midflow.progress import format_seconds

if TYPE_CHECKING:
    from midflow.doctor import Report
    from midflow.download import Progress as Pulling
    from midflow.evaluate.evaluation import EvalProgress
    from midflow.interpolator import Interpolator
    from midflow.progress import Progress, VideoJob
    from midflow.train.journal import Progress as Training

_PARTS = 1000  # of a run, for its bar
_LINE_SECONDS = 10.0  # between lines where there is no terminal to draw a bar in


class Display:
    """Shows how a job comes along: a bar in a terminal, else a line now and then; and warnings.

    Args:
        is_quiet: show errors only.
    """

    def __init__(self, *, is_quiet: bool = False) -> None:
        self._is_quiet = is_quiet
        self._console = Console(stderr=True, highlight=False)
        self._bars = Bars(
            BarColumn(20),
            TextColumn("{task.description}", markup=False, table_column=Column(overflow="fold")),
            console=self._console,
            disable=is_quiet or not self._console.is_terminal,
        )
        self._task = self._bars.add_task("", total=None)
        self._job: VideoJob | None = None
        self._last_line = time.monotonic()
        self._handler = _ConsoleHandler(self._console)
        self._handler.setLevel(logging.ERROR if is_quiet else logging.WARNING)

    def __enter__(self) -> Self:
        logging.getLogger("midflow").addHandler(self._handler)
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bars.stop()
        logging.getLogger("midflow").removeHandler(self._handler)

    def say(self, text: str) -> None:
        """Prints a line above the bar."""
        if not self._is_quiet:
            self._console.print(text, markup=False, soft_wrap=True)

    def video(self, progress: "Progress") -> None:
        """Takes the progress of `interpolate_video`."""
        if progress.job != self._job:
            self._job = progress.job
            self.say(str(progress.job))
        self._show(progress.frames_done, progress.frames_total, str(progress))

    def pulling(self, progress: "Pulling") -> None:
        """Takes the progress of `download.pull`."""
        total = "?" if progress.total is None else f"{progress.total / 1e6:.1f}"
        text = f"{progress.name}: {progress.received / 1e6:.1f} of {total} MB from {progress.url}"
        self._show(progress.received, progress.total, text)

    def training(self, progress: "Training") -> None:
        """Takes the progress of `train`; its end is always shown."""
        from midflow.progress import format_seconds

        skipped = f", {progress.skipped} steps skipped" if progress.skipped else ""
        text = (
            f"step {progress.step} ({progress.share:.0%}), loss {progress.loss:.4f}, "
            f"{progress.psnr:.1f} dB, {progress.samples_per_second:.1f} samples/s, "
            f"{format_seconds(progress.eta_seconds)} left{skipped}"
        )
        self._show(round(_PARTS * progress.share), _PARTS, text, is_last=progress.share >= 1)

    def counted(self, what: str, done: int, total: int) -> None:
        """Takes what is counted before a run, or by `data check`."""
        self._show(done, total, f"{done}/{total} {what}")

    def pictures(self, done: int, total: int) -> None:
        """Takes the progress of `interpolate_folder`."""
        self._show(done, total, f"{done}/{total} pictures")

    def evaluation(self, progress: "EvalProgress") -> None:
        """Takes the progress of an evaluation."""
        eta = progress.eta_seconds
        left = "" if eta is None else f", {format_seconds(eta)} left"
        kept = f", {progress.resumed} from an earlier run" if progress.resumed else ""
        text = f"{progress.done}/{progress.total} samples{kept}{left}: {progress.sample}"
        self._show(progress.done, progress.total, text)

    def _show(self, done: int, total: int | None, text: str, *, is_last: bool = False) -> None:
        self._bars.update(self._task, completed=done, total=total, description=text)
        present = time.monotonic()
        if self._bars.disable and (is_last or present - self._last_line > _LINE_SECONDS):
            self._last_line = present
            self.say(text)


class _ConsoleHandler(logging.Handler):
    """Prints log records through a console, so that they do not tear its progress bar."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        text = f"{record.levelname.lower()}: {record.getMessage()}"
        self._console.print(text, markup=False, soft_wrap=True)


def describe(interpolator: "Interpolator") -> str:
    """Model, precision, backend and device, and why that device."""
    name = interpolator.model.release or type(interpolator.model).__name__
    where = f"{interpolator.backend} on {interpolator.device} ({interpolator.device_reason})"
    return f"model {name}, {interpolator.precision}, {where}"


def print_error(text: str) -> None:
    """Prints `midflow: text` to stderr."""
    Console(stderr=True, highlight=False).print(f"midflow: {text}", markup=False, soft_wrap=True)


def print_table(rows: Iterable[Sequence[str]]) -> None:
    """Prints aligned columns to stdout."""
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        _to_stdout("  ".join(cells).rstrip())


def print_line(text: str) -> None:
    """Prints a line to stdout."""
    _to_stdout(text)


def print_report(report: "Report") -> None:
    """Prints what `doctor` found, section by section."""
    for section in report.sections:
        _to_stdout(section.title, style="bold")
        missing = "[not there]" if section.is_optional else "[PROBLEM]"
        for finding in section.findings:
            mark = "" if finding.is_good else f" {missing}"
            _to_stdout(f"  {finding.name}: {finding.value}{mark}")
            if finding.advice:
                _to_stdout(f"    {finding.advice}")


def _to_stdout(text: str, style: str | None = None) -> None:
    console = Console(highlight=False)
    console.print(text, style=style, markup=False, soft_wrap=True)
