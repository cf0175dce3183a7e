import json
import logging
import os
import signal
import subprocess
import sys
import time
from dataclasses import fields
from fractions import Fraction
from inspect import signature

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import midflow
from midflow import cli, pipeline
from midflow.arguments import video_options
from midflow.errors import CheckpointError, OptionError
from midflow.options import VideoOptions
from midflow.scenes import SCENE_CUT_SSIM
from midflow.video.image import write_image
from tests.crossfade import CrossFade
from tests.video.clips import Recipe, decoded, make_clip, packets


@pytest.fixture(autouse=True)
def quick_model(monkeypatch):
    monkeypatch.setattr(pipeline, "load_model", lambda source: CrossFade())


@pytest.fixture
def clip(tmp_path):
    """Five frames at 25 frames/s with sound."""
    return make_clip(tmp_path / "in.mp4", Recipe(frames=5, audio=["eng"]))


def call(*arguments):
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


def run_apart(*arguments, **settings):
    command = [sys.executable, "-m", "midflow", *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **settings
    )


def test_video_doubles_the_rate_by_default(clip, tmp_path):
    result = call("video", clip, tmp_path / "out.mp4")

    assert result.exit_code == 0, result.output
    assert len(decoded(tmp_path / "out.mp4")) == 10
    assert "out.mp4: 10 frames from 5" in result.stdout
    assert "frames/s: decode" in result.stdout
    assert "torch on cpu (no GPU" in result.stderr or "torch on cuda" in result.stderr


def test_video_takes_every_option(clip, tmp_path):
    target = tmp_path / "out.mkv"
    result = call(
        *("video", clip, target, "--fps", "60000/1001", "--device", "cpu"),
        *("--precision", "bfloat16", "--flow-scale", "0.5", "--tta", "--model", "4.25"),
        *("--codec", "hevc", "--crf", "30", "--preset", "ultrafast", "--pix-fmt", "yuv420p10le"),
        *("--encoder-options", "x265-params=no-sao=1", "--start", "0:00:00.04"),
        *("--duration", "0.12", "--scene-threshold", "0.1", "--scene-fill", "nearest"),
        *("--overwrite", "--json"),
    )

    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert result.stderr == ""
    assert (said["frames_in"], said["frames_out"]) == (3, 7)
    assert said["frame_rate"] == "60000/1001"
    assert (said["encoder"], said["pixel_format"]) == ("libx265", "yuv420p10le")
    assert said["precision"] == "bfloat16"
    assert {f.format.name for f in decoded(target)} == {"yuv420p10le"}


def test_every_field_of_the_options_is_an_option_of_the_command():
    parameters = set(signature(cli.video).parameters)
    options = {field.name for field in fields(VideoOptions)}
    assert options <= parameters
    others = {"ctx", "factor", "fps", "slowmo", "model", "quiet", "as_json"}
    others |= {"paths", "out_dir", "list_file", "skip_existing"}
    assert parameters - options == others


def test_the_defaults_in_the_help_are_those_of_the_options():
    text = " ".join(call("video", "--help").output.split())
    defaults = VideoOptions()
    for words in (
        f"default: {defaults.device}.",
        f"default: {defaults.precision}.",
        f"default: {defaults.flow_scale:g}.",
        f"default: {SCENE_CUT_SSIM}.",
        f"default: {defaults.scene_fill}.",
    ):
        assert words in text


def test_without_out_the_name_tells_the_rate(clip):
    assert call("video", clip, "--fps", "60").exit_code == 0
    assert len(decoded(clip.with_name("in.60fps.mp4"))) == 12


def test_quiet_says_nothing(clip, tmp_path):
    result = call("video", clip, tmp_path / "out.mp4", "--quiet")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")


def test_warnings_are_shown_and_their_handler_is_removed(clip, tmp_path):
    result = call("video", clip, tmp_path / "out.mp4", "--fps", "23.976")
    assert "warning: fps 23.976 is taken literally" in result.stderr
    assert "24000/1001" in result.stderr
    assert logging.getLogger("midflow").handlers == []


def audio_only(path):
    import av

    with av.open(str(path), "w") as output:
        stream = output.add_stream("aac", rate=48000, layout="stereo")
        for start in range(0, 48000, 1024):
            data = np.zeros((2, 1024), np.float32)
            frame = av.AudioFrame.from_ndarray(data, format="fltp", layout="stereo")
            frame.sample_rate, frame.pts, frame.time_base = 48000, start, Fraction(1, 48000)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def written(path, data):
    path.write_bytes(data)
    return path


