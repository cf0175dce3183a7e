import math
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from midflow.errors import OptionError
from midflow.schedule import (
    Schedule,
    ntsc_rate,
    output_rate,
    parse_rate,
    plan,
    rate_label,
)

FILM = Fraction(24000, 1001)
MILLISECOND = Fraction(1, 1000)

rates = st.sampled_from(
    [FILM, Fraction(24), Fraction(25), Fraction(30000, 1001), Fraction(60), Fraction(120)]
) | st.fractions(min_value=1, max_value=240, max_denominator=1001)
gaps = st.lists(
    st.fractions(min_value=Fraction(1, 500), max_value=1, max_denominator=1001),
    min_size=1,
    max_size=12,
)


def steady(count, rate, start=Fraction(0)):
    return [start + i / rate for i in range(count)]


def in_milliseconds(times):
    return [round(pts * 1000) * MILLISECOND for pts in times]


@pytest.mark.parametrize(
    ("count", "expected"),
    [(1_440, 3_604), pytest.param(86_314, 216_001, marks=pytest.mark.slow)],
    ids=["minute", "hour"],
)
def test_film_to_60_is_exact_over_any_length(count, expected):
    output = list(plan(steady(count, FILM), 1 / FILM, Fraction(60)))

    duration = count / FILM
    assert len(output) == math.floor(duration * 60 + Fraction(1, 2)) == expected
    assert abs(Fraction(len(output), 60) - duration) <= Fraction(1, 120)
    assert all(frame.pts == Fraction(k, 60) for k, frame in enumerate(output))
    assert all(0 <= frame.timestep < 1 for frame in output)
    assert all(a.left <= b.left for a, b in pairwise(output))
    held = [frame for frame in output if frame.left == count - 1]
    assert len(held) in (2, 3)
    assert all(frame.timestep == 0 for frame in held)


@settings(max_examples=50)
@given(
    gaps,
    rates,
    st.fractions(min_value=-5, max_value=100, max_denominator=1001),
)
def test_every_timestep_gives_its_time_back(gaps, rate, start):
    times = [start]
    for gap in gaps[:-1]:
        times.append(times[-1] + gap)
    output = list(plan(times, gaps[-1], rate))

    assert len(output) == max(1, math.floor(sum(gaps) * rate + Fraction(1, 2)))
    for k, frame in enumerate(output):
        assert frame.pts == start + k / rate
        assert 0 <= frame.timestep < 1
        left, right = times[frame.left], times[frame.right]
        if frame.pts <= times[-1]:
            assert left + frame.timestep * (right - left) == frame.pts
            assert frame.right == frame.left + (frame.timestep > 0)
        else:
            assert (frame.left, frame.right) == (len(times) - 1, len(times) - 1)


@given(st.integers(1, 20), rates, st.sampled_from([1, 2, 3, 4, 8]))
def test_a_whole_factor_keeps_every_frame_and_divides_every_gap_evenly(count, rate, factor):
    output = list(plan(steady(count, rate), 1 / rate, output_rate(rate, factor=factor)))

    assert len(output) == count * factor
    for k, frame in enumerate(output):
        assert frame.left == k // factor
        held = frame.left == count - 1
        assert frame.timestep == (0 if held else Fraction(k % factor, factor))


def test_factor_two_and_a_half_hits_every_second_frame():
    output = list(plan(steady(4, FILM), 1 / FILM, output_rate(FILM, factor="2.5")))

    fifths = [(frame.left, frame.timestep * 5) for frame in output]
    assert fifths == [
        (0, 0), (0, 2), (0, 4), (1, 1), (1, 3), (2, 0), (2, 2), (2, 4), (3, 0), (3, 0),
    ]  # fmt: skip


@settings(max_examples=50)
@given(gaps, rates)
def test_frames_given_one_by_one_are_the_same_and_never_name_a_forgotten_frame(gaps, rate):
    times = [sum(gaps[:i], Fraction(0)) for i in range(len(gaps))]
    schedule, output = Schedule(rate), []
    for pts in times:
        needed = schedule.first_needed
        arrived = list(schedule.add(pts))
        assert all(frame.left >= needed for frame in arrived)
        output += arrived
    needed = schedule.first_needed
    rest = list(schedule.finish(gaps[-1]))
    assert all(frame.left >= needed for frame in rest)

    assert output + rest == list(plan(times, gaps[-1], rate))


def test_output_frames_may_be_read_after_the_next_input_arrived():
    schedule = Schedule(Fraction(4))
    list(schedule.add(Fraction(0)))
    first, second = schedule.add(Fraction(1)), schedule.add(Fraction(2))

    assert [frame.pts for frame in first] == [0, Fraction(1, 4), Fraction(1, 2), Fraction(3, 4)]
    assert [frame.left for frame in second] == [1, 1, 1, 1]


def test_a_much_lower_rate_still_gives_the_documented_count():
    # 15 frames at 120 fps last 0.125 s: 1.25 output frames, though one stands at 0.1 s too.
    assert len(list(plan(steady(15, Fraction(120)), Fraction(1, 120), Fraction(10)))) == 1
    assert len(list(plan(steady(18, Fraction(120)), Fraction(1, 120), Fraction(10)))) == 2


def test_one_frame_is_held_for_its_duration():
    output = list(plan([Fraction(3)], Fraction(1, 10), Fraction(50)))

    assert [(f.pts, f.left, f.right, f.timestep) for f in output] == [
        (3 + Fraction(k, 50), 0, 0, 0) for k in range(5)
    ]
    assert len(list(plan([Fraction(0)], Fraction(0), Fraction(50)))) == 1


