"""One frame encoded, one pair painted: a PyramidNet's kernels and convolutions in their order."""

import torch
import torch.nn.functional as F
from torch import Tensor

from midflow.native.library import Buffers, Job, run, set_outputs
from midflow.native.packing import STATE, VIEW, pack
from midflow.nets.prediction import Encoded, Prediction
from midflow.nets.pyramid import PyramidNet
from midflow.nets.pyramid_blocks import PASSING
from midflow.nets.pyramid_config import CELL, PyramidConfig

_LANES = 16  # as in kernels.c
_MOST_FEATURES = 8  # what fits into an estimate of 16 channels beside flow, logit and time


def fits(config: PyramidConfig) -> bool:
    """Whether the kernels are made for such a network."""
    return (
        config.width % 8 == 0
        and config.matched % 8 == 0
        and config.matched <= 64
        and config.features <= _MOST_FEATURES
        and config.radius <= 4
        and config.detail > 0
    )


class PyramidPainter:
    """Runs a network for a batch of one, in one precision.

    Args:
        model: the network; its weights are copied.
        dtype: of the elements that convolutions read, float32 or bfloat16.
    """

    encodes_scale = True
    """Whether a frame is encoded otherwise at another flow scale."""

    def __init__(self, model: PyramidNet, dtype: torch.dtype) -> None:
        self.config = model.config
        self.dtype = dtype
        self._buffers = Buffers()
        with torch.no_grad():
            self._convolutions = pack(model, dtype)

    def encode(self, image: Tensor, flow_scale: float) -> list[Tensor]:
        """Range (at least [0, 1]) and pixels of the picture, each level's picture and features."""
        self._buffers.fit(image.shape)
        full, elements = self._interleaved(image)
        twice, factor = full, self.config.scales[-1] / flow_scale / 2
        if factor < 1:
            larger = F.interpolate(image, scale_factor=1 / factor, mode="bilinear")
            twice, elements = self._interleaved(larger)
        while factor > 1:
            (twice, elements), factor = self._halved(twice), factor / 2
        levels: list[Tensor] = []
        for _ in self.config.scales:
            features = elements
            *inner, last = self._convolutions.encoder
            for convolution in inner:
                features = convolution(features, self._buffers)
            features = last(features, self._buffers, keep=True)
            twice, elements = self._halved(twice)
            levels = [twice, features, *levels]
        low, high = torch.aminmax(image)
        ends = torch.stack((low.clamp(max=0), high.clamp(min=1))).float()
        return [ends.view(1, 1, 1, 2), full, *levels]

    def _interleaved(self, image: Tensor) -> tuple[Tensor, Tensor]:
        height, width = image.shape[-2:]
        image = image.float().contiguous()
        picture = torch.empty(1, height, width, 4)
        elements = torch.empty(1, height, width, 4, dtype=self.dtype)
        job = Job(height=height, width=width, source=image, picture0=picture, x=elements)
        run("interleave", job, height, self.dtype)
        return picture, elements

    def _halved(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        """Half of the picture in whole cells, and what the encoder reads at the next level."""
        _, rows, columns, _ = picture.shape
        height, width = (_rounded(side, 2 * CELL) // 2 for side in (rows, columns))
        half = torch.empty(1, height, width, 4)
        high, wide = (_rounded(side, 2 * CELL) for side in (height, width))
        elements = torch.empty(1, high, wide, 4, dtype=self.dtype)
        job = Job(height=height, width=width, source=picture, picture0=half, x=elements)
        job.previous_height, job.previous_width = rows, columns
        run("halve", job, high, self.dtype)
        return half, elements

    def paint(
        self, enc0: Encoded, enc1: Encoded, time: float, flow_scale: float, only_frame: bool
    ) -> Prediction:
        """As `PyramidNet.forward`; with `only_frame` flow and weight are empty.

        Both frames are encoded for `flow_scale`.
        """
        self._buffers.fit(enc0.image.shape)
        state = self._levels(enc0.features[2:], enc1.features[2:], time)
        return self._full_size(enc0, enc1, state, time, only_frame)

    def _levels(
        self, features0: tuple[Tensor, ...], features1: tuple[Tensor, ...], time: float
    ) -> Tensor:
        """The estimate (1, h, w, 16) after the last level."""
        state: Tensor | None = None
        for i in range(0, len(features0), 2):
            picture = features0[i]
            _, height, width, _ = picture.shape
            job = self._job(height, width, time, state)
            job.ratio = 2
            if self.config.leaves_slow(i // 2):
                job.slowest = 1
            job.update(
                (
                    ("picture0", picture),
                    ("features0", features0[i + 1]),
                    ("picture1", features1[i]),
                    ("features1", features1[i + 1]),
                )
            )
            state = self._level(job, height, width, i)
        assert state is not None
        return state

    def _job(self, height: int, width: int, time: float, previous: Tensor | None) -> Job:
        """What every kernel of one size needs; the estimate before is of any other size."""
        missed = self._buffer("missed", 2, height, width)
        job = Job(
            height=height,
            width=width,
            encoder_width=self.config.width,
            features=self.config.features,
            matched=self.config.matched,
            radius=self.config.radius,
            time=time,
            missed=missed,
        )
        if previous is not None:
            job.previous_height, job.previous_width = previous.shape[1:3]
            job.ratio = width / job.previous_width
            job.previous = previous.data_ptr()
        return job

    def _level(self, job: Job, height: int, width: int, level: int) -> Tensor:
        """Runs the block at one level."""
        x = self._elements("x", 1, height, width, 2 * self.config.width + 2 * STATE)
        views = self._elements("views", 2, height, width, self.config.width + VIEW)
        job.update((("x", x), ("views", views)))
        run("level_inputs", job, height, self.dtype)
        merged = self._merged(x, views, height // 2, width // 2)
        for convolution in (self._convolutions.merge, *self._convolutions.trunk):
            merged = convolution(merged, self._buffers)
        out = self._convolutions.lastconv(merged, self._buffers)
        # each level its own: small ones have the size of the next, which reads it
        state = self._buffer(f"state {level}", 1, height, width, STATE)
        job.update((("out", out), ("state", state)))
        run("update", job, height, self.dtype)
        return state

    def _merged(self, x: Tensor, views: Tensor, height: int, width: int) -> Tensor:
        """The entrance's output beside the likeness of the views, at half the level's size."""
        count, radius = self.config.matched, self.config.radius
        matched = self._convolutions.matcher(views, self._buffers)
        rows, line = height + 2 * radius, width + 2 * radius + _LANES
        unit = self._buffer("unit", 2, rows, count, line)  # their rims stay zero
        misfit = self._buffer("misfit", rows, line)
        job = Job(height=height, width=width, matched=count, radius=radius, x=matched)
        job.update((("unit", unit), ("misfit", misfit)))
        run("normalize", job, 2 * height, self.dtype)
        run("misfit", job, height, self.dtype)
        found = self._convolutions.entrance(x, self._buffers)
        channels = found.shape[-1] + (2 * radius + 1) ** 2 + PASSING
        merged = self._elements("merged", 1, height, width, channels)
        job.update(
            (
                ("x", found),
                ("merged", merged),
                ("entrance_channels", found.shape[-1]),
            )
        )
        run("correlate", job, height, self.dtype)
        return merged

    def _full_size(
        self, enc0: Encoded, enc1: Encoded, state: Tensor, time: float, only_frame: bool
    ) -> Prediction:
        """Corrects the estimate at the size of the frame, and paints."""
        _, _, height, width = enc0.image.shape
        job = self._job(height, width, time, state)
        job.picture0, job.picture1 = (enc.features[1].data_ptr() for enc in (enc0, enc1))
        # the memory of the last level's inputs where it is as large
        x = self._elements("x", 1, height // 2, width // 2, 5 * STATE)
        job.update((("x", x),))
        run("detail_inputs", job, height, self.dtype)
        for convolution in self._convolutions.detail:
            x = convolution(x, self._buffers)
        outputs = set_outputs(job, height, width, only_frame)
        low0, high0, low1, high1 = (
            x for enc in (enc0, enc1) for x in enc.features[0].flatten().tolist()
        )
        job.update(
            (
                ("low", min(low0, low1)),
                ("high", max(high0, high1)),
                ("out", x),
            )
        )
        run("paint", job, height, self.dtype)
        return outputs

    def _buffer(self, name: str, *shape: int) -> Tensor:
        return self._buffers.get(name, shape)

    def _elements(self, name: str, *shape: int) -> Tensor:
        return self._buffers.get(name, shape, self.dtype)


def _rounded(count: int, multiple: int) -> int:
    return -(-count // multiple) * multiple
