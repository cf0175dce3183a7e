"""Interpolator: two frames and a time between them in, the frame in between out.

The door between pictures of any size and a network.
"""

import logging
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from midflow import arrays
from midflow.backends import open_backend
from midflow.bisection import nearest_dyadic, plan_depth
from midflow.device import choose_device
from midflow.engine import PRECISIONS, EncodedFrame, Engine
from midflow.errors import OptionError
from midflow.memory import Settings
from midflow.nets.config import FLOW_SCALES, IFNetConfig
from midflow.nets.legacy import LegacyConfig
from midflow.nets.prediction import Prediction
from midflow.nets.pyramid_config import PyramidConfig
from midflow.overlay import read_protection, without_ghosts
from midflow.tiles import SMALLEST_TILE
from midflow.wire_painter import WIRES_WORDS, WirePainter

logger = logging.getLogger(__name__)


class Interpolator:
    """Paints frames between frames.

    Args:
        model: a network from `midflow.load_model`; it is moved to `device`.
        device: "auto" (CUDA, then MPS, then CPU), or any torch device.
        precision: "float32", "bfloat16", "float16" or "auto" (`midflow.backends.open_backend`) for
            the convolutions; flow, sampling grid and blending are float32 always.
        flow_scale: 0.25, 0.5, 1, 2 or 4: resolution at which motion is sought; below 1 for
            very large pictures or motion, above 1 for small ones.
        ensemble: average both directions in every block, where the network has it.
        tta: average with the pair turned by 180 degrees (twice the time).
        backend: what runs the network: "auto" or one of `midflow.backends.BACKENDS`.
        protect: "auto" leaves pixels untouched that stand still in both frames before something
            that moves (`midflow.overlay`); "off"; or a picture file or a tensor (1, 1, H, W), 1
            (white) where frames stay as the nearer input.
        wires: "auto" finds thin things that move against their background and paints them apart
            (`midflow.wires`), where the network knows any time and paints whole frames; "off".
        tile: side, in pixels, of overlapping tiles that very large pictures are painted in, 256 or
            more; 0 paints them whole while memory suffices (`midflow.memory`).

    Raises:
        OptionError: where an option is outside its range, or the network or the backend lacks it.
        MissingExtraError: what the backend needs is not installed.
        VideoError: the picture of `protect` cannot be read.
    """

    def __init__(
        self,
        model: nn.Module,
        device: str | torch.device = "auto",
        precision: str = "auto",
        flow_scale: float = 1.0,
        ensemble: bool = False,
        tta: bool = False,
        backend: str = "auto",
        protect: str | Path | Tensor = "auto",
        wires: str = "auto",
        tile: int = 0,
    ) -> None:
        if not isinstance(model, nn.Module) or not hasattr(model, "encode_frame"):
            raise OptionError(
                f"model must be a network from midflow.load_model(...), got {type(model).__name__}"
            )
        _check_choice("precision", precision, ("auto", *PRECISIONS))
        _check_choice("flow_scale", flow_scale, FLOW_SCALES)
        _check_choice("wires", wires, WIRES_WORDS)
        self.config: IFNetConfig | LegacyConfig | PyramidConfig = model.config  # type: ignore[assignment]
        if ensemble and not self.config.has_ensemble:
            raise OptionError(
                f"{model.release or 'this network'} has no ensemble: the features it carries from "
                "block to block, or its fixed time, have no swapped form; tta=True works"
            )
        if tile and tile < SMALLEST_TILE:
            raise OptionError(f"tile must be 0 or at least {SMALLEST_TILE} pixels, got {tile}")
        self.device, self.device_reason = choose_device(device)
        settings = Settings(precision, float(flow_scale), tile)
        self.model: Any = model
        self.backend, painter, settings = open_backend(
            backend, model, self.device, settings, ensemble=ensemble
        )
        self._engine = Engine(painter, self.device, settings, ensemble=ensemble, tta=tta)
        self.protection = read_protection(protect)
        self.wires = wires
        self._wire_painter = WirePainter()
        self._has_said_bisection = False

    @property
    def has_timestep(self) -> bool:
        """Whether the network reaches any time directly; the others bisect."""
        return bool(self.config.has_timestep)

    @property
    def settings(self) -> Settings:
        """Precision, flow scale and tiles as they are used: less than asked for on a shortage."""
        return self._engine.settings

    @property
    def precision(self) -> str:
        """Of the convolutions."""
        return self.settings.precision

    @property
    def flow_scale(self) -> float:
        """Resolution at which motion is sought."""
        return self.settings.flow_scale

    @property
    def ensemble(self) -> bool:
        """Whether both directions are averaged inside the network."""
        return self._engine.ensemble

    @property
    def tta(self) -> bool:
        """Whether the pair is painted a second time, turned."""
        return self._engine.tta

    @property
    def _paints_wires(self) -> bool:
        return self.wires == "auto" and self.has_timestep and not self.settings.tile

    @torch.inference_mode()
    def encode(self, img: Tensor | EncodedFrame) -> EncodedFrame:
        """Does once what depends on one frame only; the result stands for the frame in every call.

        Args:
            img: (B, 3, H, W) float RGB in [0, 1] on any device.

        Raises:
            OptionError: for another shape or type, or values that are not in [0, 1].
        """
        if isinstance(img, EncodedFrame):
            return img
        arrays.check_image(img)
        return self._engine.encode(img.to(self.device, torch.float32))

    @torch.inference_mode()
    def __call__(
        self,
        img0: Tensor | EncodedFrame,
        img1: Tensor | EncodedFrame,
        timestep: float | Sequence[float] | Tensor = 0.5,
    ) -> Tensor:
        """Paints the frame at `timestep` between two frames.

        Args:
            img0: (B, 3, H, W) float RGB in [0, 1], or what `encode` made of it.
            img1: the later frame, same size.
            timestep: in [0, 1]; a number for all, or one for each of the B pairs; a single pair
                takes any number T of timesteps, which run as one batch. At 0 and 1 the result is
                the input, and between two identical frames it is that frame.

        Returns:
            (B, 3, H, W), or (T, 3, H, W) for a single pair, float32 on the interpolator's device.

        Raises:
            OptionError: for sizes, types or times that do not fit.
        """
        enc0, enc1, times = self._checked(img0, img1, timestep)
        still = self.protection.find(enc0.image, enc1.image)
        if not self.has_timestep:
            frames = self._bisect(enc0, enc1, times)
        elif still is None and not self._paints_wires:
            frames = self._engine.frame(enc0, enc1, times)
        else:
            prediction = self._engine.predict(enc0, enc1, times)
            if self._paints_wires:
                prediction = self._wire_painter(prediction, enc0.image, enc1.image, times)
            frames = prediction.frame
            if still is not None:
                frames = without_ghosts(prediction, enc0.image, enc1.image, still)
        frames = self.protection(frames, enc0.image, enc1.image, times, still)
        return arrays.with_inputs(frames, enc0.image, enc1.image, times)

    @torch.inference_mode()
    def predict(
        self,
        img0: Tensor | EncodedFrame,
        img1: Tensor | EncodedFrame,
        timestep: float | Sequence[float] | Tensor = 0.5,
    ) -> Prediction:
        """What a call paints, and the motion behind it; arguments as for a call.

        Returns:
            The frame; flow (B, 4, H, W) in pixels, [:, :2] from time t to frame 0, [:, 2:] to frame
            1, each (dx, dy); and the blend weight of frame 0, (B, 1, H, W) in [0, 1].

        Raises:
            OptionError: as in a call, and for times other than 0.5 where no other is known.
        """
        enc0, enc1, times = self._checked(img0, img1, timestep)
        if not self.has_timestep and bool((times != 0.5).any()):
            raise OptionError(
                f"this network estimates flow at timestep 0.5 only, got {timestep = }"
            )
        return self._engine.predict(enc0, enc1, times)

    def flow(
        self,
        img0: Tensor | EncodedFrame,
        img1: Tensor | EncodedFrame,
        timestep: float | Sequence[float] | Tensor = 0.5,
    ) -> tuple[Tensor, Tensor]:
        """The motion behind a frame: flow and weight as `predict` gives them.

        Raises:
            OptionError: as for `predict`.
        """
        return self.predict(img0, img1, timestep)[1:]

    def sequence(
        self, frames: "arrays.Frames", factor: int | float | Fraction = 2
    ) -> "arrays.Frames":
        """Raises the rate of a sequence: `factor` frames for each step from frame to frame.

        Args:
            frames: a tensor (N, 3, H, W), a numpy array (N, H, W, 3) or a list of PIL images.
                Floats are RGB in [0, 1], whole numbers use the full range of their type.
            factor: at least 1; frame k of the result is at input position k / factor.

        Returns:
            The same kind, type and device: floor((N - 1) * factor) + 1 frames. Frames that fall on
            an input are that input.

        Raises:
            OptionError: for an empty sequence, another kind, or a factor below 1.
        """
        return arrays.interpolate(self, frames, factor)

    def _checked(
        self,
        img0: Tensor | EncodedFrame,
        img1: Tensor | EncodedFrame,
        timestep: float | Sequence[float] | Tensor,
    ) -> tuple[EncodedFrame, EncodedFrame, Tensor]:
        enc0, enc1 = self.encode(img0), self.encode(img1)
        if enc0.image.shape != enc1.image.shape:
            raise OptionError(
                "img0 and img1 must have one shape, "
                f"got {tuple(enc0.image.shape)} and {tuple(enc1.image.shape)}"
            )
        times = torch.as_tensor(timestep, dtype=torch.float32, device=self.device).reshape(-1)
        if len(times) not in (1, len(enc0)) and len(enc0) != 1:
            raise OptionError(
                f"timestep must be one number or one for each of the {len(enc0)} pairs, "
                f"got {len(times)}"
            )
        if len(times) == 0 or not bool(((times >= 0) & (times <= 1)).all()):
            raise OptionError(f"timestep must be between 0 and 1, got {timestep}")
        return enc0, enc1, times.expand(len(enc0)) if len(times) == 1 else times

    def _bisect(self, enc0: EncodedFrame, enc1: EncodedFrame, times: Tensor) -> Tensor:
        """Reaches `times` by halving intervals, for networks that only know t = 0.5."""
        if len(enc0) > 1:
            pairs = zip(*(x.unbind() for x in (enc0.image, enc1.image, times)), strict=True)
            return torch.cat(
                [
                    self._bisect(self.encode(a[None]), self.encode(b[None]), t[None])
                    for a, b, t in pairs
                ]
            )
        wanted = times.tolist()
        depth = plan_depth(wanted)
        self._say_bisection(wanted, depth)
        known = {Fraction(0): enc0, Fraction(1): enc1}
        return torch.cat([self._reach(nearest_dyadic(t, depth), known).image for t in wanted])

    def _reach(self, time: Fraction, known: dict[Fraction, EncodedFrame]) -> EncodedFrame:
        if time not in known:
            half = Fraction(1, time.denominator)
            before, after = self._reach(time - half, known), self._reach(time + half, known)
            middle = torch.full((1,), 0.5, device=self.device)
            known[time] = self._engine.encode(self._engine.frame(before, after, middle))
        return known[time]

    def _say_bisection(self, wanted: list[float], depth: int) -> None:
        if not self._has_said_bisection and any(nearest_dyadic(t, depth) != t for t in wanted):
            logger.warning(
                "this network knows timestep 0.5 only: others are reached by halving, "
                "rounded to the nearest 1/%d",
                2**depth,
            )
            self._has_said_bisection = True


def _check_choice(name: str, value: object, choices: tuple[object, ...]) -> None:
    if value not in choices:
        raise OptionError(f"{name} must be one of {', '.join(map(str, choices))}, got {value!r}")
