"""NativePyramid: what a PyramidNet computes, without gradients, several times faster on a CPU."""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from midflow.errors import OptionError
from midflow.native.convolution import Channels, Convolution, arranged, residual
from midflow.native.library import Job, load_library, run
from midflow.nets.prediction import Encoded, Prediction, one_batch
from midflow.nets.pyramid import PyramidNet
from midflow.nets.pyramid_config import CELL, PyramidConfig

_VIEW = 8  # channels of a warped picture beside its features, of which 3 are used
_STATE = 16  # channels of an estimate: flow 4, logit, carried features
_MOST_FEATURES = 8
_LANES = 16


def can_run(config: object) -> bool:
    """Whether the kernels are there and made for such a network."""
    return (
        isinstance(config, PyramidConfig)
        and load_library() is not None
        and torch.backends.mkldnn.is_available()
        and config.width % 8 == 0
        and config.matched % 8 == 0
        and config.matched <= 64
        and config.features <= _MOST_FEATURES
        and config.radius <= 4
        and config.detail > 0
    )


@dataclass(frozen=True)
class _Convolutions:
    """The weights of a PyramidNet as the kernels' buffers want them."""

    encoder: tuple[Convolution, ...]
    entrance: Convolution
    matcher: Convolution
    merge: Convolution
    trunk: tuple[Convolution, ...]
    lastconv: Convolution
    detail: tuple[Convolution, ...]


