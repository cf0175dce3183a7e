"""An exported network in place of the network: made once, kept in the user's cache, then reused."""

import hashlib
import logging
from pathlib import Path

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


class GraphNetwork:
    """Runs a network's graph in another engine, on the CPU in float32, one pair at a time.

    A flow scale has a graph of its own, made when it is first asked for.

    Args:
        model: the network.
        suffix: of the engine's files, a key of `ENGINES`.
    """

    def __init__(self, model: Network, suffix: str) -> None:
        self.config = model.config
        self._model = model
        self._suffix = suffix
        self._runs: dict[tuple[float, bool], Run] = {}

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
        run = self.open(flow_scale, ensemble)
        least = ENGINES[self._suffix].fewest * cell_size(self._model, flow_scale)

        def paint(enc0: Encoded, enc1: Encoded, time: Tensor) -> Prediction:
            height, width = enc0.image.shape[-2:]
            spare = (0, max(0, least - width), 0, max(0, least - height))
            inputs = [F.pad(enc.image, spare, mode="replicate") for enc in (enc0, enc1)]
            inputs = [image.contiguous() for image in inputs]
            if self.config.has_timestep:
                inputs.append(time)
            return Prediction(*(x[..., :height, :width] for x in run(*inputs)))

        return one_by_one(paint, frame0, frame1, timestep)

    def open(self, flow_scale: float, ensemble: bool) -> Run:
        """The graph in its engine; it is made where the cache does not have it.

        Raises:
            OptionError: an ensemble that the network or its graph has not.
            MissingExtraError: the engine is not installed.
            MidflowError: what was made does not paint what the network paints.
        """
        key = flow_scale, ensemble
        if key not in self._runs:
            frame_graph(self._model, *key)  # says what cannot be
            with torch.inference_mode(False):  # torch exports no tensors of that mode
                path = engine_file(self._model, self._suffix, *key)
            self._runs[key] = ENGINES[self._suffix].open(path)
        return self._runs[key]


def engine_file(model: Network, suffix: str, flow_scale: float, ensemble: bool) -> Path:
    """The engine's file in the cache, made, checked and kept there if need be."""
    folder = cache_folder() / "engines"
    folder.mkdir(parents=True, exist_ok=True)
    name = model.release or type(model).__name__
    path = folder / f"{name}-{_digest(model, suffix, flow_scale, ensemble)}{suffix}"
    with locked(folder / ".lock"):
        if not path.exists():
            engine = ENGINES[suffix].name
            logger.warning("making %s for %s, once; that takes a minute or two", name, engine)
            checks = export_model(model, path, flow_scale=flow_scale, ensemble=ensemble)
            logger.warning("kept in %s; %s", folder, max(checks, key=lambda one: one.difference))
            _forget(folder, path)
        path.touch()
    return path


def _digest(model: Network, suffix: str, flow_scale: float, ensemble: bool) -> str:
    """Of the weights and everything else the file depends on."""
    versions = midflow.__version__, torch.__version__, ENGINES[suffix].version()
    digest = hashlib.sha256(repr((model.config, flow_scale, ensemble, versions)).encode())
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