def test_no_frames_give_no_frames():
    assert list(plan([], Fraction(1), Fraction(50))) == []


@pytest.mark.parametrize("start", [Fraction(0), Fraction(7, 24), Fraction(5, 1000)])
@pytest.mark.parametrize("rate", [FILM, Fraction(30000, 1001), Fraction(60000, 1001)])
def test_times_rounded_to_milliseconds_are_put_back_on_their_grid(rate, start):
    times = in_milliseconds(steady(500, rate, start))
    output = list(plan(times, 42 * MILLISECOND, 2 * rate, source_rate=rate, tick=MILLISECOND))

    assert {frame.timestep for frame in output} == {0, Fraction(1, 2)}
    assert [frame.left for frame in output if not frame.timestep][:500] == list(range(500))
    raw = plan(times, 42 * MILLISECOND, 2 * rate)
    assert len({frame.timestep for frame in raw}) > 10  # the same without the clock known


def test_a_coarse_clock_does_not_move_variable_times():
    times = [
        Fraction(k, 60) for k in (0, 1, 2, 5, 6, 7, 12)
    ]  # ticks of 1/60, 35 frames/s on average
    args = (times, Fraction(1, 60), Fraction(60))

    assert list(plan(*args, source_rate=Fraction(35), tick=Fraction(1, 60))) == list(plan(*args))


def test_milliseconds_are_recognised_behind_a_finer_clock():
    times = in_milliseconds(steady(100, FILM))  # Matroska, remuxed to MP4
    output = plan(times, 42 * MILLISECOND, 2 * FILM, source_rate=FILM, tick=Fraction(1, 16000))

    assert {frame.timestep for frame in output} == {0, Fraction(1, 2)}


@settings(max_examples=60)
@given(st.lists(st.integers(1, 300), min_size=1, max_size=12), rates)
def test_putting_times_back_moves_none_by_a_tick_and_keeps_their_order(ticks, rate):
    tick = Fraction(1, 10_000)  # ten ticks make the millisecond that is allowed for
    times = [tick * sum(ticks[:i]) for i in range(len(ticks))]
    output = list(plan(times, tick, 1 / tick, source_rate=rate, tick=tick))

    assert [frame.pts for frame in output] == [k * tick for k in range(len(output))]
    assert all(a.left <= b.left for a, b in pairwise(output))
    for frame in output:
        assert 0 <= frame.timestep < 1
        assert times[frame.left] - MILLISECOND < frame.pts
        if frame.timestep:
            assert frame.pts < times[frame.right] + MILLISECOND


def test_times_that_do_not_increase_are_refused():
    schedule = Schedule(Fraction(60))
    list(schedule.add(Fraction(1)))
    with pytest.raises(OptionError, match=r"must increase, got 1\.0 s after 1\.0 s"):
        schedule.add(Fraction(1))


def test_a_rate_is_read_as_written():
    assert parse_rate("60", "fps") == parse_rate(60.0, "fps") == 60
    assert parse_rate("60000/1001", "fps") == Fraction(60000, 1001)
    assert parse_rate("59.94", "fps") == parse_rate(59.94, "fps") == Fraction(5994, 100)
    assert parse_rate("5/2", "factor") == parse_rate("2.5", "factor") == Fraction(5, 2)


@pytest.mark.parametrize("text", ["", "fast", "1/0", "nan", "inf", "60fps"])
def test_what_is_no_number_is_refused(text):
    with pytest.raises(OptionError, match=r"fps must be a number such as 60, 2\.5 or 60000/1001"):
        parse_rate(text, "fps")


def test_rates_out_of_range_are_refused():
    with pytest.raises(OptionError, match="fps must be above 0, got -5"):
        output_rate(FILM, fps=-5)
    with pytest.raises(OptionError, match=r"factor must be at least 1, got 0\.5: a lower rate"):
        output_rate(FILM, factor=0.5)
    with pytest.raises(OptionError, match="at most 10000 frames/s, got 24000"):
        output_rate(Fraction(24), factor=1000)
    with pytest.raises(OptionError, match="either fps or factor, not both"):
        output_rate(FILM, fps=60, factor=2)


def test_output_rate_is_the_factor_times_the_source_or_the_rate_itself():
    assert output_rate(FILM) == 2 * FILM
    assert output_rate(FILM, factor="5/2") == FILM * 5 / 2
    assert output_rate(FILM, fps="60") == 60
    assert output_rate(FILM, fps=12) == 12


def test_unwieldy_rates_fit_the_clocks_of_containers():
    rate = output_rate(Fraction(359_281, 11_987), factor="2.3333333333")
    assert rate.denominator <= 100_000
    assert abs(rate / (Fraction(359_281, 11_987) * Fraction(7, 3)) - 1) < Fraction(1, 10**8)


def test_decimals_that_stand_for_ntsc_rates_are_noticed():
    assert ntsc_rate(Fraction("23.976")) == ntsc_rate(Fraction("23.98")) == FILM
    assert ntsc_rate(Fraction("59.94")) == Fraction(60000, 1001)
    assert ntsc_rate(Fraction(60)) is None
    assert ntsc_rate(Fraction(60000, 1001)) is None
    assert ntsc_rate(Fraction("59.5")) is None


def test_rates_are_labelled_shortly():
    labels = [
        rate_label(r) for r in (Fraction(60), Fraction(60000, 1001), 2 * FILM, Fraction(5, 2))
    ]
    assert labels == ["60", "59.94", "47.952", "2.5"]
