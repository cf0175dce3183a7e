"""Arguments of `bench` with their help, and options for the library made of them."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from midflow.arguments import Number, argument, option
from midflow.errors import OptionError

if TYPE_CHECKING:
    from midflow.bench.options import BenchOptions


Clip = Annotated[
    Path | None,
    argument("A video whose pictures are used; default: drawn ones.", "[CLIP]"),
]
Models = Annotated[
    list[str] | None,
    option("Release or path, repeated for several, or all; default: midflow-2.", "--model"),
]
Backends = Annotated[
    list[str] | None, option("Repeated for several; default: all that are there.", "--backend")
]
Precisions = Annotated[
    list[str] | None,
    option(
        "auto, float32, bfloat16 or float16, repeated for several; default: auto.", "--precision"
    ),
]
Sizes = Annotated[
    list[str] | None,
    option(
        "1280x720, repeated for several; default: 480p, 720p, 1080p and 2160p.",
        "--size",
        metavar="WxH",
    ),
]
Factors = Annotated[
    list[str] | None,
    option(
        "Repeated for several; default: 2, and 4 and 8 at the smallest size.",
        "--factor",
        metavar="NUMBER",
    ),
]
Frames = Annotated[
    int | None, option("Input frames of each run; default: by --seconds.", metavar="N")
]
Seconds = Annotated[Number, option("About what a stage takes; default: 10.")]
Codec = Annotated[str | None, option("Of the output; default: h264.")]
Preset = Annotated[str | None, option("Of the encoder; default: medium.")]
JsonFile = Annotated[Path | None, option("Write all figures there.", "--json", metavar="FILE")]
Plot = Annotated[
    Path | None, option("Draw cost against pixels and factor there (PNG).", metavar="FILE")
]
Quick = Annotated[bool, option("480p and 720p, three seconds a stage.", "--quick")]


def bench_options(given: dict[str, Any]) -> "BenchOptions":
    """Options from the parameters of `bench`; None and empty lists stand for not given.

    Raises:
        OptionError: a value cannot be read or is outside its range.
    """
    from midflow.bench.options import QUICK_SECONDS, QUICK_SIZES, BenchOptions, parse_size
    from midflow.schedule import parse_rate

    options = BenchOptions()
    if given["quick"]:
        options = replace(options, sizes=QUICK_SIZES, seconds=QUICK_SECONDS)
    values: dict[str, Any] = {
        "models": tuple(given["model"] or ()),
        "backends": tuple(given["backend"] or ()),
        "precisions": tuple(given["precision"] or ()),
        "sizes": tuple(map(parse_size, given["size"] or ())),
        "factors": tuple(parse_rate(text, "factor") for text in given["factor"] or ()),
    }
    if values["models"] == ("all",):
        values["models"] = _all_models()
    for name in ("clip", "device", "frames", "seconds", "codec", "preset"):
        values[name] = given[name]
    chosen = {name: value for name, value in values.items() if value not in (None, ())}
    return replace(options, **chosen)


def check_outputs(*paths: Path | None) -> None:
    """Looks, before minutes of work, whether the results can be kept.

    Raises:
        OptionError: a folder is not there.
    """
    for path in paths:
        if path is not None and not path.absolute().parent.is_dir():
            raise OptionError(f"{path.parent} is no folder: {path.name} cannot be written to it")


def _all_models() -> tuple[str, ...]:
    import midflow

    infos = midflow.available_models()
    return tuple(info.name for info in infos if info.name and info.status in ("bundled", "pulled"))
