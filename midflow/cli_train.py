"""The commands around training: `midflow train` and `midflow data check`."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from midflow import arguments_train as args
from midflow.arguments import Device, Json, Quiet
from midflow.display import Display, print_line, print_table
from midflow.errors import OptionError

if TYPE_CHECKING:
    from midflow.train.batch import Material
    from midflow.train.config import TrainConfig
    from midflow.train.inspect import ClipReport, FolderReport
    from midflow.train.processes import Processes
    from midflow.train.state import State
    from midflow.train.trainer import TrainResult

data = typer.Typer(
    help="Look at data before training.", no_args_is_help=True, rich_markup_mode=None
)


def train(
    ctx: typer.Context,
    data: args.Data = None,
    out: args.Out = None,
    recipe: args.Recipe = None,
    init: args.Init = None,
    steps: args.Steps = None,
    seconds: args.Seconds = None,
    hours: args.Hours = None,
    batch: args.Batch = None,
    crop: args.Crop = None,
    device: Device = None,
    layout: args.Layout = "auto",
    synthetic: args.Synthetic = None,
    held: args.Held = None,
    cache: args.Cache = None,
    memory: args.Memory = None,
    clip_frames: args.ClipFrames = None,
    scenes: args.Scenes = None,
    seed: args.Seed = None,
    settings: args.Settings = None,
    report: args.RunReport = None,
    quiet: Quiet = False,
) -> None:
    """Train a network on clips or data sets; the same command goes on with a run that stopped."""
    if report is not None:
        _draw(ctx, report)
        return
    if not data or out is None:
        raise OptionError("train takes DATA... and --out RUN, or --report RUN alone")
    from midflow.train.processes import is_first
    from midflow.train.sources import open_material
    from midflow.train.trainer import train_on

    config, options = args.train_config(ctx.params), args.data_options(ctx.params)
    is_quiet = quiet or not is_first()
    with Display(is_quiet=is_quiet) as display:

        def prepare(processes: "Processes", state: "State") -> "Material":
            display.say(_summary(config, processes, state))
            return open_material(config, options, processes, display.counted)

        try:
            result = train_on(config, prepare, display.training)
        except KeyboardInterrupt as stop:
            kept = "interrupted: the same command goes on from the last checkpoint"
            raise KeyboardInterrupt(kept) from stop
    if not is_quiet:
        print_line(_outcome(result))


@data.command("check")
def check(folder: args.DataFolder, as_json: Json = False) -> None:
    """Report sizes, cuts, repeated frames and motion of clips, and which cannot be used."""
    from midflow.train.inspect import check_folder

    with Display(is_quiet=as_json) as display:
        report = check_folder(folder, lambda *counts: display.counted("looked at", *counts))
    if as_json:
        print_line(json.dumps(asdict(report)))
    else:
        _print_report(report)
    raise typer.Exit(0 if report.usable else 1)


def _draw(ctx: typer.Context, run: Path) -> None:
    if ctx.params["data"] or ctx.params["out"]:
        raise OptionError("--report draws a run that is there: give it without DATA and --out")
    from midflow.train.curves import draw_curves

    print_line(str(draw_curves(run, run / "curves.png")))


def _summary(config: "TrainConfig", processes: "Processes", state: "State") -> str:
    many = f", {processes.count} processes" if processes.count > 1 else ""
    going_on = f"; going on from step {state.step}" if state.step else ""
    return (
        f"{config.folder}: {config.batch} crops of {config.crop} pixels a step, "
        f"{config.precision} on {processes.device} ({processes.device_reason}){many}{going_on}"
    )


def _outcome(result: "TrainResult") -> str:
    from midflow.progress import format_seconds

    psnr = "" if result.psnr is None else f", {result.psnr:.2f} dB on held-out triplets"
    skipped = f", {result.skipped} of them skipped" if result.skipped else ""
    return (
        f"{result.weights}: {result.step} steps{skipped} in {format_seconds(result.seconds)}{psnr}"
    )


def _print_report(report: "FolderReport") -> None:
    headings = ("name", "size", "frames/s", "frames", "cuts", "repeated", "motion", "problem")
    print_table([headings, *map(_row, report.rows)])
    seen, usable = len(report.rows), report.usable
    looked = f", {seen} looked at" if seen < report.items else ""
    text = f"{report.layout}: {report.items}{looked}; {len(usable)} of {seen} can be used"
    if usable:
        side = min(min(row.width, row.height) for row in usable)
        text += f"; the smallest side is {side} pixels: no crop should be larger"
    print_line(text)


def _row(row: "ClipReport") -> tuple[str, ...]:
    return (
        row.name,
        f"{row.width}x{row.height}" if row.width else "",
        f"{row.frame_rate:.4g}" if row.frame_rate else "",
        str(row.frames),
        str(row.cuts),
        str(row.duplicates),
        f"{row.motion:.1f} px",
        row.problem,
    )
