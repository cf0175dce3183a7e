"""The command `midflow bench`."""

import json

import typer

from midflow import arguments_bench as args
from midflow.arguments import Device, Quiet
from midflow.display import Display, print_line, print_table


def bench(
    ctx: typer.Context,
    clip: args.Clip = None,
    model: args.Models = None,
    backend: args.Backends = None,
    precision: args.Precisions = None,
    size: args.Sizes = None,
    factor: args.Factors = None,
    frames: args.Frames = None,
    seconds: args.Seconds = None,
    codec: args.Codec = None,
    preset: args.Preset = None,
    device: Device = None,
    json_file: args.JsonFile = None,
    plot: args.Plot = None,
    quick: args.Quick = False,
    quiet: Quiet = False,
) -> None:
    """Measure decoding, network, encoding and the whole on this machine."""
    options = args.bench_options(ctx.params)
    args.check_outputs(json_file, plot)
    from midflow.bench import presentation
    from midflow.bench.run import run

    with Display(is_quiet=quiet) as display:
        report = run(options, lambda what, *counts: display.counted(f"runs; {what}", *counts))
    if json_file:
        json_file.write_text(json.dumps(report.as_dict(), indent=1) + "\n", encoding="utf-8")
    if not quiet:
        print_line(presentation.heading(report))
        print_table(presentation.table(report))
        for line in (*presentation.skipped(report), presentation.LEGEND):
            print_line(line)
        print_line(presentation.start_up(report))
        if warning := presentation.warning(report):
            print_line(warning)
    if plot:
        print_line(str(presentation.draw(report, plot)))
