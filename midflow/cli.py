"""The command line: `midflow video | images | flow | eval | models | train | bench | export` ...

Each command turns its arguments into options and calls the library. What takes long to import is
imported by the command that needs it.

Exit codes: 0 done; 1 a clip, picture or model cannot be used; 2 a wrong option; 130 Ctrl-C.
"""

import io
import json
import os
import sys
from typing import TYPE_CHECKING, Any, NoReturn

import typer
from typer.core import TyperGroup

import midflow
from midflow import arguments as args
from midflow import cli_bench, cli_eval, cli_export, cli_models, cli_train
from midflow.errors import MidflowError, OptionError

if TYPE_CHECKING:
    from midflow.progress import VideoResult

ERROR, USAGE_ERROR, INTERRUPTED = 1, 2, 130
WAITING = {"GOMP_SPINCOUNT": "1000", "KMP_BLOCKTIME": "0"}
"""How long torch's idle threads spin before they sleep, by GNU's OpenMP and by others. By default
they spin for long, which starves decoder, encoder and every other program; measured in
benchmarks/notes.md."""


class _Commands(TyperGroup):
    """Turns midflow's errors into one line and an exit code; other exceptions are bugs."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except MidflowError as error:
            code = USAGE_ERROR if isinstance(error, OptionError) else ERROR
            _fail(str(error), code)
        except KeyboardInterrupt as stop:
            _fail(str(stop) or "interrupted", INTERRUPTED)


def _fail(text: str, code: int) -> NoReturn:
    from midflow.display import print_error

    print_error(text)
    raise typer.Exit(code)


app = typer.Typer(
    cls=_Commands,
    name="midflow",
    help="Video frame interpolation with RIFE: smoother video, every stream kept.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.add_typer(cli_models.app, name="models")
app.add_typer(cli_train.data, name="data")
app.command()(cli_train.train)
app.command()(cli_bench.bench)
app.command()(cli_export.export)
app.command("eval")(cli_eval.evaluate)


@app.callback(invoke_without_command=True)
def _root(version: args.Version = False) -> None:
    if version:
        print(f"midflow {midflow.__version__}")


@app.command()
def video(
    ctx: typer.Context,
    paths: args.Clips = None,
    out_dir: args.OutDir = None,
    list_file: args.ListFile = None,
    skip_existing: args.SkipExisting = False,
    factor: args.Factor = None,
    fps: args.Fps = None,
    model: args.Model = None,
    device: args.Device = None,
    precision: args.Precision = None,
    flow_scale: args.FlowScale = None,
    ensemble: args.Ensemble = False,
    tta: args.Tta = False,
    backend: args.Backend = None,
    protect: args.Protect = None,
    wires: args.Wires = None,
    tile: args.Tile = None,
    codec: args.Codec = None,
    crf: args.Crf = None,
    preset: args.Preset = None,
    pix_fmt: args.PixFmt = None,
    encoder_options: args.EncoderOptions = None,
    start: args.Start = None,
    duration: args.Duration = None,
    max_gap: args.MaxGap = None,
    dedup: args.Dedup = False,
    scene_threshold: args.SceneThreshold = None,
    scene_fill: args.SceneFill = None,
    cuts: args.CutsFile = None,
    write_cuts: args.WriteCuts = None,
    slowmo: args.Slowmo = None,
    speed: args.Speed = None,
    sound: args.Sound = None,
    end: args.End = None,
    vfr: args.Vfr = None,
    deinterlace: args.Deinterlace = None,
    hwaccel: args.Hwaccel = None,
    workers: args.Workers = None,
    devices: args.Devices = None,
    raw_input: args.RawInput = None,
    pipe: args.Pipe = None,
    segment_frames: args.SegmentFrames = None,
    restart: args.Restart = False,
    overwrite: args.Overwrite = False,
    quiet: args.Quiet = False,
    as_json: args.Json = False,
) -> None:
    """Write videos at another frame rate; speed, sound and all other streams stay."""
    options = args.video_options(ctx.params)
    from midflow import pipeline
    from midflow.batch import Summary, Task, plan_tasks, run_tasks
    from midflow.display import Display

    tasks = plan_tasks(paths or [], out_dir, list_file)
    with Display(is_quiet=quiet or as_json) as display:

        def work(task: Task) -> "VideoResult":
            return pipeline.interpolate_video(
                task.source,
                task.target,
                fps=fps,
                factor=factor,
                model=model,
                options=options,
                on_progress=display.video,
            )

        if isinstance(tasks, Task) and not skip_existing:
            result: VideoResult | Summary = work(tasks)
        else:
            queue = [tasks] if isinstance(tasks, Task) else tasks
            result = run_tasks(queue, work, skip_existing=skip_existing)
    told = sys.stderr if isinstance(tasks, Task) and str(tasks.target) == "-" else sys.stdout
    if as_json:
        print(json.dumps(result.as_dict()), file=told)
    elif not quiet:
        print(result, file=told)
    raise typer.Exit(ERROR if isinstance(result, Summary) and result.failed else 0)


@app.command()
def images(
    ctx: typer.Context,
    paths: args.Pictures,
    timestep: args.Timesteps = None,
    count: args.Count = None,
    factor: args.Factor = None,
    model: args.Model = None,
    device: args.Device = None,
    precision: args.Precision = None,
    flow_scale: args.FlowScale = None,
    ensemble: args.Ensemble = False,
    tta: args.Tta = False,
    backend: args.Backend = None,
    protect: args.Protect = None,
    wires: args.Wires = None,
    tile: args.Tile = None,
    overwrite: args.Overwrite = False,
    quiet: args.Quiet = False,
) -> None:
    """Paint the frames between two pictures, or raise the rate of a folder of them."""
    args.check_images(paths, timestep, count, factor)
    args.import_frozen("midflow.images")
    from midflow import images as library
    from midflow.display import Display, describe

    with Display(is_quiet=quiet) as display:
        interp = args.interpolator(ctx.params)
        display.say(describe(interp))
        *inputs, out = paths
        if len(inputs) == 1:
            files = library.interpolate_folder(
                inputs[0],
                out,
                interp,
                factor or 2,
                overwrite=overwrite,
                on_progress=display.pictures,
            )
        else:
            times = library.even_timesteps(count) if count is not None else timestep or [0.5]
            files = library.interpolate_images(
                inputs[0], inputs[1], out, interp, times, overwrite=overwrite
            )
    if not quiet:
        print(files[0] if len(files) == 1 else f"{len(files)} pictures: {files[0]} ... {files[-1]}")


@app.command()
def flow(
    ctx: typer.Context,
    img0: args.First,
    img1: args.Second,
    out: args.Drawing,
    timestep: args.Timestep = 0.5,
    model: args.Model = None,
    device: args.Device = None,
    precision: args.Precision = None,
    flow_scale: args.FlowScale = None,
    ensemble: args.Ensemble = False,
    tta: args.Tta = False,
    backend: args.Backend = None,
    overwrite: args.Overwrite = False,
) -> None:
    """Draw the motion between two pictures: hue is direction, saturation is speed."""
    args.import_frozen("midflow.images")
    from midflow.images import draw_flow

    interp = args.interpolator(ctx.params)
    longest = draw_flow(img0, img1, out, interp, timestep, overwrite=overwrite)
    print(f"{out}: the longest motion, {longest:.1f} pixels, has full colour")


@app.command()
def doctor(as_json: args.Json = False) -> None:
    """Say what this machine can do, and why a device was chosen."""
    from midflow.display import print_report
    from midflow.doctor import diagnose

    report = diagnose()
    if as_json:
        print(json.dumps(report.as_dict()))
    else:
        print_report(report)
    raise typer.Exit(0 if report.is_healthy else ERROR)


def main() -> None:
    """Runs the command line."""
    for name, value in WAITING.items():
        os.environ.setdefault(name, value)
    if isinstance(sys.stdout, io.TextIOWrapper):  # names of files need not be text
        sys.stdout.reconfigure(errors="backslashreplace")
    app(prog_name="midflow")
