import itertools
import os
import threading
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

import midflow
from midflow import painter, pipeline
from midflow.errors import OptionError, VideoError
from midflow.options import VideoOptions
from midflow.pipeline import default_target, interpolate_video
from midflow.video.reader import VideoReader
from midflow.video.segment import SegmentWriter
from tests.crossfade import CrossFade, luma, read_clock, write_clip, write_clock
from tests.video.clips import Recipe, decoded, make_clip, packets

FILM = Fraction(24000, 1001)
FAST = VideoOptions(preset="ultrafast", device="cpu", scene_threshold=0)


def run(source, target, **kwargs):
    kwargs = {"model": CrossFade(), "options": FAST, **kwargs}
    return interpolate_video(source, target, **kwargs)


def steady(count, rate):
    return [i / Fraction(rate) for i in range(count)]


@pytest.fixture
def moving(tmp_path):
    """Ten frames at 25 frames/s."""
    return make_clip(tmp_path / "moving.mp4", Recipe(frames=10))


@pytest.fixture(autouse=True)
def no_thread_outlives_a_test():
    yield
    names = [thread.name for thread in threading.enumerate()]
    assert not {"Feed", "Sink"} & set(names)


@pytest.mark.parametrize(
    ("wish", "rate"),
    [
        ({"fps": "60"}, Fraction(60)),
        ({"factor": 2}, 2 * FILM),
        ({"factor": "2.5"}, FILM * 5 / 2),
        ({"factor": 8}, 8 * FILM),
        ({}, 2 * FILM),
    ],
    ids=["60", "x2", "x2.5", "x8", "default"],
)
def test_duration_and_sound_stay(tmp_path, wish, rate):
    source = make_clip(tmp_path / "in.mp4", Recipe(frames=31, rate=FILM, audio=["eng", "deu"]))
    result = run(source, tmp_path / "out.mp4", **wish)

    frames = decoded(result.job.target)
    assert len(frames) == result.frames_out == round(31 / FILM * rate)
    times = [frame.pts * frame.time_base for frame in frames]
    assert times == [k / rate for k in range(len(frames))]
    with av.open(str(result.job.target)) as output:
        stream = output.streams.video[0]
        assert stream.average_rate == rate
        assert abs(stream.duration * stream.time_base - 31 / FILM) <= 1 / (2 * rate)
        assert [s.metadata["language"] for s in output.streams.audio] == ["eng", "deu"]
    for index in (1, 2):
        sound = [data for _, data in packets(source, index)]
        assert sound
        assert [data for _, data in packets(result.job.target, index)] == sound


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize(
    "times",
    [
        steady(12, 25),
        steady(12, FILM),
        [Fraction(t, 1000) for t in (0, 40, 80, 300, 310, 500, 900, 1000)],
        [Fraction(2) / 10 + t for t in steady(8, 20)],
    ],
    ids=["25", "film", "variable", "late"],
)
def test_every_frame_shows_its_own_time(tmp_path, times, suffix):
    source = write_clock(tmp_path / f"in{suffix}", times)
    run(source, tmp_path / "out.mp4", fps=60)

    shown = read_clock(tmp_path / "out.mp4")
    offset = times[0] - shown[0][0]
    for pts, told in shown:
        assert told == pytest.approx(float(min(pts + offset, times[-1])), abs=0.012)
    assert all(b - a == Fraction(1, 60) for (a, _), (b, _) in itertools.pairwise(shown))


def test_a_lower_rate_drops_frames(tmp_path):
    source = write_clock(tmp_path / "in.mp4", steady(24, 24))
    net = CrossFade()
    result = run(source, tmp_path / "out.mp4", fps=12, model=net)

    assert result.frames_out == 12
    assert net.batches == []
    assert [t for _, t in read_clock(tmp_path / "out.mp4")] == pytest.approx(
        [k / 12 for k in range(12)], abs=0.012
    )


def test_frames_are_encoded_once_and_the_times_of_a_pair_run_as_one_batch(moving, tmp_path):
    net = CrossFade()
    run(moving, tmp_path / "out.mp4", factor=4, model=net)

    assert net.encoded == 10
    assert net.batches == [[0.25, 0.5, 0.75]] * 9


