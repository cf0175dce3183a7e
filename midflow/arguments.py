"""Arguments of the command line with their help, and options for the library made of them."""

import gc
import importlib
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

import midflow
from midflow.errors import OptionError

if TYPE_CHECKING:
    from midflow.interpolator import Interpolator
    from midflow.options import VideoOptions


def option(text: str, *names: str, **settings: Any) -> Any:
    """An option with its help, which states the default itself."""
    return typer.Option(*names, help=text, show_default=False, **settings)


def argument(text: str, metavar: str) -> Any:
    """A positional argument with its help and how it is shown."""
    return typer.Argument(help=text, metavar=metavar, show_default=False)


Text: TypeAlias = str | None
Number: TypeAlias = float | None
Flag: TypeAlias = bool

Version = Annotated[Flag, option("Print the version and exit.", "--version")]
Quiet = Annotated[Flag, option("Print errors only.", "--quiet", "-q")]
Json = Annotated[Flag, option("Print JSON, and no progress.", "--json")]
Overwrite = Annotated[Flag, option("Replace existing files.", "--overwrite")]

Model = Annotated[Text, option("Release, or path of weights; default: midflow-2, bundled.")]
Device = Annotated[Text, option("auto, cpu, cuda, cuda:N or mps; default: auto.")]
Precision = Annotated[
    Text,
    option("float32, bfloat16 or float16; default: auto, bfloat16 where a CPU is quickest by it."),
]
FlowScale = Annotated[
    Number, option("0.25, 0.5, 1, 2 or 4: resolution at which motion is sought; default: 1.")
]
Ensemble = Annotated[Flag, option("Average both directions inside the network.", "--ensemble")]
Tta = Annotated[Flag, option("Average with the frames turned by 180 degrees.", "--tta")]
Backend = Annotated[
    Text, option("auto, torch, native, triton, compiled, onnx, openvino, export, tensorrt.")
]
Protect = Annotated[
    Text, option("auto (default), off, or a picture, white where frames stay.", metavar="WHAT")
]
Wires = Annotated[Text, option("auto or off: paint thin things apart.", metavar="auto|off")]
Tile = Annotated[
    int | None,
    option("Paint in overlapping tiles of this side; default: where memory is short.", metavar="N"),
]
Factor = Annotated[
    Text, option("Multiple of the rate: 2, 2.5 or 5/2; default: 2.", metavar="NUMBER")
]

Clips = Annotated[
    list[Path] | None,
    argument("Clips or folders, then the output: a name or a folder; - is a pipe.", "IN... [OUT]"),
]
OutDir = Annotated[Path | None, option("Folder for all outputs.", metavar="FOLDER")]
ListFile = Annotated[
    Path | None, option("File with further inputs, one a line.", "--list", metavar="FILE")
]
SkipExisting = Annotated[Flag, option("Pass over inputs whose output exists.", "--skip-existing")]
Fps = Annotated[
    Text, option("Or the rate: 60, 59.94, 60000/1001; speed and sound stay.", metavar="RATE")
]
Codec = Annotated[
    Text, option("h264, hevc, av1, vp9, prores, ffv1, or an FFmpeg encoder; default: h264.")
]
Crf = Annotated[Number, option("Constant quality, smaller is better; default: 17 for h264.")]
Preset = Annotated[Text, option("Speed against size, in the encoder's words; default: medium.")]
PixFmt = Annotated[Text, option("FFmpeg pixel format; default: the clip's own.")]
EncoderOptions = Annotated[Text, option("Further options of the encoder.", metavar="K=V:K=V")]
Start = Annotated[Text, option("Begin there: seconds or hh:mm:ss.fff.", metavar="TIME")]
Duration = Annotated[Text, option("Take so much: seconds or hh:mm:ss.fff.", metavar="TIME")]
MaxGap = Annotated[
    Text,
    option("Longest gap between two frames, as damaged times leave; default: 600.", metavar="TIME"),
]
Dedup = Annotated[
    Flag, option("Paint across repeated frames, as in animation on twos and threes.", "--dedup")
]
SceneThreshold = Annotated[
    Number, option("Similarity, 0 to 1, below which it is a cut; 0: no cuts; default: 0.4.")
]
CutsFile = Annotated[
    Path | None,
    option("Take the scene cuts from there: times or frame numbers, one a line.", "--cuts"),
]
WriteCuts = Annotated[Path | None, option("Write the times of the scene cuts there.")]
SceneFill = Annotated[Text, option("Across a cut: hold, nearest or blend; default: hold.")]
Slowmo = Annotated[
    Text, option("So many times slower, at the clip's own rate or --fps.", metavar="NUMBER")
]
Speed = Annotated[Text, option("Or so many times faster; 1/2 is slower.", metavar="NUMBER")]
Sound = Annotated[Text, option("At another speed: stretch, keep or drop; default: stretch.")]
End = Annotated[Text, option("After the last frame: hold, drop or loop; default: hold.")]
Vfr = Annotated[
    Text, option("constant rate, or keep: divide each gap of a varying one; default: constant.")
]
Pipe = Annotated[Text, option("To standard output (-): y4m, raw or nut; default: y4m.")]
RawInput = Annotated[
    Text, option("IN is frames alone: 640x480:yuv420p:30000/1001.", metavar="SIZE:FORMAT:RATE")
]
Deinterlace = Annotated[
    Text, option("Interlaced clips: refuse, auto, fields, frames or off; default: refuse.")
]
Hwaccel = Annotated[
    Text, option("Decode on cuda, videotoolbox, d3d11va, ... where it can; default: off.")
]
Workers = Annotated[
    int | None, option("Processes that work side by side; default: 1.", metavar="N")
]
Devices = Annotated[Text, option("Or a process for each of these: cuda:0,cuda:1.", metavar="LIST")]
SegmentFrames = Annotated[
    int | None,
    option("Frames finished together, which an interruption can cost; default: 250.", metavar="N"),
]
Restart = Annotated[Flag, option("Do not go on from an interrupted run.", "--restart")]

