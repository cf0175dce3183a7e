"""The command `midflow eval`."""

import json
from typing import TYPE_CHECKING

import typer

from midflow import arguments as shared
from midflow import arguments_eval as args

if TYPE_CHECKING:
    from midflow.evaluate.run import EvalOptions


def evaluate(
    ctx: typer.Context,
    folder: args.Folder = None,
    dataset: args.Dataset = None,
    model: args.Models = None,
    factor: args.KeepOneOf = None,
    per_clip: args.PerClip = None,
    metrics: args.Metrics = None,
    baselines: args.Baselines = None,
    limit: args.Limit = None,
    records: args.Records = None,
    report: args.ReportFolder = None,
    worst: args.Worst = None,
    device: shared.Device = None,
    precision: shared.Precision = None,
    flow_scale: shared.FlowScale = None,
    ensemble: shared.Ensemble = False,
    tta: shared.Tta = False,
    backend: shared.Backend = None,
    quiet: shared.Quiet = False,
    as_json: shared.Json = False,
) -> None:
    """Score models and baselines on test sets, or on dropped frames of any clips."""
    options = args.eval_options(ctx.params)
    from midflow.display import Display, describe
    from midflow.evaluate.report import format_table
    from midflow.evaluate.run import run

    try:
        with Display(is_quiet=quiet or as_json) as display:
            methods = args.interpolators(ctx.params)
            display.say("\n".join(map(describe, methods.values())))
            evaluation = run(options, methods, display.evaluation)
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt(f"interrupted: {_how_to_go_on(options)}") from stop
    print(json.dumps(evaluation.to_dict()) if as_json else format_table(evaluation))


def _how_to_go_on(options: "EvalOptions") -> str:
    if options.record_file is None:
        return "nothing is kept; with --report FOLDER or --records FILE a run can go on"
    return f"{options.record_file} keeps what is finished; the same command goes on from there"