def test_batches_are_split_by_pixels_and_the_result_is_the_same(moving, tmp_path, monkeypatch):
    run(moving, tmp_path / "whole.mp4", factor=8)
    monkeypatch.setattr(painter, "MAX_BATCH_PIXELS", 2 * 64 * 48)
    net = CrossFade()
    run(moving, tmp_path / "split.mp4", factor=8, model=net)

    assert {len(batch) for batch in net.batches} == {1, 2}
    assert packets(tmp_path / "split.mp4", 0) == packets(tmp_path / "whole.mp4", 0)


def test_networks_that_know_the_middle_only_reach_other_times(tmp_path):
    source = write_clock(tmp_path / "in.mp4", steady(5, 5))
    net = CrossFade(has_timestep=False)
    run(source, tmp_path / "out.mp4", factor=4, model=net)

    assert {t for batch in net.batches for t in batch} == {0.5}
    for pts, told in read_clock(tmp_path / "out.mp4"):
        assert told == pytest.approx(float(min(pts, Fraction(4, 5))), abs=0.012)


@pytest.mark.parametrize("size", [(427, 239), (65, 31)])
def test_odd_sizes_keep_their_size(tmp_path, size):
    source = make_clip(
        tmp_path / "in.mkv", Recipe(frames=3, size=size, codec="ffv1", pixel_format="yuv420p")
    )
    result = run(source, tmp_path / "out.mp4")

    frames = decoded(tmp_path / "out.mp4")
    assert len(frames) == result.frames_out == 6
    assert {(f.width, f.height) for f in frames} == {size}


def test_ten_bits_stay_ten_bits(tmp_path):
    source = make_clip(
        tmp_path / "in.mkv", Recipe(frames=2, codec="ffv1", pixel_format="yuv420p10le")
    )
    run(source, tmp_path / "out.mkv", options=VideoOptions(codec="ffv1", device="cpu"))

    assert [f.format.name for f in decoded(tmp_path / "out.mkv")] == ["yuv420p10le"] * 4


def test_a_frame_that_is_passed_through_keeps_its_codes(tmp_path):
    source = make_clip(tmp_path / "in.mkv", Recipe(frames=4, codec="ffv1"))
    run(source, tmp_path / "out.mkv", options=VideoOptions(codec="ffv1", device="cpu"))

    before, after = decoded(source), decoded(tmp_path / "out.mkv")
    for k, frame in enumerate(before):
        assert np.abs(frame.to_ndarray() - after[2 * k].to_ndarray().astype(int)).max() <= 1


def test_one_frame_is_held_for_its_duration(tmp_path):
    source = write_clock(tmp_path / "in.mp4", [Fraction(0)])  # lasts 0.1 s
    result = run(source, tmp_path / "out.mp4", fps=50)

    assert (result.frames_in, result.frames_out) == (1, 5)
    assert len(decoded(tmp_path / "out.mp4")) == 5


