"""How long a process takes from its start until something can be seen."""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROUNDS = 3
_MIDFLOW = [sys.executable, "-m", "midflow"]


def start_up_seconds(
    clip: Path, size: tuple[int, int], options: list[str], rounds: int = ROUNDS
) -> dict[str, float]:
    """Medians of several starts, each a process of its own.

    Args:
        clip: two frames or more, of which the second output frame is painted.
        size: of its frames, width and height.
        options: of `midflow video`, for the first frame.
        rounds: starts of each.

    Returns:
        Seconds by name; without "first painted frame" where `midflow video` refuses.
    """
    video = [*_MIDFLOW, "video", str(clip), "-", "--pipe", "raw", "--quiet", *options]
    frame_bytes = size[0] * size[1] * 3 // 2  # at least: of 8 bits, with the least chroma
    measured: dict[str, Callable[[], float | None]] = {
        "python -c pass": lambda: _until_end([sys.executable, "-c", "pass"]),
        "midflow --help": lambda: _until_end([*_MIDFLOW, "--help"]),
        "midflow video --help": lambda: _until_end([*_MIDFLOW, "video", "--help"]),
        "first painted frame": lambda: _until_output(video, 2 * frame_bytes),
    }
    found = {name: [measure() for _ in range(rounds)] for name, measure in measured.items()}
    return {
        name: statistics.median(value for value in values if value is not None)
        for name, values in found.items()
        if None not in values
    }


def _until_end(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, capture_output=True, check=True)
    return time.perf_counter() - started


def _until_output(command: list[str], count: int) -> float | None:
    """Seconds until `count` bytes have come; None where fewer do."""
    started = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        got = len(process.stdout.read(count))
        seconds = time.perf_counter() - started
        process.kill()
    return seconds if got == count else None
