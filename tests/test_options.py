from fractions import Fraction

import pytest

from midflow.errors import OptionError
from midflow.options import parse_encoder_options, parse_time


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("90.5", Fraction(181, 2)),
        ("0.04", Fraction(1, 25)),
        ("1:30", 90),
        ("1:30.5", Fraction(181, 2)),
        ("01:02:03.25", 3723 + Fraction(1, 4)),
        ("100:00:00", 360_000),
    ],
)
def test_times_are_seconds_or_hours_minutes_and_seconds(text, seconds):
    assert parse_time(text, "start") == seconds


@pytest.mark.parametrize("text", ["", "soon", "-5", "1:2:3:4", "1:75", "1:30:", "1:90:00", "1e3"])
def test_other_times_are_refused(text):
    with pytest.raises(OptionError, match=r"start must be seconds or hh:mm:ss\.fff, got "):
        parse_time(text, "start")


def test_encoder_options_are_a_table():
    assert parse_encoder_options("tune=grain") == {"tune": "grain"}
    assert parse_encoder_options("tune=grain:bf=2") == {"tune": "grain", "bf": "2"}
    assert parse_encoder_options(r"x265-params=no-sao=1\:aq-mode=3:bf=2") == {
        "x265-params": "no-sao=1:aq-mode=3",
        "bf": "2",
    }


@pytest.mark.parametrize("text", ["", "tune", "=grain", "tune=grain:"])
def test_encoder_options_without_a_name_or_a_sign_are_refused(text):
    with pytest.raises(OptionError, match="must be name=value:name=value, got"):
        parse_encoder_options(text)
