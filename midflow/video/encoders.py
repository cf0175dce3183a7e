"""Which encoder, pixel format and options a clip is written with."""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache

import av
from av.codec import Codec, CodecContext
from av.codec.context import CodecOption, OptionFlags

from midflow.errors import OptionError
from midflow.video.frame import ColorSpec
from midflow.video.pixel import layout, planar_name, working_format
from midflow.video.target import choose_pixel_format, keeps_alpha, target_color

_X26X_PRESETS = (
    "ultrafast superfast veryfast faster fast medium slow slower veryslow placebo".split()
)
# of FFmpeg encoders whose output players expect as YUV 4:2:0
_LOSSY_PREFIXES = ("h264_", "hevc_", "av1_", "vp9_", "lib", "mpeg", "mjpeg")
# options that hold constant quality, in the order they are looked for in an encoder without an
# entry below
_QUALITY_OPTIONS = ("crf", "cq", "qp", "global_quality", "quality")

PIPE_FORMATS = ("y4m", "raw", "nut")
SOUND_CHOICES = ("stretch", "keep", "drop")
_ONLY_CODECS = {"apng": "apng", "gif": "gif", "webp": "webp"}  # of animated pictures
_LARGEST_SPEED = 1000  # beyond it a slip of the finger is likelier than a wish


@dataclass(frozen=True)
class WriterOptions:
    """How the output is encoded."""

    codec: str | None = None
    """h264, hevc, av1, vp9, prores, ffv1, or of animations gif, apng, webp; or any FFmpeg encoder;
    None: h264 at 8 bits, else hevc, or what the container is for."""
    crf: float | None = None
    """Constant quality, smaller is better; None: visually lossless (17 for h264)."""
    preset: str | None = None
    """Speed against size, in the encoder's own words; None: medium."""
    pix_fmt: str | None = None
    """FFmpeg pixel format; None: the clip's own, or the nearest the encoder takes."""
    encoder_options: Mapping[str, str] = field(default_factory=dict)
    """Further options of the encoder, such as {"tune": "grain"}."""
    overwrite: bool = False
    """Whether an existing file is replaced."""
    speed: Fraction | float = Fraction(1)
    """Source seconds in a second of the output: 1/4 is fourfold slow motion, 2 is twice as fast."""
    pipe: str = "y4m"
    """What is written to standard output, for the output "-": y4m, raw (samples alone) or nut."""
    sound: str = "stretch"
    """At another speed: stretch (the pitch stays), keep (it runs out of step) or drop."""

    def __post_init__(self) -> None:
        for name, choices in (("sound", SOUND_CHOICES), ("pipe", PIPE_FORMATS)):
            if (value := getattr(self, name)) not in choices:
                raise OptionError(f"{name} must be one of {', '.join(choices)}, got {value!r}")
        if not 1 / _LARGEST_SPEED <= self.speed <= _LARGEST_SPEED:
            raise OptionError(
                f"speed must lie between 1/{_LARGEST_SPEED} and {_LARGEST_SPEED}, got {self.speed}"
            )

    @property
    def exact_speed(self) -> Fraction:
        """The speed as the decimal it was given as."""
        return Fraction(str(self.speed))


@dataclass(frozen=True)
class _Family:
    """What a friendly codec name stands for."""

    encoder: str
    crf: float | None = None
    preset: str | None = None
    preset_option: str = "preset"
    presets: tuple[str, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)
    keeps_rgb: bool = False
    """Whether grey and RGB clips stay so; players expect 4:2:0 of the others."""


FAMILIES = {
    "h264": _Family("libx264", 17, "medium", presets=tuple(_X26X_PRESETS)),
    "hevc": _Family("libx265", 18, "medium", presets=tuple(_X26X_PRESETS)),
    "av1": _Family("libsvtav1", 22, "6", presets=tuple(map(str, range(14)))),
    "vp9": _Family(
        "libvpx-vp9",
        20,
        "2",
        preset_option="cpu-used",
        presets=tuple(map(str, range(9))),
        options={"deadline": "good", "row-mt": "1"},
    ),
    "prores": _Family("prores_ks"),
    "ffv1": _Family("ffv1", options={"level": "3", "slicecrc": "1"}, keeps_rgb=True),
    "gif": _Family("gif", keeps_rgb=True),
    "apng": _Family("apng", keeps_rgb=True),
    "webp": _Family("libwebp_anim", options={"lossless": "1"}, keeps_rgb=True),
}
_NARROWEST = {"libx265": 64}  # pixels; x265 writes beyond its memory where a row has 48 or fewer
_ALIASES = {"h265": "hevc", "x265": "hevc", "x264": "h264", "avc": "h264", "libx264": "h264"}
_ALIASES |= {family.encoder: name for name, family in FAMILIES.items()}


