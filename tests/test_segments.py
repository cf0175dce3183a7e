import itertools
import json
import os
import shutil
from fractions import Fraction

import pytest

from midflow import timeline
from midflow.errors import OptionError, VideoError
from midflow.options import VideoOptions
from midflow.pipeline import interpolate_video
from midflow.schedule import Schedule
from midflow.timeline import LOOK_BACK, Seen, StartFinder, find_start
from midflow.video.reader import VideoReader
from midflow.video.segment import SegmentWriter
from midflow.workfolder import WorkFolder
from tests.crossfade import CrossFade, read_clock, write_clock
from tests.video.clips import Recipe, decoded, make_clip, packets

FAST = {"preset": "ultrafast", "device": "cpu", "segment_frames": 10}


def run(source, target, on_progress=None, model=None, factor=2, **options):
    options = VideoOptions(**{**FAST, **options})
    return interpolate_video(
        source,
        target,
        factor=factor,
        model=model or CrossFade(),
        options=options,
        on_progress=on_progress,
    )


class StoppedError(Exception):
    """Stands for whatever ends a run."""


@pytest.fixture
def stop_after(monkeypatch):
    """Lets the next run end while it encodes output frame number n."""

    def arrange(number):
        write, written = SegmentWriter.write, itertools.count()

        def stop(self, *args):
            if next(written) == number:
                monkeypatch.undo()
                raise StoppedError
            write(self, *args)

        monkeypatch.setattr(SegmentWriter, "write", stop)

    return arrange


def stopped(source, target, **options):
    with pytest.raises(StoppedError):
        run(source, target, **options)
    assert not target.exists()


@pytest.fixture(scope="module")
def moving(tmp_path_factory):
    """45 frames at 25 frames/s, a key frame every 12, with sound."""
    recipe = Recipe(frames=45, audio=["eng"], options={"preset": "fast", "g": "12", "crf": "12"})
    return make_clip(tmp_path_factory.mktemp("clip") / "moving.mp4", recipe)


ENCODERS = [
    (".mp4", {}),
    (".mp4", {"codec": "hevc"}),
    (".mp4", {"codec": "av1", "preset": "12"}),
    (".mkv", {"codec": "ffv1", "preset": None}),
    (".mkv", {"preset": "medium"}),
    (".mov", {"codec": "prores", "preset": None}),
    (".webm", {"codec": "vp9", "preset": "8"}),
    (".mp4", {"codec": "mpeg4", "preset": None}),
    (".avi", {"codec": "mpeg4", "preset": None, "start": 0.2}),
]


@pytest.mark.parametrize(
    ("suffix", "options"), ENCODERS, ids=[f"{o.get('codec', 'h264')}{s}" for s, o in ENCODERS]
)
def test_a_run_that_was_stopped_goes_on_to_the_same_bytes(tmp_path, suffix, options, stop_after):
    source = make_clip(tmp_path / "in.mkv", Recipe(frames=30, options={"g": "7"}))
    whole, resumed = tmp_path / f"whole{suffix}", tmp_path / f"resumed{suffix}"
    run(source, whole, **options)
    for number in (34, 12):
        stop_after(number)
        stopped(source, resumed, **options)
    result = run(source, resumed, **options)

    assert resumed.read_bytes() == whole.read_bytes()
    frames = decoded(resumed)
    assert len(frames) == result.frames_out
    assert [f.pts * f.time_base for f in frames] == [k / Fraction(50) for k in range(len(frames))]
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
        ["in.mkv", whole.name, resumed.name]
    )


def test_sound_is_whole_after_going_on(moving, tmp_path, stop_after):
    stop_after(25)
    stopped(moving, tmp_path / "out.mp4")
    run(moving, tmp_path / "out.mp4")

    assert packets(tmp_path / "out.mp4", 1) == packets(moving, 1)


def test_at_most_one_segment_is_made_again(moving, tmp_path, stop_after):
    stop_after(47)
    stopped(moving, tmp_path / "out.mp4")
    net, calls = CrossFade(), []
    result = run(moving, tmp_path / "out.mp4", calls.append, net)

    assert sum(len(batch) for batch in net.batches) == (90 - 40) // 2 - 1
    assert (calls[0].frames_done, calls[0].frames_kept, calls[0].frames_total) == (40, 40, 90)
    assert calls[-1].frames_done == result.frames_out == 90
    assert result.frames_in == 45


def test_joints_do_not_show_in_the_times(moving, tmp_path):
    run(moving, tmp_path / "parts.mp4", preset="medium")
    run(moving, tmp_path / "whole.mp4", preset="medium", segment_frames=1000)

    def times(path):
        return [(f.pts, f.key_frame) for f in decoded(path)]

    parts, whole = times(tmp_path / "parts.mp4"), times(tmp_path / "whole.mp4")
    assert [pts for pts, _ in parts] == [pts for pts, _ in whole]
    assert [i for i, (_, is_key) in enumerate(parts) if is_key] == list(range(0, 90, 10))
    assert [i for i, (_, is_key) in enumerate(whole) if is_key] == [0]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_varying_rate_goes_on_with_the_same_frames(tmp_path, suffix, stop_after):
    gaps = [40, 40, 17, 230, 41, 39, 80, 33] * 6
    times = [Fraction(t, 1000) for t in itertools.accumulate(gaps)]
    source = write_clock(tmp_path / f"in{suffix}", times)
    run(source, tmp_path / "whole.mp4")
    stop_after(57)
    stopped(source, tmp_path / "out.mp4")
    run(source, tmp_path / "out.mp4")

    assert (tmp_path / "out.mp4").read_bytes() == (tmp_path / "whole.mp4").read_bytes()
    assert len(read_clock(tmp_path / "out.mp4")) > 80


