"""RELEASES: every published RIFE network by name, with its configuration and where its weights are.

A variant is a value: a release is one row here and one line in the parity test. No weights but
midflow's own come with the package; `midflow models pull NAME` fetches the others.
"""

import difflib
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from midflow.errors import UnknownModelError
from midflow.nets.cache import BUNDLED, find_weights
from midflow.nets.config import FLOW_SCALES, RIFE_CONFIG, IFNetConfig
from midflow.nets.layout import NetConfig, Shapes, count_parameters, expected_shapes
from midflow.nets.legacy import LegacyConfig
from midflow.nets.pyramid_config import DEFAULT_CONFIG

ALIASES = {"4.26.large": "4.26.heavy", "default": BUNDLED}
"""Other names for the same release."""


@dataclass(frozen=True)
class Release:
    """One published network."""

    name: str
    """What users type."""
    generation: str
    """Family: midflow, paper, 1 to 4."""
    config: NetConfig
    """Architecture; equal for releases that differ in weights only."""
    urls: tuple[str, ...] = ()
    """Mirrors, tried in order, maybe zips. `{part}` stands for flownet, contextnet and unet."""
    sha256: str | None = None
    """Of the file `flownet.pkl`, where published; otherwise it is recorded at the first pull."""
    size: int | None = None
    """Of the same file, in bytes."""
    notes: str = ""
    """What a user should know before choosing it."""
    source_note: str = ""
    """Where the URLs come from, or where to find the file without one."""

    @property
    def parameters(self) -> int:
        """Learned values."""
        return count_parameters(self.config)


@dataclass(frozen=True)
class ModelInfo:
    """What there is to know about a release, or about a loaded network."""

    name: str | None
    """Release, where known."""
    generation: str
    """Family: midflow, paper, 1 to 4."""
    parameters: int
    """Learned values."""
    pad_multiple: int
    """Frames are padded to a multiple of this."""
    has_timestep: bool
    """Whether any time is one pass; otherwise the middle is, and bisection leads to others."""
    has_ensemble: bool
    """Whether `ensemble=True` works."""
    flow_scales: tuple[float, ...]
    """What `flow_scale` may be."""
    config: Mapping[str, Any]
    """The fields of the configuration."""
    same_layout: tuple[str, ...]
    """Releases whose weights have the same names and shapes, itself included."""
    status: str = ""
    """bundled, pulled, to pull, or bring the file."""
    notes: str = ""
    """What a user should know."""


_V46 = IFNetConfig()
_V40 = replace(_V46, trunk="skip", head="deconv", spare=0, retry=True)
_V42 = replace(_V46, trunk="plain", head="deconv", spare=0)
_V45 = replace(_V46, spare=0)
_V47 = replace(_V46, encoder="pair", encoder_width=16, encoder_planes=4)
_V410 = replace(_V46, encoder="stack", encoder_width=32, encoder_planes=8)
_V412_LITE = replace(_V410, channels=(128, 96, 64, 48), encoder_planes=4)
_V413 = replace(_V410, encoder="named")
_V414_LITE = replace(_V413, groups=2)
_V415_LITE = replace(_V412_LITE, encoder="named", encoder_width=16)
_V420 = replace(_V413, channels=(384, 192, 96, 48))
_V421 = replace(_V413, channels=(256, 192, 96, 48), spare=0, features=8)
_V422_LITE = replace(_V421, channels=(192, 128, 64, 32), encoder_width=16, encoder_planes=4)
_V425 = replace(_V422_LITE, channels=(192, 128, 96, 64, 32), scales=(16, 8, 4, 2, 1))
_V425_LITE = replace(_V425, channels=(192, 128, 96, 64, 24), scales=(32, 16, 8, 4, 1))
_V425_HEAVY = replace(_V425, channels=(384, 256, 192, 128, 64))
_V426_HEAVY = replace(_V425, encoder_planes=16)

