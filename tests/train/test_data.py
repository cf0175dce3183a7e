import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from midflow.errors import OptionError, VideoError
from midflow.train.augment import UNCHANGED, Augmentation
from midflow.train.batch import Batch, Source, concatenate, random_stream
from midflow.train.data import FolderOptions, Mixed, VideoFolder, load_footage
from midflow.train.footage import decode, decode_to
from midflow.train.inspect import check_clip, check_folder, estimate_motion
from midflow.train.moments import TripletOptions, find_moments
from tests.train.footage import moving_clip, moving_picture, same, write_clip, write_picture

CPU = torch.device("cpu")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "more").mkdir()
    moving_clip(tmp_path / "a.mp4")
    moving_clip(tmp_path / "more" / "b.mp4")
    return tmp_path


def test_a_batch_holds_three_frames_in_order_of_time(folder: Path) -> None:
    source = VideoFolder(folder, augmentation=UNCHANGED)
    batch = source.batch(0, 6, 48, device=CPU)
    assert batch.img0.shape == batch.truth.shape == batch.img1.shape == (6, 3, 48, 48)
    assert isinstance(source, Source)
    for i in range(6):
        place = [
            float((picture[i] - batch.img0[i]).abs().mean())
            for picture in (batch.truth, batch.img1)
        ]
        assert 0.01 < place[0]
        assert 0.01 < place[1]
        assert 0 < float(batch.timestep[i]) < 1


def test_the_true_frame_is_the_one_at_the_timestep(folder: Path) -> None:
    source = VideoFolder(folder, augmentation=UNCHANGED)
    films = {shot.name: shot.frames for shot in source.shots}
    frames = films["a.mp4"]
    moments = source.shots[0].moments
    for (i, j, k), t in zip(moments.indices, moments.timesteps, strict=True):
        assert t == pytest.approx((j - i) / (k - i))
    # the window of a sample is found in the clip at the very frames i, j, k
    for pick in source._picks(0, 4, 64, 0):
        i, j, k = pick.indices
        cut = pick.shot.cut_out(pick.indices, pick.window)
        assert torch.equal(cut, frames[[i, j, k]])
        assert pick.timestep == pytest.approx((j - i) / (k - i))


def test_samples_depend_on_seed_step_and_rank_alone(folder: Path) -> None:
    source, again = VideoFolder(folder, seed=3), VideoFolder(folder, seed=3)
    other = VideoFolder(folder, seed=4)
    again.batch(0, 4, 32, device=CPU)
    first = source.batch(5, 4, 32, device=CPU)
    assert same(first, again.batch(5, 4, 32, device=CPU))
    assert not same(first, source.batch(6, 4, 32, device=CPU))
    assert not same(first, source.batch(5, 4, 32, device=CPU, rank=1))
    assert not same(first, other.batch(5, 4, 32, device=CPU))


def test_half_of_the_samples_lie_in_the_middle_at_least(folder: Path) -> None:
    source = VideoFolder(folder)
    times = torch.cat([source.batch(k, 64, 16, device=CPU).timestep for k in range(4)])
    central = float(((times - 0.5).abs() < 0.01).float().mean())
    assert central > 0.5
    assert central < 0.95


def test_no_triplet_crosses_a_cut(tmp_path: Path) -> None:
    pictures = [moving_picture(k) for k in range(6)]
    pictures += [255 - moving_picture(k, scene=2) for k in range(6)]
    footage = decode(write_clip(tmp_path / "cut.mp4", pictures))
    assert footage.cuts == [6]
    indices = find_moments(footage.times, footage.runs, TripletOptions()).indices
    assert len(indices)
    assert not ((indices[:, 0] < 6) & (indices[:, 2] >= 6)).any()