@pytest.mark.parametrize(
    "options",
    [
        {"end": "loop"},
        {"vfr": "keep"},
        {"speed": Fraction(1, 2), "sound": "drop"},
        {"start": 0.5, "duration": 1.2},
        {"deinterlace": "fields"},
        {"dedup": True},
    ],
    ids=lambda options: next(iter(options)),
)
def test_whatever_makes_the_schedule_goes_on_to_the_same_bytes(
    moving, tmp_path, options, stop_after
):
    run(moving, tmp_path / "whole.mp4", **options)
    for number in (33, 12):
        stop_after(number)
        stopped(moving, tmp_path / "out.mp4", **options)
    run(moving, tmp_path / "out.mp4", **options)

    assert (tmp_path / "out.mp4").read_bytes() == (tmp_path / "whole.mp4").read_bytes()


def test_cuts_are_told_whole_after_going_on(tmp_path, stop_after):
    import numpy as np

    from tests.crossfade import write_clip

    x, y = np.meshgrid(np.arange(64), np.arange(48))
    stripes = [120 + 60 * np.sin((x if i // 6 % 2 else y) / 4 + i) for i in range(30)]
    source = write_clip(tmp_path / "in.mkv", stripes, [Fraction(i, 25) for i in range(30)])
    expected = run(source, tmp_path / "whole.mp4").cuts
    stop_after(35)
    stopped(source, tmp_path / "out.mp4")

    assert run(source, tmp_path / "out.mp4").cuts == expected
    assert len(expected) == 4


def test_a_source_that_seeks_to_other_pictures_is_decoded_from_its_beginning(
    moving, tmp_path, stop_after, monkeypatch
):
    run(moving, tmp_path / "whole.mp4")
    stop_after(75)
    stopped(moving, tmp_path / "out.mp4")
    jumps = []

    def wrong(reader, pts):
        jumps.append(pts)
        reader.skip(3)
        return True

    monkeypatch.setattr(VideoReader, "jump", wrong)
    run(moving, tmp_path / "out.mp4")

    assert jumps
    assert (tmp_path / "out.mp4").read_bytes() == (tmp_path / "whole.mp4").read_bytes()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"crf": 20}, "crf was not given and is 20"),
        ({"factor": 3}, "frame rate was 50 and is 75"),
        ({"segment_frames": 11}, "segment_frames was 10 and is 11"),
    ],
)
def test_other_options_are_refused_with_the_way_out(moving, tmp_path, stop_after, change, words):
    stop_after(25)
    stopped(moving, tmp_path / "out.mp4")
    with pytest.raises(VideoError, match=words) as refused:
        run(moving, tmp_path / "out.mp4", **change)
    assert "--restart" in str(refused.value)

    run(moving, tmp_path / "again.mp4", **change)
    run(moving, tmp_path / "out.mp4", restart=True, **change)
    assert (tmp_path / "out.mp4").read_bytes() == (tmp_path / "again.mp4").read_bytes()


