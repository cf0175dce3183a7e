"""Slow motion, speed, the end of a clip and varying rates: times and pictures of real outputs."""

import logging
from fractions import Fraction

import av
import numpy as np
import pytest

from midflow.errors import OptionError
from midflow.gap_schedule import GapSchedule
from midflow.options import VideoOptions
from midflow.pipeline import interpolate_video
from midflow.schedule import plan
from tests.crossfade import CrossFade, luma, read_clock, write_clip, write_clock
from tests.video.clips import Recipe, decoded, make_clip, packets

FILM = Fraction(24000, 1001)
UNEVEN = [Fraction(t, 1000) for t in (0, 40, 80, 300, 310, 500)]


def run(source, target, *, fps=None, factor=None, **options):
    options = {"preset": "ultrafast", "device": "cpu", "scene_threshold": 0, **options}
    return interpolate_video(
        source, target, fps=fps, factor=factor, model=CrossFade(), options=VideoOptions(**options)
    )


def steady(count, rate):
    return [k / Fraction(rate) for k in range(count)]


def sound_of(path):
    """Samples (mono mean), their rate, and the time of the first one."""
    with av.open(str(path)) as source:
        stream = source.streams.audio[0]
        frames = list(source.decode(stream))
        samples = np.concatenate([f.to_ndarray().mean(axis=0) for f in frames])
        return samples, stream.rate, frames[0].pts * frames[0].time_base


def pitch_of(samples, rate):
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return np.argmax(spectrum) * rate / len(samples)


@pytest.mark.parametrize(
    ("speed", "rate", "count"),
    [
        (Fraction(1, 4), FILM, 48),
        (Fraction(1, 3), FILM, 36),
        (Fraction(5, 2), FILM, 5),  # 12 / 2.5 is 4.8
        (Fraction(1, 2), Fraction(60), 60),  # 12 / film rate * 2 * 60 is 60.06
    ],
    ids=["4x slower", "3x slower", "2.5x faster", "2x slower at 60"],
)
def test_at_another_speed_every_frame_shows_its_own_time(tmp_path, speed, rate, count):
    source = write_clock(tmp_path / "in.mp4", steady(12, FILM), rate=FILM)
    wish = {} if rate == FILM else {"fps": rate}
    result = run(source, tmp_path / "out.mp4", speed=speed, **wish)

    shown = read_clock(tmp_path / "out.mp4")
    assert len(shown) == result.frames_out == count
    assert [pts for pts, _ in shown] == [k / rate for k in range(count)]
    for pts, told in shown:
        assert told == pytest.approx(float(min(pts * speed, 11 / FILM)), abs=0.012)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("speed", [Fraction(1, 5), Fraction(1, 2), Fraction(3)])
def test_sound_is_stretched_at_its_own_pitch(tmp_path, speed, suffix):
    source = make_clip(tmp_path / "in.mp4", Recipe(frames=50, audio=("eng", "deu")))
    run(source, tmp_path / f"out{suffix}", speed=speed)

    before, rate, start = sound_of(source)
    after, new_rate, new_start = sound_of(tmp_path / f"out{suffix}")
    assert new_rate == rate
    assert abs(new_start - start / speed) <= Fraction(1, 1000)
    assert abs(len(after) / rate - len(before) / rate / float(speed)) < 0.025  # one AAC frame
    assert pitch_of(before, rate) == pytest.approx(440, abs=2)
    assert pitch_of(after, rate) == pytest.approx(440, abs=3)
    with av.open(str(tmp_path / f"out{suffix}")) as output:
        languages = [s.metadata["language"] for s in output.streams.audio]
        assert languages == ["eng", "deu"]
        assert {s.codec_context.name for s in output.streams.audio} == {"aac"}


def test_sound_can_be_kept_or_dropped_in_slow_motion(tmp_path):
    source = make_clip(tmp_path / "in.mp4", Recipe(frames=25, audio=("eng",)))
    run(source, tmp_path / "keep.mp4", speed=Fraction(1, 2), sound="keep")
    run(source, tmp_path / "drop.mp4", speed=Fraction(1, 2), sound="drop")

    assert packets(tmp_path / "keep.mp4", 1) == packets(source, 1)
    with av.open(str(tmp_path / "drop.mp4")) as output:
        assert [s.type for s in output.streams] == ["video"]


def test_kept_sound_ends_with_faster_pictures(tmp_path):
    source = make_clip(tmp_path / "in.mkv", Recipe(frames=100, audio=("eng",)))
    run(source, tmp_path / "out.mkv", speed=2, sound="keep")
    assert packets(tmp_path / "out.mkv", 1)[-1][0] <= 2
    assert len(packets(tmp_path / "out.mkv", 1)) > 80


def test_subtitles_and_chapters_are_stretched(tmp_path):
    recipe = Recipe(frames=50, subtitles=("deu",), chapters=("one", "two"))
    source = make_clip(tmp_path / "in.mkv", recipe)
    run(source, tmp_path / "out.mkv", speed=Fraction(1, 3))

    with av.open(str(tmp_path / "out.mkv")) as output:
        chapters = [(c["start"] * c["time_base"], c["end"] * c["time_base"])
                    for c in output.chapters()]  # fmt: skip
        lines = [(p.pts * p.time_base, p.duration * p.time_base)
                 for p in output.demux(subtitles=0) if p.size]  # fmt: skip
    assert chapters == [(0, Fraction(6, 10)), (Fraction(6, 10), Fraction(12, 10))]
    assert lines == [(0, Fraction(12, 10)), (3, Fraction(12, 10))]


