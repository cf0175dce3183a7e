"""Shows an evaluation: a table for the terminal, JSON, one HTML page, and a sheet of pictures."""

import base64
import html
import json
import tempfile
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from midflow.errors import OptionError
from midflow.evaluate.cases import ERROR_WHITE, Case, Painted
from midflow.evaluate.evaluation import Evaluation
from midflow.evaluate.lettering import caption
from midflow.evaluate.scores import METRICS
from midflow.video.image import write_image

_COLUMNS = ("input 0", "truth", "output", "error", "flow")
_CELL = 240  # width of a picture on the sheet, in pixels
_GAP = 4
_PAGE_WIDTH = 480  # pictures wider than this are reduced on the page
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem; color: #222; background: #fff }
table { border-collapse: collapse; margin: 1rem 0 }
th, td { padding: .25rem .8rem; text-align: right; border-bottom: 1px solid #ddd }
th:first-child, td:first-child { text-align: left }
.best { font-weight: 700 }
.case { overflow-x: auto } .case td { padding: 2px; border: 0; text-align: left; max-width: 300px }
.case img { width: 300px; display: block; image-rendering: pixelated }
.note { color: #666 }
"""


def format_table(evaluation: Evaluation) -> str:
    """The means, a line for each method; the best of a column is marked with *."""
    lines = [["", *(METRICS[m].label for m in evaluation.metrics)]]
    for method in evaluation.methods:
        cells = [_cell(evaluation, method, m) + _mark(evaluation, method, m)
                 for m in evaluation.metrics]  # fmt: skip
        lines.append([method, *cells])
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    text = [
        line[0].ljust(widths[0])
        + "".join(
            "  " + cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)
        )
        for line in lines
    ]
    return "\n".join([_heading(evaluation), *(line.rstrip() for line in text), *evaluation.notes])


def make_folder(folder: Path) -> None:
    """Creates the folder of a report.

    Raises:
        OptionError: it cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OptionError(f"{folder} cannot be created: {error.strerror}") from error


def write_report(evaluation: Evaluation, cases: list[Case], folder: Path) -> None:
    """report.json, report.html and worst.png in a folder, replacing earlier ones.

    Raises:
        OptionError: they cannot be written.
        VideoError: the picture cannot be written.
    """
    make_folder(folder)
    write_json(evaluation, folder / "report.json")
    write_html(evaluation, cases, folder / "report.html")
    write_sheet(cases, folder / "worst.png")


def write_json(evaluation: Evaluation, path: str | Path) -> None:
    """Everything an evaluation found, every frame included.

    Raises:
        OptionError: the file cannot be written.
    """
    _write(Path(path), json.dumps(evaluation.to_dict(), indent=1) + "\n")


def write_html(evaluation: Evaluation, cases: list[Case], path: str | Path) -> None:
    """One page with everything in it: means, each clip or scene, and the worst frames.

    Raises:
        OptionError: the file cannot be written.
    """
    with tempfile.TemporaryDirectory() as folder:
        pictures = "".join(_html_case(case, Path(folder)) for case in cases)
    title = html.escape(_heading(evaluation))
    notes = "".join(f"<p class=note>{html.escape(note)}</p>" for note in evaluation.notes)
    meanings = "".join(
        f"<p class=note>{METRICS[m].label}: {html.escape(METRICS[m].meaning)}; "
        f"{'higher' if METRICS[m].is_higher_better else 'lower'} is better</p>"
        for m in evaluation.metrics
    )
    page = (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title>"
        f"<style>{_STYLE}</style><h1>{title}</h1>{notes}"
        f"<h2>Means</h2>{_html_means(evaluation)}{meanings}"
        f"<h2>Worst frames</h2><p class=note>by {METRICS[evaluation.metrics[0]].label} of "
        f"{html.escape(next(iter(evaluation.methods)))}; error from black to white at "
        f"{ERROR_WHITE} levels; below each frame the window where it errs most</p>{pictures}"
        f"<h2>Each clip or scene</h2>{_html_groups(evaluation)}</html>"
    )
    _write(Path(path), page)


def write_sheet(cases: list[Case], path: str | Path) -> None:
    """The worst frames as one picture, a row for each method: whole frame, then the worst window.

    Raises:
        OptionError: there are no cases, or the file cannot be written.
    """
    if not cases:
        raise OptionError("a sheet needs at least one case, got none")
    titles = _row([caption(name, _CELL) for name in (*_COLUMNS, *_COLUMNS)])
    width = titles.shape[-1]
    rows = []
    for case in cases:
        rows += [caption(f"{case.name} t={case.timestep}", width, 3), titles]
        height = max(1, round(case.truth.shape[-2] * _CELL / case.truth.shape[-1]))
        for painted in case.painted:
            pictures = _pictures(case, painted)
            details = [None if p is None else case.detail(p) for p in pictures]
            cells = [_fit(picture, height) for picture in (*pictures, *details)]
            rows += [caption(f"{painted.name}: {_say(painted.scores)}", width), _row(cells)]
    gap = torch.ones(3, _GAP, width)
    sheet = torch.cat([part for row in rows for part in (row, gap)], 1)
    write_image(path, sheet.clamp(0, 1), overwrite=True)


def _say(scores: dict[str, float]) -> str:
    return ", ".join(f"{METRICS[m].label} {v:.{METRICS[m].digits}f}" for m, v in scores.items())


def _pictures(case: Case, painted: Painted) -> tuple[Tensor | None, ...]:
    """Of one method, in the order of the columns."""
    return case.img0, case.truth, painted.output, painted.error, painted.flow


def _row(cells: list[Tensor | None]) -> Tensor:
    """Pictures side by side; an absent one is grey."""
    shape = next(cell.shape for cell in cells if cell is not None)
    gap = torch.ones(3, shape[-2], _GAP)
    parts = []
    for cell in cells:
        parts += [torch.full(shape, 0.9) if cell is None else cell, gap]
    return torch.cat(parts[:-1], 2)


def _fit(picture: Tensor | None, height: int) -> Tensor | None:
    """(3, height, _CELL) of (1, 3, H, W): reduced by area, enlarged as squares."""
    if picture is None:
        return None
    mode = "area" if picture.shape[-1] > _CELL else "nearest"
    return F.interpolate(picture.float(), (height, _CELL), mode=mode)[0]


def _heading(evaluation: Evaluation) -> str:
    samples = {row.sample for row in evaluation.rows}
    frames = {(row.sample, row.timestep) for row in evaluation.rows}
    return f"{evaluation.dataset}: {len(samples)} samples, {len(frames)} frames"


def _cell(evaluation: Evaluation, method: str, metric: str) -> str:
    return f"{evaluation.mean(method, metric):.{METRICS[metric].digits}f}"


def _is_best(evaluation: Evaluation, method: str, metric: str) -> bool:
    values = {name: evaluation.mean(name, metric) for name in evaluation.methods}
    best = max if METRICS[metric].is_higher_better else min
    return len(values) > 1 and values[method] == best(values.values())


def _mark(evaluation: Evaluation, method: str, metric: str) -> str:
    return "*" if _is_best(evaluation, method, metric) else " "


def _html_means(evaluation: Evaluation) -> str:
    head = "".join(f"<th>{METRICS[m].label}</th>" for m in evaluation.metrics)
    body = ""
    for method in evaluation.methods:
        cells = "".join(
            f"<td{' class=best' * _is_best(evaluation, method, m)}>"
            f"{_cell(evaluation, method, m)}</td>"
            for m in evaluation.metrics
        )
        body += f"<tr><td>{html.escape(method)}</td>{cells}</tr>"
    return f"<table><tr><th></th>{head}</tr>{body}</table>"


def _html_groups(evaluation: Evaluation) -> str:
    """The first metric of every clip or scene by every method."""
    metric = evaluation.metrics[0]
    columns = {method: evaluation.groups(method, metric) for method in evaluation.methods}
    head = "".join(f"<th>{html.escape(method)}</th>" for method in columns)
    body = ""
    for group in next(iter(columns.values())):
        cells = "".join(
            f"<td>{values[group]:.{METRICS[metric].digits}f}</td>" for values in columns.values()
        )
        body += f"<tr><td>{html.escape(group)}</td>{cells}</tr>"
    return f"<table><tr><th>{METRICS[metric].label}</th>{head}</tr>{body}</table>"


def _html_case(case: Case, folder: Path) -> str:
    """Inputs and truth once, then what each method made of them."""

    def views(*pictures: Tensor | None) -> str:
        details = [None if p is None else case.detail(p) for p in pictures]
        return "".join(
            f"<tr>{''.join(_html_picture(cell, suffix, folder) for cell in cells)}</tr>"
            for cells, suffix in ((pictures, "jpg"), (details, "png"))
        )

    def heading(*names: str) -> str:
        return f"<tr>{''.join(f'<td>{name}</td>' for name in names)}</tr>"

    body = heading("input 0", "truth", "input 1") + views(case.img0, case.truth, case.img1)
    for painted in case.painted:
        name = html.escape(f"{painted.name}: {_say(painted.scores)}")
        body += heading(name, "error", "flow" * (painted.flow is not None))
        body += views(painted.output, painted.error, painted.flow)
    title = html.escape(f"{case.name}, t = {case.timestep}")
    return f"<h3>{title}</h3><table class=case>{body}</table>"


def _html_picture(picture: Tensor | None, suffix: str, folder: Path) -> str:
    """Whole frames as JPEG, details as PNG, so that the page stays small where it may."""
    if picture is None:
        return "<td></td>"
    if picture.shape[-1] > _PAGE_WIDTH:
        height = max(1, round(picture.shape[-2] * _PAGE_WIDTH / picture.shape[-1]))
        picture = F.interpolate(picture.float(), (height, _PAGE_WIDTH), mode="area")
    path = folder / f"picture.{suffix}"
    write_image(path, picture.clamp(0, 1), overwrite=True)
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    kind = {"jpg": "jpeg"}.get(suffix, suffix)
    return f'<td><img src="data:image/{kind};base64,{data}"></td>'


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OptionError(f"{path} cannot be written: {error.strerror}") from error
