"""Decoding on video hardware, by what FFmpeg has of it: cuda (NVDEC), videotoolbox, d3d11va.

Frames are copied back from the device and go on as all others do, in NV12 or P010, whose samples
are those of a decoder on the processor. Where the device, or the clip's codec on it, is not to be
had, the processor decodes.
"""

import logging
from collections.abc import Callable
from pathlib import Path

import av
from av.codec.hwaccel import HWAccel, hwdevices_available
from av.container import InputContainer

from midflow.errors import OptionError

log = logging.getLogger(__name__)

NO_HARDWARE = "off"


def require_hwaccel(name: str) -> None:
    """Sees that FFmpeg was built with a kind of device.

    Raises:
        OptionError: it was not.
    """
    if name not in (choices := (NO_HARDWARE, *hwdevices_available())):
        raise OptionError(f"hwaccel must be one of {', '.join(choices)} here, got {name!r}")


def open_on(
    name: str, path: Path, open_with: Callable[[HWAccel | None], InputContainer]
) -> InputContainer:
    """Opens a file with its decoders on a kind of device, or without where that fails.

    Args:
        name: one that `require_hwaccel` takes.
        path: for the warning.
        open_with: opens it, given the device or None.

    Raises:
        av.FFmpegError: it cannot be opened without either.
    """
    if name == NO_HARDWARE:
        return open_with(None)
    try:
        container = open_with(HWAccel(name, allow_software_fallback=True))
    except av.FFmpegError as error:
        container = open_with(None)
        reason = error.strerror or str(error)
    else:
        decoders = [stream.codec_context for stream in container.streams.video]
        if any(decoder is not None and decoder.is_hwaccel for decoder in decoders):
            return container
        reason = "FFmpeg has no such decoder for it"
    log.warning("%s: no decoding by %s (%s), the processor does it", path, name, reason)
    return container