BAD_SOURCES = {
    "missing": (lambda clip: clip.with_name("nowhere.mp4"), "does not exist"),
    "empty": (lambda clip: written(clip.with_name("empty.mp4"), b""), "is empty"),
    "text": (lambda clip: written(clip.with_name("text.mp4"), b"dear diary" * 99), "cannot be"),
    "truncated": (
        lambda clip: written(clip.with_name("cut.mp4"), clip.read_bytes()[:900]),
        "cannot be|can be decoded",
    ),
    "audio only": (lambda clip: audio_only(clip.with_name("song.m4a")), "has no video stream"),
    "no frames": (
        lambda clip: make_clip(clip.with_name("none.mkv"), Recipe(frames=0)),
        "no frame|no video stream|can be decoded|cannot be",
    ),
}


@pytest.mark.parametrize("case", BAD_SOURCES)
def test_a_source_that_cannot_be_read_is_one_line_and_exit_code_1(case, clip, tmp_path):
    make, reason = BAD_SOURCES[case]
    source = make(clip)
    before = contents(tmp_path)
    result = call("video", source, tmp_path / "out.mp4")

    assert_one_line(result, 1, reason)
    assert contents(tmp_path) == before


def contents(folder):
    return {path: path.read_bytes() if path.is_file() else b"" for path in folder.iterdir()}


def assert_one_line(result, code, reason):
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("midflow: ")
    assert any(words in lines[0] for words in reason.split("|")), lines[0]


def test_a_damaged_middle_is_passed_over_with_a_warning(tmp_path):
    source = make_clip(tmp_path / "in.mp4", Recipe(frames=40, size=(96, 64)))
    data = bytearray(source.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 600] = bytes(600)
    source.write_bytes(data)
    result = call("video", source, tmp_path / "out.mp4", "--json")

    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert said["damaged"] > 0
    assert len(decoded(tmp_path / "out.mp4")) == said["frames_out"] > 40


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX systems")
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may do all")
def test_a_folder_that_may_not_be_written_to_is_one_line(clip, tmp_path):
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    assert_one_line(call("video", clip, folder / "out.mp4"), 1, "cannot be written to")


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs a folder nobody can write to")
def test_a_target_where_nobody_can_write_is_one_line(clip):
    assert_one_line(call("video", clip, "/proc/self/out.mp4"), 1, "cannot be written|does not")


@pytest.mark.parametrize(
    ("target", "code", "reason"),
    [
        ("in.mp4", 1, "is the input itself"),
        ("precious.mp4", 1, "exists already"),
        ("nowhere/out.mp4", 1, "does not exist"),
        ("out.txt", 2, "must end in"),
    ],
)
def test_a_target_that_cannot_be_written_is_one_line(clip, tmp_path, target, code, reason):
    (tmp_path / "precious.mp4").write_bytes(b"precious")
    before = contents(tmp_path)

    assert_one_line(call("video", clip, tmp_path / target), code, reason)
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--factor", "2", "--fps", "60"], "either fps or factor, not both"),
        (["--factor", "half"], "factor must be a number such as"),
        (["--factor", "0.5"], "factor must be at least 1"),
        (["--fps", "-5"], "fps must be above 0"),
        (["--device", "abacus"], "device must be"),
        (["--precision", "float8"], "precision must be one of auto, float32"),
        (["--flow-scale", "3"], "flow_scale must be one of"),
        (["--ensemble"], "has no ensemble"),
        (["--codec", "h26"], "there is no video encoder"),
        (["--crf", "99"], "crf must lie in"),
        (["--preset", "warp"], "preset for h264 must be one of"),
        (["--pix-fmt", "yuv"], "pixel format"),
        (["--encoder-options", "tune"], "must be name=value:name=value"),
        (["--start", "soon"], "start must be seconds or hh:mm:ss.fff, got 'soon'"),
        (["--start", "99"], "start must lie within the clip"),
        (["--duration", "0"], "duration must be positive"),
        (["--scene-threshold", "2"], "scene_threshold must be between 0 and 1"),
        (["--scene-fill", "wipe"], "scene_fill must be one of hold, nearest, blend"),
    ],
    ids=" ".join,
)
def test_a_wrong_option_is_one_line_and_exit_code_2(clip, tmp_path, options, reason):
    assert_one_line(call("video", clip, tmp_path / "out.mp4", *options), 2, reason)
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