def test_a_late_start_is_stretched_too(tmp_path):
    times = [Fraction(1, 2) + t for t in steady(10, 25)]
    source = make_clip(tmp_path / "in.mkv", Recipe(times=times, audio=("eng",)))
    run(source, tmp_path / "out.mp4", speed=Fraction(1, 2))
    assert packets(tmp_path / "out.mp4", 0)[0][0] == 1


@pytest.mark.parametrize(
    ("end", "count", "last"), [("hold", 20, 1.0), ("drop", 19, 1.0), ("loop", 20, 0.5)]
)
def test_the_end_is_held_dropped_or_led_back_to_the_beginning(tmp_path, end, count, last):
    dark, bright = np.full((48, 64), 40), np.full((48, 64), 200)
    source = write_clip(tmp_path / "in.mp4", [dark, *[bright] * 9], steady(10, 25))
    result = run(source, tmp_path / "out.mp4", end=end)

    frames = decoded(tmp_path / "out.mp4")
    assert len(frames) == result.frames_out == count
    assert (luma(frames[-1]).mean() - 40) / 160 == pytest.approx(last, abs=0.02)
    assert result.cuts == ()


@pytest.mark.parametrize("rate", [Fraction(12), Fraction(24), Fraction(60), Fraction(7, 2)])
def test_dropping_leaves_no_frame_after_the_last_of_the_source(rate):
    times = steady(25, 24)
    outputs = list(plan(times, Fraction(1, 24), rate, end="drop"))
    assert [o.pts for o in outputs] == [k / rate for k in range(len(outputs))]
    assert outputs[-1].pts <= times[-1] < outputs[-1].pts + 1 / rate


def test_a_loop_goes_from_the_last_frame_to_the_first_in_equal_steps():
    outputs = list(plan(steady(3, 10), Fraction(1, 10), Fraction(40), end="loop"))
    assert [(o.left, o.right, o.timestep) for o in outputs[8:]] == [
        (2, 2, 0), (2, 0, Fraction(1, 4)), (2, 0, Fraction(1, 2)), (2, 0, Fraction(3, 4)),
    ]  # fmt: skip


def test_one_frame_can_be_looped(tmp_path):
    source = write_clock(tmp_path / "in.mp4", [Fraction(0)])
    assert run(source, tmp_path / "out.mp4", fps=50, end="loop").frames_out == 5


def test_each_gap_of_a_varying_rate_is_divided(tmp_path):
    source = write_clock(tmp_path / "in.mp4", UNEVEN)
    result = run(source, tmp_path / "out.mp4", factor=3, vfr="keep")

    shown = read_clock(tmp_path / "out.mp4")
    gaps = [b - a for a, b in zip(UNEVEN, [*UNEVEN[1:], UNEVEN[-1] * 2 - UNEVEN[-2]], strict=True)]
    assert result.frames_out == 18
    assert [pts for pts, _ in shown] == [
        start + part * gap / 3 for start, gap in zip(UNEVEN, gaps, strict=True) for part in range(3)
    ]
    for pts, told in shown:
        assert told == pytest.approx(float(min(pts, UNEVEN[-1])), abs=0.012)
    with av.open(str(tmp_path / "out.mp4")) as output:
        stream = output.streams.video[0]
        assert stream.duration * stream.time_base == UNEVEN[-1] + gaps[-1]


def test_slow_motion_keeps_varying_gaps(tmp_path):
    source = write_clock(tmp_path / "in.mp4", UNEVEN)
    run(source, tmp_path / "out.mp4", speed=Fraction(1, 3), vfr="keep", end="drop")
    times = [pts for pts, _ in read_clock(tmp_path / "out.mp4")]
    assert times[::3] == [t * 3 for t in UNEVEN]
    assert len(times) == 16


def test_gaps_take_only_whole_numbers_of_frames_and_no_rate(tmp_path):
    source = write_clock(tmp_path / "in.mp4", UNEVEN)
    with pytest.raises(OptionError, match=r"whole number of frames.*got 5/2"):
        run(source, tmp_path / "out.mp4", factor="2.5", vfr="keep")
    with pytest.raises(OptionError, match="give a factor"):
        run(source, tmp_path / "out.mp4", fps=60, vfr="keep")
    with pytest.raises(OptionError, match="avi counts frames"):
        run(source, tmp_path / "out.avi", vfr="keep")


def test_gaps_are_counted_from_increasing_times():
    schedule = GapSchedule(2)
    assert list(schedule.finish(Fraction(1))) == []
    list(schedule.add(Fraction(1)))
    with pytest.raises(OptionError, match="must increase"):
        list(schedule.add(Fraction(1)))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"end": "stop"}, "end must be one of hold, drop, loop, got 'stop'"),
        ({"vfr": "yes"}, "vfr must be one of constant, keep"),
        ({"sound": "loud"}, "sound must be one of stretch, keep, drop"),
        ({"speed": 0}, "speed must lie between"),
        ({"speed": 5000}, "speed must lie between 1/1000 and 1000, got 5000"),
    ],
)
def test_what_does_not_exist_is_refused(options, text):
    with pytest.raises(OptionError, match=text):
        VideoOptions(**options)


def test_sound_in_a_codec_without_encoder_becomes_aac(tmp_path, caplog):
    recipe = Recipe(frames=25, audio=("eng",), audio_codec="mp2")
    source = make_clip(tmp_path / "in.ts", recipe)
    with caplog.at_level(logging.INFO):
        run(source, tmp_path / "out.webm", codec="vp9", preset="8", speed=Fraction(1, 2))
    with av.open(str(tmp_path / "out.webm")) as output:
        assert output.streams.audio[0].codec_context.name in ("opus", "libopus")
    samples, rate, _ = sound_of(tmp_path / "out.webm")
    assert len(samples) / rate == pytest.approx(2, abs=0.06)
    assert pitch_of(samples, rate) == pytest.approx(440, abs=3)
