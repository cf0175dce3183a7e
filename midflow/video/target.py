"""The pixel format and colour an encoder is given: as near to the clip's own as it takes."""

import logging
from dataclasses import replace

import av
from av.codec import Codec

from midflow.errors import OptionError
from midflow.video.frame import RANGE_FULL, RANGE_LIMITED, ColorSpec
from midflow.video.pixel import PixelLayout, has_alpha, layout, working_format

log = logging.getLogger(__name__)

_RGB_CODE = 0  # H.273 matrix coefficients of RGB
_BT2020_PRIMARIES = 9
# encoders that store odd sizes with subsampled chroma; others refuse or round the size
_ODD_SIZES = {
    "libvpx-vp9",
    "libvpx",
    "libsvtav1",
    "ffv1",
    "ffvhuff",
    "gif",
    "mjpeg",
    "prores_ks",
    "prores",
}


# encoders whose transparency the decoders here give back
_ALPHA_ENCODERS = {
    "apng",
    "cfhd",
    "ffv1",
    "ffvhuff",
    "huffyuv",
    "libwebp_anim",
    "png",
    "prores_ks",
    "qtrle",
    "rawvideo",
    "utvideo",
}
_ALPHA_CONTAINERS = {"libvpx-vp9": ("webm", "matroska")}  # as a second picture beside the first


def keeps_alpha(encoder: str, container: str) -> bool:
    """Whether transparency that is given to an encoder can be had back from the file."""
    return encoder in _ALPHA_ENCODERS or container in _ALPHA_CONTAINERS.get(encoder, ())


def choose_pixel_format(
    encoder: str, keeps_rgb: bool, asked: str | None, source: PixelLayout, size: tuple[int, int]
) -> str:
    """The encoder's pixel format nearest to the clip's, or the one asked for."""
    offered = Codec(encoder, "w").video_formats
    names = [f.name for f in offered or ()]
    if asked is not None:
        try:
            planar = layout(working_format(asked, keep_alpha=True))
        except ValueError as error:
            raise OptionError(
                f"there is no pixel format {asked!r}: {encoder} takes {', '.join(names)}"
            ) from error
        if names and asked not in names:
            raise OptionError(
                f"{encoder} takes the pixel formats {', '.join(names)}, got {asked!r}"
            )
        if not _holds(encoder, planar, size):
            raise OptionError(
                f"{encoder} stores {asked} only in even sizes, got {size[0]}x{size[1]}:"
                " choose yuv444p, or a codec such as vp9, av1 or ffv1"
            )
        return asked
    if encoder == "gif":
        return "pal8"
    names = names or [source.name]
    # libwebp knows no RGB without alpha
    any_alpha = source.has_alpha or (encoder == "libwebp_anim" and source.kind == "rgb")
    usable = [n for n in names if (any_alpha or not has_alpha(n)) and _is_plain(n)]
    forms = {n: layout(working_format(n, keep_alpha=True)) for n in usable}
    fitting = [n for n in usable if _holds(encoder, forms[n], size)]
    if source.kind != "gray":
        fitting = [n for n in fitting if forms[n].kind != "gray"]
    if not fitting:
        raise OptionError(
            f"{encoder} has no pixel format for a picture of {size[0]}x{size[1]}:"
            " choose another codec"
        )
    wanted = source
    if source.kind != "yuv" and not keeps_rgb:
        wanted = replace(source, kind="yuv", shift_x=1, shift_y=1)
    best = min(fitting, key=lambda n: _distance(wanted, n))
    _report(source, wanted, forms[best], size)
    return best


def _is_plain(name: str) -> bool:
    """Formats in memory, without palette, in 16 bits at most, and without the yuvj double."""
    parts = av.VideoFormat(name, 16, 16)
    if not parts.components or parts.has_palette or name.startswith(("x2", "yuvj")):
        return False
    return 8 <= max(c.bits for c in parts.components) <= 16 and "f" not in name


def _holds(encoder: str, form: PixelLayout, size: tuple[int, int]) -> bool:
    """Whether the encoder can store this size exactly in this format."""
    odd = size[0] % (1 << form.shift_x) or size[1] % (1 << form.shift_y)
    return not odd or encoder in _ODD_SIZES


def _distance(wanted: PixelLayout, name: str) -> tuple[float, ...]:
    """How much a format loses (first), then how much it spends in vain."""
    form = layout(working_format(name, keep_alpha=True))
    wrong_kind = form.kind != wanted.kind
    lost_alpha = wanted.has_alpha and not form.has_alpha
    lost_bits = max(0, wanted.bits - form.bits)
    shifts = (form.shift_x - wanted.shift_x, form.shift_y - wanted.shift_y)
    lost_chroma = sum(max(0, s) for s in shifts)
    spent = abs(form.bits - wanted.bits) + sum(abs(s) for s in shifts)
    return (lost_alpha, wrong_kind, lost_bits, lost_chroma, spent, name != form.name)


def _report(
    source: PixelLayout, wanted: PixelLayout, chosen: PixelLayout, size: tuple[int, int]
) -> None:
    if chosen.bits < source.bits:
        log.warning(
            "the encoder takes %d bits: %s becomes %s", chosen.bits, source.name, chosen.name
        )
    if wanted.shift_x > chosen.shift_x and (size[0] % 2 or size[1] % 2):
        log.info(
            "%dx%d is odd, which this encoder cannot store as %s: written as %s",
            *size,
            wanted.name,
            chosen.name,
        )


def target_color(
    color: ColorSpec,
    source: PixelLayout,
    target: PixelLayout,
    size: tuple[int, int],
    coded: str,
    encoder: str,
) -> ColorSpec:
    """Colour of the output: the clip's own, unless it changes between RGB and YUV."""
    if target.kind == "rgb":
        return replace(
            color, matrix="rgb", full_range=True, matrix_code=_RGB_CODE, range_code=RANGE_FULL
        )
    if coded.startswith("yuvj") or encoder == "mjpeg":
        color = replace(color, full_range=True, range_code=RANGE_FULL)
    if source.kind == target.kind:
        return color
    if color.primaries == _BT2020_PRIMARIES:
        matrix, code = "bt2020", 9
    else:
        is_sd = size[0] <= 1024 and size[1] <= 576
        matrix, code = ("bt601", 6) if is_sd else ("bt709", 1)
    full = encoder == "mjpeg"
    return replace(
        color,
        matrix=matrix,
        matrix_code=code,
        full_range=full,
        range_code=RANGE_FULL if full else RANGE_LIMITED,
    )