def test_what_typer_refuses_has_exit_code_2(clip):
    assert call("video").exit_code == 2
    assert call("video", clip, "--crf", "low").exit_code == 2
    assert call("video", clip, "--slowly").exit_code == 2
    assert call("vidoe").exit_code == 2


def test_other_exceptions_are_not_swallowed(clip, monkeypatch):
    def bug(*args, **kwargs):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(pipeline, "interpolate_video", bug)
    assert isinstance(call("video", clip).exception, ZeroDivisionError)


def test_an_interrupt_has_exit_code_130(clip, tmp_path, monkeypatch):
    monkeypatch.setattr(CrossFade, "forward", interrupt)
    result = call("video", clip, tmp_path / "out.mp4")

    assert result.exit_code == 130
    assert "midflow: interrupted" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


def interrupt(*args, **kwargs):
    raise KeyboardInterrupt


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
def test_ctrl_c_ends_at_once_and_the_same_command_goes_on(tmp_path):
    clip = make_clip(tmp_path / "in.mp4", Recipe(frames=500, size=(128, 96)))
    # a shell that runs the tests in the background has its children ignore the signal
    heard = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    process = run_apart("video", clip, tmp_path / "out.mp4", "--factor", "8", **heard)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".out.mp4.midflow/*.packets.*partial")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)

    assert process.returncode == 130, errors
    assert errors.strip().splitlines()[-1].startswith("midflow: interrupted: ")
    assert "the same command" in errors.strip().splitlines()[-1]
    assert "Traceback" not in errors
    assert not (tmp_path / "out.mp4").exists()


@pytest.mark.slow
def test_the_program_itself_runs_with_the_bundled_model(clip, tmp_path):
    process = run_apart("video", clip, tmp_path / "out.mp4", "--fps", "60", "--json")
    said, errors = process.communicate(timeout=120)

    assert process.returncode == 0, errors
    assert json.loads(said)["model"] == "midflow-2"
    assert len(decoded(tmp_path / "out.mp4")) == 12
    sound = [data for _, data in packets(clip, 1)]
    assert [data for _, data in packets(tmp_path / "out.mp4", 1)] == sound


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    """Two pictures a.png and b.png; the network fades."""
    monkeypatch.setattr(midflow, "load_model", lambda source=None: CrossFade(), raising=False)
    for name, value in (("a", 0.2), ("b", 0.6)):
        write_image(tmp_path / f"{name}.png", torch.full((1, 3, 24, 32), value))
    return tmp_path


def shade(path):
    from midflow.video.image import read_image

    return float(read_image(path)[0].mean())


def test_images_paints_between_two(pictures):
    a, b = pictures / "a.png", pictures / "b.png"
    result = call("images", a, b, pictures / "out.png", "-t", "0.25")
    assert result.exit_code == 0, result.output
    assert shade(pictures / "out.png") == pytest.approx(0.3, abs=0.003)
    assert result.stdout == f"{pictures / 'out.png'}\n"

    result = call("images", a, b, pictures / "many.png", "-n", "3")
    assert result.stdout.startswith("3 pictures: ")
    shades = [shade(pictures / f"many_{k}.png") for k in (1, 2, 3)]
    assert shades == pytest.approx([0.3, 0.4, 0.5], abs=0.003)


def test_images_raises_the_rate_of_a_folder(pictures):
    result = call("images", pictures, pictures / "out", "--factor", "4", "--quiet")
    assert (result.exit_code, result.output) == (0, "")
    shades = [shade(path) for path in sorted((pictures / "out").iterdir())]
    assert shades == pytest.approx([0.2, 0.3, 0.4, 0.5, 0.6], abs=0.003)


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (["a.png", "b.png", "out.png", "--factor", "2"], 2, "--factor is for a folder"),
        ([".", "out", "-n", "2"], 2, "-t and -n are for two pictures"),
        (["a.png", "b.png", "out.png", "-n", "2", "-t", "0.5"], 2, "exclude each other"),
        (["a.png"], 2, "takes A B OUT or DIR OUT_DIR, got 1"),
        (["a.png", "b.png", "out.png", "-t", "2"], 2, "between 0 and 1"),
        (["a.png", "c.png", "out.png"], 1, "does not exist"),
        (["a.png", "b.png", "a.png"], 1, "is an input itself"),
    ],
)
def test_wrong_arguments_of_images_are_one_line(pictures, monkeypatch, arguments, code, reason):
    monkeypatch.chdir(pictures)
    result = call("images", *arguments, "--quiet")
    assert_one_line(result, code, reason)
    assert sorted(path.name for path in pictures.iterdir()) == ["a.png", "b.png"]


