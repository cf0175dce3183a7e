from pathlib import Path

import pytest
import torch

from midflow.errors import OptionError, VideoError
from midflow.train.augment import UNCHANGED
from midflow.train.layouts import (
    CLIPS,
    LAYOUTS,
    atd12k,
    detect_layout,
    listed_triplets,
    open_layout,
    snu_film,
    triplet_folders,
    vimeo_septuplet,
    vimeo_triplet,
    x4k1000fps,
)
from midflow.train.shots import Shots
from midflow.video.image import read_image
from tests.train.footage import same, write_picture

CPU = torch.device("cpu")


def vimeo(folder: Path, length: int, name: str) -> Path:
    for clip in ("00001/0001", "00002/0017"):
        for k in range(1, length + 1):
            write_picture(folder / "sequences" / clip / f"im{k}.png", k)
    (folder / name).write_text("00001/0001\n00002/0017\n\n")
    return folder


def test_vimeo_triplets_are_read_from_their_list(tmp_path: Path) -> None:
    shots = vimeo_triplet(vimeo(tmp_path, 3, "tri_trainlist.txt"))
    assert [shot.name for shot in shots] == ["00001/0001", "00002/0017"]
    source = Shots(shots, augmentation=UNCHANGED, workers=2)
    batch = source.batch(0, 4, 32, device=CPU)
    truth = read_image(shots[0].files[1])[0][0]
    assert float((batch.truth - truth).abs().max()) < 1 / 255
    assert batch.timestep.tolist() == [0.5] * 4
    assert same(batch, Shots(shots, augmentation=UNCHANGED).batch(0, 4, 32, device=CPU))


def test_septuplets_offer_all_triplets_of_seven_frames(tmp_path: Path) -> None:
    shots = vimeo_septuplet(vimeo(tmp_path, 7, "sep_testlist.txt"), "test")
    assert len(shots[0].files) == 7
    assert len(shots[0].moments) == 35
    assert 0 < shots[0].moments.timesteps.min() < 0.2


def test_x4k_clips_are_found_two_folders_deep(tmp_path: Path) -> None:
    for k in range(5):
        write_picture(tmp_path / "train" / "002" / "occ008.320" / f"{k:04d}.png", k)
    (shot,) = x4k1000fps(tmp_path)
    assert shot.name == "002/occ008.320"
    assert [file.name for file in shot.files] == [f"{k:04d}.png" for k in range(5)]
    assert len(shot.moments) == 10


def test_atd_triplets_are_three_numbered_frames(tmp_path: Path) -> None:
    for k in (1, 2, 3):
        write_picture(tmp_path / "train_10k" / "Disney_v4_1" / f"frame{k}.jpg", k)
    (shot,) = atd12k(tmp_path)
    assert [file.name for file in shot.files] == ["frame1.jpg", "frame2.jpg", "frame3.jpg"]
    assert shot.size == (32, 32)


def test_snu_film_lists_may_begin_with_folders_that_are_not_there(tmp_path: Path) -> None:
    for k in (1, 3, 5):
        write_picture(tmp_path / "test" / "GOPRO_test" / f"{k:06d}.png", k)
    line = " ".join(f"data/SNU-FILM/test/GOPRO_test/{k:06d}.png" for k in (1, 3, 5))
    (tmp_path / "eval_modes").mkdir()
    (tmp_path / "eval_modes" / "test-hard.txt").write_text(line + "\n")
    (shot,) = snu_film(tmp_path)
    assert shot.files[1] == tmp_path / "test" / "GOPRO_test" / "000003.png"
    assert shot.files[1].is_file()
    with pytest.raises(OptionError, match=r"not the layout of SNU-FILM: test-easy.txt"):
        snu_film(tmp_path, "easy")
    with pytest.raises(OptionError, match="level must be one of easy, medium"):
        snu_film(tmp_path, "harder")


