"""A benchmark as tables for people and as a picture."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from midflow.bench.record import BenchReport, Case
from midflow.diagram import Canvas, Curve, draw_panel, write_panels
from midflow.errors import OptionError

_HEADINGS = (
    "size", "x", "model", "backend", "precision", "frames", "decode ms", "network ms", "model ms",
    "encode ms", "whole ms", "whole frames/s", "bound", "share", "memory MB", "GPU MB",
)  # fmt: skip
_BUSY = 0.5  # threads at work in the minute before, from which on figures are in doubt
LEGEND = (
    "frames: input frames taken. decode ms: an input frame; network, encode and whole ms: an "
    "output frame, colour conversion included; model ms: the network alone, a painted frame. "
    "bound: the slowest stage alone, or cores where all stages' processor seconds over the "
    "cores are more; share: that bound over the time of the whole."
)


def table(report: BenchReport) -> list[tuple[str, ...]]:
    """Rows of text, the first of them headings; the column of the GPU where one was used."""
    rows = [_HEADINGS, *map(_row, report.cases)]
    has_gpu = any(case.peak_gpu_mb is not None for case in report.cases)
    return [row if has_gpu else row[:-1] for row in rows]


def heading(report: BenchReport) -> str:
    """Which machine it was."""
    facts = report.machine
    gpu = f", {facts['gpu']}" if facts["gpu"] else ""
    commit = f" ({facts['commit']})" if facts["commit"] else ""
    return (
        f"{facts['processor']}, {facts['cores']} cores{gpu}; midflow {facts['midflow']}{commit}, "
        f"torch {facts['torch']}, av {facts['av']}; {report.pictures} pictures, {report.encoder}"
    )


def warning(report: BenchReport) -> str | None:
    """Says so where others were at work before the benchmark began."""
    load = report.machine["load_average"]
    if load is None or load < _BUSY:
        return None
    return (
        f"{load:.1f} threads were at work on this machine before the benchmark began: its figures "
        "hold for a machine as busy"
    )


def start_up(report: BenchReport) -> str:
    """Start-up times in a line."""
    parts = (f"{name} {seconds:.2f} s" for name, seconds in report.start_up.items())
    return "start-up: " + ", ".join(parts)


def skipped(report: BenchReport) -> list[str]:
    """A line for each run that was not possible."""
    return [f"skipped {skipped.setting}: {skipped.reason}" for skipped in report.skipped]


def draw(report: BenchReport, picture: Path) -> Path:
    """Draws milliseconds a frame against pixels, and a pair of input frames against the factor.

    Args:
        report: of one case at least.
        picture: .png, .jpg or .webp; replaced if there.

    Returns:
        `picture`.

    Raises:
        OptionError: nothing could be measured.
        VideoError: the picture cannot be written.
    """
    if not report.cases:
        raise OptionError("nothing could be measured, so that there is nothing to draw")
    return write_panels(panels(report.cases), picture)


def panels(cases: Sequence[Case]) -> list[Canvas]:
    """The diagrams of `draw`."""
    common = min({case.setting.factor for case in cases}, key=lambda factor: _rank(factor, cases))
    at_one = [case for case in cases if case.setting.factor == common]
    smallest = min(_pixels(case) for case in cases)
    at_size = [case for case in cases if _pixels(case) == smallest]
    alike = [case for case in at_one if _name(case) == _name(at_one[0])]
    stages = [
        *_curves(at_one, _pixels, lambda case: case.model_ms),
        *_curves(alike, _pixels, lambda case: case.decode.ms, "decode"),
        *_curves(alike, _pixels, lambda case: case.encode.ms, "encode"),
    ]
    whole = _curves(at_one, _pixels, lambda case: case.whole.ms)
    by_factor = _curves(at_size, _factor, _ms_of_input)
    size = f"{at_size[0].setting.width} x {at_size[0].setting.height}"
    return [
        draw_panel(stages, "ms a painted frame by megapixels", from_zero=True),
        draw_panel(whole, f"x{common} whole: ms an output frame by megapixels", from_zero=True),
        draw_panel(by_factor, f"{size} whole: ms an input frame by factor", from_zero=True),
    ]


def _row(case: Case) -> tuple[str, ...]:
    setting = case.setting
    return (
        f"{setting.width}x{setting.height}",
        setting.factor,
        setting.model + ("" if case.has_weights else " (random)"),
        setting.backend,
        setting.precision,
        str(case.frames_in),
        f"{case.decode.ms:.1f}",
        f"{case.network.ms:.1f}",
        f"{case.model_ms:.1f}",
        f"{case.encode.ms:.1f}",
        f"{case.whole.ms:.1f}",
        f"{case.whole.fps:.2f}",
        case.bound,
        f"{case.share:.0%}",
        "?" if case.peak_memory_mb is None else f"{case.peak_memory_mb:.0f}",
        "-" if case.peak_gpu_mb is None else f"{case.peak_gpu_mb:.0f}",
    )


def _curves(
    cases: Iterable[Case],
    x: Callable[[Case], float],
    y: Callable[[Case], float],
    name: str | None = None,
) -> list[Curve]:
    """A curve for each model, backend and precision."""
    points: dict[str, list[tuple[float, float]]] = {}
    for case in cases:
        points.setdefault(name or _name(case), []).append((x(case), y(case)))
    return [Curve(name, tuple(sorted(line))) for name, line in points.items()]


def _name(case: Case) -> str:
    setting = case.setting
    return f"{Path(setting.model).stem} {setting.backend} {setting.precision}".lower()


def _pixels(case: Case) -> float:
    return case.setting.width * case.setting.height / 1e6


def _factor(case: Case) -> float:
    return float(case.setting.factor)


def _ms_of_input(case: Case) -> float:
    return 1000 * case.whole.seconds / case.frames_in


def _rank(factor: str, cases: Sequence[Case]) -> tuple[int, float]:
    """The factor that was measured at most sizes first."""
    return -sum(case.setting.factor == factor for case in cases), float(factor)