def test_brightness_of_a_static_clip_stays(tmp_path):
    grain = np.random.default_rng(0).normal(0, 3, (6, 48, 64))
    ramp = np.linspace(60, 190, 64)[None] + grain
    source = write_clip(tmp_path / "in.mkv", list(ramp.round()), steady(6, 25))
    run(source, tmp_path / "out.mkv", model=None, options=VideoOptions(codec="ffv1", device="cpu"))

    means = [luma(frame).mean() for frame in decoded(source)]
    shown = [luma(frame).mean() for frame in decoded(tmp_path / "out.mkv")]
    for k, mean in enumerate(shown[:-1]):
        expected = (means[k // 2] + means[(k + 1) // 2]) / 2
        assert mean == pytest.approx(expected, abs=0.1)
    assert max(shown) - min(shown) < 0.4  # as the grain itself


def test_equal_neighbours_do_not_need_the_network(tmp_path):
    still = np.linspace(60, 190, 64 * 48).reshape(48, 64)
    source = write_clip(tmp_path / "in.mkv", [still] * 5, steady(5, 25))
    net = CrossFade()
    run(source, tmp_path / "out.mkv", model=net, options=VideoOptions(codec="ffv1", device="cpu"))

    frames = [frame.to_ndarray() for frame in decoded(tmp_path / "out.mkv")]
    assert len(frames) == 10
    assert all(np.array_equal(frame, frames[0]) for frame in frames)
    assert net.batches == []


@pytest.fixture
def two_scenes(tmp_path):
    """Four frames of vertical stripes, then four of horizontal ones, at 25 frames/s."""
    x, y = np.meshgrid(np.arange(64), np.arange(48))
    images = [120 + 60 * np.sin((x + i) / 4) for i in range(4)]
    images += [120 + 60 * np.sin((y + i) / 4) for i in range(4)]
    return write_clip(tmp_path / "in.mkv", images, steady(8, 25))


def across_the_cut(tmp_path, source, **options):
    """The frames left of a cut, at a third and two thirds of it and right of it, and the result."""
    target = tmp_path / "out.mkv"
    options = VideoOptions(codec="ffv1", device="cpu", overwrite=True, **options)
    result = run(source, target, factor=3, options=options)
    return [luma(frame) for frame in decoded(target)[9:13]], result


def test_a_scene_cut_is_found_once_and_not_blended(two_scenes, tmp_path):
    (left, third, two_thirds, right), result = across_the_cut(tmp_path, two_scenes)

    assert result.cuts == (Fraction(4, 25),)
    assert np.array_equal(third, left)
    assert np.array_equal(two_thirds, left)
    assert np.abs(right - left).mean() > 20


def test_with_threshold_zero_a_cut_is_painted_over(two_scenes, tmp_path):
    (left, third, _, right), result = across_the_cut(tmp_path, two_scenes, scene_threshold=0.0)

    assert result.cuts == ()
    assert third == pytest.approx((2 * left + right) / 3, abs=1.5)


def test_a_cut_is_filled_as_asked(two_scenes, tmp_path):
    (left, third, two_thirds, right), _ = across_the_cut(tmp_path, two_scenes, scene_fill="nearest")
    assert np.array_equal(third, left)
    assert np.array_equal(two_thirds, right)

    (left, third, _, right), result = across_the_cut(tmp_path, two_scenes, scene_fill="blend")
    assert third == pytest.approx((2 * left + right) / 3, abs=1.5)
    assert result.cuts == (Fraction(4, 25),)


def test_a_part_of_a_clip_can_be_taken(tmp_path):
    source = write_clock(tmp_path / "in.mp4", steady(30, 30), rate=Fraction(30))
    options = VideoOptions(start=Fraction(1, 3), duration=0.5, preset="ultrafast", device="cpu")
    result = run(source, tmp_path / "out.mp4", options=options)

    shown = read_clock(tmp_path / "out.mp4")
    assert len(shown) == result.frames_out == 30
    assert shown[0][1] == pytest.approx(1 / 3, abs=0.012)
    assert result.frames_in == 15


def test_progress_begins_at_nothing_and_ends_with_all(moving, tmp_path):
    calls = []
    result = run(moving, tmp_path / "out.mp4", on_progress=calls.append)

    first, last = calls[0], calls[-1]
    assert (first.frames_done, first.frames_total) == (0, 20)
    assert (last.frames_done, last.frames_total, last.eta_seconds) == (20, 20, 0)
    assert first.eta_seconds is None
    assert min(last.rates.decode_fps, last.rates.network_fps, last.rates.encode_fps) > 0
    assert (result.frames_in, result.frames_out) == (10, 20)
    job = first.job
    assert (job.model, job.device, job.device_reason) == ("cross-fade", "cpu", "asked for")
    assert (job.source_rate, job.frame_rate) == (25, 50)


def test_without_a_target_the_output_stands_beside_the_source(moving):
    result = interpolate_video(moving, fps="60000/1001", model=CrossFade(), options=FAST)
    assert result.job.target == moving.with_name("moving.59.94fps.mp4")
    assert result.job.target.exists()


def test_default_names_tell_the_rate_and_keep_common_containers():
    assert default_target(Path("a/clip.mp4"), Fraction(60)) == Path("a/clip.60fps.mp4")
    assert default_target(Path("clip.MKV"), 2 * FILM) == Path("clip.47.952fps.MKV")
    assert default_target(Path("clip.avi"), Fraction(50)) == Path("clip.50fps.mp4")
    assert default_target(Path("a.mp4"), FILM, Fraction(1, 4)) == Path("a.0.25x.23.976fps.mp4")


def test_the_call_of_the_readme_works(moving, tmp_path):
    midflow.interpolate_video(str(moving), str(tmp_path / "out.mp4"), fps="60", on_progress=print)
    assert len(decoded(tmp_path / "out.mp4")) == 24


def test_a_decimal_ntsc_rate_is_taken_literally_and_noted(moving, tmp_path, caplog):
    result = run(moving, tmp_path / "out.mp4", fps="59.94")
    assert result.job.frame_rate == Fraction(2997, 50)
    assert "the rate of NTSC video is 60000/1001" in caplog.text


def nothing_was_left(tmp_path, *names):
    return sorted(p.name for p in tmp_path.iterdir()) == sorted(names)


def test_an_error_of_the_writer_reaches_the_caller_and_leaves_nothing(
    moving, tmp_path, monkeypatch
):
    write, written = SegmentWriter.write, itertools.count()

    def full_disk(self, *args):
        if next(written) == 7:
            raise VideoError("writing out.mp4 failed: no space left")
        write(self, *args)

    monkeypatch.setattr(SegmentWriter, "write", full_disk)
    with pytest.raises(VideoError, match="no space left"):
        run(moving, tmp_path / "out.mp4")
    assert nothing_was_left(tmp_path, "moving.mp4")


def test_an_error_of_the_reader_reaches_the_caller_and_leaves_nothing(
    moving, tmp_path, monkeypatch
):
    read = VideoReader.__iter__

    def broken(self):
        yield from itertools.islice(read(self), 4)
        raise RuntimeError("a bug in the reader")

    monkeypatch.setattr(VideoReader, "__iter__", broken)
    with pytest.raises(RuntimeError, match="a bug in the reader"):
        run(moving, tmp_path / "out.mp4")
    assert nothing_was_left(tmp_path, "moving.mp4")


def test_an_error_of_the_network_reaches_the_caller_and_leaves_nothing(moving, tmp_path):
    net = CrossFade()
    net.forward = None
    with pytest.raises(TypeError, match="not callable"):
        run(moving, tmp_path / "out.mp4", model=net)
    assert nothing_was_left(tmp_path, "moving.mp4")


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_cancelling_midway_leaves_nothing(moving, tmp_path, error, monkeypatch):
    monkeypatch.setattr(pipeline, "_REPORT_SECONDS", 0.0)
    done = []

    def cancel(progress):
        done.append(progress.frames_done)
        if progress.frames_done > 8:
            raise error("enough")

    with pytest.raises(error, match="enough"):
        run(moving, tmp_path / "out.mp4", on_progress=cancel)
    assert 0 < done[-1] < 20
    assert nothing_was_left(tmp_path, "moving.mp4")


def test_an_existing_output_stays_unless_it_may_be_replaced(moving, tmp_path):
    target = tmp_path / "out.mp4"
    target.write_bytes(b"precious")
    with pytest.raises(VideoError, match="exists already"):
        run(moving, target)
    with pytest.raises(VideoError, match="the input itself"):
        run(moving, moving, options=VideoOptions(overwrite=True))
    assert target.read_bytes() == b"precious"

    run(moving, target, options=VideoOptions(overwrite=True, device="cpu"))
    assert len(decoded(target)) == 20


def test_options_are_checked():
    with pytest.raises(OptionError, match="scene_threshold must be between 0 and 1, got 2"):
        VideoOptions(scene_threshold=2)
    with pytest.raises(OptionError, match="scene_fill must be one of hold, nearest, blend"):
        VideoOptions(scene_fill="dissolve")


def test_options_of_the_network_are_checked_before_anything_is_written(moving, tmp_path):
    for wrong, text in (
        ({"precision": "float8"}, "precision must be one of"),
        ({"flow_scale": 3}, "flow_scale must be one of"),
        ({"ensemble": True}, "has no ensemble"),
        ({"device": "abacus"}, "device must be"),
    ):
        with pytest.raises(OptionError, match=text):
            run(moving, tmp_path / "out.mp4", options=VideoOptions(**wrong))
    assert nothing_was_left(tmp_path, "moving.mp4")


def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")
def test_memory_stays_flat_over_two_thousand_frames(tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "QUEUE_BYTES", 1 << 20)  # full at once, whatever is slowest
    source = make_clip(tmp_path / "in.mp4", Recipe(frames=2000, size=(160, 120)))
    sizes = []
    options = VideoOptions(preset="ultrafast", device="cpu")
    run(
        source,
        tmp_path / "out.mp4",
        options=options,
        on_progress=lambda p: sizes.append((p.frames_done, resident_bytes())),
    )

    warm = max(size for done, size in sizes if done < 1000)
    later = [size for done, size in sizes if done >= 1000]
    assert len(later) > 5
    assert max(later) - warm < 12 << 20  # the clip has 58 MB of frames, the output twice as many
