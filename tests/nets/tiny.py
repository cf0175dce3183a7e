"""Small networks with every kind of part, so that files of them are written and read at once."""

from pathlib import Path

import torch
from torch import Tensor

from midflow.nets.config import IFNetConfig
from midflow.nets.layout import Network, build_network
from tests import parity

CONFIG = IFNetConfig(
    channels=(12, 8),
    scales=(2, 1),
    depths=(2, 3),
    groups=2,
    encoder="named",
    encoder_width=4,
    encoder_planes=2,
    spare=0,
    features=3,
)
RELEASES = sorted(p.stem for p in (parity.FOLDER / "keys").glob("*.json") if "only" not in p.stem)


def network(config: IFNetConfig = CONFIG) -> Network:
    torch.manual_seed(7)
    return build_network(config).eval()


def state(config: IFNetConfig = CONFIG) -> dict[str, Tensor]:
    return dict(network(config).state_dict())


def pickled(content: object, path: Path) -> Path:
    torch.save(content, path)
    return path


def release_shapes(release: str) -> dict[str, list[int]]:
    """Key -> shape of a release; the three files of an early one under their names."""
    shapes = parity.keys(release)
    if "flownet" not in shapes:
        return shapes
    if len(shapes) == 1:
        return shapes["flownet"]
    return {f"{file}.{key}": shape for file, part in shapes.items() for key, shape in part.items()}


def release_state(release: str) -> dict[str, Tensor]:
    """The same keys with small constants, made at no cost."""
    return {k: torch.full(s, 0.01) for k, s in release_shapes(release).items()}
