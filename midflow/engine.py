"""Engine: a network as the Interpolator uses it; padding, autocast, a second look, tiles.

And what happens when that fails: values that are no numbers in half precision are computed again in
float32; where memory does not suffice, the engine steps down as `midflow.memory` says.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from midflow.errors import MidflowError
from midflow.memory import Settings, Shortage, is_memory_error
from midflow.nets.prediction import Encoded, Prediction
from midflow.padding import Padding
from midflow.tiles import Part, in_tiles, tile_size

logger = logging.getLogger(__name__)

T = TypeVar("T")

PRECISIONS = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


@dataclass(frozen=True)
class EncodedFrame:
    """A frame as `Interpolator.encode` keeps it: padded and encoded, for any number of pairs."""

    image: Tensor
    """(B, 3, H, W) float32 on the interpolator's device."""
    settings: Settings
    """What it was encoded for."""
    padding: Padding
    """How it was padded."""
    encoded: Encoded
    """What the network keeps of it; in tiles, the padded picture only."""
    turned: Encoded | None
    """The same of the frame turned by 180 degrees, with test-time augmentation."""

    def __len__(self) -> int:
        return len(self.image)


class Engine:
    """Runs a network.

    Args:
        model: the network, on `device`, or what a backend made of it.
        device: where it runs.
        settings: precision, flow scale and tiles; they change where memory does not suffice.
        ensemble: average both directions in every block.
        tta: average with the pair turned by 180 degrees.
    """

    def __init__(
        self, model: Any, device: torch.device, settings: Settings, *, ensemble: bool, tta: bool
    ) -> None:
        self.model = model
        self.device = device
        self.settings = settings
        self.ensemble = ensemble
        self.tta = tta
        self._can_omit_flow = getattr(model, "can_omit_flow", False)
        self._shortage = Shortage(model.config, device)

    @property
    def pad_multiple(self) -> int:
        """Sides are padded to multiples of this."""
        return int(self.model.config.pad_multiple * max(1, 1 / self.settings.flow_scale))

    def encode(self, image: Tensor) -> EncodedFrame:
        """Encodes (B, 3, H, W) float32 on the engine's device."""
        self.settings = self._shortage.foresee(self.settings, image.shape)
        return self._attempt(lambda: self._encode(image), image)

    def frame(self, enc0: EncodedFrame, enc1: EncodedFrame, times: Tensor) -> Tensor:
        """Paints (B, 3, H, W) at `times` (B,)."""
        return self._predict(enc0, enc1, times, only_frame=True).frame

    def predict(self, enc0: EncodedFrame, enc1: EncodedFrame, times: Tensor) -> Prediction:
        """The same with the motion behind it."""
        return self._predict(enc0, enc1, times, only_frame=False)

    def _predict(
        self, enc0: EncodedFrame, enc1: EncodedFrame, times: Tensor, *, only_frame: bool
    ) -> Prediction:
        """Of `only_frame` the flow and the weight are of no use, and may be empty."""

        def together(prediction: Prediction) -> Tensor:
            return prediction.frame if only_frame else torch.cat(prediction, 1)

        def work() -> Prediction:
            before, after = self._fitting(enc0), self._fitting(enc1)
            unpad = before.padding.unpad
            if not self.settings.tile:
                frame, flow, weight = self._look_twice(before, after, times, only_frame)
                if only_frame:
                    return Prediction(unpad(frame), flow, weight)
                return Prediction(unpad(frame), unpad(flow), unpad(weight))
            whole = unpad(
                in_tiles(
                    lambda crop: together(self._tile(before, after, times, crop, only_frame)),
                    before.padding.padded,
                    tile_size(self.settings.tile, self.pad_multiple),
                )
            )
            return Prediction(whole[:, :3], whole[:, 3:7], whole[:, 7:])

        return self._attempt(work, enc0.image)

    def _fitting(self, frame: EncodedFrame) -> EncodedFrame:
        """The frame, encoded again if the settings have changed since."""
        return frame if frame.settings == self.settings else self._encode(frame.image)

    def _encode(self, image: Tensor) -> EncodedFrame:
        padding = Padding(image.shape[-2], image.shape[-1], self.pad_multiple)
        padded = padding.pad(image)
        if self.settings.tile:
            return EncodedFrame(image, self.settings, padding, Encoded(padded), None)
        return EncodedFrame(image, self.settings, padding, *self._both_ways(padded))

    def _both_ways(self, padded: Tensor) -> tuple[Encoded, Encoded | None]:
        with self._autocast():
            encoded = self.model.encode_frame(padded)
            return encoded, self.model.encode_frame(padded.flip(2, 3)) if self.tta else None

    def _tile(
        self,
        enc0: EncodedFrame,
        enc1: EncodedFrame,
        times: Tensor,
        crop: Part,
        only_frame: bool,
    ) -> Prediction:
        before, after = (
            replace(frame, encoded=encoded, turned=turned)
            for frame in (enc0, enc1)
            for encoded, turned in [self._both_ways(crop(frame.encoded.image).contiguous())]
        )
        return self._look_twice(before, after, times, only_frame)

    def _look_twice(
        self, enc0: EncodedFrame, enc1: EncodedFrame, times: Tensor, only_frame: bool
    ) -> Prediction:
        prediction = self._run(enc0.encoded, enc1.encoded, times, only_frame)
        if enc0.turned is None or enc1.turned is None:
            return prediction
        turned = self._run(enc0.turned, enc1.turned, times, only_frame)
        return Prediction(
            (prediction.frame + turned.frame.flip(2, 3)) / 2,
            (prediction.flow - turned.flow.flip(2, 3)) / 2,
            (prediction.weight + turned.weight.flip(2, 3)) / 2,
        )

    def _run(self, enc0: Encoded, enc1: Encoded, times: Tensor, only_frame: bool) -> Prediction:
        omitted = {"only_frame": True} if only_frame and self._can_omit_flow else {}
        with self._autocast():
            return self.model(  # type: ignore[no-any-return]
                enc0,
                enc1,
                times,
                flow_scale=self.settings.flow_scale,
                ensemble=self.ensemble,
                **omitted,
            )

    def _autocast(self) -> torch.autocast:
        dtype = PRECISIONS[self.settings.precision]
        return torch.autocast(self.device.type, dtype, enabled=dtype is not torch.float32)

    def _attempt(self, work: Callable[[], T], image: Tensor) -> T:
        """The result of `work`, repeated with other settings where it fails."""
        while True:
            try:
                result = work()
            except (MemoryError, RuntimeError) as error:
                if not is_memory_error(error):
                    raise
                failure = str(error).partition("\n")[0]
            else:
                if self._is_sound(result):
                    return result
                self.settings = replace(self.settings, precision="float32")
                continue
            self._step_down(failure, image)

    def _step_down(self, failure: str, image: Tensor) -> None:
        """Chooses settings that need less; outside of the handler, so that it holds no memory."""
        if hasattr(self.model, "release_memory"):
            self.model.release_memory()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        following = self._shortage.next(self.settings, image.shape)
        if following is None:
            height, width = image.shape[-2:]
            raise MidflowError(
                f"{width}x{height} does not fit into the memory of {self.device} even in tiles of "
                f"{self.settings.tile} pixels: {failure}"
            )
        self.settings = following

    def _is_sound(self, result: object) -> bool:
        """Whether a painted picture holds numbers only; float32 is taken as it comes."""
        if self.settings.precision == "float32" or not isinstance(result, Prediction):
            return True
        # a sum is no number where one of its parts is none; one pass, and nothing is kept
        if bool(torch.stack([part.sum(dtype=torch.float32) for part in result]).isfinite().all()):
            return True
        logger.warning(
            "%s gave values that are no numbers: going on in float32", self.settings.precision
        )
        return False
