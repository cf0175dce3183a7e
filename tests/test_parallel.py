import os
import signal
import threading
import time
from fractions import Fraction

import pytest

from midflow import parallel
from midflow.errors import OptionError, VideoError
from midflow.options import VideoOptions
from midflow.pipeline import interpolate_video
from tests.crossfade import CrossFade
from tests.video.clips import Recipe, make_clip, packets

ASKED = {"preset": "ultrafast", "device": "cpu", "segment_frames": 10}


class SlowFade(CrossFade):
    """Takes its time, so that all workers get a share."""

    def forward(self, *args, **kwargs):
        time.sleep(0.05)
        return super().forward(*args, **kwargs)


class BrokenFade(CrossFade):
    def forward(self, *args, **kwargs):
        raise ZeroDivisionError("a bug in the network")


def run(source, target, model, on_progress=None, **options):
    options = VideoOptions(**{**ASKED, **options})
    return interpolate_video(source, target, model=model, options=options, on_progress=on_progress)


@pytest.fixture(scope="module")
def moving(tmp_path_factory):
    """60 frames at 25 frames/s with sound."""
    recipe = Recipe(frames=60, audio=["eng"])
    return make_clip(tmp_path_factory.mktemp("clip") / "moving.mp4", recipe)


@pytest.mark.slow
def test_two_workers_make_the_same_bytes_as_one(moving, tmp_path):
    calls = []
    alone = run(moving, tmp_path / "alone.mp4", CrossFade())
    both = run(moving, tmp_path / "both.mp4", SlowFade(), calls.append, workers=2)

    assert (tmp_path / "both.mp4").read_bytes() == (tmp_path / "alone.mp4").read_bytes()
    assert packets(tmp_path / "both.mp4", 1) == packets(moving, 1)
    assert (both.frames_in, both.frames_out) == (alone.frames_in, alone.frames_out) == (60, 120)
    assert (calls[0].frames_done, calls[-1].frames_done) == (0, 120)
    done = [call.frames_done for call in calls]
    assert done == sorted(done)
    assert any(0 < count < 120 for count in done)
    assert min(calls[-1].rates.network_fps, calls[-1].rates.encode_fps) > 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["alone.mp4", "both.mp4"]


@pytest.mark.slow
def test_devices_have_a_worker_each_and_go_on_where_one_process_stopped(
    moving, tmp_path, monkeypatch
):
    run(moving, tmp_path / "whole.mp4", CrossFade())
    folder = tmp_path / ".out.mp4.midflow"

    def stop(progress):
        if len(list(folder.glob("*.packets"))) >= 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("midflow.pipeline._REPORT_SECONDS", 0.0)
    with pytest.raises(KeyboardInterrupt, match="frames are kept"):
        run(moving, tmp_path / "out.mp4", CrossFade(), stop)
    calls = []
    asked = {"device": "auto", "devices": ("cpu", "cpu")}
    run(moving, tmp_path / "out.mp4", CrossFade(), calls.append, **asked)

    assert calls[0].frames_kept >= 30
    assert calls[-1].frames_done == 120
    assert (tmp_path / "out.mp4").read_bytes() == (tmp_path / "whole.mp4").read_bytes()


@pytest.mark.slow
def test_what_a_worker_raises_reaches_the_caller(moving, tmp_path):
    with pytest.raises(RuntimeError, match="a worker failed: ZeroDivisionError: a bug in the net"):
        run(moving, tmp_path / "out.mp4", BrokenFade(), workers=2)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="kills a process")
def test_a_worker_that_is_killed_ends_the_job_and_what_is_finished_stays(
    moving, tmp_path, monkeypatch
):
    crews, begin = [], parallel.Crew.__enter__
    monkeypatch.setattr(parallel.Crew, "__enter__", lambda crew: crews.append(crew) or begin(crew))
    folder = tmp_path / ".out.mp4.midflow"

    def kill():
        while not list(folder.glob("*.packets")):
            time.sleep(0.02)
        os.kill(crews[0]._processes[1].pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(VideoError, match=r"ended from outside \(exit code -9\).*frames are kept"):
        run(moving, tmp_path / "out.mp4", SlowFade(), workers=2)
    killer.join()
    assert not any(process.is_alive() for process in crews[0]._processes)

    run(moving, tmp_path / "out.mp4", CrossFade())
    run(moving, tmp_path / "whole.mp4", CrossFade())
    assert (tmp_path / "out.mp4").read_bytes() == (tmp_path / "whole.mp4").read_bytes()


def test_a_job_of_one_segment_is_not_shared():
    two = VideoOptions(workers=2)
    assert parallel.is_shared(two, 251, 250)
    assert parallel.is_shared(two, None, 250)
    assert not parallel.is_shared(two, 250, 250)
    assert not parallel.is_shared(VideoOptions(), 1000, 250)
    assert not parallel.is_shared(VideoOptions(devices=("cuda:0",)), 1000, 250)


def test_workers_and_devices_are_checked():
    with pytest.raises(OptionError, match="workers must be at least 1, got 0"):
        VideoOptions(workers=0)
    with pytest.raises(OptionError, match="leave out workers and device"):
        VideoOptions(workers=2, devices=("cuda:0", "cuda:1"))
    assert VideoOptions(duration=Fraction(1), devices=("cpu",)).devices == ("cpu",)