Pictures = Annotated[
    list[Path],
    argument("Two pictures and an output, or two folders.", "A B OUT | DIR OUT_DIR"),
]
Timesteps = Annotated[
    list[float] | None,
    option("Where between A and B, 0 to 1; may be repeated; default: 0.5.", "-t"),
]
Count = Annotated[int | None, option("Or so many frames, evenly spaced.", "-n")]
First = Annotated[Path, argument("The earlier picture.", "A")]
Second = Annotated[Path, argument("The later picture.", "B")]
Drawing = Annotated[Path, argument("The picture to draw.", "OUT")]
Timestep = Annotated[float, option("When the motion is seen, 0 to 1; default: 0.5.", "-t")]

Name = Annotated[str, argument("A release, or the path of weights.", "NAME")]
Names = Annotated[list[str], argument("Releases.", "NAME...")]
MaybeNames = Annotated[list[str] | None, argument("Default: all that are here.", "[NAME...]")]


def video_options(given: dict[str, Any]) -> "VideoOptions":
    """Options from the parameters of `video`, called as the fields are; None stands for not given.

    Raises:
        OptionError: a value cannot be read, or is outside its range.
    """
    import_frozen("midflow.pipeline")
    from midflow.options import VideoOptions, parse_encoder_options, parse_time
    from midflow.schedule import parse_rate

    parsers: dict[str, Callable[[str], Any]] = {
        "encoder_options": parse_encoder_options,
        "devices": lambda text: tuple(name.strip() for name in text.split(",")),
        "protect": lambda text: text if text in ("auto", "off") else Path(text),
        "start": lambda text: parse_time(text, "start"),
        "duration": lambda text: parse_time(text, "duration"),
        "speed": lambda value: parse_rate(value, "speed"),
        "max_gap": lambda text: parse_time(text, "max_gap"),
    }
    if given["slowmo"] is not None:
        if given["speed"] is not None:
            raise OptionError("--slowmo and --speed exclude each other: give one of them")
        given = {**given, "speed": 1 / parse_rate(given["slowmo"], "slowmo")}
    names = [field.name for field in fields(VideoOptions) if given[field.name] is not None]
    values: dict[str, Any] = {n: parsers[n](given[n]) if n in parsers else given[n] for n in names}
    return VideoOptions(**values)


def interpolator(given: dict[str, Any]) -> "Interpolator":
    """An interpolator from the parameters of a command.

    Raises:
        OptionError: an option is outside its range.
        UnknownModelError: no model has the name.
        CheckpointError: the weights cannot be used.
    """
    from midflow.options import NETWORK_OPTIONS

    names = ("device", *NETWORK_OPTIONS)
    options = {name: given[name] for name in names if given.get(name) is not None}
    return midflow.Interpolator(midflow.load_model(given["model"]), **options)


def import_frozen(module: str) -> None:
    """Imports a module with torch, and collects no garbage meanwhile or among what it made.

    All of that stays. To look through it while it grows, at the end of each segment and when Python
    ends took a quarter of the time of a short job.
    """
    if module in sys.modules:
        return
    gc.disable()
    try:
        importlib.import_module(module)
        gc.freeze()
    finally:
        gc.enable()


def check_images(
    paths: list[Path], timesteps: list[float] | None, count: int | None, factor: str | None
) -> None:
    """Holds the two forms of `images` apart.

    Raises:
        OptionError: they are mixed.
    """
    if len(paths) not in (2, 3):
        raise OptionError(f"images takes A B OUT or DIR OUT_DIR, got {len(paths)} paths")
    if len(paths) == 2 and (timesteps or count is not None):
        raise OptionError("-t and -n are for two pictures (A B OUT): a folder takes --factor")
    if len(paths) == 3 and factor is not None:
        raise OptionError("--factor is for a folder (DIR OUT_DIR): two pictures take -t or -n")
    if timesteps and count is not None:
        raise OptionError("-t and -n exclude each other: give one of them")
