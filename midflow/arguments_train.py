"""Arguments of `train` and `data check` with their help, and what the library makes of them."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from midflow.arguments import Number, Text, argument, option
from midflow.errors import OptionError

if TYPE_CHECKING:
    from midflow.train.config import TrainConfig
    from midflow.train.sources import DataOptions


Data = Annotated[
    list[Path] | None,
    argument("Folders of clips or data sets, clips, or lists of triplets (.txt).", "DATA"),
]
Out = Annotated[Path | None, option("Folder of the run; one found there goes on.", "--out", "-o")]
Recipe = Annotated[
    Text,
    option(
        "debug, paper, paper_m, default_gpu, default_cpu or finetune; default: finetune with "
        "--init, else the default for the device."
    ),
]
Init = Annotated[Text, option("Weights to start from: a path or a release.", metavar="WEIGHTS")]
Steps = Annotated[int | None, option("Length of the run in steps.")]
Seconds = Annotated[Number, option("Length in seconds of training.")]
Hours = Annotated[Number, option("Length in hours of training.")]
Batch = Annotated[int | None, option("Samples of a step, over all processes.")]
Crop = Annotated[int | None, option("Side of the square crops in pixels.")]
Layout = Annotated[
    str,
    option(
        "Of DATA: auto, clips, vimeo_triplet, vimeo_septuplet, x4k1000fps, atd12k, snu_film or "
        "triplets; default: auto."
    ),
]
Synthetic = Annotated[
    Number,
    option(
        "Share of synthetic scenes; default: 0.45, and 0 for debug, finetune and paper.",
        metavar="SHARE",
    ),
]
Held = Annotated[
    Path | None, option("Clips to be measured on, never trained on.", metavar="FOLDER")
]
Cache = Annotated[
    Path | None, option("Decode clips once into this folder, not into memory.", metavar="FOLDER")
]
Memory = Annotated[Number, option("Most memory for clips; default: 4.", metavar="GIGABYTES")]
ClipFrames = Annotated[
    int | None, option("Most frames of each clip, from its beginning; default: all that fit.")
]
Scenes = Annotated[
    int | None,
    option("Synthetic scenes to render ahead; default: 1 GB of them on a CPU, none on a GPU."),
]
Seed = Annotated[int | None, option("Of first weights and samples; default: 0.")]
Settings = Annotated[
    list[str] | None,
    option(
        "Any field of TrainConfig, such as rate.peak=5e-4; may be repeated.",
        "--set",
        metavar="NAME=VALUE",
    ),
]
RunReport = Annotated[
    Path | None, option("Draw the curves of a run to its curves.png.", "--report", metavar="RUN")
]
DataFolder = Annotated[Path, argument("A folder of clips, or a data set.", "DIR")]


def train_config(given: dict[str, Any]) -> "TrainConfig":
    """The configuration of a run from the parameters of `train`.

    Raises:
        OptionError: a value cannot be read, is outside its range, or is given twice.
        CheckpointError, UnknownModelError: the weights to start from cannot be loaded.
    """
    from midflow.train.settings import configure, parse_settings

    if given["seconds"] is not None and given["hours"] is not None:
        raise OptionError("--seconds and --hours exclude each other: give one of them")
    names = ("steps", "seconds", "batch", "crop", "device", "seed")
    values = {name: given[name] for name in names if given[name] is not None}
    if given["hours"] is not None:
        values["seconds"] = 3600 * given["hours"]
    settings = parse_settings(given["settings"] or [])
    if both := sorted(values.keys() & settings.keys()):
        raise OptionError(f"{both[0]} is given twice, by --{both[0]} and by --set")
    return configure(given["recipe"], given["out"], values | settings, given["init"] or "")


def data_options(given: dict[str, Any]) -> "DataOptions":
    """What a run learns from, out of the parameters of `train`.

    Raises:
        OptionError: a value is outside its range.
    """
    from midflow.train.sources import DEBUG_REPEAT, DataOptions

    options = DataOptions(
        tuple(given["data"]),
        layout=given["layout"],
        synthetic=given["synthetic"],
        held=given["held"],
        cache=given["cache"],
        clip_frames=given["clip_frames"],
        scenes=given["scenes"],
        repeat=DEBUG_REPEAT if given["recipe"] == "debug" else 0,
    )
    memory = given["memory"]
    return options if memory is None else replace(options, memory_gigabytes=memory)
