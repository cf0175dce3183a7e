from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest

from midflow.dedup import LONGEST, DedupReader, largest_difference, merge_repeats
from midflow.errors import OptionError
from midflow.options import VideoOptions
from midflow.pipeline import interpolate_video
from midflow.video.frame import Frame
from midflow.video.reader import VideoReader
from tests.crossfade import CrossFade, luma, write_clip
from tests.video.clips import decoded

RATE = Fraction(24)


def drawing(level):
    """A dark frame with a bright bar, as wide as `level` says."""
    image = np.full((48, 64), 40)
    image[:, : 8 * level] = 200
    return image


def frames(levels, noise=0):
    dice = np.random.default_rng(0)
    for k, level in enumerate(levels):
        plane = drawing(level) + dice.integers(-noise, noise + 1, (48, 64))
        yield Frame((plane.astype(np.uint8),), k / RATE, 1 / RATE)


def runs(levels, **options):
    return [round(run.pts * RATE) for run in merge_repeats(frames(levels, **options))]


@pytest.mark.parametrize("noise", [0, 4])
def test_repeats_become_one_frame_shown_as_long(noise):
    levels = [1, 1, 2, 2, 2, 3, 4, 4]
    assert runs(levels, noise=noise) == [0, 2, 5, 6]
    merged = list(merge_repeats(frames(levels, noise=noise)))
    assert all(a.pts + a.duration == b.pts for a, b in pairwise(merged))
    assert merged[-1].pts + merged[-1].duration == 8 / RATE


def test_frames_that_all_differ_stay():
    assert runs(range(8)) == list(range(8))


def test_a_small_change_is_a_new_drawing():
    first, second = (np.full((64, 64), 40, np.uint8) for _ in range(2))
    second[20:26, 20:26] = 120
    assert largest_difference(first, second) >= 20
    assert largest_difference(first, first) == 0
    assert largest_difference(np.zeros((9, 9)), np.pad(np.full((1, 1), 50), (8, 0))) == 50


def test_a_held_still_is_not_one_long_run():
    found = runs([1] * 24 + [5])
    gaps = {b - a for a, b in pairwise(found)}
    assert found[-1] == 24 and max(gaps) / RATE < LONGEST + 1 / RATE


def test_levels_are_those_of_the_bit_depth():
    deep = [
        replace(frame, data=(frame.data[0].astype(np.uint16) * 4,))
        for frame in frames([1, 1, 2], noise=4)
    ]
    assert len(list(merge_repeats(deep, bits=10))) == 2
    assert len(list(merge_repeats(deep, bits=8))) == 3


def on_twos(path, count=6):
    images = [drawing(1 + k // 2) for k in range(2 * count)]
    return write_clip(path, images, [k / RATE for k in range(2 * count)], rate=RATE)


def test_reading_goes_on_from_any_run(tmp_path):
    source = on_twos(tmp_path / "in.mkv")
    with DedupReader(source) as reader:
        whole = [frame.pts for frame in reader]
    assert len(whole) == 6
    for count in (1, 3):
        with DedupReader(source) as reader:
            reader.skip(count)
            assert [frame.pts for frame in reader] == whole[count:]
        with DedupReader(source) as reader:
            if reader.jump(whole[count]):
                assert [frame.pts for frame in reader] == whole[count:]


def bar(frame):
    """Mean brightness: how far the bar has come, however it is painted."""
    return luma(frame).mean()


def test_motion_on_twos_becomes_even_and_lasts_as_long(tmp_path):
    source = on_twos(tmp_path / "in.mkv")
    steps, results = {}, {}
    for dedup in (False, True):
        options = VideoOptions(preset="ultrafast", crf=1, device="cpu", dedup=dedup)
        target = tmp_path / f"{dedup}.mp4"
        results[dedup] = interpolate_video(
            source, target, factor=2, model=CrossFade(), options=replace(options, scene_threshold=0)
        )
        shown = [bar(frame) for frame in decoded(target)]
        steps[dedup] = [b - a for a, b in pairwise(shown[:20])]
    assert results[True].frames_out == results[False].frames_out == 24
    assert max(steps[True]) < 1.3 * min(steps[True])
    assert min(steps[False]) < 0.2 < max(steps[False])


def test_the_result_does_not_depend_on_segments(tmp_path):
    source = on_twos(tmp_path / "in.mkv")
    shown = []
    for length in (240, 5):
        options = VideoOptions(
            device="cpu", dedup=True, scene_threshold=0, codec="ffv1", segment_frames=length
        )  # fmt: skip
        target = tmp_path / f"{length}.mkv"
        interpolate_video(source, target, factor=3, model=CrossFade(), options=options)
        shown.append([luma(frame) for frame in decoded(target)])
    assert len(shown[0]) == len(shown[1]) == 36
    assert all(np.array_equal(a, b) for a, b in zip(*shown, strict=True))


def test_a_reader_without_it_gives_every_frame(tmp_path):
    with VideoReader(on_twos(tmp_path / "in.mkv")) as reader:
        assert len(list(reader)) == 12


def test_it_needs_a_constant_rate():
    with pytest.raises(OptionError, match="dedup needs a constant rate"):
        VideoOptions(dedup=True, vfr="keep")