@dataclass(frozen=True)
class EncoderPlan:
    """An encoder with everything it needs to be opened."""

    encoder: str
    coded_format: str
    """Pixel format the encoder is given."""
    planar_format: str
    """Planar format with the same samples: what `VideoWriter.write` takes."""
    color: ColorSpec
    """Colour of the planes, and the tags to write."""
    options: dict[str, str]


def plan_encoder(
    options: WriterOptions,
    container: str,
    pixel_format: str,
    size: tuple[int, int],
    color: ColorSpec,
    hdr: Mapping[str, str],
) -> EncoderPlan:
    """Choose encoder, pixel format, colour and options.

    Args:
        options: what was asked for.
        container: FFmpeg's name of the container, such as mp4 or webm.
        pixel_format: planar format of the clip.
        size: width, height.
        color: colour of the clip.
        hdr: `ClipInfo.hdr`.

    Raises:
        OptionError: a codec, preset, pixel format or option that does not exist, with the choices.
    """
    source = layout(pixel_format)
    name = options.codec or _default_codec(container, source.bits, size[0])
    name = _ALIASES.get(name, name)
    family = FAMILIES.get(name) or _Family(name, keeps_rgb=not name.startswith(_LOSSY_PREFIXES))
    if size[0] < (least := _NARROWEST.get(family.encoder, 0)):
        raise OptionError(
            f"{family.encoder} needs pictures at least {least} pixels wide, got {size[0]}: "
            "choose another codec, such as h264"
        )
    known = _encoder_options(family.encoder)
    if source.has_alpha and not keeps_alpha(family.encoder, container):
        source = layout(planar_name(source.kind, source.bits, source.shift_x, source.shift_y))
    coded = choose_pixel_format(family.encoder, family.keeps_rgb, options.pix_fmt, source, size)
    planar = working_format(coded, keep_alpha=True)
    chosen = dict(family.options)
    chosen |= _quality(name, family, known, options.crf)
    chosen |= _preset(name, family, known, options.preset)
    for key, value in options.encoder_options.items():
        if key not in known:
            raise OptionError(_unknown(f"encoder option for {family.encoder}", key, known))
        chosen[key] = str(value)
    _add_private_params(family.encoder, chosen, hdr)
    color = target_color(color, source, layout(planar), size, coded, family.encoder)
    if layout(planar).shift_y:  # the tag has a meaning for 4:2:0 alone
        chosen.setdefault("chroma_sample_location", color.chroma_location)
    return EncoderPlan(family.encoder, coded, planar, color, chosen)


def refusal(plan: EncoderPlan, size: tuple[int, int], error: Exception) -> str:
    """One line for an encoder that does not open."""
    options = ", ".join(f"{k}={v}" for k, v in plan.options.items())
    reason = getattr(error, "strerror", None) or str(error)
    return (
        f"{plan.encoder} refuses {size[0]}x{size[1]} {plan.coded_format} with {options}"
        f" ({reason}): change the options"
    )


def _default_codec(container: str, bits: int, width: int) -> str:
    if container in _ONLY_CODECS:
        return _ONLY_CODECS[container]
    if container == "webm":
        return "vp9" if bits == 8 else "av1"
    # hardware decoders play 10-bit HEVC, and none plays 10-bit H.264
    return "h264" if bits == 8 or width < _NARROWEST["libx265"] else "hevc"


