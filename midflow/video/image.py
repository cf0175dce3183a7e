"""Single pictures: PNG at 8 and 16 bits, JPEG and WebP in and out, in RGB, with transparency."""

import io
import logging
import re
import struct
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import torch
from av.codec import CodecContext
from av.video.codeccontext import VideoCodecContext
from torch import Tensor

from midflow.errors import OptionError, VideoError
from midflow.video.color import from_rgb, planes_to_rgb, to_alpha
from midflow.video.frame import ColorSpec
from midflow.video.limits import decoder_options, require_regular, require_size, stated_size
from midflow.video.output import PartialFile
from midflow.video.pixel import is_transparent, layout, pack, unpack, working_format
from midflow.video.source import picture_color

log = logging.getLogger(__name__)

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
_FULL_RANGE_RGB = ColorSpec(matrix="rgb", full_range=True, range_code=2, matrix_code=0)
_JPEG_COLOR = ColorSpec(
    matrix="bt601", full_range=True, chroma_location="center", range_code=2, matrix_code=5
)
_ORIENTATION = 0x0112  # EXIF tag
_EXIF = re.compile(rb"(?:Exif\0\0|eXIf|EXIF....)(?:Exif\0\0)?(II\*\0|MM\0\*)", re.S)
# how an EXIF orientation is undone: quarter turns counter-clockwise, then a left-right flip
_UPRIGHT = {
    2: (0, True), 3: (2, False), 4: (2, True), 5: (3, True),
    6: (3, False), 7: (1, True), 8: (1, False),
}  # fmt: skip


def read_image(path: str | Path) -> tuple[Tensor, int]:
    """Read a picture, upright as its EXIF orientation says; transparency is left out.

    Returns:
        (1, 3, H, W) float32 RGB in [0, 1], and the bits of a sample in the file, 8 or 16.

    Raises:
        VideoError: the file is missing, unreadable, damaged, too large or not a picture.
    """
    rgb, alpha, bits = read_rgba(path)
    if alpha is not None:
        log.warning("%s has transparency: it is left out", path)
    return rgb, bits


def read_rgba(path: str | Path) -> tuple[Tensor, Tensor | None, int]:
    """`read_image` with its transparency.

    Returns:
        RGB, not premultiplied; opacity, (1, 1, H, W) in [0, 1], None for an opaque picture; bits.

    Raises:
        VideoError: as for `read_image`.
    """
    path = Path(path)
    data = _read(path)
    try:
        if size := stated_size(data):
            require_size(*size, path)
        limit = decoder_options()  # whatever the header says
        with av.open(io.BytesIO(data), "r", options=limit) as container:
            if not re.search("_pipe|webp|gif|apng|image2", container.format.name):
                raise VideoError(f"{path} is not a picture ({container.format.long_name})")
            container.streams.video[0].codec_context.options = limit
            frame = next(container.decode(video=0), None)
    except (av.FFmpegError, IndexError) as error:
        raise VideoError(f"{path} cannot be read as a picture: is it whole?") from error
    if frame is not None:
        require_size(frame.width, frame.height, path)
    if frame is None or frame.is_corrupt or _is_cut_short(data):
        raise VideoError(f"{path} cannot be read as a picture: is it whole?")
    planar = working_format(frame.format.name, keep_alpha=is_transparent(frame))
    color = picture_color(frame, layout(planar).kind)
    planes = unpack(frame, planar)
    rgb = planes_to_rgb(planes, color, planar).clamp_(0, 1)
    alpha = to_alpha(planes, planar, rgb.device)
    orientation = _orientation(data)
    bits = 16 if layout(planar).bits > 8 else 8
    return _upright(rgb, orientation), None if alpha is None else _upright(alpha, orientation), bits