_V4: dict[str, IFNetConfig] = {
    **dict.fromkeys(("4.0", "4.1"), _V40),
    **dict.fromkeys(("4.2", "4.3", "4.4"), _V42),
    **{"4.5": _V45, "4.6": _V46},
    **dict.fromkeys(("4.7", "4.8", "4.9"), _V47),
    **dict.fromkeys(("4.10", "4.11", "4.12"), _V410),
    **{"4.12.lite": _V412_LITE, "4.13": _V413, "4.13.lite": _V412_LITE},
    **{"4.14": _V413, "4.14.lite": _V414_LITE, "4.15": _V413},
    **dict.fromkeys(("4.15.lite", "4.16.lite"), _V415_LITE),
    **{"4.17": _V413, "4.17.lite": _V415_LITE, "4.18": _V413, "4.19": _V413},
    **{"4.20": _V420, "4.21": _V421, "4.22": _V421, "4.22.lite": _V422_LITE},
    **{"4.23": _V421, "4.24": _V413, "4.25": _V425, "4.25.lite": _V425_LITE},
    **{"4.25.heavy": _V425_HEAVY, "4.26": _V425, "4.26.heavy": _V426_HEAVY},
}

_V35 = LegacyConfig((90, 90, 90), "pairs", 4, "twin", ensemble="always")
_LEGACY: dict[str, LegacyConfig] = {
    "1.8": LegacyConfig((192, 128, 96, 48), "squeeze", 6, "shuffle"),
    "2.3": LegacyConfig((384, 256, 192, 96), "plain", 6, "single"),
    "2.4": LegacyConfig((384, 256, 192, 96), "plain", 6, "single"),
    "3.1": LegacyConfig((160, 160, 160), "pairs", 3, "single"),
    "3.5": _V35,
    "3.8": replace(_V35, head="deep", ensemble="optional", retry=True),
}

_VS_RIFE = "https://github.com/HolyWu/vs-rife/releases/download"
_RVE = "https://github.com/TNTwise/real-video-enhancer-models/releases/download/models"
_AUTHOR = "https://huggingface.co/hzwer/RIFE/resolve/main"
_VS_RIFE_NOTE = "release assets of HolyWu/vs-rife, as its download script names them"
_MODEL_LIST = "the model list of github.com/hzwer/Practical-RIFE"

# Of vs-rife's assets, as public projects that fetch them pin them.
_SHA256 = {
    "4.6": "008646e761f0e67cb77f0c6c44cfe3c3e5a05d9d9465311b9681ca650ce030db",
    "4.15": "bf969affb3f6e9a09eea8c1da6c51bb22d6da45e92cafb9273689d05e2360dd2",
    "4.15.lite": "54fe3fb51efb880f64ffe2048a88220ad2b0b3d03f7cb800742e90821dcfb24f",
    "4.16.lite": "290cf343fb5a933f4503920ca07826c4d30561bd9b573b11b054b33ea0dee642",
    "4.17": "b1ee3186270312a38316e4d53c77b31a60062cfa5636e13d6f0a1dd89bb7b128",
    "4.17.lite": "9303f59001bc40e801273828cc0da84b8f7696a9485cd7c45e7796f20ed2f086",
    "4.18": "955fc8b552417ae4808999f5d671d024438e904c0bebf766ae6fb61806ce021c",
    "4.25": "6615790efd627772917205db291f51cd392528a157ecbb2ecaeec3bff8eb6de2",
    "4.25.lite": "81cdba223fe72a120130cc8552e5d2ecac824259d406f0c15323b3decf96b8b1",
    "4.26": "45c7f74156704769dc9f85cfcaf8552e1e926f9399dcfa3a553dee88fac6f53f",
    "4.26.heavy": "4cc518e172156ad6207b9c7a43364f518832d83a4325d484240493a9e2980537",
}
_SIZES = {"4.6": 21_273_159, "4.26": 24_636_301}
_NOTES = {
    "4.25": "what its authors recommend",
    "4.26.heavy": "users report visibly broken pictures; its authors recommend 4.25",
}
# The same bytes elsewhere: listed only where a published hash holds them to it.
_MIRRORS = {
    **{name: (f"{_RVE}/rife{name}.pkl",) for name in ("4.6", "4.15", "4.18", "4.25", "4.26.heavy")},
    "4.26": (f"{_RVE}/rife4.26.pkl", f"{_AUTHOR}/RIFEv4.26_0921.zip"),
}


def _modern(name: str, config: IFNetConfig) -> Release:
    urls = (f"{_VS_RIFE}/model/flownet_v{name}.pkl", *_MIRRORS.get(name, ()))
    return Release(
        name,
        "4",
        config,
        urls,
        _SHA256.get(name),
        _SIZES.get(name),
        _NOTES.get(name, ""),
        _VS_RIFE_NOTE,
    )


