"""Memory stays flat, and a full disk is an error like any other."""

import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest

from midflow.video.color import from_rgb, to_rgb
from midflow.video.reader import VideoReader
from midflow.video.writer import VideoWriter, WriterOptions
from tests.video.clips import Recipe, make_clip

FULL_DISK = """
import resource, signal, sys
from fractions import Fraction
from midflow.errors import VideoError
from midflow.video.writer import VideoWriter, WriterOptions
from tests.video.clips import noise
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
try:
    options = WriterOptions(codec="ffv1")
    with VideoWriter(sys.argv[1], None, 128, 128, Fraction(25), options=options) as writer:
        for index in range(50):
            writer.write(noise("yuv420p", (128, 128), index), Fraction(index, 25))
except VideoError as error:
    print(error)
"""


def resident_megabytes():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")
def test_memory_is_flat_over_2000_frames(tmp_path):
    """A frame is 115 kB: holding on to frames or packets would show as 170 MB."""
    recipe = Recipe(frames=2000, size=(320, 240), audio=("eng",), subtitles=("eng",))
    path = make_clip(tmp_path / "in.mkv", recipe)
    seen = []
    with VideoReader(path) as reader:
        info = reader.info
        options = WriterOptions(preset="ultrafast")
        with VideoWriter(
            tmp_path / "out.mp4", info, 320, 240, Fraction(25), options=options
        ) as writer:
            for frame in reader:
                planes = from_rgb(to_rgb(frame, info), writer.color, writer.pixel_format)
                writer.write(planes, frame.pts)
                seen.append(resident_megabytes())
    assert len(seen) == 2000
    assert max(seen[1500:]) - max(seen[:500]) < 25


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files by setrlimit")
def test_a_full_disk_is_told_and_leaves_nothing(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path / "a.mkv")],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        check=False,
    )
    assert "a.mkv failed: " in done.stdout
    assert done.stderr == ""
    assert list(tmp_path.iterdir()) == []