def test_lists_are_checked_line_by_line(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png", 0)
    file = tmp_path / "list.txt"
    file.write_text("a.png a.png a.png\na.png a.png\n")
    with pytest.raises(OptionError, match="line 2: three paths are required, got 2"):
        listed_triplets(file, tmp_path)
    file.write_text("b.png a.png a.png\n")
    with pytest.raises(OptionError, match=r"b.png, the first picture in .* is not found"):
        listed_triplets(file, tmp_path)


def test_any_folders_of_three_pictures_are_triplets(tmp_path: Path) -> None:
    for k in (2, 10, 1):
        write_picture(tmp_path / "deep" / "one" / f"f{k}.png", k)
    write_picture(tmp_path / "two" / "only.png", 0)
    (shot,) = triplet_folders(tmp_path)
    assert shot.name == "deep/one"
    assert [file.name for file in shot.files] == ["f1.png", "f2.png", "f10.png"]


@pytest.mark.parametrize("name", sorted(LAYOUTS))
def test_a_wrong_folder_is_told_which_layout_was_expected(name: str, tmp_path: Path) -> None:
    (tmp_path / "holiday.txt").write_text("")
    with pytest.raises(OptionError, match=r"has not the layout of .* \(it holds holiday.txt\)"):
        open_layout(name, tmp_path)
    with pytest.raises(VideoError, match="cannot be read as a folder"):
        open_layout(name, tmp_path / "nowhere")


def test_a_layout_is_told_from_what_is_there(tmp_path: Path) -> None:
    vimeo(tmp_path / "a", 3, "tri_trainlist.txt")
    vimeo(tmp_path / "b", 7, "sep_testlist.txt")
    write_picture(tmp_path / "c" / "train" / "002" / "occ008.320" / "0000.png", 0)
    write_picture(tmp_path / "d" / "train_10k" / "one" / "frame1.png", 0)
    (tmp_path / "e" / "eval_modes").mkdir(parents=True)
    (tmp_path / "e" / "eval_modes" / "test-hard.txt").write_text("")
    for k in range(3):
        write_picture(tmp_path / "f" / "deep" / "one" / f"{k}.png", k)
        write_picture(tmp_path / "g" / f"{k}.png", k)
    (tmp_path / "h" / "deep").mkdir(parents=True)
    (tmp_path / "h" / "deep" / "a.MP4").write_text("")
    found = [detect_layout(tmp_path / name) for name in "abcdefgh"]
    assert found == [*LAYOUTS, "triplets", CLIPS]
    assert len(open_layout("triplets", tmp_path / "g")) == 1


def test_the_test_part_is_opened_where_a_layout_has_one(tmp_path: Path) -> None:
    vimeo(tmp_path, 7, "sep_testlist.txt")
    assert len(open_layout("vimeo_septuplet", tmp_path, "test")) == 2
    with pytest.raises(OptionError, match=r"sep_trainlist\.txt"):
        open_layout("vimeo_septuplet", tmp_path)


def test_an_unknown_layout_or_split_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="layout must be one of vimeo_triplet"):
        open_layout("imagenet", tmp_path)
    with pytest.raises(OptionError, match="split must be one of train, test"):
        vimeo_triplet(tmp_path, "val")


def test_a_list_without_its_pictures_is_noticed_at_once(tmp_path: Path) -> None:
    vimeo(tmp_path, 3, "tri_trainlist.txt")
    (tmp_path / "sequences" / "00001" / "0001" / "im1.png").unlink()
    with pytest.raises(OptionError, match="the first in the list, is missing"):
        vimeo_triplet(tmp_path)


def test_pictures_of_other_sizes_are_named(tmp_path: Path) -> None:
    for k in (1, 2, 3):
        write_picture(tmp_path / "one" / f"{k}.png", k, (32 + 16 * (k == 2), 32))
    source = Shots(triplet_folders(tmp_path))
    with pytest.raises(VideoError, match=r"2.png is 48x32, the first is 32x32"):
        source.batch(0, 1, 32, device=CPU)