def _early(name: str, config: LegacyConfig) -> Release:
    file = "{part}.pkl" if config.has_fusion else "flownet.pkl"
    url = f"{_VS_RIFE}/model{name.replace('.', '')}/{file}"
    note = f"{_VS_RIFE_NOTE} in its history; also in {_MODEL_LIST}"
    return Release(name, name[0], config, (url,), source_note=note)


def _paper(name: str, config: IFNetConfig, archive: str = "", notes: str = "") -> Release:
    urls = (f"{_AUTHOR}/{archive}",) if archive else ()
    note = "its author's page at huggingface.co/hzwer/RIFE"
    missing = "no public direct link: train it, or see github.com/hzwer/ECCV2022-RIFE"
    return Release(name, "paper", config, urls, notes=notes, source_note=note if urls else missing)


_ALL = (
    Release(BUNDLED, "midflow", DEFAULT_CONFIG, notes="comes with midflow: quick without a GPU"),
    _paper("rife", RIFE_CONFIG, "RIFE_train_log.zip", "the paper's network: the middle frame only"),
    _paper(
        "rife_m", replace(RIFE_CONFIG, has_timestep=True), "RIFE_m_train_log.zip", "any timestep"
    ),
    _paper(
        "rife_2r", replace(RIFE_CONFIG, stride=2), notes="shapes of rife: load it with release="
    ),
    *(_early(name, config) for name, config in _LEGACY.items()),
    Release(
        "hdv3",
        "3",
        replace(_V35, head="deep"),
        ("https://huggingface.co/AlexWortega/RIFE/resolve/main/flownet.pkl",),
        notes="shapes of 3.8, told apart by its teacher block or release=",
        source_note="the file CogVideo's demo downloads",
    ),
    *(_modern(name, config) for name, config in _V4.items()),
)

RELEASES: Mapping[str, Release] = MappingProxyType({release.name: release for release in _ALL})
"""Name -> release, oldest to newest behind midflow's own and the paper's."""


def find_release(name: str) -> Release:
    """The release called `name`; `v4.25`, `4.25-lite` and `ALIASES` are understood.

    Raises:
        UnknownModelError: there is none; the message suggests the closest names.
    """
    plain = re.sub(r"[-_](lite|heavy|large)$", r".\1", name.strip().lower().removeprefix("v"))
    plain = ALIASES.get(plain, plain)
    if plain in RELEASES:
        return RELEASES[plain]
    close = difflib.get_close_matches(plain, RELEASES, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(RELEASES)}"
    raise UnknownModelError(f"no model is called {name!r}: {hint} `midflow models list` shows all")


def same_layout(config: NetConfig) -> tuple[str, ...]:
    """Releases whose weights have the names and shapes of `config`."""
    shapes = expected_shapes(config)
    return tuple(r.name for r in _ALL if expected_shapes(r.config) == shapes)


def nearest_releases(shapes: Shapes) -> tuple[str, ...]:
    """The releases that share most names and shapes with `shapes`; none where nothing is shared."""
    have = set(shapes.items())

    def overlap(release: Release) -> float:
        want = set(expected_shapes(release.config).items())
        return len(have & want) / len(have | want)

    best = max(_ALL, key=overlap)
    return same_layout(best.config) if overlap(best) else ()


def describe_release(name: str, folder: Path | None = None) -> ModelInfo:
    """What there is to know about a release without loading it.

    Raises:
        UnknownModelError: no release has the name.
    """
    release = find_release(name)
    if find_weights(release.name, folder):
        status = "bundled" if release.name == BUNDLED else "pulled"
    else:
        status = "to pull" if release.urls else "bring the file"
    info = describe_config(release.config, release.name)
    return replace(info, status=status, notes=release.notes)


def describe_config(config: NetConfig, name: str | None) -> ModelInfo:
    """What there is to know about a network from its configuration."""
    fits = same_layout(config)
    known = name if name in RELEASES else next(iter(fits), None)
    return ModelInfo(
        name=name,
        generation=RELEASES[known].generation if known else "custom",
        parameters=count_parameters(config),
        pad_multiple=config.pad_multiple,
        has_timestep=config.has_timestep,
        has_ensemble=config.has_ensemble,
        flow_scales=FLOW_SCALES,
        config=asdict(config),
        same_layout=fits,
    )


def available_models(folder: Path | None = None) -> list[ModelInfo]:
    """All models by name: the bundled one, those pulled, those to pull and those to bring.

    Args:
        folder: cache folder, `midflow.nets.cache.cache_folder()` by default.
    """
    return [describe_release(name, folder) for name in RELEASES]
