"""From folders and a configuration to what a run learns from and is measured on."""

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from midflow.errors import OptionError
from midflow.train.augment import Augmentation
from midflow.train.batch import Batch, Material, Source
from midflow.train.config import TrainConfig
from midflow.train.data import FolderOptions, Mixed, Repeated, VideoFolder
from midflow.train.footage import CLIP_SUFFIXES, list_clips
from midflow.train.guide import Guided
from midflow.train.held import held_triplets
from midflow.train.layouts import CLIPS, LAYOUTS, detect_layout, listed_triplets, open_layout
from midflow.train.moments import TripletOptions
from midflow.train.processes import Processes
from midflow.train.rendered import Rendered, render_ahead
from midflow.train.shots import PictureShot, Shots, spread
from midflow.train.synthetic import LayerOptions, Layers
from midflow.video.image import read_image

AUTO = "auto"
DEBUG_REPEAT = 5
"""Steps after which the samples of the debug recipe repeat: those between two lines of its log."""
SYNTHETIC_SHARE = 0.45  # as in the runs that made the bundled weights
SCENES_BYTES = 10**9
"""Most bytes of scenes rendered ahead: 4,360 of them at a crop of 128."""
PAPER_AUGMENTATION = Augmentation(scale=0, jitter=0, ramp=0, sharpen=0, noise=0)
"""Mirrored, turned, played backwards, red and blue exchanged: what the paper's code does."""

_BYTES_A_PIXEL = 14  # of a rendered scene
_PICTURES_READ = 200  # as photographs for scenes, out of data sets of pictures
_READERS = 8  # threads that read pictures

OnCount = Callable[[str, int, int], None]
"""Told what is being made ready, how many are, and of how many."""


@dataclass(frozen=True)
class DataOptions:
    """What a run learns from."""

    paths: tuple[Path, ...]
    """Folders of clips or data sets in their published layouts, clips, or lists of triplets."""
    layout: str = AUTO
    """Of the folders: auto, clips, or one of `LAYOUTS`."""
    synthetic: float | None = None
    """Share of synthetic scenes, 0 to 1; None: 0.45 from scratch, 0 for fine-tuning, the paper's
    recipes and where samples repeat."""
    repeat: int = 0
    """The samples of so many steps come again and again, to see a loss fall; 0: never."""
    held: Path | None = None
    """Folder of clips, or a data set with a test part, to be measured on."""
    cache: Path | None = None
    """Folder the clips are decoded to once; None keeps them in memory."""
    memory_gigabytes: float = 4.0
    """Most memory for decoded clips, without `cache`."""
    clip_frames: int | None = None
    """Most frames of each clip; None: all that fit."""
    scenes: int | None = None
    """Scenes rendered ahead, each seen many times; None: what a run needs, `SCENES_BYTES` at most,
    on a CPU, and none on a GPU, which paints them as they are needed: 200 a second, though, on one
    that learns from 900 samples a second."""

    def __post_init__(self) -> None:
        if not self.paths:
            raise OptionError("at least one folder, clip or list to learn from is required")
        if self.layout not in (AUTO, CLIPS, *LAYOUTS):
            choices = ", ".join((AUTO, CLIPS, *LAYOUTS))
            raise OptionError(f"layout must be one of {choices}, got {self.layout!r}")
        if self.synthetic is not None and not 0 <= self.synthetic <= 1:
            raise OptionError(f"synthetic must be a share in [0, 1], got {self.synthetic}")
        if self.scenes is not None and self.scenes < 1:
            raise OptionError(f"scenes must be at least 1, got {self.scenes}")


def open_material(
    config: TrainConfig, options: DataOptions, processes: Processes, on_count: OnCount
) -> Material:
    """Reads, decodes and renders what a run needs.

    Args:
        config: of the run.
        options: where the data are.
        processes: the first one renders the scenes and takes the held-out triplets.
        on_count: called as things come along.

    Raises:
        OptionError: a folder has no layout known here, no clip can be used, held-out clips are
            among those to learn from, or scenes of another run lie in the run's folder.
        VideoError: clips or pictures cannot be read, or scenes not be written.
        MissingExtraError: the run wants a guide and OpenCV is not installed.
    """
    clips, pictures = find_data(options)
    held: list[Batch] = []
    if options.held is not None and processes.is_first:
        held = held_triplets(options.held, clips)
    sources: list[Shots] = []
    if clips:
        sources.append(_open_clips(clips, config, options, processes, on_count))
    if pictures:
        sources.append(_open_pictures(pictures, config))
    real: Source = sources[0]
    if len(sources) > 1:  # every shot is drawn alike often
        real = Mixed([(source, len(source)) for source in sources], config.seed)
    share = synthetic_share(config, options)
    if options.repeat:
        real = Repeated(real, options.repeat)
    if config.guide:
        real = Guided(real)
    if share == 0:
        return Material(real, held)
    photographs = [picture for source in sources for picture in _photographs(source)]
    count = options.scenes or (scene_count(config, share) if processes.device.type == "cpu" else 0)
    scenes = _scenes(config, count, photographs, processes, on_count)
    return Material(Mixed([(real, 1 - share), (scenes, share)], config.seed), held)