def test_another_input_model_or_version_is_refused(moving, tmp_path, stop_after, monkeypatch):
    source, target = tmp_path / "in.mp4", tmp_path / "out.mp4"
    shutil.copy(moving, source)
    stop_after(25)
    stopped(source, target)

    other = CrossFade()
    other.release = "cross-fade-2"
    with pytest.raises(VideoError, match=r"model was cross-fade \(\w+\) and is cross-fade-2"):
        run(source, target, model=other)
    with monkeypatch.context() as patch:
        patch.setattr("midflow.__version__", "9.9")
        with pytest.raises(VideoError, match=r"version was midflow .* and is midflow 9\.9"):
            run(source, target)
    data = bytearray(source.read_bytes())
    data[len(data) // 2] ^= 1
    source.write_bytes(data)
    with pytest.raises(VideoError, match="source was"):
        run(source, target)

    shutil.copy(moving, source)
    assert run(source, target).frames_out == 90


def test_a_changed_option_is_no_matter_before_anything_is_finished(moving, tmp_path, stop_after):
    stop_after(5)
    stopped(moving, tmp_path / "out.mp4")
    assert not list(tmp_path.iterdir())
    run(moving, tmp_path / "out.mp4", crf=20)


def test_two_runs_of_one_job_refuse_each_other(moving, tmp_path):
    target = tmp_path / "out.mp4"
    with WorkFolder(target), pytest.raises(VideoError, match="another midflow is at work on"):
        run(moving, target)
    run(moving, target)


def test_segments_that_are_cut_short_are_made_again(moving, tmp_path, stop_after):
    run(moving, tmp_path / "whole.mp4")
    stop_after(45)
    stopped(moving, tmp_path / "out.mp4")
    folder = tmp_path / ".out.mp4.midflow"
    segment = folder / "000001.packets"
    segment.write_bytes(segment.read_bytes()[:-40])
    record = folder / "timeline"
    record.write_text(record.read_text()[:-3])
    (folder / "000002.packets.partial").write_bytes(b"half")
    run(moving, tmp_path / "out.mp4")

    assert (tmp_path / "out.mp4").read_bytes() == (tmp_path / "whole.mp4").read_bytes()
    assert not folder.exists()


def test_a_segment_with_a_flipped_bit_does_not_reach_the_output(moving, tmp_path, stop_after):
    stop_after(45)
    stopped(moving, tmp_path / "out.mp4")
    segment = tmp_path / ".out.mp4.midflow" / "000001.packets"
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 4
    segment.write_bytes(data)
    with pytest.raises(VideoError, match=r"000001\.packets is damaged"):
        run(moving, tmp_path / "out.mp4")
    assert not (tmp_path / "out.mp4").exists()

    segment.unlink()
    assert run(moving, tmp_path / "out.mp4").frames_out == 90


def test_a_folder_of_that_name_keeps_what_is_not_midflows(moving, tmp_path):
    folder = tmp_path / ".out.mp4.midflow"
    folder.mkdir()
    (folder / "letter.txt").write_text("mine")
    run(moving, tmp_path / "out.mp4")
    assert [p.name for p in folder.iterdir()] == ["letter.txt"]


def test_an_interruption_says_how_to_go_on(moving, tmp_path, monkeypatch):
    monkeypatch.setattr("midflow.pipeline._REPORT_SECONDS", 0.0)

    def interrupt(progress):
        if (tmp_path / ".out.mp4.midflow" / "000001.packets").exists():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match=r"interrupted: \d0 frames are kept, the same comm"):
        run(moving, tmp_path / "out.mp4", interrupt)


def test_animations_are_one_segment(tmp_path):
    source = make_clip(tmp_path / "in.mp4", Recipe(frames=13))
    run(source, tmp_path / "out.apng", codec="apng", preset=None)
    assert len(decoded(tmp_path / "out.apng")) == 26


def test_segments_hold_a_frame_at_least():
    with pytest.raises(OptionError, match="segment_frames must be at least 1, got 0"):
        VideoOptions(segment_frames=0)


@pytest.mark.parametrize(("rate", "source_rate"), [(60, 24), (50, 25), (5, 60), (24, 24)])
def test_starts_lead_to_the_frames_of_a_whole_run(rate, source_rate):
    times = [Fraction(k, source_rate) + Fraction(k % 3, 999) for k in range(200)]

    def schedule():
        return Schedule(Fraction(rate))

    def outputs(schedule, index):
        for pts in times[index:]:
            yield from schedule.add(pts)
        yield from schedule.finish(Fraction(1, source_rate))

    whole = list(outputs(schedule(), 0))
    finder = StartFinder(schedule(), 7)
    found = [s for k, t in enumerate(times) for s in finder.add(Seen(t, k))]
    assert [segment for segment, _ in found] == list(range(len(found)))
    assert len(found) >= len(whole) // 7 - 2
    for segment, start in found:
        first = 7 * segment
        assert start.number <= first
        assert list(outputs(start.schedule, start.index)) == whole[start.number :]
        assert start.index <= max(0, whole[first].left - LOOK_BACK)
        assert start.index >= whole[first].left - LOOK_BACK - 1 or start.index == 0
        assert [seen.mark for seen in start.expected][:3] == list(
            range(start.index, start.index + len(start.expected))
        )[:3]


def test_after_the_last_segment_the_way_leads_to_the_end():
    times = [Seen(Fraction(k, 25), k) for k in range(60)]
    start = find_start(Schedule(Fraction(50)), times, 10, range(12))
    assert 59 - LOOK_BACK - 2 <= start.index < 59
    assert start.expected[-1] == times[-1]


def test_the_notes_of_segments_are_plain_text(moving, tmp_path, stop_after):
    stop_after(25)
    stopped(moving, tmp_path / "out.mp4")
    job = json.loads((tmp_path / ".out.mp4.midflow" / "job.json").read_text())
    assert job["model"].startswith("cross-fade (")
    assert job["source"].startswith(f"{os.stat(moving).st_size} bytes (")
    assert {"frame rate", "crf", "version", "device", "encoder"} <= set(job)


def test_lines_of_the_timeline_that_make_no_sense_end_it(tmp_path):
    path = tmp_path / "timeline"
    path.write_bytes(b"0 00000001\n1/25 00000002\n\0\0\0\0\n3/25 00000004\n")
    record = timeline.Timeline(path)
    assert record.known == [Seen(Fraction(0), 1), Seen(Fraction(1, 25), 2)]
    record.add(2, Seen(Fraction(2, 25), 3))
    record.close()
    assert path.read_text().splitlines()[2:] == ["2/25 00000003"]
