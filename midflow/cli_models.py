"""The commands below `midflow models`: list, describe, fetch and check them."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer

import midflow
from midflow import arguments as args

if TYPE_CHECKING:
    from midflow.nets.releases import ModelInfo

app = typer.Typer(
    help="List, describe, fetch and check models.", no_args_is_help=True, rich_markup_mode=None
)


@app.command("list")
def list_models(as_json: args.Json = False) -> None:
    """All models: parameters, padding, what they can do, and whether they are on this machine."""
    from midflow.display import print_table

    infos = midflow.available_models()
    if as_json:
        print(json.dumps([asdict(info) for info in infos]))
        return
    headings = ("name", "generation", "parameters", "pad to", "any time", "ensemble", "here", "")
    print_table([headings, *map(_model_row, infos)])


@app.command("info")
def describe_model(name: args.Name, as_json: args.Json = False) -> None:
    """Everything known of a release or of a file of weights."""
    from midflow.display import print_table
    from midflow.nets.checkpoint import describe
    from midflow.nets.releases import describe_release

    is_path = Path(name).exists()
    info = asdict(describe(midflow.load_model(name)) if is_path else describe_release(name))
    if as_json:
        print(json.dumps(info))
        return
    print_table((key, str(value)) for key, value in info.items())


@app.command("pull")
def pull_models(names: args.Names, quiet: args.Quiet = False) -> None:
    """Fetch weights into the cache; only weights that are what they should be are kept."""
    from midflow.display import Display
    from midflow.download import pull

    with Display(is_quiet=quiet) as display:
        for name in names:
            print(pull(name, on_progress=display.pulling))


@app.command("verify")
def verify_models(names: args.MaybeNames = None) -> None:
    """Check that weights on this machine are what they should be."""
    from midflow.download import verify

    infos = midflow.available_models()
    here = [info.name for info in infos if info.name and info.status in ("bundled", "pulled")]
    for name in names or here:
        found = verify(name)
        note = "" if found.was_recorded else "; its hash is on record from here on"
        print(f"{name}: good, {found.path}{note}")


def _model_row(info: "ModelInfo") -> tuple[str, ...]:
    return (
        info.name or "",
        info.generation,
        f"{info.parameters / 1e6:.1f} M",
        str(info.pad_multiple),
        "yes" if info.has_timestep else "by halving",
        "yes" if info.has_ensemble else "-",
        info.status,
        info.notes,
    )
