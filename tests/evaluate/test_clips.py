"""Dropping frames of clips: which are taken, and that each is the frame it should be."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from midflow.errors import OptionError, VideoError
from midflow.evaluate.clips import ClipFrames, open_clips
from midflow.evaluate.dataset import Picture


def clip(path: Path, frames: int) -> Path:
    """A lossless clip whose frame k is grey of level 8 k."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 16, "bgr0"
        for k in range(frames):
            image = np.full((16, 32, 3), 8 * k, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
        container.mux(stream.encode(None))
    return path


def levels(dataset, sample) -> list[int]:
    frames = dataset.load(sample)
    return [round(x.mean().item() * 255 / 8) for x in (frames.img0, *frames.truths, frames.img1)]


def test_samples_are_spread_from_the_first_frame_to_the_last(tmp_path: Path) -> None:
    clip(tmp_path / "a.mkv", 10)
    dataset = open_clips(tmp_path, per_clip=3)
    assert [levels(dataset, sample) for sample in dataset] == [[0, 1, 2], [3, 4, 5], [7, 8, 9]]
    assert {sample.timesteps for sample in dataset} == {(Fraction(1, 2),)}


def test_a_factor_of_four_asks_for_three_frames_at_their_times(tmp_path: Path) -> None:
    clip(tmp_path / "a.mkv", 6)
    dataset = open_clips(tmp_path, factor=4, per_clip=1)
    (sample,) = dataset
    assert levels(dataset, sample) == [0, 1, 2, 3, 4]
    assert sample.timesteps == (Fraction(1, 4), Fraction(1, 2), Fraction(3, 4))


def test_without_a_count_every_run_is_taken_end_to_end(tmp_path: Path) -> None:
    clip(tmp_path / "a.mkv", 8)
    dataset = open_clips(tmp_path, per_clip=None)
    assert [levels(dataset, sample)[0] for sample in dataset] == [0, 2, 4]


def test_short_clips_give_each_window_once_and_shorter_ones_are_left_out(tmp_path: Path) -> None:
    clip(tmp_path / "short.mkv", 3)
    clip(tmp_path / "shorter.mkv", 2)
    dataset = open_clips(tmp_path, per_clip=4)
    assert [sample.name for sample in dataset] == ["short.mkv:0"]
    assert dataset.notes == ("1 clips below 3 frames left out",)


def test_frames_asked_for_out_of_order_are_the_same(tmp_path: Path) -> None:
    path, read = clip(tmp_path / "a.mkv", 6), ClipFrames(3)
    found = [round(read(Picture(path, k)).mean().item() * 255 / 8) for k in (5, 0, 3, 2, 4)]
    assert found == [5, 0, 3, 2, 4]


def test_a_frame_behind_the_end_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="has no frame 6"):
        ClipFrames(3)(Picture(clip(tmp_path / "a.mkv", 6), 6))


def test_folders_without_usable_clips_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"must hold videos .*found nothing"):
        open_clips(tmp_path)
    clip(tmp_path / "a.mkv", 4)
    with pytest.raises(OptionError, match="needs clips of at least 9 frames"):
        open_clips(tmp_path, factor=8)
    with pytest.raises(OptionError, match="factor must be one of"):
        open_clips(tmp_path, factor=3)
    with pytest.raises(OptionError, match="per_clip must be at least 1"):
        open_clips(tmp_path, per_clip=0)