def test_repeated_frames_are_left_out_and_times_stay_true(tmp_path: Path) -> None:
    pictures = [moving_picture(k) for k in (0, 1, 1, 3, 4, 4, 6)]
    footage = decode(write_clip(tmp_path / "held.mp4", pictures))
    assert footage.duplicates == 2
    assert np.allclose(footage.times * 25, [0, 1, 3, 4, 6])
    moments = find_moments(footage.times, footage.runs, TripletOptions(max_span=2))
    assert np.allclose(moments.timesteps, [1 / 3, 2 / 3, 1 / 3])


def test_near_static_triplets_are_left_out(tmp_path: Path) -> None:
    drift = [moving_picture(0.02 * k) for k in range(6)]
    still = decode(write_clip(tmp_path / "still.mp4", drift))
    with pytest.raises(OptionError, match="none of 1 clips has three frames"):
        VideoFolder([tmp_path / "still.mp4"])
    kept = find_moments(still.times, still.runs, TripletOptions(min_change=0), still.small)
    moved = find_moments(still.times, still.runs, TripletOptions(), still.small)
    assert len(kept) > len(moved) == 0


def test_distances_between_the_inputs_are_drawn_alike_often() -> None:
    options = TripletOptions(max_span=6, max_seconds=9)
    moments = find_moments(np.arange(20.0), [range(20)], options)
    rows = [moments.draw(False, k / 5000) for k in range(5000)]
    spans = moments.indices[rows][:, 2] - moments.indices[rows][:, 0]
    assert np.bincount(spans)[2:].min() > 0.9 * 1000
    central = [moments.draw(True, k / 500) for k in range(500)]
    assert np.allclose(moments.timesteps[central], 0.5)


def test_slow_clips_give_no_long_distances() -> None:
    moments = find_moments(np.arange(20) / 8, [range(20)], TripletOptions(max_seconds=0.27))
    assert set(moments.indices[:, 2] - moments.indices[:, 0]) == {2}


def test_clips_are_cut_to_so_many_frames_in_memory_and_in_a_cache(
    folder: Path, tmp_path: Path
) -> None:
    whole = decode_to(tmp_path, folder / "a.mp4")
    for cache in (None, tmp_path):
        options = FolderOptions(cache=cache, clip_frames=5)
        footage = load_footage([folder / "a.mp4"], options)[0]
        assert torch.equal(footage.frames, whole.frames[:5])
        assert len(footage.times) == len(footage.small) == 5
    assert len(whole.frames) > 5
    with pytest.raises(OptionError, match="clip_frames must be at least 3, got 2"):
        FolderOptions(clip_frames=2)


