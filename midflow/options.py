"""Options of a video job, and how the command line writes some of them."""

import re
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from midflow.errors import OptionError
from midflow.scenes import FILLS, SCENE_CUT_SSIM
from midflow.schedule import ENDS
from midflow.time_plan import VFR_CHOICES
from midflow.video.deinterlace import DEINTERLACE_CHOICES
from midflow.video.encoders import WriterOptions
from midflow.video.hwaccel import NO_HARDWARE, require_hwaccel
from midflow.video.limits import MAX_GAP

SEGMENT_FRAMES = 250
"""Output frames of a segment. x264 and x265 begin a new group of pictures after 250 frames anyway,
so joints there cost next to nothing."""

NETWORK_OPTIONS = "precision flow_scale ensemble tta backend protect wires tile".split()
"""Fields that `Interpolator` takes by the same names."""

_CLOCK = re.compile(r"(\d+(?:\.\d*)?)|(?:(\d+):)?([0-5]?\d):([0-5]?\d(?:\.\d*)?)")


@dataclass(frozen=True)
class VideoOptions(WriterOptions):
    """How a video is interpolated, besides its rate and the model; and how it is encoded.

    Raises:
        OptionError: a value is outside its range; those of the encoder, the network and the clip
            are looked at when these are known.
    """

    device: str = "auto"
    """auto (CUDA, then MPS, then CPU), cpu, cuda, cuda:N or mps."""
    precision: str = "auto"
    """float32, bfloat16 or float16, of the convolutions; auto: see `Interpolator`."""
    flow_scale: float = 1.0
    """0.25, 0.5, 1, 2 or 4: resolution at which motion is sought; below 1 for very large frames."""
    ensemble: bool = False
    """Average both directions inside the network, where it can."""
    tta: bool = False
    """Average with the frames turned by 180 degrees; twice the time."""
    backend: str = "auto"
    """What runs the network: auto, or one of `midflow.backends.BACKENDS`."""
    protect: str | Path = "auto"
    """auto: lettering and other edges that stand still in both frames stay untouched; off; or a
    picture file, white where frames stay as they are."""
    wires: str = "auto"
    """auto: thin things that move against their background are painted apart, see `midflow.wires`;
    or off."""
    tile: int = 0
    """Side in pixels of overlapping tiles to paint in, 256 or more; 0: whole frames while memory
    suffices."""
    start: Fraction | float | None = None
    """Seconds into the clip to begin at; None for its beginning."""
    duration: Fraction | float | None = None
    """Seconds to take; None for all."""
    max_gap: Fraction | float = MAX_GAP
    """Most seconds from one frame to the next; a longer gap is an error, as damaged times are."""
    dedup: bool = False
    """Paint across repeated frames (animation on twos and threes) as if each drawing came once; see
    `midflow.dedup`."""
    scene_threshold: float = SCENE_CUT_SSIM
    """Similarity, 0 to 1, below which two frames are a scene cut; 0 finds no cuts."""
    scene_fill: str = "hold"
    """What stands between the frames of a cut: hold, nearest or blend."""
    cuts: Path | None = None
    """A list of cuts to go by instead of looking for them, see `midflow.cut_list`."""
    write_cuts: Path | None = None
    """Where to write such a list of the cuts that were found or given."""
    end: str = "hold"
    """After the last frame: hold it as long as the source does, drop all that would follow it, or
    loop, which leads back to the first frame."""
    vfr: str = "constant"
    """constant, or keep: every gap between two source frames is divided, whatever its length."""
    raw_input: str | None = None
    """What the source's frames are where it is nothing but frames: 640x480:yuv420p:30000/1001."""
    deinterlace: str = "refuse"
    """What is done with interlaced clips: refuse; auto (fields, where the clip is marked); fields
    (a picture for each, twice the rate) or frames, marked or not; or off, taken as they are."""
    hwaccel: str = NO_HARDWARE
    """off, or a kind of device that decodes where it can: cuda, videotoolbox, d3d11va, ..."""
    workers: int = 1
    """Processes that make segments side by side."""
    devices: tuple[str, ...] = ()
    """Or devices, such as cuda:0 and cuda:1, with a process for each."""
    segment_frames: int = SEGMENT_FRAMES
    """Output frames finished together: the most that an interruption can cost."""
    restart: bool = False
    """Begin anew where an earlier run was interrupted, instead of going on from there."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dedup and self.vfr == "keep":
            raise OptionError("dedup needs a constant rate: vfr keep divides gaps as they are")
        for name in ("segment_frames", "workers"):
            if (number := getattr(self, name)) < 1:
                raise OptionError(f"{name} must be at least 1, got {number}")
        if self.devices and (self.workers != 1 or self.device != "auto"):
            raise OptionError("devices has a process for each: leave out workers and device")
        if not 0 <= self.scene_threshold <= 1:
            raise OptionError(
                f"scene_threshold must be between 0 and 1, got {self.scene_threshold}"
            )
        for name, choices in (
            ("scene_fill", FILLS),
            ("end", ENDS),
            ("vfr", VFR_CHOICES),
            ("deinterlace", DEINTERLACE_CHOICES),
        ):
            if (value := getattr(self, name)) not in choices:
                raise OptionError(f"{name} must be one of {', '.join(choices)}, got {value!r}")
        require_hwaccel(self.hwaccel)
        if not self.max_gap > 0:
            raise OptionError(f"max_gap must be above 0 seconds, got {self.max_gap}")


def parse_time(text: str, name: str) -> Fraction:
    """Seconds as "90", "90.5", "1:30.5" or "0:01:30.5"; `name` is for the error.

    Raises:
        OptionError: it is none of these.
    """
    match = _CLOCK.fullmatch(text)
    if match is None:
        raise OptionError(f"{name} must be seconds or hh:mm:ss.fff, got {text!r}")
    total, hours, minutes, seconds = (Fraction(part or 0) for part in match.groups())
    return total + hours * 3600 + minutes * 60 + seconds


def parse_encoder_options(text: str) -> dict[str, str]:
    r"""`tune=grain:bf=2` as a table; a colon inside a value is written `\:`.

    Raises:
        OptionError: a part is not `name=value`.
    """
    table = {}
    for part in re.split(r"(?<!\\):", text):
        name, sign, value = part.partition("=")
        if not (name and sign):
            raise OptionError(f"encoder options must be name=value:name=value, got {text!r}")
        table[name.strip()] = value.replace(r"\:", ":")
    return table
