import io
import logging
from dataclasses import replace

import pytest
from rich.console import Console

from midflow import display
from midflow.display import Display, print_table
from midflow.evaluate.evaluation import EvalProgress
from midflow.train import journal as training
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


def test_training_shows_how_it_does_and_always_its_end(terminal, capsys, monkeypatch):
    seen = training.Progress(50, 0.25, 0.1234, {}, 31.26, 1e-3, 52.34, 60.0, 180.0, 0)
    with Display() as shown:
        shown.counted("clips decoded", 3, 9)
        shown.training(seen)
    text = terminal.getvalue()
    assert "step 50 (25%), loss 0.1234, 31.3 dB, 52.3 samples/s, 3:00 left" in text
    monkeypatch.undo()
    with Display() as shown:
        shown.training(seen)
        shown.training(replace(seen, step=200, share=1.0, eta_seconds=0.0, skipped=2))
    assert capsys.readouterr().err.splitlines() == [
        "step 200 (100%), loss 0.1234, 31.3 dB, 52.3 samples/s, 0.0 s left, 2 steps skipped"
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