def test_a_cache_gives_the_same_samples_and_is_used_again(folder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    options = FolderOptions(cache=cache)
    direct = VideoFolder(folder)
    cached = VideoFolder(sorted(folder.rglob("*.mp4")), options)
    files = sorted(cache.iterdir())
    written = [file.stat().st_mtime_ns for file in files]
    again = VideoFolder(sorted(folder.rglob("*.mp4")), options)
    assert [file.stat().st_mtime_ns for file in sorted(cache.iterdir())] == written
    for source in (cached, again):
        assert same(direct.batch(2, 4, 32, device=CPU), source.batch(2, 4, 32, device=CPU))


def test_what_was_interrupted_is_decoded_again(folder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    whole = decode_to(cache, folder / "a.mp4").frames.clone()
    next(cache.glob("*.json")).unlink()
    next(cache.glob("*.u8")).write_bytes(b"torn")
    assert torch.equal(decode_to(cache, folder / "a.mp4").frames, whole)


def test_a_full_disk_is_said_and_leaves_no_part(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(VideoError, match=r"cannot be written to .*No space left.*make room"):
        decode_to(tmp_path / "cache", folder / "a.mp4")
    assert not list((tmp_path / "cache").iterdir())


def test_clips_are_shortened_to_fit_into_the_memory(folder: Path) -> None:
    frame = 3 * 64 * 64
    source = VideoFolder(folder, FolderOptions(memory_gigabytes=11 * frame / 1e9))
    assert [len(shot.frames) for shot in source.shots] == [5, 5]
    with pytest.raises(OptionError, match="do not hold three frames of each of 2 clips"):
        VideoFolder(folder, FolderOptions(memory_gigabytes=5 * frame / 1e9))


def test_unreadable_clips_are_named_and_left_out(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "broken.mp4").write_bytes(b"not a video")
    with caplog.at_level(logging.WARNING):
        assert len(VideoFolder(folder)) == 2
    assert "left out" in caplog.text
    assert "broken.mp4" in caplog.text
    with pytest.raises(VideoError, match=r"none of the clips can be read; the last: .*broken"):
        VideoFolder([folder / "broken.mp4"])


def test_errors_say_what_is_missing(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="is not a folder"):
        VideoFolder(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(VideoError, match="holds no clips: looked for files that end in"):
        VideoFolder(tmp_path / "empty")
    with pytest.raises(OptionError, match="too few clips: 3 are required, 2 of 2"):
        VideoFolder(folder, FolderOptions(min_clips=3))
    with pytest.raises(OptionError, match=r"crop of 128 pixels does not fit .* a.mp4 with 64x64"):
        VideoFolder(folder).batch(0, 1, 128, device=CPU)


def test_options_are_checked() -> None:
    with pytest.raises(OptionError, match="max_span must be at least 2"):
        TripletOptions(max_span=1)
    with pytest.raises(OptionError, match="memory_gigabytes must be above 0"):
        FolderOptions(memory_gigabytes=0)
    with pytest.raises(OptionError, match=r"flip must lie in \[0, 1\]"):
        Augmentation(flip=2)


class Constant:
    """A source whose pictures are all of one value."""

    def __init__(self, value: float, has_flow: bool = False) -> None:
        self.value, self.has_flow = value, has_flow

    def batch(
        self, step: int, size: int, crop: int, *, device: torch.device, rank: int = 0
    ) -> Batch:
        picture = torch.full((size, 3, crop, crop), self.value)
        batch = Batch(picture, picture, picture, torch.full((size,), 0.5))
        if self.has_flow:
            flow, visible = picture[:, :1].repeat(1, 4, 1, 1), picture[:, :2] * 0
            known = torch.ones(size, dtype=torch.bool)
            batch = Batch(*(picture,) * 3, batch.timestep, flow, visible, known)
        return batch


def test_mixed_sources_keep_their_shares_in_the_long_run() -> None:
    source = Mixed([(Constant(0.25), 7), (Constant(0.75), 3)])
    picked = [source.batch(k, 4, 2, device=CPU).truth[:, 0, 0, 0] for k in range(200)]
    assert all(len(batch) == 4 for batch in picked)
    assert float((torch.cat(picked) == 0.75).float().mean()) == pytest.approx(0.3, abs=0.03)
    counts = {int((batch == 0.75).sum()) for batch in picked}
    assert counts == {1, 2}


def test_mixing_marks_the_rows_whose_flow_is_known() -> None:
    source = Mixed([(Constant(0.25), 1), (Constant(0.75, has_flow=True), 1)])
    batch = source.batch(0, 4, 2, device=CPU)
    assert batch.has_flow.tolist() == [False, False, True, True]
    assert batch.flow[:2].abs().max() == 0
    assert batch.flow[2:].min() == 0.75
    assert batch.visible[:2].min() == 1
    assert batch.visible[2:].max() == 0


def test_shares_must_make_sense() -> None:
    with pytest.raises(OptionError, match="shares must be at least 0 and not all 0"):
        Mixed([(Constant(0), 0.0)])
    with pytest.raises(OptionError, match="shares must be"):
        Mixed([(Constant(0), -1.0), (Constant(1), 2.0)])


def test_clips_smaller_than_the_crop_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    moving_clip(tmp_path / "a.mp4")
    moving_clip(tmp_path / "b.mp4", size=(48, 48))
    source = VideoFolder(tmp_path)
    for step in range(2):
        source.batch(step, 2, 64, device=CPU)
    assert caplog.text.count("1 of 2 clips are smaller than the crop of 64 pixels") == 1


def test_without_triplets_at_the_middle_a_clip_is_left_out_where_all_must_be_there(
    tmp_path: Path,
) -> None:
    uneven = write_clip(tmp_path / "held.mp4", [moving_picture(k) for k in (0, 1, 1, 3)])
    assert len(VideoFolder([uneven])) == 1
    with pytest.raises(OptionError, match="none of 1 clips"):
        VideoFolder([uneven], triplets=TripletOptions(central_share=1))


def test_random_streams_do_not_meet() -> None:
    keys = [(s, k, r, p) for s in range(4) for k in range(4) for r in range(4) for p in range(4)]
    first = {int(torch.randint(2**60, (), generator=random_stream(*key))) for key in keys}
    assert len(first) == len(keys)


def test_one_batch_alone_is_not_copied() -> None:
    batch = Constant(0.5).batch(0, 2, 4, device=CPU)
    assert concatenate([batch]) is batch


def test_the_report_counts_cuts_repetitions_and_motion(folder: Path) -> None:
    pictures = [moving_picture(k) for k in (0, 1, 1, 2)]
    pictures += [255 - moving_picture(k, scene=2) for k in range(4)]
    write_clip(folder / "mixed.mp4", pictures)
    (folder / "broken.mp4").write_bytes(b"not a video")
    report = check_folder(folder)
    rows = {row.name: row for row in report.rows}
    assert (report.layout, report.items, len(report.usable)) == ("clips", 4, 3)
    assert sorted(rows) == ["a.mp4", "broken.mp4", "mixed.mp4", "more/b.mp4"]
    assert (rows["mixed.mp4"].cuts, rows["mixed.mp4"].duplicates) == (1, 1)
    assert rows["mixed.mp4"].frames == 7
    assert (rows["a.mp4"].width, rows["a.mp4"].height, rows["a.mp4"].frame_rate) == (64, 64, 25)
    assert rows["a.mp4"].motion == pytest.approx(2, abs=0.3)
    assert not rows["a.mp4"].problem
    assert "broken.mp4" in rows["broken.mp4"].problem


def test_data_sets_of_pictures_are_looked_at_as_well(tmp_path: Path) -> None:
    for name, sizes in (("good", (64, 64, 64)), ("uneven", (64, 64, 48)), ("torn", (64, 64, 64))):
        for k, side in enumerate(sizes):
            write_picture(tmp_path / name / f"{k}.png", k, (side, side))
    (tmp_path / "torn" / "1.png").write_bytes(b"not a picture")
    report = check_folder(tmp_path)
    assert (report.layout, report.items) == ("triplets", 3)
    good, torn, uneven = report.rows
    assert (good.name, good.width, good.frames, good.frame_rate) == ("good", 64, 3, 0)
    assert good.motion == pytest.approx(2, abs=0.3)
    assert "cannot be read as a picture" in torn.problem
    assert uneven.problem == "its pictures are not of one size"


def test_a_clip_of_two_frames_is_reported_as_too_short(tmp_path: Path) -> None:
    row = check_clip(moving_clip(tmp_path / "short.mp4", frames=2))
    assert row.problem == "too short: 2 frames that differ, 3 are required"


@pytest.mark.parametrize("motion", [0.0, 3.0, 12.0])
def test_motion_is_estimated_to_a_fraction_of_a_pixel(motion: float) -> None:
    random = torch.Generator().manual_seed(1)
    coarse = torch.rand(1, 3, 16, 24, generator=random)
    wide = torch.nn.functional.interpolate(coarse, (128, 192), mode="bicubic")
    shift = round(motion)
    frame0, frame1 = wide[..., 16:112, 32:160], wide[..., 16:112, 32 - shift : 160 - shift]
    assert float(estimate_motion(frame0, frame1).median()) == pytest.approx(motion, abs=0.4)
