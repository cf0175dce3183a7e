"""Every published layout, built small in a temporary folder, and what a wrong one is told."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from midflow.errors import OptionError
from midflow.evaluate.benchmarks import BENCHMARKS, find_benchmarks, open_benchmark
from midflow.video.image import write_image


def picture(path: Path, level: int, size: tuple[int, int] = (8, 12)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, torch.full((1, 3, *size), level / 255))


def triplet(folder: Path, names: tuple[str, str, str]) -> None:
    """First, middle and last frame at levels 10, 20, 30."""
    for level, name in zip((10, 20, 30), names, strict=True):
        picture(folder / name, level)


def middlebury(folder: Path) -> None:
    picture(folder / "other-data/Venus/frame10.png", 10)
    picture(folder / "other-data/Venus/frame11.png", 30)
    picture(folder / "other-data/Army/frame10.png", 10)  # without truth, as half the scenes
    picture(folder / "other-data/Army/frame11.png", 30)
    picture(folder / "other-gt-interp/Venus/frame10i11.png", 20)


def ucf101(folder: Path) -> None:
    triplet(folder / "ucf101_interp_ours/1", ("frame_00.png", "frame_01_gt.png", "frame_02.png"))


def vimeo90k(folder: Path, sequences: str = "target") -> None:
    triplet(folder / sequences / "00001/0389", ("im1.png", "im2.png", "im3.png"))
    (folder / "tri_testlist.txt").write_text("00001/0389\n\n")


def snu_film(folder: Path) -> None:
    clip = "GOPRO_test/GOPR0384_11_00"
    triplet(folder / "test" / clip, ("000001.png", "000009.png", "000017.png"))
    names = (f"data/SNU-FILM/test/{clip}/{n}.png" for n in ("000001", "000009", "000017"))
    (folder / "test-hard.txt").write_text(" ".join(names) + "\n")


def xiph(folder: Path) -> None:
    for number in range(1, 101):
        picture(folder / f"netflix/Tango-{number:03d}.png", 10 * ((number - 1) % 3 + 1))


def x4k1000fps(folder: Path) -> None:
    for number in range(33):
        picture(folder / f"test/Type1/TEST01_003_f0433/{number:04d}.png", number)


def hd(folder: Path) -> None:
    path = folder / "HD_dataset/HD544p_GT/Sintel_Alley2_1280x544.yuv"
    path.parent.mkdir(parents=True)
    luma = (np.full(1280 * 544, 10 * k, np.uint8) for k in range(6))
    path.write_bytes(b"".join(y.tobytes() + bytes([128]) * (1280 * 544 // 2) for y in luma))


def atd12k(folder: Path) -> None:
    triplet(folder / "test_2k_540p/Disney_v4_0", ("frame1.png", "frame2.png", "frame3.png"))


LAYOUTS: dict[str, Callable[[Path], None]] = {
    "middlebury": middlebury,
    "ucf101": ucf101,
    "vimeo90k": vimeo90k,
    "snu-film-hard": snu_film,
    "atd-12k": atd12k,
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_triplet_of_each_published_layout_is_read_in_order_of_time(
    name: str, tmp_path: Path
) -> None:
    LAYOUTS[name](tmp_path)
    dataset = open_benchmark(name, tmp_path)
    frames = dataset.load(dataset.samples[0])
    levels = [round(x.mean().item() * 255) for x in (frames.img0, *frames.truths, frames.img1)]
    assert len(dataset) == 1
    assert levels == [10, 20, 30]
    assert dataset.samples[0].timesteps == (Fraction(1, 2),)
    assert dataset.metrics == BENCHMARKS[name].metrics
    assert find_benchmarks(tmp_path) == (name,)


def test_the_whole_vimeo90k_keeps_its_frames_in_sequences(tmp_path: Path) -> None:
    vimeo90k(tmp_path / "vimeo_triplet", "sequences")
    assert open_benchmark("vimeo90k", tmp_path).samples[0].name == "00001/0389"


def test_xiph_paints_every_even_frame_between_its_neighbours(tmp_path: Path) -> None:
    xiph(tmp_path)
    dataset = open_benchmark("xiph-2k", tmp_path)
    assert len(dataset) == 49
    sample = dataset.samples[0]
    assert [p.path.name for p in sample.pictures] == [f"Tango-{n:03d}.png" for n in (1, 2, 3)]
    assert dataset.samples[-1].img1.path.name == "Tango-099.png"
    assert {sample.group for sample in dataset} == {"Tango"}


def test_xiph_2k_halves_by_area_and_4k_takes_the_centre(tmp_path: Path) -> None:
    xiph(tmp_path)
    levels = torch.arange(96.0).view(1, 1, 8, 12).expand(1, 3, -1, -1)
    write_image(tmp_path / "netflix/Tango-001.png", levels / 255, overwrite=True)
    halved = open_benchmark("xiph-2k", tmp_path)
    cropped = open_benchmark("xiph-4k", tmp_path)
    small = halved.read(halved.samples[0].img0) * 255
    center = cropped.read(cropped.samples[0].img0) * 255
    assert small[0, 0, 0].round().tolist() == [7, 9, 11, 13, 15, 17]  # 6.5 is rounded up
    assert torch.equal(center.round(), levels[..., 2:6, 3:9])


def test_x4k1000fps_paints_the_seven_eighths(tmp_path: Path) -> None:
    x4k1000fps(tmp_path)
    (sample,) = open_benchmark("x4k1000fps", tmp_path)
    names = [int(truth.path.stem) for truth in sample.truths]
    assert names == [4, 8, 12, 16, 20, 24, 28]
    assert sample.timesteps == tuple(Fraction(k, 8) for k in range(1, 8))
    assert (sample.img0.path.stem, sample.img1.path.stem) == ("0000", "0032")
    assert sample.name == "Type1/TEST01_003_f0433"


def test_hd_reads_grey_levels_of_raw_files_and_stops_where_four_frames_end(
    tmp_path: Path,
) -> None:
    hd(tmp_path)
    dataset = open_benchmark("hd-544p", tmp_path)
    (sample,) = dataset  # six frames: a window at 0 and none at 4
    frames = dataset.load(sample)
    assert frames.img0.shape == (1, 3, 544, 1280)
    # chroma of 128 lies half a level beside neutral, and levels are cut off, as in the papers
    assert frames.truths[1].mean().item() * 255 == pytest.approx(20, abs=1.2)
    assert sample.timesteps == (Fraction(1, 4), Fraction(1, 2), Fraction(3, 4))


def test_an_incomplete_set_says_that_its_figures_do_not_compare(tmp_path: Path) -> None:
    ucf101(tmp_path)
    assert (
        "1 samples where the published set has 379" in open_benchmark("ucf101", tmp_path).notes[0]
    )


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_wrong_folder_is_told_what_was_expected_and_what_was_found(
    name: str, tmp_path: Path
) -> None:
    (tmp_path / "holiday").mkdir()
    expected = BENCHMARKS[name].layout.splitlines()[0]
    with pytest.raises(OptionError) as error:
        open_benchmark(name, tmp_path)
    assert expected in str(error.value)
    assert "holiday/" in str(error.value)


def test_the_folder_of_another_set_is_recognised(tmp_path: Path) -> None:
    ucf101(tmp_path)
    with pytest.raises(OptionError, match="this looks like UCF101"):
        open_benchmark("vimeo90k", tmp_path)


def test_a_file_that_a_list_names_and_nobody_unpacked_is_named(tmp_path: Path) -> None:
    vimeo90k(tmp_path)
    (tmp_path / "target/00001/0389/im2.png").unlink()
    with pytest.raises(OptionError, match=r"lacks 1 files, the first is .*im2\.png"):
        open_benchmark("vimeo90k", tmp_path)


def test_a_list_of_two_frames_a_line_is_refused(tmp_path: Path) -> None:
    snu_film(tmp_path)
    (tmp_path / "test-hard.txt").write_text("a.png b.png\n")
    with pytest.raises(OptionError, match="three frames a line"):
        open_benchmark("snu-film-hard", tmp_path)


def test_unknown_sets_and_absent_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="dataset must be one of middlebury, "):
        open_benchmark("imagenet", tmp_path)
    with pytest.raises(OptionError, match="does not exist"):
        open_benchmark("ucf101", tmp_path / "nowhere")


def test_frames_of_different_sizes_are_refused(tmp_path: Path) -> None:
    ucf101(tmp_path)
    path = tmp_path / "ucf101_interp_ours/1/frame_02.png"
    write_image(path, torch.zeros(1, 3, 8, 8), overwrite=True)
    dataset = open_benchmark("ucf101", tmp_path)
    with pytest.raises(OptionError, match="must have one size"):
        dataset.load(dataset.samples[0])