def write_image(
    path: str | Path,
    rgb: Tensor,
    bit_depth: int = 8,
    quality: int | None = None,
    overwrite: bool = False,
    alpha: Tensor | None = None,
) -> None:
    """Write a picture under its final name only when it is whole.

    PNG is lossless, JPEG is written without chroma subsampling at the encoder's best quality, WebP
    is lossless unless a quality is given.

    Args:
        path: the extension chooses the format: .png, .jpg, .jpeg or .webp.
        rgb: (1, 3, H, W) or (3, H, W) in [0, 1]; rounded to the nearest code.
        bit_depth: 8, or 16 for PNG; the other formats hold 8.
        quality: 1 to 100 for WebP; None: lossless.
        overwrite: whether an existing file is replaced.
        alpha: opacity, (1, 1, H, W) in [0, 1]; JPEG leaves it out. None: an opaque picture.

    Raises:
        OptionError: another extension, bit depth or quality.
        VideoError: the file exists or cannot be written.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in IMAGE_SUFFIXES:
        choices = ", ".join(IMAGE_SUFFIXES)
        raise OptionError(f"the name of a picture must end in {choices}, got {path.name!r}")
    if bit_depth not in (8, 16):
        raise OptionError(f"bit_depth must be 8 or 16, got {bit_depth}")
    if quality is not None and not 1 <= quality <= 100:
        raise OptionError(f"quality must lie in 1..100, got {quality}")
    file = PartialFile(path, overwrite)
    try:
        file.path.write_bytes(_encode(suffix, rgb, bit_depth, quality, alpha))
    except OSError as error:
        file.discard()
        raise VideoError(f"{path} cannot be written: {error.strerror}") from error
    except BaseException:
        file.discard()
        raise
    file.commit()


def natural_sort(paths: Iterable[str | Path]) -> list[Path]:
    """Sort names as people count: frame2 before frame10, case aside."""

    def key(path: Path) -> list[tuple[int, int, str]]:
        parts = re.split(r"(\d+)", str(path))
        return [(0, int(p), "") if p.isdecimal() else (1, 0, p.lower()) for p in parts if p]

    return sorted(map(Path, paths), key=lambda path: (key(path), str(path)))


def _read(path: Path) -> bytes:
    try:
        if path.is_dir():
            raise VideoError(f"{path} is a folder: give a picture")
        require_regular(path)
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise VideoError(f"{path} does not exist: check the name") from error
    except OSError as error:
        raise VideoError(f"{path} may not be read ({error.strerror})") from error
    if not data:
        raise VideoError(f"{path} is empty (0 bytes): copy or download it again")
    return data


def _encode(
    suffix: str, rgb: Tensor, bit_depth: int, quality: int | None, alpha: Tensor | None
) -> bytes:
    a = "" if alpha is None else "a"
    if suffix in (".jpg", ".jpeg"):
        encoder, planar, coded, color = "mjpeg", "yuv444p", "yuvj444p", _JPEG_COLOR
        options = {"qmin": "1", "qmax": "1"}  # the finest quantiser there is
    elif suffix == ".webp":
        encoder, planar, coded, color = "libwebp", f"gbr{a}p", "bgra", _FULL_RANGE_RGB
        options = {"lossless": "1"} if quality is None else {"quality": str(quality)}
    elif bit_depth == 16:
        encoder, planar, coded, color = (
            "png",
            f"gbr{a}p16le",
            "rgba64be" if a else "rgb48be",
            _FULL_RANGE_RGB,
        )
        options = {}
    else:
        encoder, planar, coded, color = "png", f"gbr{a}p", "rgba" if a else "rgb24", _FULL_RANGE_RGB
        options = {}
    frame = pack(from_rgb(rgb, color, planar, alpha), planar, coded)
    context = CodecContext.create(encoder, "w")
    assert isinstance(context, VideoCodecContext)
    context.width, context.height = frame.width, frame.height
    context.pix_fmt, context.time_base = coded, Fraction(1, 25)
    context.color_range = color.range_code
    context.options = options
    try:
        packets = [*context.encode(frame), *context.encode(None)]
    except av.FFmpegError as error:
        size = f"{frame.width}x{frame.height}"
        raise VideoError(f"{encoder} cannot hold a picture of {size} ({error.strerror})") from error
    return b"".join(bytes(packet) for packet in packets)


def _upright(picture: Tensor, orientation: int) -> Tensor:
    turns, flip = _UPRIGHT.get(orientation, (0, False))
    picture = torch.rot90(picture, turns, (2, 3))
    return (picture.flip(3) if flip else picture).contiguous()


def _is_cut_short(data: bytes) -> bool:
    """Whether a JPEG lacks its end: its decoder fills what is missing with grey, silently."""
    last_scan = data.rfind(b"\xff\xda") if data.startswith(b"\xff\xd8") else -1
    return last_scan >= 0 and b"\xff\xd9" not in data[last_scan:]


def _orientation(data: bytes) -> int:
    """EXIF orientation of a picture file, 1 (upright) where there is none.

    The TIFF block that holds it follows "Exif" in JPEG, and the chunk's name in PNG and WebP.
    """
    found = _EXIF.search(data[: 1 << 20])
    if found is None:
        return 1
    start, order = found.start(1), "<" if found[1] == b"II*\0" else ">"
    try:
        (offset,) = struct.unpack_from(order + "I", data, start + 4)
        (count,) = struct.unpack_from(order + "H", data, start + offset)
        for entry in range(count):
            at = start + offset + 2 + 12 * entry
            tag, _, _, value = struct.unpack_from(order + "HHIH", data, at)
            if tag == _ORIENTATION:
                return int(value)
    except struct.error:
        log.debug("the EXIF block is cut short")
    return 1
