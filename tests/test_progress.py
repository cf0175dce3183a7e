import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from midflow.progress import Progress, Rates, VideoJob, VideoResult, format_seconds

JOB = VideoJob(
    source=Path("in.mp4"),
    target=Path("out.mp4"),
    width=64,
    height=48,
    source_rate=Fraction(24000, 1001),
    frame_rate=Fraction(60),
    model="midflow-2",
    device="cpu",
    device_reason="no GPU",
    backend="torch",
    precision="float32",
    encoder="libx264",
    pixel_format="yuv420p",
)
PROGRESS = Progress(JOB, 30, 120, 10.0, Rates(200.0, 3.0, 150.0))


def test_time_left_follows_from_the_speed_so_far():
    assert PROGRESS.eta_seconds == pytest.approx(30)
    assert replace(PROGRESS, frames_done=0).eta_seconds is None
    assert replace(PROGRESS, frames_total=None).eta_seconds is None
    assert replace(PROGRESS, frames_done=130).eta_seconds == 0


def test_progress_reads_as_a_line():
    assert str(PROGRESS) == (
        "30/120 frames in 10.0 s, 30.0 s left; frames/s: decode 200.0, network 3.0, encode 150.0"
    )
    assert str(replace(PROGRESS, frames_total=None)).startswith("30/? frames in 10.0 s; frames/s")


def test_a_job_says_what_runs_where_and_why():
    assert str(JOB) == (
        "in.mp4 -> out.mp4, 64x48, 23.976 -> 60 frames/s\n"
        "model midflow-2, float32, torch on cpu (no GPU); libx264 yuv420p"
    )


def test_a_result_goes_into_json():
    result = VideoResult(JOB, 48, 120, 41.25, (Fraction(1001, 24000),), 0, PROGRESS.rates)
    said = json.loads(json.dumps(result.as_dict()))

    assert (said["source"], said["source_rate"], said["frame_rate"]) == (
        "in.mp4",
        "24000/1001",
        "60",
    )
    assert said["cuts"] == [0.041708]
    assert (said["frames_in"], said["frames_out"], said["seconds"]) == (48, 120, 41.25)
    assert said["network_fps"] == 3.0
    assert str(result).startswith("out.mp4: 120 frames from 48, 1 scene cut in 41.2 s; frames/s")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0 s"), (9.34, "9.3 s"), (59.96, "1:00"), (65, "1:05"), (3725.4, "1:02:05")],
)
def test_lengths_of_time_are_short(seconds, text):
    assert format_seconds(seconds) == text
