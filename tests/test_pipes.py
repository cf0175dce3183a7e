"""Standard input and output: y4m, raw samples and nut, through whole jobs."""

import io
import os
import subprocess
import sys
from fractions import Fraction
from types import SimpleNamespace

import av
import numpy as np
import pytest

from midflow.errors import OptionError, VideoError
from midflow.options import VideoOptions
from midflow.pipeline import interpolate_video
from midflow.video.pipe_input import parse_raw_input
from midflow.video.reader import VideoReader
from tests.crossfade import CrossFade, read_clock, write_clock
from tests.video.clips import Recipe, decoded, make_clip


class OnlyRead(io.RawIOBase):
    """Bytes that can be read once, from the beginning, a few at a time."""

    def __init__(self, data):
        self._file = io.BytesIO(data)

    def readable(self):
        return True

    def readinto(self, buffer):
        part = self._file.read(min(len(buffer), 1000))
        buffer[: len(part)] = part
        return len(part)


@pytest.fixture
def standard_input(monkeypatch):
    def give(data):
        stream = io.BufferedReader(OnlyRead(data))
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=stream, isatty=lambda: False))

    return give


@pytest.fixture
def clock(tmp_path):
    """Six frames at 25 frames/s, each as bright as its time."""
    return write_clock(tmp_path / "in.mkv", [Fraction(k, 25) for k in range(6)], rate=Fraction(25))


def run(source, target, **options):
    fps, factor = options.pop("fps", None), options.pop("factor", None)
    options = VideoOptions(**{"device": "cpu", "scene_threshold": 0, **options})
    return interpolate_video(
        source, target, fps=fps, factor=factor, model=CrossFade(), options=options
    )


def planes_of(path):
    with VideoReader(path) as reader:
        return reader.info, [frame.data for frame in reader]


def same(first, second):
    return len(first) == len(second) and all(
        np.array_equal(a, b) for one, two in zip(first, second, strict=True)
        for a, b in zip(one, two, strict=True)
    )  # fmt: skip


FORMS = ["yuv420p", "yuv422p", "yuv444p", "gray", "yuv420p10le", "yuv422p12le", "yuv444p16le",
         "gray10le", "yuv411p"]  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_y4m_has_the_frames_a_file_has(tmp_path, capfdbinary, form):
    source = make_clip(
        tmp_path / "in.mkv", Recipe(frames=3, size=(38, 22), codec="ffv1", pixel_format=form)
    )
    run(source, tmp_path / "file.mkv", codec="ffv1")
    run(source, "-")
    (tmp_path / "pipe.y4m").write_bytes(capfdbinary.readouterr().out)

    info, piped = planes_of(tmp_path / "pipe.y4m")
    assert same(piped, planes_of(tmp_path / "file.mkv")[1])
    assert (info.pixel_format, info.frame_rate) == (form, 50)


@pytest.mark.parametrize("form", ["yuv420p", "bgr0", "gbrap16le", "yuva420p"])
@pytest.mark.parametrize("pipe", ["raw", "nut"])
def test_raw_and_nut_have_the_frames_a_file_has(tmp_path, capfdbinary, pipe, form):
    recipe = Recipe(frames=3, size=(38, 22), codec="ffv1", pixel_format=form)
    source = make_clip(tmp_path / "in.mkv", recipe)
    run(source, tmp_path / "file.mkv", codec="ffv1")
    run(source, "-", pipe=pipe)
    data = capfdbinary.readouterr().out
    wanted = planes_of(tmp_path / "file.mkv")[1]
    if pipe == "raw":
        assert data == b"".join(plane.tobytes() for planes in wanted for plane in planes)
        return
    (tmp_path / "pipe.nut").write_bytes(data)
    assert same(planes_of(tmp_path / "pipe.nut")[1], wanted)
    assert [f.pts * f.time_base for f in decoded(tmp_path / "pipe.nut")] == [
        Fraction(k, 50) for k in range(6)
    ]


def test_a_varying_rate_goes_through_nut_alone(tmp_path, capfdbinary):
    times = [Fraction(t, 1000) for t in (0, 40, 300, 310)]
    source = write_clock(tmp_path / "in.mp4", times)
    run(source, "-", pipe="nut", vfr="keep", end="drop")
    (tmp_path / "pipe.nut").write_bytes(capfdbinary.readouterr().out)
    shown = read_clock(tmp_path / "pipe.nut")
    assert [pts for pts, _ in shown][::2] == times
    with pytest.raises(OptionError, match="y4m has no times"):
        run(source, "-", vfr="keep")


