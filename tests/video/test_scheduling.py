import os
import threading
from fractions import Fraction
from pathlib import Path

import pytest

from midflow.encoder_probe import ENCODERS, try_encoder
from midflow.video.encoders import WriterOptions
from midflow.video.scheduling import as_scheduled
from midflow.video.writer import VideoWriter
from tests.video.clips import picture

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/task").is_dir(), reason="threads have priorities of their own on Linux"
)


def policies():
    return {os.sched_getscheduler(int(name)) for name in os.listdir("/proc/self/task")}


def test_threads_that_are_begun_within_are_scheduled_as_this_one_was():
    before, end, seen = policies(), threading.Event(), []

    def work():
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        seen.append(os.sched_getscheduler(0))
        begun.set()
        end.wait()

    begun, thread = threading.Event(), threading.Thread(target=work)
    with as_scheduled():
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        thread.start()
        begun.wait()
    assert seen == [os.SCHED_BATCH]
    assert policies() == before
    end.set()
    thread.join()


def test_av1_takes_no_more_of_the_processor_than_others(tmp_path):
    before = policies()
    options = WriterOptions(codec="av1", preset="12")
    with VideoWriter(tmp_path / "out.mp4", None, 64, 64, Fraction(25), options=options) as writer:
        assert policies() == before
        for k in range(3):
            writer.write(picture("yuv420p", (64, 64), k), Fraction(k, 25))
    assert policies() == before


def test_looking_for_encoders_changes_no_priority():
    before = policies()
    for encoder in ENCODERS:
        if encoder.name == "libsvtav1":
            assert try_encoder(encoder) is None or try_encoder(encoder) == ""
    assert policies() == before
