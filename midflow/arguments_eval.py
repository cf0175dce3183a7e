"""Arguments of `eval` with their help, and options for the library made of them."""

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from midflow.arguments import Text, argument, import_frozen, interpolator, option
from midflow.errors import OptionError

if TYPE_CHECKING:
    from midflow.evaluate.run import EvalOptions
    from midflow.interpolator import Interpolator


Folder = Annotated[
    Path | None,
    argument("Videos (not in folders below), or a published test set.", "[FOLDER]"),
]
Dataset = Annotated[
    Text,
    option(
        "clips, hard (drawn, needs no folder), middlebury, ucf101, vimeo90k, snu-film-easy, "
        "snu-film-medium, snu-film-hard, snu-film-extreme, xiph-2k, xiph-4k, x4k1000fps, hd-544p, "
        "hd-720p, hd-1080p or atd-12k; default: clips."
    ),
]
Models = Annotated[
    list[str] | None,
    option("As for video; may be repeated to compare models.", "--model", metavar="NAME"),
]
KeepOneOf = Annotated[
    int | None, option("Clips: keep one frame of 2, 4 or 8; default: 2.", "--factor")
]
PerClip = Annotated[
    Text, option("Clips: samples of each, spread over it, or all; default: 4.", metavar="N|all")
]
Metrics = Annotated[
    list[str] | None,
    option(
        "psnr, psnr_luma, ssim, ssim_matlab, ie or lpips; may be repeated; "
        "default: what papers report on the set.",
        "--metric",
        metavar="NAME",
    ),
]
Baselines = Annotated[
    list[str] | None,
    option(
        "average or dis; may be repeated; default: all that are installed.",
        "--baseline",
        metavar="NAME",
    ),
]
Limit = Annotated[int | None, option("Only so many samples, spread over the set.", metavar="N")]
Records = Annotated[
    Path | None,
    option(
        "Keep finished samples there and go on from them; default: in the report.", metavar="FILE"
    ),
]
ReportFolder = Annotated[
    Path | None,
    option("Write report.html, report.json and worst.png there.", "--report", metavar="FOLDER"),
]
Worst = Annotated[
    int | None, option("Frames to show in the report, the worst first; default: 5.", metavar="N")
]


def eval_options(given: dict[str, Any]) -> "EvalOptions":
    """Options from the parameters of `eval`, called as the fields are; None stands for not given.

    Raises:
        OptionError: a value cannot be read, is outside its range, or belongs to another dataset.
    """
    import_frozen("midflow.evaluate.run")
    from midflow.evaluate.run import CLIPS, EvalOptions

    parsers: dict[str, Callable[[Any], Any]] = {
        **dict.fromkeys(("folder", "records", "report"), Path),
        **dict.fromkeys(("metrics", "baselines"), tuple),
        "per_clip": _per_clip,
    }
    names = [field.name for field in fields(EvalOptions) if given[field.name] not in (None, [], ())]
    values = {n: parsers[n](given[n]) if n in parsers else given[n] for n in names}
    options = EvalOptions(**values)
    for name in ("factor", "per_clip"):
        if name in values and options.dataset != CLIPS:
            flag = name.replace("_", "-")
            raise OptionError(f"--{flag} is for clips: {options.dataset} has samples of its own")
    return options


def _per_clip(text: str) -> int | None:
    if text != "all" and not text.isdecimal():
        raise OptionError(f"--per-clip must be a number or all, got {text!r}")
    return None if text == "all" else int(text)


def interpolators(given: dict[str, Any]) -> "dict[str, Interpolator]":
    """An interpolator for each model of `eval`, by the name it was given.

    Raises:
        OptionError: an option is outside its range.
        UnknownModelError: no model has the name.
        CheckpointError: the weights cannot be used.
    """
    made = [(name, interpolator({**given, "model": name})) for name in given["model"] or [None]]
    return {name or interp.model.release: interp for name, interp in made}
