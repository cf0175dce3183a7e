from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from midflow.errors import OptionError, VideoError
from midflow.nets.config import RIFE_CONFIG
from midflow.train import sources
from midflow.train.batch import Batch, Material
from midflow.train.config import TrainConfig
from midflow.train.data import Mixed, Repeated, VideoFolder
from midflow.train.held import HELD_COUNT, held_triplets
from midflow.train.processes import Processes
from midflow.train.recipes import debug, paper, paper_m
from midflow.train.sources import DataOptions, find_data, open_material, scene_count
from midflow.train.synthetic import Layers
from midflow.train.teacher import Distillation, Lesson
from midflow.train.trainer import train
from tests.train.footage import moving_clip, same, write_picture

CPU = torch.device("cpu")
ALONE = Processes(0, 1, CPU, "asked for")


def opened(config: TrainConfig, *paths: Path, **options: object) -> Material:
    return open_material(config, DataOptions(paths, **options), ALONE, lambda *counts: None)


def times(material: Material, steps: int = 8) -> torch.Tensor:
    return torch.cat([material.source.batch(k, 8, 32, device=CPU).timestep for k in range(steps)])


def septuplets(folder: Path, side: int = 32) -> Path:
    for k in range(1, 8):
        write_picture(folder / "sequences" / "00001" / "0001" / f"im{k}.png", k, (side, side))
    for split in ("train", "test"):
        (folder / f"sep_{split}list.txt").write_text("00001/0001\n")
    return folder


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    (tmp_path / "clips").mkdir()
    for name in "ab":
        moving_clip(tmp_path / "clips" / f"{name}.mp4")
    return tmp_path / "clips"


def test_folders_clips_lists_and_data_sets_come_together(clips: Path, tmp_path: Path) -> None:
    data = septuplets(tmp_path / "vimeo")
    frames = [write_picture(tmp_path / "three" / f"{k}.png", k).name for k in range(3)]
    (tmp_path / "three" / "list.txt").write_text(" ".join(frames))
    lone = moving_clip(tmp_path / "lone.mp4")
    found, pictures = find_data(DataOptions((clips, lone, data, tmp_path / "three" / "list.txt")))
    assert [path.name for path in found] == ["a.mp4", "b.mp4", "lone.mp4"]
    assert [shot.name for shot in pictures] == ["00001/0001", "1.png"]
    material = opened(debug(tmp_path / "run"), clips, data, synthetic=0)
    assert isinstance(material.source, Mixed)
    assert material.source.shares == [2 / 3, 1 / 3]


def test_what_is_neither_clip_nor_data_set_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "notes.doc").write_text("")
    with pytest.raises(OptionError, match=r"notes.doc must be a folder, a clip .* or a list"):
        find_data(DataOptions((tmp_path / "notes.doc",)))
    with pytest.raises(OptionError, match=r"has not the layout of clips .*it holds notes.doc"):
        find_data(DataOptions((tmp_path,)))
    with pytest.raises(VideoError, match="nowhere cannot be read as a folder"):
        find_data(DataOptions((tmp_path / "nowhere",)))
    with pytest.raises(OptionError, match="layout must be one of auto, clips, vimeo_triplet"):
        DataOptions((tmp_path,), layout="imagenet")
    with pytest.raises(OptionError, match=r"synthetic must be a share in \[0, 1\], got 2"):
        DataOptions((tmp_path,), synthetic=2)
    with pytest.raises(OptionError, match="at least one folder"):
        DataOptions(())


def test_network_that_knows_the_middle_only_sees_the_middle_only(
    clips: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    for data in (clips, septuplets(tmp_path / "vimeo")):
        assert (times(opened(paper(run), data)) == 0.5).all()
        short = replace(paper(run / data.name), steps=1, crop=64, batch=16)
        assert (times(opened(short, data, synthetic=1)) == 0.5).all()
        assert len(times(opened(paper_m(run), data)).unique()) > 3


def test_any_time_reaches_the_paper_network_on_septuplets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.Tensor] = []
    real = Distillation.forward

    def watched(self: Distillation, *args: object) -> Lesson:
        seen.append(args[3])
        return real(self, *args)

    monkeypatch.setattr(Distillation, "forward", watched)
    network = replace(RIFE_CONFIG, channels=(8, 8, 8), depths=(1, 1, 1), teacher=True)
    config = replace(
        paper_m(tmp_path / "run"), network=replace(network, has_timestep=True), steps=3, crop=64,
        batch=4, device="cpu", tensorboard=False,
    )  # fmt: skip
    material = opened(config, septuplets(tmp_path / "vimeo", 64))
    train(config, material.source)
    expected = [material.source.batch(k, 4, 64, device=CPU).timestep for k in range(3)]
    assert torch.equal(torch.cat(seen), torch.cat(expected))
    assert len(torch.cat(seen).unique()) > 3