@lru_cache(maxsize=32)
def _encoder_options(encoder: str) -> dict[str, CodecOption]:
    """Names of all options an encoder takes.

    Raises:
        OptionError: there is no such video encoder.
    """
    try:
        codec = Codec(encoder, "w")
        if codec.type != "video":
            raise OptionError(f"a video codec is needed, got {encoder!r}, which is {codec.type}")
    except (av.FFmpegError, ValueError) as error:
        if isinstance(error, OptionError):
            raise
        choices = [*FAMILIES, *sorted(av.codecs_available)]
        near = difflib.get_close_matches(encoder, choices, 3)
        hint = f" (near: {', '.join(near)})" if near else ""
        raise OptionError(
            f"there is no video encoder {encoder!r}: choose {', '.join(FAMILIES)}"
            f" or the name of an FFmpeg encoder{hint}"
        ) from error
    found = CodecContext.create(codec, "w").supported_options
    wanted = OptionFlags.ENCODING_PARAM | OptionFlags.VIDEO_PARAM
    generic = [o for o in found.generic if o.flags & wanted == wanted]
    return {o.name: o for o in (*generic, *found.private)}


def _unknown(what: str, got: str, choices: Iterable[str]) -> str:
    names = list(choices)
    near = difflib.get_close_matches(got, names, 5, 0.5) or names[-12:]
    return f"there is no {what} {got!r}: choices are {', '.join(near)}, ..."


def _quality(
    name: str, family: _Family, known: Mapping[str, CodecOption], crf: float | None
) -> dict[str, str]:
    if crf is None:
        return {} if family.crf is None else {"crf": f"{family.crf:g}"}
    option = next((o for o in _QUALITY_OPTIONS if o in known), None)
    if option is None or (name in FAMILIES and family.crf is None):
        raise OptionError(f"{name} has no constant quality: leave crf out, got crf = {crf:g}")
    low, high = max(known[option].min, 0), known[option].max
    high = min(high, 63 if family.encoder in ("libvpx-vp9", "libsvtav1") else 51)
    if not low <= crf <= high:
        raise OptionError(f"crf must lie in {low:g}..{high:g} for {name}, got {crf:g}")
    return {option: f"{crf:g}"}


def _preset(
    name: str, family: _Family, known: Mapping[str, CodecOption], preset: str | None
) -> dict[str, str]:
    if preset is None:
        return {} if family.preset is None else {family.preset_option: family.preset}
    if family.preset_option not in known:
        raise OptionError(f"{name} has no presets: leave preset out, got {preset!r}")
    choices = family.presets or tuple(c.name for c in known[family.preset_option].choices)
    if choices and preset not in choices:
        raise OptionError(f"preset for {name} must be one of {', '.join(choices)}, got {preset!r}")
    return {family.preset_option: preset}


def _add_private_params(encoder: str, chosen: dict[str, str], hdr: Mapping[str, str]) -> None:
    """Pass HDR metadata on, keep encoders from printing to the terminal, and to the same bits."""
    key = {"libx265": "x265-params", "libx264": "x264-params", "libsvtav1": "svtav1-params"}
    if encoder not in key:
        return
    names = {
        "libx265": ("master-display", "max-cll"),
        "libx264": ("mastering-display", "cll"),
        "libsvtav1": ("mastering-display", "content-light"),
    }[encoder]
    # x264's rate control in vector code reads memory it never set, so that bits differ by chance
    always = {"libx265": ["log-level=error"], "libx264": ["cpu-independent=1"]}
    params = always.get(encoder, [])
    for name, value in zip(names, map(hdr.get, ("master-display", "max-cll")), strict=True):
        if value:
            svt = encoder == "libsvtav1" and "G(" in value
            params.append(f"{name}={_svt_display(value) if svt else value}")
    params += [chosen[key[encoder]]] if chosen.get(key[encoder]) else []
    if params:
        chosen[key[encoder]] = ":".join(params)


def _svt_display(value: str) -> str:
    """SVT-AV1 takes the same numbers as decimals."""
    parts = []
    for part in value.rstrip(")").split(")"):
        name, numbers = part.split("(")
        unit = 10000 if name == "L" else 50000
        first, second = (int(n) / unit for n in numbers.split(","))
        parts.append(f"{name}({first:.5g},{second:.5g})")
    return "".join(parts)
