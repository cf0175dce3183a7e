"""Reads the parity fixtures: weights computed from names, and what the reference made of them.

The rules, the cases and the tolerances are those of tests/fixtures/parity/README.md.
"""

import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

FOLDER = Path(__file__).parent / "fixtures" / "parity"
FRAME_TOLERANCE = 1e-4
FLOW_TOLERANCE = 1e-3  # pixels
RETRY_FLOW_TOLERANCE = 5e-3

_spec = importlib.util.spec_from_file_location("parity_weights", FOLDER / "weights.py")
weights = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(weights)


@dataclass(frozen=True)
class Case:
    name: str
    meta: dict[str, Any]
    arrays: dict[str, np.ndarray]

    @property
    def runs(self) -> list[dict[str, Any]]:
        return self.meta["runs"]

    def image(self, key: str, padded: tuple[int, int] | None = None) -> Tensor:
        """(H, W, 3) or (B, H, W, 3) -> (B, 3, H, W) in [0, 1], zero-padded right and bottom."""
        picture = torch.from_numpy(self.arrays[key]).float() / 255
        picture = (
            (picture if picture.dim() == 4 else picture[None]).permute(0, 3, 1, 2).contiguous()
        )
        height, width = padded or picture.shape[-2:]
        return F.pad(picture, (0, width - picture.shape[-1], 0, height - picture.shape[-2]))

    def difference(self, key: str, value: Tensor) -> float:
        """Largest |difference| between `value` (C, H, W) and a stored array where it is stored."""
        expected = torch.from_numpy(self.arrays[key].astype(np.float32))
        height, width = self.arrays["img0"].shape[-3:-1]
        step = self.meta["stride"].get(key, 1)
        value = value[..., :height, :width][..., ::step, ::step]
        assert value.shape == expected.shape, (key, value.shape, expected.shape)
        return float((value - expected).abs().max())

    @property
    def flow_tolerance(self) -> float:
        return RETRY_FLOW_TOLERANCE if self.name.endswith("_retry") else FLOW_TOLERANCE


def case(name: str) -> Case:
    with np.load(FOLDER / "cases" / f"{name}.npz") as arrays:
        return Case(name, json.loads(str(arrays["meta"])), {k: arrays[k] for k in arrays.files})


def keys(release: str) -> dict[str, Any]:
    return json.loads((FOLDER / "keys" / f"{release}.json").read_text())


def state(meta: dict[str, Any]) -> dict[str, Any]:
    """The weights of a case: key -> tensor, or file -> key -> tensor for the older releases."""
    shapes = keys(meta["release"])
    if all(isinstance(value, dict) for value in shapes.values()):
        return {file: _state(part, meta, f"{meta['seed']}{file}/") for file, part in shapes.items()}
    return _state(shapes, meta, meta["seed"])


def _state(shapes: dict[str, list[int]], meta: dict[str, Any], seed: str) -> dict[str, Tensor]:
    arrays = weights.state_dict(shapes, seed, meta["gains"])
    return {key: torch.from_numpy(np.asarray(array)) for key, array in arrays.items()}
