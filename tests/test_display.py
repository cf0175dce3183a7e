import io
import logging

import pytest
from rich.console import Console

from midflow import display
from midflow.display import Display, print_table
from midflow.evaluate.evaluation import EvalProgress
from tests.test_progress import PROGRESS


@pytest.fixture
def terminal(monkeypatch):
    """What a terminal of 120 columns receives."""
    stream = io.StringIO()
    monkeypatch.setattr(
        display,
        "Console",
        lambda **kwargs: Console(file=stream, force_terminal=True, width=120, highlight=False),
    )
    return stream


def test_a_terminal_shows_a_bar_and_warnings_above_it(terminal):
    with Display() as shown:
        shown.video(PROGRESS)
        logging.getLogger("midflow.video.reader").warning("in.mp4 is [damaged]")
    text = terminal.getvalue()
    assert "in.mp4 -> out.mp4" in text
    assert "warning: in.mp4 is [damaged]" in text
    assert "30/120 frames in 10.0 s, 30.0 s left" in text
    assert "━" in text


def test_without_a_terminal_there_is_a_line_now_and_then(capsys, monkeypatch):
    with Display() as shown:
        shown.video(PROGRESS)
        assert "30/120" not in capsys.readouterr().err
        monkeypatch.setattr(display, "_LINE_SECONDS", 0.0)
        shown.video(PROGRESS)
        shown.pictures(3, 9)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [str(PROGRESS), "3/9 pictures"]


def test_an_evaluation_tells_what_is_done_and_what_is_left(capsys, monkeypatch):
    monkeypatch.setattr(display, "_LINE_SECONDS", 0.0)
    with Display() as shown:
        shown.evaluation(EvalProgress(2, 10, "Venus", 0, 3.0))
        shown.evaluation(EvalProgress(3, 10, "Walking", 3, 0.1))
    assert capsys.readouterr().err.splitlines() == [
        "2/10 samples, 12.0 s left: Venus",
        "3/10 samples, 3 from an earlier run: Walking",
    ]


def test_quiet_shows_errors_only(terminal):
    with Display(is_quiet=True) as shown:
        shown.video(PROGRESS)
        shown.say("hello")
        logging.getLogger("midflow").warning("careful")
        logging.getLogger("midflow").error("stop")
    assert terminal.getvalue().splitlines() == ["error: stop"]


def test_the_handler_goes_with_the_display(terminal):
    with pytest.raises(ValueError, match="mine"), Display():
        raise ValueError("mine")
    assert logging.getLogger("midflow").handlers == []


def test_tables_are_aligned(capsys):
    print_table([("name", "size"), ("a longer name", "[1]")])
    assert capsys.readouterr().out == "name           size\na longer name  [1]\n"
