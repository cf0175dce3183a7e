"""The test sets the papers report on, opened from the layout they were published in.

BENCHMARKS names each set, the metrics of the papers, and the layout. Where a folder is laid out in
another way, the error shows both: what was expected and what was found.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor

from midflow.errors import OptionError
from midflow.evaluate import folders, raw
from midflow.evaluate.dataset import Dataset, Picture, Sample, read_picture

log = logging.getLogger(__name__)

_LISTED_NAMES = 6  # of a folder, in an error


@dataclass(frozen=True)
class Benchmark:
    """A published test set."""

    title: str
    metrics: tuple[str, ...]
    """What the papers report, most important first; names of `scores.METRICS`."""
    layout: str
    """The tree it was published as."""
    count: int
    """Samples of the complete set."""
    list_samples: Callable[[Path], list[Sample]]
    """Samples in a folder; none where it is laid out in another way."""
    read: Callable[[Picture], Tensor] = read_picture
    note: str = ""
    """How the figures are defined, where that is not plain."""


def halve(picture: Picture) -> Tensor:
    """(1, 3, H/2, W/2): each pixel the mean of four, rounded half up to whole levels."""
    return (F.avg_pool2d(read_picture(picture), 2) * 255 + 0.5).floor() / 255


def crop_center(picture: Picture) -> Tensor:
    """(1, 3, H/2, W/2): the central quarter of a picture."""
    image = read_picture(picture)
    height, width = image.shape[-2:]
    return image[..., height // 4 : height - height // 4, width // 4 : width - width // 4]


def _snu_film(level: str) -> Benchmark:
    return Benchmark(
        f"SNU-FILM {level}",
        ("psnr", "ssim_matlab"),
        f"test-{level}.txt (or eval_modes/test-{level}.txt)\n"
        "test/GOPRO_test/<clip>/*.png\ntest/YouTube_test/<clip>/*.png",
        310,
        partial(folders.snu_film, level=level),
    )


def _xiph(title: str, read: Callable[[Picture], Tensor], note: str) -> Benchmark:
    return Benchmark(
        title,
        ("psnr", "ssim"),
        "netflix/BoxingPractice-001.png ... BoxingPractice-100.png\n"
        "netflix/<Crosswalk, DrivingPOV, ..., Tango>-001.png ... 100.png",
        392,
        folders.xiph,
        read,
        note,
    )


def _hd(level: str) -> Benchmark:
    width, height = folders.HD_SIZES[level]
    return Benchmark(
        f"HD {level} x4",
        ("psnr_luma",),
        "\n".join(f"HD_dataset/HD{level}_GT/{name}" for name in folders.HD_CLIPS[level]),
        25 * len(folders.HD_CLIPS[level]),
        partial(folders.hd, level=level),
        partial(raw.read_frame, width=width, height=height),
        "luma of RGB, converted from the raw files as the papers' script does",
    )


BENCHMARKS = {
    "middlebury": Benchmark(
        "Middlebury OTHER",
        ("ie", "psnr"),
        "other-data/<scene>/frame10.png, frame11.png\nother-gt-interp/<scene>/frame10i11.png\n"
        "or <scene>/frame10.png, frame10i11.png, frame11.png",
        12,
        folders.middlebury,
    ),
    "ucf101": Benchmark(
        "UCF101",
        ("psnr", "ssim_matlab"),
        "ucf101_interp_ours/<number>/frame_00.png, frame_01_gt.png, frame_02.png",
        379,
        folders.ucf101,
    ),
    "vimeo90k": Benchmark(
        "Vimeo90K triplets",
        ("psnr", "ssim_matlab"),
        "tri_testlist.txt\ntarget/<00001>/<0001>/im1.png, im2.png, im3.png\n"
        "(or sequences/ in place of target/)",
        3782,
        folders.vimeo90k,
    ),
    "snu-film-easy": _snu_film("easy"),
    "snu-film-medium": _snu_film("medium"),
    "snu-film-hard": _snu_film("hard"),
    "snu-film-extreme": _snu_film("extreme"),
    "xiph-2k": _xiph("Xiph 2K", halve, "4K frames reduced to half by area"),
    "xiph-4k": _xiph("Xiph 4K", crop_center, "central 2K window of 4K frames"),
    "x4k1000fps": Benchmark(
        "X4K1000FPS x8",
        ("psnr", "ssim"),
        "test/Type1/<scene>/0000.png ... 0032.png\ntest/Type2/..., test/Type3/...",
        15,
        folders.x4k1000fps,
    ),
    "hd-544p": _hd("544p"),
    "hd-720p": _hd("720p"),
    "hd-1080p": _hd("1080p"),
    "atd-12k": Benchmark(
        "ATD-12K",
        ("psnr", "ssim_matlab"),
        "test_2k_540p/<scene>/frame1.png, frame2.png, frame3.png\n(or test_2k_original/)",
        2000,
        folders.atd12k,
    ),
}


def open_benchmark(name: str, folder: str | Path) -> Dataset:
    """Lists a published test set.

    Args:
        name: of BENCHMARKS.
        folder: where the set lies: its top folder or the one above.

    Raises:
        OptionError: no set of that name, a folder that is laid out in another way, files missing.
    """
    if name not in BENCHMARKS:
        raise OptionError(f"dataset must be one of {', '.join(BENCHMARKS)}, got {name!r}")
    benchmark, folder = BENCHMARKS[name], Path(folder)
    samples = benchmark.list_samples(folder)
    if not samples:
        raise OptionError(_wrong_layout(benchmark, folder))
    absent = list(folders.missing(samples))
    if absent:
        raise OptionError(
            f"{benchmark.title} in {folder} lacks {len(absent)} files, the first is {absent[0]}: "
            "is it unpacked completely?"
        )
    notes = [benchmark.note] if benchmark.note else []
    if len(samples) != benchmark.count:
        notes.append(
            f"{len(samples)} samples where the published set has {benchmark.count}: "
            "do not compare with papers"
        )
        log.warning("%s: %s", benchmark.title, notes[-1])
    return Dataset(name, folder, tuple(samples), benchmark.metrics, benchmark.read, tuple(notes))


def find_benchmarks(folder: str | Path) -> tuple[str, ...]:
    """Names of the sets that a folder is laid out as."""
    path = Path(folder)
    return tuple(name for name, known in BENCHMARKS.items() if known.list_samples(path))


def _wrong_layout(benchmark: Benchmark, folder: Path) -> str:
    if not folder.is_dir():
        return f"{folder} does not exist: give the folder of {benchmark.title}"
    names = sorted(p.name + "/" * p.is_dir() for p in folder.iterdir())
    found = ", ".join(names[:_LISTED_NAMES]) + (", ..." if len(names) > _LISTED_NAMES else "")
    expected = benchmark.layout.replace("\n", "\n  ")
    others = [BENCHMARKS[name].title for name in find_benchmarks(folder)]
    hint = f"\nthis looks like {' or '.join(others)}" if others else ""
    return (
        f"{folder} is not laid out as {benchmark.title}; expected\n  {expected}\n"
        f"found\n  {found or 'nothing'}{hint}"
    )
