"""One case: damaged files in a folder, and the command that meets them."""

import json
import random
import zlib
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.fuzz.material import CHECKPOINTS, CLIPS, PICTURES
from tests.fuzz.mutations import mutate

MEDIA, WEIGHTS = "media", "checkpoints"
_FAST = ("--device", "cpu", "--max-gap", "5", "--preset", "ultrafast", "--json")
_PICTURES = ("--device", "cpu", "--quiet")


@dataclass
class Case:
    """A command in a folder: the files in it are inputs, `outputs` what success may add."""

    name: str
    base: str
    """The whole file that was damaged."""
    command: list[str]
    outputs: list[str] = field(default_factory=list)
    home: str = ""
    """MIDFLOW_HOME inside the folder."""


def write_case(kind: str, seed: int, index: int, material: Path, folder: Path) -> Case:
    """Makes case `index` of a seed: always the same one from the same material."""
    rng = random.Random(zlib.crc32(f"{kind}:{seed}:{index}".encode()))
    make = _media if kind == MEDIA else _checkpoint
    case = make(rng, material, folder)
    case.name = f"{kind}-{seed}-{index}"
    return case


def save_case(case: Case, folder: Path) -> None:
    """Puts the command beside its files, for `load_case`."""
    (folder / "case.json").write_text(json.dumps(asdict(case), indent=1))


def load_case(folder: Path) -> Case:
    """The case `save_case` wrote."""
    return Case(**json.loads((folder / "case.json").read_text()))


def _media(rng: random.Random, material: Path, folder: Path) -> Case:
    lot = rng.random()
    if lot < 0.72:
        return _video(rng, material, folder)
    if lot < 0.92:
        return _images(rng, material, folder)
    return _data_check(rng, material, folder)


def _video(rng: random.Random, material: Path, folder: Path) -> Case:
    base = rng.choice((*CLIPS, *CLIPS, *PICTURES))
    suffix = Path(base).suffix if rng.random() < 0.9 else rng.choice((".mp4", ".avi", ".bin", ""))
    (folder / f"in{suffix}").write_bytes(_damaged(rng, material, base, tuple(CLIPS)))
    out = rng.choice((*["out.mp4"] * 5, *["out.mkv"] * 4, *["out.mov"] * 2, "out.avi", "out.webm"))
    rate = rng.choice((("--fps", "30"), ("--fps", "60"), ("--factor", "2"), ("--fps", "10")))
    options = []
    if rng.random() < 0.1:
        options = ["--start", rng.choice(("0.04", "0.1", "1", "3000000"))]
    if rng.random() < 0.1:
        options += ["--duration", rng.choice(("0.1", "0.000001", "5"))]
    command = ["video", f"in{suffix}", out, *rate, *_FAST, *options]
    return Case("", base, command, [out])


def _images(rng: random.Random, material: Path, folder: Path) -> Case:
    base = rng.choice(PICTURES)
    damaged = _damaged(rng, material, base, PICTURES)
    suffix = Path(base).suffix
    out = "out" + rng.choice((".png", ".jpg", ".webp"))
    if rng.random() < 0.3 and suffix != ".gif":
        (folder / "in").mkdir()
        (folder / "in" / f"1{suffix}").write_bytes((material / base).read_bytes())
        (folder / "in" / f"2{suffix}").write_bytes(damaged)
        names = [f"out/{k:08d}{suffix}" for k in range(1, 4)]
        return Case("", base, ["images", "in", "out", "--factor", "2", *_PICTURES], names)
    (folder / f"a{suffix}").write_bytes((material / base).read_bytes())
    (folder / f"b{suffix}").write_bytes(damaged)
    return Case("", base, ["images", f"a{suffix}", f"b{suffix}", out, *_PICTURES], [out])


def _data_check(rng: random.Random, material: Path, folder: Path) -> Case:
    base = rng.choice((*CLIPS, *PICTURES))
    (folder / "in" / "scene").mkdir(parents=True)
    damaged = _damaged(rng, material, base, tuple(CLIPS))
    if base in CLIPS:
        suffix = Path(base).suffix if base not in ("flash.flv", "nut.nut") else ".mkv"
        (folder / "in" / f"clip{suffix}").write_bytes(damaged)
    else:
        whole = (material / base).read_bytes()
        for k, data in enumerate((whole, damaged, whole), start=1):
            (folder / "in" / "scene" / f"im{k}{Path(base).suffix}").write_bytes(data)
    return Case("", base, ["data", "check", "in", "--json"])


def _checkpoint(rng: random.Random, material: Path, folder: Path) -> Case:
    base = rng.choice(CHECKPOINTS)
    damaged = _damaged(rng, material, base, CHECKPOINTS)
    suffix = Path(base).suffix if rng.random() < 0.9 else rng.choice((".pkl", ".zip", ".bin"))
    lot = rng.random()
    if lot < 0.15:
        (folder / "home").mkdir()
        (folder / "home" / "4.25.pkl").write_bytes(damaged)
        return Case("", base, ["models", "verify", "4.25"], home="home")
    if lot < 0.3:
        (folder / "train_log").mkdir()
        (folder / "train_log" / f"flownet{suffix}").write_bytes(damaged)
        return Case("", base, ["models", "info", "train_log", "--json"])
    (folder / f"net{suffix}").write_bytes(damaged)
    if lot < 0.4:
        (folder / "a.png").write_bytes((material / "eight.png").read_bytes())
        command = ["images", "a.png", "a.png", "out.png", "--model", f"./net{suffix}", *_PICTURES]
        return Case("", base, command, ["out.png"])
    return Case("", base, ["models", "info", f"./net{suffix}", "--json"])


def _damaged(rng: random.Random, material: Path, base: str, others: tuple[str, ...]) -> bytes:
    """A damaged copy of a file; what is spliced in comes most often from its own kind."""
    suffix = Path(base).suffix
    alike = [name for name in others if Path(name).suffix == suffix] or list(others)
    other = rng.choice(alike if rng.random() < 0.9 else others)
    return mutate((material / base).read_bytes(), (material / other).read_bytes(), rng)