class NativePyramid:
    """Stands in for a `PyramidNet` in an `Interpolator`.

    Args:
        model: the network; its weights are copied.
        dtype: float32, or bfloat16 for the convolutions; flow, sampling and blending are float32.
    """

    can_omit_flow = True

    def __init__(self, model: PyramidNet, dtype: torch.dtype) -> None:
        assert can_run(model.config) and dtype in (torch.float32, torch.bfloat16)
        self.config = model.config
        self.release = model.release
        self.dtype = dtype
        self._buffers: dict[tuple[str, tuple[int, ...]], Tensor] = {}
        self._shape: tuple[int, ...] = ()
        self._lock = threading.Lock()
        with torch.no_grad():
            self._convolutions = _pack(model, dtype)

    def encode_frame(self, image: Tensor) -> Encoded:
        """As `PyramidNet.encode_frame`: pictures and features, channels last, coarse to fine."""
        return self._encode_at(image, 1.0)

    def __call__(
        self,
        frame0: Tensor | Encoded,
        frame1: Tensor | Encoded,
        timestep: float | Tensor = 0.5,
        *,
        flow_scale: float = 1.0,
        ensemble: bool = False,
        only_frame: bool = False,
    ) -> Prediction:
        """As `PyramidNet.forward`; with `only_frame` flow and weight are not kept, and empty."""
        if ensemble:
            raise OptionError("this network has no ensemble: its block has no swapped form")
        if flow_scale != 1:
            frame0, frame1 = (self._encode_at(frame, flow_scale) for frame in (frame0, frame1))
        enc0, enc1, t = one_batch(self.encode_frame, frame0, frame1, timestep)
        predictions = [
            self._paint(enc0.sample(i), enc1.sample(i), float(time), only_frame)
            for i, time in enumerate(t.flatten().tolist())
        ]
        return Prediction(*(_batch(parts) for parts in zip(*predictions, strict=True)))

    def _encode_at(self, frame: Tensor | Encoded, flow_scale: float) -> Encoded:
        image = frame.image if isinstance(frame, Encoded) else frame
        with self._lock:
            samples = [self._encode(image[i : i + 1], flow_scale) for i in range(len(image))]
        features = tuple(_batch(parts) for parts in zip(*samples, strict=True))
        return Encoded(image, features)

    def _encode(self, image: Tensor, flow_scale: float) -> list[Tensor]:
        """Range (at least [0, 1]) and pixels of the picture, each level's picture and features."""
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
            for convolution in self._convolutions.encoder:
                features = convolution(features)
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
        """Half of the picture in whole cells, and what the encoder reads of it for the next level."""
        _, rows, columns, _ = picture.shape
        height, width = (_rounded(side, 2 * CELL) // 2 for side in (rows, columns))
        half = torch.empty(1, height, width, 4)
        high, wide = (_rounded(side, 2 * CELL) for side in (height, width))
        elements = torch.empty(1, high, wide, 4, dtype=self.dtype)
        job = Job(height=height, width=width, source=picture, picture0=half, x=elements)
        job.previous_height, job.previous_width = rows, columns
        run("halve", job, high, self.dtype)
        return half, elements

    def _paint(
        self, enc0: Encoded, enc1: Encoded, time: float, only_frame: bool
    ) -> Prediction:
        with self._lock:
            shape = tuple(enc0.image.shape)
            if shape != self._shape:
                self._buffers.clear()
                self._shape = shape
            state: Tensor | None = None
            for state in self._levels(enc0.features[2:], enc1.features[2:], time):
                pass
            assert state is not None
            return self._full_size(enc0, enc1, state, time, only_frame)

    def _levels(
        self, features0: tuple[Tensor, ...], features1: tuple[Tensor, ...], time: float
    ) -> Iterator[Tensor]:
        """The estimate (1, h, w, 16) after each level."""
        state: Tensor | None = None
        for i in range(0, len(features0), 2):
            picture = features0[i]
            _, height, width, _ = picture.shape
            job = self._job(height, width, time, state)
            job.ratio = 2
            job.update(
                (
                    ("picture0", picture),
                    ("features0", features0[i + 1]),
                    ("picture1", features1[i]),
                    ("features1", features1[i + 1]),
                )
            )
            state = self._level(job, height, width)
            yield state

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

    def _level(self, job: Job, height: int, width: int) -> Tensor:
        """Runs the block at one level."""
        x = self._elements("x", 1, height, width, 2 * self.config.width + 2 * _STATE)
        views = self._elements("views", 2, height, width, self.config.width + _VIEW)
        job.update((("x", x), ("views", views)))
        run("level_inputs", job, height, self.dtype)
        merged = self._merged(x, views, height // 2, width // 2)
        for convolution in (self._convolutions.merge, *self._convolutions.trunk):
            merged = convolution(merged)
        out = self._convolutions.lastconv(merged)
        state = self._buffer("state", 1, height, width, _STATE)
        job.update((("out", out), ("state", state)))
        run("update", job, height, self.dtype)
        return state

    def _merged(self, x: Tensor, views: Tensor, height: int, width: int) -> Tensor:
        """The entrance's output beside the likeness of the views, at half the level's size."""
        count, radius = self.config.matched, self.config.radius
        matched = self._convolutions.matcher(views)
        rows, line = height + 2 * radius, width + 2 * radius + _LANES
        unit = self._buffer("unit", 2, rows, count, line)  # its rim stays zero
        job = Job(height=height, width=width, matched=count, radius=radius, x=matched, unit=unit)
        run("normalize", job, 2 * height, self.dtype)
        found = self._convolutions.entrance(x)
        channels = found.shape[-1] + (2 * radius + 1) ** 2
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
        x = self._elements("detail", 1, height // 2, width // 2, 5 * _STATE)
        job.update((("x", x),))
        run("detail_inputs", job, height, self.dtype)
        for convolution in self._convolutions.detail:
            x = convolution(x)
        frame = torch.empty(1, 3, height, width)
        size = (0, 0) if only_frame else (height, width)
        flow, weight = torch.empty(1, 4, *size), torch.empty(1, 1, *size)
        low0, high0, low1, high1 = (x for enc in (enc0, enc1) for x in enc.features[0].flatten().tolist())
        job.update(
            (
                ("low", min(low0, low1)),
                ("high", max(high0, high1)),
                ("out", x),
                ("frame", frame),
                ("flow", None if only_frame else flow),
                ("weight", None if only_frame else weight),
            )
        )
        run("paint", job, height, self.dtype)
        return Prediction(frame, flow, weight)

    def _elements(self, name: str, *shape: int) -> Tensor:
        return self._buffer(name, *shape, dtype=self.dtype)

    def _buffer(self, name: str, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Memory that the next frame of this size uses again: fresh pages cost time."""
        key = name, shape
        if key not in self._buffers:
            self._buffers[key] = torch.zeros(shape, dtype=dtype)
        return self._buffers[key]


def _batch(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))


def _filled(channels: Channels, count: int) -> Channels:
    return channels + [-1] * (count - len(channels))


def _pack(model: PyramidNet, dtype: torch.dtype) -> _Convolutions:
    config, encode, block, detail = model.config, model.encode, model.block, model.detail
    assert detail is not None
    width, view = config.width, 3 + config.width
    own = [*range(3, view), 0, 1, 2]  # a view's features, then its picture
    first = encode.cnn0[0]
    encoder = (
        Convolution(arranged(first.weight, [0, 1, 2, -1], 1), first.bias, dtype, stride=2),
        Convolution(encode.cnn1[0].weight, encode.cnn1[0].bias, dtype),
        Convolution(encode.cnn2.weight, encode.cnn2.bias, dtype, leaky=False),
    )
    merge = block.merge[0]
    return _Convolutions(
        encoder,
        Convolution(
            arranged(block.entrance[0].weight, _entrance_channels(config), 1), block.entrance[0].bias, dtype, stride=2
        ),
        Convolution(
            arranged(block.matcher.weight, _filled(own, width + _VIEW), 1),
            block.matcher.bias,
            dtype,
            stride=2,
            leaky=False,
        ),
        Convolution(merge.weight, merge.bias, dtype, stride=2),
        tuple(residual(layer, dtype) for layer in block.trunk),
        _shuffled(block.lastconv, 6 + config.features, 16, dtype),
        (
            Convolution(
                arranged(detail.entrance[0].weight, _detail_channels(config), 1),
                detail.entrance[0].bias,
                dtype,
                stride=2,
            ),
            *(residual(layer, dtype) for layer in detail.trunk),
            _shuffled(detail.lastconv, 6, 8, dtype),
        ),
    )


def _entrance_channels(config: PyramidConfig) -> Channels:
    """Features of both views; flow, logit, features, time and step; pictures warped and as are."""
    view = 3 + config.width
    time, logit = 2 * view, 2 * view + 1
    flow = logit + 1 + config.features
    still, missed = flow + 4, flow + 10
    estimate = [*range(flow, flow + 4), *range(logit, logit + 1 + config.features)]
    colors = [range(start, start + 3) for start in (0, view, still, still + 3)]
    return [
        *range(3, view),
        *range(view + 3, 2 * view),
        *_filled(estimate, _STATE - 3),
        *(time, missed, missed + 1),
        *(channel for color in colors for channel in _filled([*color], 4)),
    ]


def _detail_channels(config: PyramidConfig) -> Channels:
    """The last block's input: pixel by pixel of 2 x 2, then flow, logit, features, time."""
    order = (0, 1, 2, -1, 3, 4, 5, -1, 6, 7, 8, 12, 9, 10, 11, 13)  # colours, parts of the step
    pixels = [4 * plane + part if plane >= 0 else -1 for part in range(4) for plane in order]
    time, logit = 56, 57
    flow = logit + 1 + config.features
    estimate = [*range(flow, flow + 4), *range(logit, logit + 1 + config.features)]
    return [*pixels, *_filled(estimate, _STATE - 1), time]


def _shuffled(
    layer: torch.nn.ConvTranspose2d, planes: int, each: int, dtype: torch.dtype
) -> Convolution:
    """A transposed convolution whose output is a pixel's planes side by side, for each of 2 x 2."""
    order = [_filled([4 * c + part for c in range(planes)], each) for part in range(4)]
    channels: Channels = sum(order, [])
    assert layer.bias is not None
    weight, bias = arranged(layer.weight, channels, 1), arranged(layer.bias, channels, 0)
    return Convolution(weight, bias, dtype, leaky=False, transposed=True)


def _rounded(count: int, multiple: int) -> int:
    return -(-count // multiple) * multiple
