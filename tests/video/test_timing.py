"""Timestamps that are missing, repeated or run backwards are put right."""

import logging
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import pytest

from midflow.video.timing import timed

BASE = Fraction(1, 100)
GAP = Fraction(4, 100)


@dataclass
class Picture:
    pts: int | None
    dts: int | None = None
    duration: int = 0


def times(*ticks, start=Fraction(0)):
    found = list(timed([Picture(t) for t in ticks], BASE, start, GAP))
    return [float(item.pts / BASE) for item in found]


def test_good_times_are_left_alone(caplog):
    assert times(0, 4, 9, 10, 50) == [0, 4, 9, 10, 50]
    assert not caplog.records


def test_a_negative_start_is_kept():
    assert times(-8, -4, 0) == [-8, -4, 0]


def test_a_repeated_time_takes_its_share_of_the_gap(caplog):
    with caplog.at_level(logging.WARNING):
        assert times(0, 4, 4, 8) == [0, 4, 6, 8]
    assert "1 of 4 frames had no usable timestamp" in caplog.text


def test_missing_times_are_spread_evenly():
    assert times(0, None, None, 12) == [0, 4, 8, 12]


def test_a_time_that_runs_backwards_is_moved_between_its_neighbours():
    assert times(0, 10, 6, 20) == [0, 10, 15, 20]


def test_missing_times_before_the_first_one_count_back():
    assert times(None, None, 20, 24) == [12, 16, 20, 24]


def test_missing_times_at_the_end_count_on():
    assert times(4, None, None) == [4, 8, 12]


def test_without_any_times_the_frame_rate_counts():
    assert times(*[None] * 40, start=Fraction(1)) == [100 + 4 * k for k in range(40)]


def test_a_recording_that_starts_over_goes_on_from_where_it_was():
    ticks = [1000 + 4 * k for k in range(5)] + [3 * k for k in range(40)]
    found = times(*ticks)
    assert found == sorted(found)
    assert len(set(found)) == 45
    late = found[-10:]
    assert [b - a for a, b in pairwise(late)] == pytest.approx([3] * 9)


def test_decode_times_are_moved_to_begin_at_the_start():
    pictures = [Picture(None, 2), Picture(None, 3), Picture(None, 4), Picture(None, None)]
    found = timed(pictures, GAP, Fraction(0), GAP, is_decode_timed=True)
    assert [item.pts for item in found] == [0, GAP, 2 * GAP, 3 * GAP]
