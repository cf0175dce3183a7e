import json
from fractions import Fraction
from itertools import islice

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from midflow import cli
from midflow.bench import run as bench_run
from midflow.bench.clips import Clips, draw_pictures, make_clip
from midflow.bench.meter import MemoryPeak
from midflow.bench.options import BenchOptions, parse_size
from midflow.bench.presentation import table, warning
from midflow.bench.record import BenchReport, Case, Setting, Stage
from midflow.bench.startup import start_up_seconds
from midflow.errors import MissingExtraError, OptionError, UnknownModelError
from midflow.video.image import read_image
from midflow.video.reader import VideoReader
from tests.crossfade import CrossFade
from tests.video.clips import Recipe
from tests.video.clips import make_clip as make_test_clip

SMALL = (64, 48)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """A network that costs nothing, and no processes."""
    monkeypatch.setattr(bench_run, "_load", lambda name: (CrossFade(), True))
    monkeypatch.setattr(bench_run, "start_up_seconds", lambda *_: {"midflow --help": 0.25})


def call(*arguments):
    return CliRunner().invoke(cli.app, ["bench", *map(str, arguments)])


def measure(**options):
    given = {"sizes": (SMALL,), "frames": 4, "factors": (Fraction(2),)}
    given |= {"backends": ("torch",), **options}
    return bench_run.run(BenchOptions(device="cpu", preset="ultrafast", **given), lambda *_: None)


def test_every_stage_does_all_frames_of_the_job():
    report = measure(factors=(Fraction(5, 2),), frames=5)
    (case,) = report.cases

    assert (case.setting.factor, case.frames_in, case.decode.frames) == ("2.5", 5, 5)
    assert case.network.frames == case.encode.frames == case.whole.frames == 11
    assert case.painted == 8  # three are input frames
    assert case.network.seconds >= case.model_seconds > 0
    assert set(case.bounds) == {"decode", "network", "encode", "cores"}
    assert case.peak_memory_mb > 50
    assert case.peak_gpu_mb is None or torch.cuda.is_available()


def test_the_network_runs_for_the_frames_that_are_painted_only(monkeypatch):
    net = CrossFade()
    monkeypatch.setattr(bench_run, "_load", lambda name: (net, True))
    measure(factors=(Fraction(3),))

    assert all(batch == pytest.approx([1 / 3, 2 / 3]) for batch in net.batches)
    assert len(net.batches) == 2 + 3 + 3
    # a warm-up of 3 frames, the stage and the whole of 4
    assert net.encoded == 3 + 4 + 4


def case_of(decode, network, encode, whole, cores=2):
    return Case(
        *(Setting(64, 48, "m", "torch", "float32", "2"), "", True, "cpu", cores, 5, 4),
        *(Stage(5, *decode), Stage(10, *network), 2.0, Stage(10, *encode), Stage(10, *whole)),
        *(0.1, 0.5, 100.0, None),
    )


def test_the_bound_is_the_slowest_stage_or_the_processor_shared_by_all():
    case = case_of((0.5, 0.5), (4, 4), (1, 1.5), (5, 6))
    assert (case.bound, case.share) == ("network", 0.8)
    assert (case.network.fps, case.network.ms, case.model_ms) == (2.5, 400, 500)

    case = case_of((0.5, 0.5), (4, 8), (1, 1.5), (5, 6))
    assert (case.bound, case.share) == ("cores", 1.0)
    assert case.bounds["cores"] == 5.0

    case = case_of((0.5, 0.5), (4, 8), (1, 1.5), (5, 6), cores=16)
    assert (case.bound, case.share) == ("network", 0.8)


def test_the_frames_of_a_run_follow_from_the_time_it_may_take():
    assert measure(frames=None, seconds=1e-9).cases[0].frames_in == 3
    case = measure(frames=None, seconds=0.2, sizes=((320, 240),)).cases[0]
    assert 3 <= case.frames_in <= bench_run.MOST_FRAMES


def test_by_default_more_factors_are_measured_at_the_smallest_size_only():
    options = BenchOptions(sizes=((128, 64), SMALL))
    assert options.factors_at(SMALL) == (2, 4, 8)
    assert options.factors_at((128, 64)) == (2,)
    assert BenchOptions(factors=(Fraction(3),)).factors_at(SMALL) == (3,)


def test_what_cannot_run_is_skipped_with_its_reason_unless_it_was_asked_for(monkeypatch):
    def refuse(*_):
        raise MissingExtraError("pip install", "fast")

    monkeypatch.setattr(bench_run, "make_interpolator", refuse)
    report = measure(backends=())
    assert report.cases == []
    assert "fast" in report.skipped[0].reason
    with pytest.raises(MissingExtraError, match="fast"):
        measure()


def test_a_release_without_weights_is_measured_with_random_ones(monkeypatch, caplog):
    monkeypatch.undo()
    monkeypatch.setattr(bench_run, "find_weights", lambda name: None)
    network, has_weights = bench_run._load("4.25")
    assert (has_weights, network.config.has_timestep) == (False, True)
    assert "random" in caplog.text
    with pytest.raises(UnknownModelError):
        bench_run._load("4.99")