def find_data(options: DataOptions) -> tuple[list[Path], list[PictureShot]]:
    """The clips, and the shots of data sets of pictures.

    Raises:
        OptionError: a folder has no layout known here, or a file is neither clip nor list.
        VideoError: a folder cannot be read.
    """
    clips: list[Path] = []
    pictures: list[PictureShot] = []
    for path in options.paths:
        if path.suffix.lower() in CLIP_SUFFIXES and not path.is_dir():
            clips.append(path)
        elif path.is_file():
            pictures += _listed(path)
        elif (layout := _layout(path, options.layout)) == CLIPS:
            clips += list_clips(path)
        else:
            pictures += open_layout(layout, path)
    return clips, pictures


def triplet_options(config: TrainConfig) -> TripletOptions:
    """Which triplets a network can learn from: those at the middle, if it knows no other time."""
    if not config.network.has_timestep:
        return TripletOptions(central_share=1)
    return TripletOptions(central_share=0) if config.objective == "paper" else TripletOptions()


def augmentation_of(config: TrainConfig) -> Augmentation:
    """The paper's for the paper's objective."""
    return PAPER_AUGMENTATION if config.objective == "paper" else Augmentation()


def synthetic_share(config: TrainConfig, options: DataOptions) -> float:
    """Share of synthetic scenes in a run."""
    if options.synthetic is not None:
        return options.synthetic
    is_real = config.objective == "paper" or bool(config.init) or options.repeat > 0
    return 0.0 if is_real else SYNTHETIC_SHARE


def _layout(folder: Path, layout: str) -> str:
    return detect_layout(folder) if layout == AUTO else layout


def _listed(path: Path) -> list[PictureShot]:
    if path.suffix != ".txt":
        raise OptionError(
            f"{path} must be a folder, a clip ({', '.join(CLIP_SUFFIXES)}) or a list of triplets "
            "(.txt, three paths a line)"
        )
    return listed_triplets(path, path.parent)


def _open_clips(
    clips: list[Path],
    config: TrainConfig,
    options: DataOptions,
    processes: Processes,
    on_count: OnCount,
) -> VideoFolder:
    is_on_gpu = processes.device.type == "cuda" and options.cache is None
    kept = FolderOptions(
        memory_gigabytes=options.memory_gigabytes,
        cache=options.cache,
        clip_frames=options.clip_frames,
        device=str(processes.device) if is_on_gpu else "cpu",
    )
    return VideoFolder(
        clips,
        kept,
        triplets=triplet_options(config),
        augmentation=augmentation_of(config),
        seed=config.seed,
        on_progress=partial(on_count, "clips decoded"),
    )


def _open_pictures(pictures: list[PictureShot], config: TrainConfig) -> Shots:
    return Shots(
        pictures,
        seed=config.seed,
        options=triplet_options(config),
        augmentation=augmentation_of(config),
        workers=_READERS,
    )


def _photographs(source: Shots) -> list[Tensor]:
    """Frames for the layers of scenes, (3, H, W) uint8."""
    if isinstance(source, VideoFolder):
        return source.photographs()
    files = [shot.files[0] for shot in source.shots if isinstance(shot, PictureShot)]
    pictures = (read_image(file)[0][0] for file in spread(files, _PICTURES_READ))
    return [picture.mul_(255).round_().to(torch.uint8) for picture in pictures]


def _scenes(
    config: TrainConfig,
    count: int,
    photographs: list[Tensor],
    processes: Processes,
    on_count: OnCount,
) -> Source:
    """So many rendered ahead into the run's folder, or, for 0, painted as they are needed."""
    options = LayerOptions() if config.network.has_timestep else LayerOptions(central_share=1)
    layers = Layers(photographs, options, seed=config.seed)
    if not count:
        return layers
    folder = config.folder / "scenes"
    if processes.is_first:
        render_ahead(
            folder,
            layers,
            count,
            _largest_crop(config),
            label=_label(config, photographs),
            device=processes.device,
            on_progress=partial(on_count, "scenes rendered"),
        )
    processes.share(None)  # the others wait for the first
    return Rendered(folder, seed=config.seed, device=processes.device)


def scene_count(config: TrainConfig, share: float) -> int:
    """Scenes to render ahead: as many as a run of steps sees, and what `SCENES_BYTES` hold."""
    most = SCENES_BYTES // (_BYTES_A_PIXEL * _largest_crop(config) ** 2)
    if config.steps is None:
        return most
    batch = max(config.batch, *(stage.batch for stage in config.stages), 0)
    return min(most, math.ceil(config.steps * batch * share))


def _largest_crop(config: TrainConfig) -> int:
    return max(config.crop, *(stage.crop for stage in config.stages), 0)


def _label(config: TrainConfig, photographs: Sequence[Tensor]) -> str:
    """Tells scenes of one seed, one set of photographs and one choice of times from others."""
    digest = hashlib.sha256()
    for picture in photographs:
        digest.update(repr(tuple(picture.shape)).encode())
        digest.update(picture[:, ::64, ::64].cpu().contiguous().numpy().tobytes())
    times = "any time" if config.network.has_timestep else "the middle"
    return f"seed {config.seed}, {times}, {len(photographs)} photographs {digest.hexdigest()[:8]}"