def test_flow_is_drawn(pictures):
    result = call("flow", pictures / "a.png", pictures / "b.png", pictures / "flow.png")
    assert result.exit_code == 0, result.output
    assert shade(pictures / "flow.png") == pytest.approx(1)  # no motion is white
    assert "the longest motion, 0.0 pixels" in result.stdout


def test_models_are_listed():
    listed = call("models", "list")
    assert listed.exit_code == 0
    line = next(text for text in listed.stdout.splitlines() if text.startswith("midflow-2"))
    assert "bundled" in line


def test_a_model_is_described():
    said = json.loads(call("models", "info", "v4.25", "--json").stdout)
    assert (said["name"], said["pad_multiple"]) == ("4.25", 64)
    assert "pad_multiple  64" in call("models", "info", "4.25").stdout
    assert_one_line(call("models", "info", "5.0"), 1, "no model is called '5.0'")


def test_models_are_verified(monkeypatch, tmp_path):
    monkeypatch.setenv("MIDFLOW_HOME", str(tmp_path))
    result = call("models", "verify")
    assert result.exit_code == 0
    assert result.stdout.startswith("midflow-2: good, ")
    assert_one_line(call("models", "verify", "4.25"), 1, "are not on this machine")


def test_models_are_pulled_with_progress(monkeypatch, tmp_path):
    from midflow import download

    def pull(name, on_progress):
        on_progress(download.Progress(name, "https://example.org/a.pkl", 5_000_000, None))
        if name == "broken":
            raise CheckpointError("no mirror had the weights")
        return tmp_path / f"{name}.pkl"

    monkeypatch.setattr(download, "pull", pull)
    result = call("models", "pull", "4.25", "4.26")
    assert result.stdout.split() == [str(tmp_path / "4.25.pkl"), str(tmp_path / "4.26.pkl")]
    assert_one_line(call("models", "pull", "broken"), 1, "no mirror had the weights")


def test_doctor_reports():
    result = call("doctor")
    assert result.exit_code == 0
    assert "chosen: " in result.stdout
    assert json.loads(call("doctor", "--json").stdout)["is_healthy"] is True


def test_help_answers_at_once_and_without_torch():
    code = (
        "import sys; from midflow import cli\n"
        "try: cli.app(['--help'])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "assert 'torch' not in sys.modules and 'av' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_what_torch_makes_while_it_is_imported_is_not_taken_for_garbage():
    """In a process of its own, as it is done once; collecting goes on afterwards."""
    code = (
        "import gc; from midflow import cli\n"
        "try: cli.app(['flow', 'a.png', 'b.png', 'c.png'])\n"
        "except SystemExit as end: assert end.code == 1\n"
        "assert gc.isenabled() and gc.get_freeze_count() > 100_000, gc.get_freeze_count()"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_version_is_that_of_the_package():
    assert call("--version").stdout == f"midflow {midflow.__version__}\n"
    assert call().exit_code == 2


@pytest.mark.parametrize("name", cli.WAITING)
def test_idle_threads_soon_sleep_unless_the_user_says_otherwise(monkeypatch, name: str) -> None:
    monkeypatch.setattr(cli, "app", lambda **_: None)
    for given, expected in ((None, cli.WAITING[name]), ("7", "7")):
        monkeypatch.setenv(name, given or "")
        if given is None:
            monkeypatch.delenv(name)
        cli.main()
        assert os.environ[name] == expected


def test_slow_motion_is_a_speed(tmp_path):
    given = dict.fromkeys(signature(cli.video).parameters)
    assert video_options({**given, "slowmo": "4"}).speed == Fraction(1, 4)
    assert video_options({**given, "speed": "2.5"}).speed == Fraction(5, 2)
    with pytest.raises(OptionError, match="exclude each other"):
        video_options({**given, "slowmo": "4", "speed": "2"})