def test_the_command_prints_a_table_and_writes_json_and_a_picture(tmp_path):
    json_file, plot = tmp_path / "b.json", tmp_path / "b.png"
    result = call(
        *("--size", "64x48", "--size", "96x64", "--frames", 3, "--backend", "torch"),
        *("--preset", "ultrafast", "--json", json_file, "--plot", plot, "--device", "cpu"),
    )

    assert result.exit_code == 0, result.output
    assert "64x48" in result.stdout
    assert "start-up: midflow --help 0.25 s" in result.stdout
    found = json.loads(json_file.read_text())
    machine = found["machine"]
    assert machine["cores"] >= 1
    assert {"processor", "commit", "midflow", "torch", "av", "python", "time"} <= set(machine)
    assert found["start_up"] == {"midflow --help": 0.25}
    sizes = [(case["width"], case["height"], case["factor"]) for case in found["cases"]]
    assert sizes == [(64, 48, "2"), (64, 48, "4"), (64, 48, "8"), (96, 64, "2")]
    for case in found["cases"]:
        assert case["share"] > 0
        assert case["bound"] in case["bounds"]
        assert case["bounds"][case["bound"]] == max(case["bounds"].values())
        for stage in ("decode", "network", "encode", "whole"):
            assert case[stage]["seconds"] > 0
            assert {"frames", "cpu_seconds", "fps", "ms"} <= set(case[stage])
        assert {"model_ms", "peak_memory_mb", "peak_gpu_mb", "backend", "precision"} <= set(case)
    picture, _ = read_image(plot)
    assert (picture < 0.5).any(1).sum() > 1000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--size", "720p"], "WIDTHxHEIGHT"),
        (["--size", "65x48"], "even"),
        (["--size", "0x0"], "at least"),
        (["--backend", "abacus"], "backend must be one of auto, torch"),
        (["--precision", "int4"], "precision must be one of"),
        (["--factor", "0.5"], "at least 1"),
        (["--frames", "1"], "frames must be at least"),
        (["--seconds", "0"], "seconds must be above 0"),
        (["nothing.mp4"], "check the name"),
        (["--device", "abacus"], "device must be"),
        (["--json", "nowhere/at/all.json"], "is no folder"),
    ],
)
def test_wrong_wishes_are_refused_at_once_in_one_line(arguments, message):
    result = call(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in " ".join(result.stderr.split())
    assert result.stderr.startswith("midflow: ")


def test_sizes_are_read():
    assert parse_size("1280x720") == (1280, 720)
    with pytest.raises(OptionError, match="got '1280'"):
        parse_size("1280")


def test_drawn_pictures_move_and_are_legal_and_hard_enough(tmp_path):
    first, second = islice(draw_pictures((128, 64)), 2)
    assert [plane.shape for plane in first] == [(64, 128), (32, 64), (32, 64)]
    assert first[0].min() >= 16
    assert first[0].max() <= 235
    assert first[0].std() > 15
    assert np.abs(first[0].astype(int) - second[0]).mean() > 3
    moved = np.abs(first[0][:, 2:30].astype(int) - second[0][:, :28])  # beside the box
    assert moved.mean() < 3


def test_a_given_clip_is_scaled_to_each_size_and_goes_on_as_long_as_needed(tmp_path):
    source = make_test_clip(tmp_path / "in.mkv", Recipe(frames=4, pixel_format="yuv444p"))
    clip = make_clip(tmp_path / "clip.mp4", source, (96, 72), 11)
    with VideoReader(clip) as reader:
        assert (reader.info.width, reader.info.height) == (96, 72)
        assert reader.info.pixel_format == "yuv444p"
        assert sum(1 for _ in reader) == 11


def test_clips_are_made_once_unless_more_frames_are_needed(tmp_path):
    clips = Clips(tmp_path, None)
    path = clips.get(SMALL, 5)
    made = path.stat().st_mtime_ns
    assert clips.get(SMALL, 3) == path
    assert path.stat().st_mtime_ns == made
    with VideoReader(clips.get(SMALL, 7)) as reader:
        assert sum(1 for _ in reader) == 7


def test_the_peak_of_memory_is_that_of_the_work():
    with MemoryPeak(torch.device("cpu")) as small:
        pass
    with MemoryPeak(torch.device("cpu")) as large:
        np.ones(200_000_000, np.uint8)
    assert large.host_mb - small.host_mb == pytest.approx(200, abs=30)


def test_the_table_names_random_weights_and_has_a_column_for_the_gpu_where_there_is_one():
    report = measure()
    assert "GPU MB" not in table(report)[0]
    assert len({len(row) for row in table(report)}) == 1


def test_a_machine_that_was_busy_is_told_of():
    def told(load):
        return warning(BenchReport({"load_average": load}, "drawn", "h264"))

    assert told(None) is told(0.2) is None
    assert "3.0 threads were at work" in told(3.0)


@pytest.mark.slow
def test_start_up_is_measured_in_processes_of_their_own(tmp_path):
    clip = make_clip(tmp_path / "clip.mp4", None, SMALL, 3)
    found = start_up_seconds(clip, SMALL, ["--device", "cpu"], rounds=1)
    assert set(found) == {
        *("python -c pass", "midflow --help", "midflow video --help", "first painted frame")
    }
    assert found["first painted frame"] > found["python -c pass"] > 0
    refused = start_up_seconds(clip, SMALL, ["--device", "abacus"], rounds=1)
    assert "first painted frame" not in refused