@pytest.mark.parametrize("kind", ["y4m", "nut", "raw", "mkv"])
def test_a_clip_comes_from_standard_input(tmp_path, capfdbinary, standard_input, clock, kind):
    if kind == "mkv":
        standard_input(clock.read_bytes())
    else:
        run(clock, "-", factor=1, pipe=kind)
        standard_input(capfdbinary.readouterr().out)
    raw = {"raw_input": "64x48:yuv420p:25"} if kind == "raw" else {}
    result = run("-", tmp_path / "out.mp4", preset="ultrafast", **raw)

    shown = read_clock(tmp_path / "out.mp4")
    assert (result.frames_in, result.frames_out) == (6, 12)
    assert [pts for pts, _ in shown] == [Fraction(k, 50) for k in range(12)]
    for pts, told in shown:
        assert told == pytest.approx(float(min(pts, Fraction(1, 5))), abs=0.012)


def test_a_pipe_can_be_cut_and_piped_on(capfdbinary, standard_input, clock, tmp_path):
    run(clock, "-", factor=1)
    standard_input(capfdbinary.readouterr().out)
    run("-", "-", start=Fraction(2, 25), duration=Fraction(2, 25), fps=100)
    (tmp_path / "out.y4m").write_bytes(capfdbinary.readouterr().out)
    told = [told for _, told in read_clock(tmp_path / "out.y4m")]
    assert len(told) == 8
    assert told[0] == pytest.approx(0.08, abs=0.012)


def test_raw_frames_can_be_a_file(tmp_path, capfdbinary, clock):
    run(clock, "-", factor=1, pipe="raw")
    (tmp_path / "in.yuv").write_bytes(capfdbinary.readouterr().out)
    run(tmp_path / "in.yuv", tmp_path / "out.mp4", raw_input="64x48:yuv420p:25")
    assert len(decoded(tmp_path / "out.mp4")) == 12


@pytest.mark.parametrize("text", ["64x48", "64x48:yuv42:25", "0x48:gray:25", "64x48:gray:1/0"])
def test_a_wrong_description_of_raw_frames_is_refused(text):
    with pytest.raises(OptionError, match=r"such as 640x480:yuv420p:30000/1001, got"):
        parse_raw_input(text)


def test_what_a_pipe_cannot_do_is_refused(clock, standard_input, tmp_path):
    with pytest.raises(OptionError, match="without compression"):
        run(clock, "-", codec="h264")
    with pytest.raises(OptionError, match="pipe must be one of y4m, raw, nut"):
        run(clock, "-", pipe="avi")
    standard_input(clock.read_bytes())
    with pytest.raises(OptionError, match="needs a name for the output"):
        run("-", None)
    standard_input(b"not a clip")
    with pytest.raises(VideoError, match="cannot be opened as a video"):
        run("-", tmp_path / "out.mp4")
    assert not (tmp_path / "out.mp4").exists()


def test_a_terminal_is_no_clip(monkeypatch):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True))
    with pytest.raises(VideoError, match="is a terminal"):
        run("-", "-")


@pytest.mark.slow
def test_the_command_says_nothing_on_standard_output_but_the_clip(clock, tmp_path):
    command = [sys.executable, "-m", "midflow", "video"]
    done = subprocess.run([*command, str(clock), "-"], capture_output=True, check=True)
    assert done.stdout.startswith(b"YUV4MPEG2 W64 H48 F50:1")
    assert len(done.stdout.split(b"FRAME\n")) == 13
    assert b"12 frames from 6" in done.stderr

    piped = subprocess.run(
        [*command, "-", str(tmp_path / "out.mkv"), "--fps", "100"],
        input=done.stdout, capture_output=True, check=True,
    )  # fmt: skip
    assert b"24 frames from 12" in piped.stdout
    assert len(decoded(tmp_path / "out.mkv")) == 24


@pytest.mark.slow
def test_a_reader_that_goes_away_ends_the_job(tmp_path):
    source = make_clip(tmp_path / "in.mp4", Recipe(frames=60, size=(320, 240)))
    reading, writing = os.pipe()
    job = subprocess.Popen(
        [sys.executable, "-m", "midflow", "video", str(source), "-"],
        stdout=writing, stderr=subprocess.PIPE,
    )  # fmt: skip
    os.close(writing)
    assert os.read(reading, 10) == b"YUV4MPEG2 "
    os.close(reading)
    _, told = job.communicate(timeout=120)
    assert job.returncode == 1
    assert b"was closed before the last frame" in told


def test_a_y4m_file_is_a_clip_as_any_other(tmp_path, capfdbinary, clock):
    run(clock, "-")
    (tmp_path / "in.y4m").write_bytes(capfdbinary.readouterr().out)
    with av.open(str(tmp_path / "in.y4m")) as container:
        assert container.streams.video[0].average_rate == 50
    run(tmp_path / "in.y4m", tmp_path / "out.mp4", factor=2)
    assert len(decoded(tmp_path / "out.mp4")) == 24