def test_paper_recipes_and_fine_tuning_learn_from_real_pictures_alone(
    clips: Path, tmp_path: Path
) -> None:
    config = replace(debug(tmp_path / "run"), init="midflow-2")
    for run in (config, paper(tmp_path / "run")):
        assert isinstance(opened(run, clips).source, VideoFolder)
    assert opened(paper(tmp_path / "run"), clips).source.augmentation.scale == 0
    assert not (tmp_path / "run").exists()


def test_scenes_are_rendered_ahead_where_the_processor_trains(clips: Path, tmp_path: Path) -> None:
    counts: list[tuple[str, int, int]] = []
    config = replace(debug(tmp_path / "run"), steps=5)
    data = DataOptions((clips,))
    source = open_material(config, data, ALONE, lambda *c: counts.append(c)).source
    assert source.shares == [0.55, 0.45]
    assert counts[-1] == ("scenes rendered", 9, 9)
    assert len(source.sources[1]) == 16
    again = open_material(config, data, ALONE, lambda *c: counts.append(c)).source
    assert [c for c in counts if c[0] == "scenes rendered"] == [("scenes rendered", 9, 9)]
    assert same(source.batch(3, 8, 64, device=CPU), again.batch(3, 8, 64, device=CPU))
    with pytest.raises(OptionError, match="holds other scenes"):
        opened(replace(config, seed=3), clips)


def test_scenes_are_painted_as_they_are_needed_on_a_gpu(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "FolderOptions", lambda **kept: None)
    there = replace(ALONE, device=torch.device("cuda", 0))
    config = debug(tmp_path / "run")
    source = open_material(config, DataOptions((clips,)), there, lambda *c: None).source
    assert isinstance(source.sources[1], Layers)
    assert len(source.sources[1].photographs) == 24


def test_as_many_scenes_as_asked_for(clips: Path, tmp_path: Path) -> None:
    counts: list[tuple[str, int, int]] = []
    data = DataOptions((clips,), scenes=17)
    source = open_material(debug(tmp_path / "run"), data, ALONE, lambda *c: counts.append(c)).source
    assert len(source.sources[1]) == 32  # whole chunks
    assert counts[-1] == ("scenes rendered", 17, 17)
    with pytest.raises(OptionError, match="scenes must be at least 1, got 0"):
        DataOptions((clips,), scenes=0)


def test_as_many_scenes_as_a_run_sees_and_no_more_than_their_bytes_allow() -> None:
    config = replace(debug(Path("run")), batch=8, crop=128)
    assert scene_count(replace(config, steps=100), 0.45) == 360
    assert scene_count(replace(config, steps=10**6), 0.45) == 4359
    assert scene_count(replace(config, steps=None, seconds=9.0), 0.45) == 4359


def test_samples_of_a_debug_run_repeat(clips: Path, tmp_path: Path) -> None:
    source = opened(debug(tmp_path / "run"), clips, repeat=2).source
    assert isinstance(source, Repeated)
    first, second, third = (source.batch(k, 4, 64, device=CPU) for k in range(3))
    assert same(first, third)
    assert not same(first, second)


def assert_held(held: Sequence[Batch], count: int, side: int) -> None:
    assert len(held) == count
    for batch in held:
        assert batch.truth.shape == (1, 3, side, side)
        assert batch.timestep.tolist() == [0.5]
        before, after = ((batch.truth - x).abs().mean() for x in (batch.img0, batch.img1))
        assert 0.01 < before
        assert 0.01 < after


def test_held_out_triplets_come_evenly_from_all_clips(clips: Path, tmp_path: Path) -> None:
    # twelve frames of a clip make ten triplets of neighbours
    assert_held(held_triplets(clips), min(HELD_COUNT, 2 * 10), 64)
    data = septuplets(tmp_path / "vimeo")
    assert_held(held_triplets(data), 9, 32)


def test_held_out_clips_are_kept_apart_from_the_others(clips: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"a.mp4 is both held out and to be learnt from"):
        opened(debug(tmp_path / "run"), clips, held=clips)
    (tmp_path / "still").mkdir()
    moving_clip(tmp_path / "still" / "two.mp4", frames=2)
    with pytest.raises(OptionError, match="hold out other clips"):
        held_triplets(tmp_path / "still")
    second = replace(ALONE, rank=1, count=2)
    options = DataOptions((clips,), synthetic=0, held=clips)
    material = open_material(debug(tmp_path / "run"), options, second, lambda *c: None)
    assert not material.held
