"""Jobs that are killed, or run out of disk, lose nothing that was finished."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from midflow.errors import VideoError
from midflow.options import VideoOptions
from midflow.pipeline import interpolate_video
from tests.crossfade import CrossFade
from tests.video.clips import Recipe, decoded, make_clip

ROOT = Path(__file__).parents[1]
KILLS = 20
KILLING = """
import os, random, signal, sys, time
from pathlib import Path
from midflow import pipeline
from midflow.options import VideoOptions
from tests.crossfade import CrossFade

class Slow(CrossFade):
    def forward(self, *args, **kwargs):
        time.sleep(0.004)
        return super().forward(*args, **kwargs)

def run(target):
    options = VideoOptions(preset="veryfast", device="cpu", segment_frames=8)
    pipeline.interpolate_video(source, target, factor=4, model=Slow(), options=options)

def fork():  # before anything has started a thread
    if pid := os.fork():
        return pid
    run(folder / "out.mp4")
    os._exit(0)

folder, kills = Path(sys.argv[1]), int(sys.argv[2])
source = folder / "in.mp4"
random.seed(20)
pid = os.fork()
if pid == 0:
    started = time.perf_counter()
    run(folder / "whole.mp4")
    (folder / "seconds").write_text(str(time.perf_counter() - started))
    os._exit(0)
os.waitpid(pid, 0)
whole = (folder / "whole.mp4").read_bytes()
seconds = float((folder / "seconds").read_text())
killed = jobs = kept = 0
while killed < kills or (folder / ".out.mp4.midflow").exists():
    pid = fork()
    if killed < kills:
        time.sleep(random.uniform(0.1, 0.9) * seconds)
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    killed += os.WIFSIGNALED(status)
    kept += len(list(folder.glob(".out.mp4.midflow/*.packets")))
    if (folder / "out.mp4").exists():
        assert (folder / "out.mp4").read_bytes() == whole, (killed, jobs)
        (folder / "out.mp4").unlink()
        jobs += 1
print(killed, jobs, kept)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks and kills")
def test_a_job_killed_at_random_moments_ends_in_the_same_bytes(tmp_path):
    make_clip(tmp_path / "in.mp4", Recipe(frames=60, audio=["eng"]))
    done = subprocess.run(
        [sys.executable, "-c", KILLING, str(tmp_path), str(KILLS)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    killed, jobs, kept = map(int, done.stdout.split())
    assert killed == KILLS
    assert jobs >= 1
    assert kept > KILLS  # the kills found work that was under way
    assert {p.name for p in tmp_path.iterdir()} == {"in.mp4", "seconds", "whole.mp4"}


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 3 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("may not mount a small disk here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_told_and_the_job_goes_on_once_there_is_room(tmp_path, small_disk):
    source = make_clip(tmp_path / "in.mp4", Recipe(frames=60, size=(96, 64)))
    options = VideoOptions(codec="ffv1", device="cpu", segment_frames=10)

    def run(target):
        return interpolate_video(source, target, model=CrossFade(), options=options)

    run(tmp_path / "whole.mkv")
    size = (tmp_path / "whole.mkv").stat().st_size
    ballast, target = small_disk / "ballast", small_disk / "out.mkv"
    for room, place in ((size // 2, r"\.packets failed"), (size * 3 // 2, r"out\.mkv failed")):
        ballast.write_bytes(bytes((3 << 20) - room))
        with pytest.raises(
            VideoError, match=rf"{place}.*(left|full|large).*kept, the same"
        ) as told:
            run(target)
        assert not target.exists()
        assert not list(small_disk.glob(".*/*.partial")), told.value
    ballast.unlink()
    run(target)

    assert target.read_bytes() == (tmp_path / "whole.mkv").read_bytes()
    assert len(decoded(target)) == 120
    assert [p.name for p in small_disk.iterdir()] == ["out.mkv"]
