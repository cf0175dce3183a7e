"""An exported network in place of the network: made once, kept in the user's cache, then reused."""

import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

import midflow
from midflow.export.engines import ENGINES, Run
from midflow.export.files import export_model
from midflow.export.graph import cell_size, frame_graph
from midflow.nets.cache import cache_folder, locked
from midflow.nets.layout import Network
from midflow.nets.prediction import Encoded, Prediction, one_by_one

logger = logging.getLogger(__name__)

KEPT_BYTES = 2 << 30
"""What the cache holds of engine files; those used longest ago go first."""
MOST_OPEN = 4
"""Files open at once; the one used longest ago is closed for another."""


class Variant(NamedTuple):
    """What a file is made for, besides the network."""

    flow_scale: float
    ensemble: bool
    precision: str
    """Of the convolutions."""
    size: tuple[int, int] | None
    """Height and width in pixels, where a file takes one size only."""


class GraphNetwork:
    """Runs a network's graph in another engine, one pair at a time.

    A flow scale has a graph of its own, made when it is first asked for; with TensorRT a size and a
    precision too. That of a call is half inside `torch.autocast`.

    Args:
        model: the network.
        suffix: of the engine's files, a key of `ENGINES`.
        device: one of the engine's kind.
    """

    def __init__(self, model: Network, suffix: str, device: torch.device) -> None:
        self.config = model.config
        self._model = model
        self._suffix = suffix
        self._engine = ENGINES[suffix]
        self._device = device
        self._runs: dict[Variant, Run] = {}

    def encode_frame(self, image: Tensor) -> Encoded:
        """Keeps the frame, (1, 3, H, W) in [0, 1], sides padded: the graph begins with it."""
        return Encoded(image)

    def __call__(
        self,
        frame0: Encoded,
        frame1: Encoded,
        timestep: Tensor,
        *,
        flow_scale: float = 1.0,
        ensemble: bool = False,
    ) -> Prediction:
        """Paints as the network does, one pair and time after the other."""
        least = self._engine.fewest * cell_size(self._model, flow_scale)

        def paint(enc0: Encoded, enc1: Encoded, time: Tensor) -> Prediction:
            height, width = enc0.image.shape[-2:]
            spare = (0, max(0, least - width), 0, max(0, least - height))
            inputs = [F.pad(enc.image, spare, mode="replicate") for enc in (enc0, enc1)]
            inputs = [image.contiguous() for image in inputs]
            run = self._opened(flow_scale, ensemble, inputs[0])
            if self.config.has_timestep:
                inputs.append(time)
            return Prediction(*(x[..., :height, :width] for x in run(*inputs)))

        with self._on_device():
            return one_by_one(paint, frame0, frame1, timestep)

    def open(self, flow_scale: float, ensemble: bool) -> None:
        """Opens the graph in its engine, or, where a size is needed first, sees that it can be.

        Raises:
            OptionError: an ensemble that the network or its graph has not; no GPU for TensorRT.
            MissingExtraError: the engine is not installed.
            MidflowError: what was made does not paint what the network paints.
        """
        with self._on_device():
            if self._engine.is_sized:
                frame_graph(self._model, flow_scale, ensemble)  # says what cannot be
                self._engine.version()
            else:
                self._opened(flow_scale, ensemble)

    def release_memory(self) -> None:
        """Closes all files; they are opened again when they are needed."""
        self._runs.clear()

    @contextmanager
    def _on_device(self) -> Iterator[None]:
        """Makes the device the current one, where there are several of its kind."""
        if self._device.type != "cuda":
            yield
            return
        with torch.cuda.device(self._device):
            yield

    def _opened(self, flow_scale: float, ensemble: bool, image: Tensor | None = None) -> Run:
        """The file for such a picture at work; it is made where the cache does not have it."""
        is_half = torch.is_autocast_enabled(self._device.type)
        size = None if image is None else (image.shape[-2], image.shape[-1])
        variant = Variant(
            flow_scale,
            ensemble,
            "float16" if is_half else "float32",
            size if self._engine.is_sized else None,
        )
        run = self._runs.pop(variant, None)
        if run is None:
            frame_graph(self._model, flow_scale, ensemble)
            with torch.inference_mode(False):  # torch exports no tensors of that mode
                path = engine_file(self._model, self._suffix, variant)
            for longest_ago in list(self._runs)[: 1 - MOST_OPEN]:
                del self._runs[longest_ago]
            run = self._engine.open(path)
        self._runs[variant] = run  # the last
        return run


def engine_file(model: Network, suffix: str, variant: Variant) -> Path:
    """The engine's file in the cache, made, checked and kept there if need be."""
    folder = cache_folder() / "engines"
    folder.mkdir(parents=True, exist_ok=True)
    name = model.release or type(model).__name__
    path = folder / f"{name}-{_digest(model, suffix, variant)}{suffix}"
    with locked(folder / ".lock"):
        if not path.exists():
            engine = ENGINES[suffix].name
            logger.warning("making %s for %s, once; that takes a minute or two", name, engine)
            checks = export_model(model, path, **variant._asdict())
            logger.warning("kept in %s; %s", folder, max(checks, key=lambda one: one.difference))
            _forget(folder, path)
        path.touch()
    return path


def _digest(model: Network, suffix: str, variant: Variant) -> str:
    """Of the weights and everything else the file depends on."""
    versions = midflow.__version__, torch.__version__, ENGINES[suffix].version()
    digest = hashlib.sha256(repr((model.config, variant, versions)).encode())
    for part in ("nets", "export"):
        for file in sorted((Path(midflow.__file__).parent / part).glob("*.py")):
            digest.update(file.read_bytes())
    for name, value in sorted(model.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        data = value.detach().cpu().contiguous().flatten().view(torch.uint8)
        digest.update(data.numpy().tobytes())
    return digest.hexdigest()[:24]


def _forget(folder: Path, kept: Path) -> None:
    """Removes files used longest ago while there are more than `KEPT_BYTES`."""
    files = sorted(folder.glob("[!.]*.*"), key=lambda file: file.stat().st_mtime)
    room = KEPT_BYTES - sum(file.stat().st_size for file in files)
    for file in files:
        if room < 0 and file.stem != kept.stem:
            room += file.stat().st_size
            file.unlink()
