"""Video frame interpolation with RIFE.

import midflow

interp = midflow.Interpolator(midflow.load_model())
middle = interp(img0, img1, timestep=0.5)  # (B, 3, H, W) RGB in [0, 1]
midflow.interpolate_video("in.mp4", "out.mp4", fps="60")
"""

import importlib
from typing import TYPE_CHECKING, Any

from midflow.errors import (
    CheckpointError,
    MidflowError,
    MissingExtraError,
    OptionError,
    UnknownModelError,
    VideoError,
)

if TYPE_CHECKING:
    from midflow.interpolator import Interpolator
    from midflow.nets.checkpoint import load_model, save_model
    from midflow.nets.releases import available_models
    from midflow.pipeline import interpolate_video

__version__ = "0.1.0"

__all__ = [
    "CheckpointError",
    "Interpolator",
    "MidflowError",
    "MissingExtraError",
    "OptionError",
    "UnknownModelError",
    "VideoError",
    "__version__",
    "available_models",
    "interpolate_video",
    "load_model",
    "save_model",
]

# Names that pull in torch are imported at first use, so that `midflow --help` answers at once.
_LAZY = {
    "Interpolator": "midflow.interpolator",
    "available_models": "midflow.nets.releases",
    "interpolate_video": "midflow.pipeline",
    "load_model": "midflow.nets.checkpoint",
    "save_model": "midflow.nets.checkpoint",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'midflow' has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return __all__
