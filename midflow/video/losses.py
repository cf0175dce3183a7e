"""What is said, once, of a source that could not be read as a whole."""

import logging
from fractions import Fraction

from midflow.video.frame import ClipInfo

log = logging.getLogger(__name__)

# a file that ends earlier than it says, by more than both, is reported as cut short
_MISSING_SECONDS, _MISSING_FRAMES = 1, 5


def report_losses(
    info: ClipInfo, damaged: int, interlaced: int, stated: Fraction | None, end: Fraction
) -> None:
    """Warn of what was lost.

    Args:
        info: the clip.
        damaged: packets and frames that could not be decoded whole.
        interlaced: frames that are marked as interlaced.
        stated: seconds the file says it lasts; None where it does not say.
        end: where the last frame ends, seconds on the clip's time axis.
    """
    if damaged:
        log.warning(
            "%s is damaged: %d packets or frames could not be decoded whole", info.path, damaged
        )
    if interlaced and not info.is_interlaced:
        log.warning(
            "%s is interlaced in part (%d frames): --deinterlace frames makes them whole",
            info.path,
            interlaced,
        )
    if stated is None or info.is_trimmed:
        return
    missing = info.start + stated - end
    if missing > _MISSING_SECONDS and missing * info.frame_rate > _MISSING_FRAMES:
        log.warning(
            "%s is cut short: it should last %.2f s and ends %.2f s early",
            info.path,
            stated,
            missing,
        )
