"""What anyone has without a network: the bar that every model has to clear.

Frames are mixed in levels of 0 to 255, where the middle of two whole levels is exact: in [0, 1] it
is not, and which way the many ties are rounded moves the error of averaging by 0.004 levels.
"""

from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from midflow.errors import MissingExtraError, OptionError

BASELINES = ("average", "dis")


class Average:
    """Mixes both frames by time; moving things appear twice."""

    identity = "average"

    def __call__(self, img0: Tensor, img1: Tensor, timestep: float) -> Tensor:
        """(B, 3, H, W) in [0, 1] at `timestep` in [0, 1]."""
        return _mix(img0 * 255, img1 * 255, timestep) / 255


class DenseInverseSearch:
    """OpenCV's DIS optical flow both ways, both frames warped to the middle and mixed.

    Flow of Kroeger et al., "Fast Optical Flow using Dense Inverse Search" (ECCV 2016), medium
    preset; flow at time t from the flows between the frames as in Jiang et al., "Super SloMo"
    (CVPR 2018), equation 4.

    Raises:
        MissingExtraError: OpenCV is not installed.
    """

    def __init__(self) -> None:
        try:
            import cv2
        except ImportError as error:
            raise MissingExtraError("OpenCV", "eval") from error
        self._cv2: Any = cv2
        self.identity = f"dis medium, OpenCV {cv2.__version__}"

    def __call__(self, img0: Tensor, img1: Tensor, timestep: float) -> Tensor:
        """(B, 3, H, W) in [0, 1] at `timestep` in [0, 1]."""
        flow, _ = self.flow(img0, img1, timestep)
        warped0 = self._warp(img0 * 255, flow[:, :2])
        warped1 = self._warp(img1 * 255, flow[:, 2:])
        return _mix(warped0, warped1, timestep) / 255

    def flow(self, img0: Tensor, img1: Tensor, timestep: float = 0.5) -> tuple[Tensor, Tensor]:
        """Flow (B, 4, H, W) in pixels from time t to both frames; weight of frame 0 (B, 1, H, W).

        Raises:
            OptionError: the frames are too small for the search.
        """
        t = timestep
        flow01 = self.search(img0, img1)
        flow10 = self.search(img1, img0)
        flow_t0 = -(1 - t) * t * flow01 + t * t * flow10
        flow_t1 = (1 - t) ** 2 * flow01 - t * (1 - t) * flow10
        weight = torch.full_like(img0[:, :1], 1 - t)
        return torch.cat((flow_t0, flow_t1), 1), weight

    def search(self, img0: Tensor, img1: Tensor) -> Tensor:
        """Flow (B, 2, H, W) from each frame to its partner."""
        cv2 = self._cv2
        search = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        flows = []
        for pair in zip(img0, img1, strict=True):
            grays = [cv2.cvtColor(_to_bytes(image), cv2.COLOR_RGB2GRAY) for image in pair]
            try:
                flow = search.calc(*grays, None)
            except cv2.error as error:
                height, width = grays[0].shape
                raise OptionError(
                    f"DIS flow cannot search frames of {width}x{height}: use larger frames"
                ) from error
            flows.append(torch.from_numpy(flow).permute(2, 0, 1))
        return torch.stack(flows).to(img0.device)

    def _warp(self, image: Tensor, flow: Tensor) -> Tensor:
        """Each pixel of the result comes from where `flow` points to, borders repeated."""
        cv2 = self._cv2
        height, width = image.shape[-2:]
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        warped = []
        for picture, (dx, dy) in zip(image.float().cpu(), flow.cpu(), strict=True):
            moved = cv2.remap(
                picture.permute(1, 2, 0).contiguous().numpy(),
                (x + dx).numpy(),
                (y + dy).numpy(),
                cv2.INTER_LINEAR,
                borderMode=cv2.BORDER_REPLICATE,
            )
            warped.append(torch.from_numpy(moved).permute(2, 0, 1))
        return torch.stack(warped).to(image.device)


Baseline = Average | DenseInverseSearch


def check_baseline(name: str) -> None:
    """Refuses names that are not baselines.

    Raises:
        OptionError: no baseline has the name.
    """
    if name not in BASELINES:
        raise OptionError(f"baselines must be among {', '.join(BASELINES)}, got {name!r}")


def open_baseline(name: str) -> Baseline:
    """The baseline of a name.

    Raises:
        OptionError: no baseline has it.
        MissingExtraError: it needs a package that is not installed.
    """
    check_baseline(name)
    return Average() if name == "average" else DenseInverseSearch()


def installed_baselines() -> dict[str, Baseline]:
    """Every baseline that works here: averaging, and DIS flow where OpenCV is installed."""
    names = BASELINES if find_spec("cv2") else BASELINES[:1]
    return {name: open_baseline(name) for name in names}


def _mix(levels0: Tensor, levels1: Tensor, timestep: float) -> Tensor:
    return levels0 * (1 - timestep) + levels1 * timestep


def _to_bytes(image: Tensor) -> Any:
    """(3, H, W) in [0, 1] to a numpy picture (H, W, 3) of bytes."""
    levels = image.float().mul(255).round().clamp(0, 255).to(torch.uint8)
    return levels.permute(1, 2, 0).contiguous().cpu().numpy()
