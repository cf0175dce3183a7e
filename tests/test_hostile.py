"""Named dangers: what must not be read, written over or believed."""

import os
import shutil
import stat
import struct
import subprocess
import sys
import zipfile
from fractions import Fraction
from pathlib import Path

import av
import pytest
import torch
from typer.testing import CliRunner

import midflow
from midflow import cli, pipeline
from midflow.errors import CheckpointError, OptionError, VideoError
from midflow.nets.statefile import read_weights
from midflow.options import VideoOptions
from midflow.pipeline import interpolate_video
from midflow.schedule import output_rate
from midflow.video.demux import demux
from midflow.video.encoders import plan_encoder
from midflow.video.frame import ColorSpec
from midflow.video.image import write_image
from midflow.video.reader import VideoReader
from tests.crossfade import CrossFade, write_clock
from tests.video.clips import Recipe, decoded, make_clip

posix = pytest.mark.skipif(os.name != "posix", reason="files of POSIX systems")
FAST = VideoOptions(preset="ultrafast", device="cpu")
QUICK = ("--preset", "ultrafast", "--device", "cpu", "--quiet")


@pytest.fixture(autouse=True)
def quick_model(monkeypatch):
    fade = CrossFade()
    monkeypatch.setattr(pipeline, "load_model", lambda source: fade)
    monkeypatch.setattr(midflow, "load_model", lambda source=None: fade, raising=False)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return make_clip(tmp_path_factory.mktemp("whole") / "in.mp4", Recipe(frames=3))


@pytest.fixture
def here(tmp_path, monkeypatch, whole):
    """A folder with a clip in.mp4 and pictures a.png, b.png, which is the working one."""
    shutil.copy(whole, tmp_path / "in.mp4")
    for name, level in (("a.png", 0.2), ("b.png", 0.6)):
        write_image(tmp_path / name, torch.full((1, 3, 24, 32), level))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(*arguments):
    result = CliRunner().invoke(cli.app, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


NAMES = [
    'it\'s "quoted".mp4',
    " sp ace .mp4",
    "new\nline.mp4",
    "-dash.mp4",
    "--overwrite.mp4",
    "100%d.mp4",
    "concat:in.mp4",
    "http:in.mp4",
    "$(id);*?[x].mp4",
    "back\\slash.mp4",
    "\N{SNOWMAN}\u202e.mp4",
    "\x1b[31mred.mp4",
    "n" * 230 + ".mp4",
]


@posix
@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_name_is_only_a_name(here, name):
    (here / "in.mp4").rename(here / name)
    (here / "out").mkdir()
    code, said = call("video", "--fps", 50, *QUICK, "--", name, f"out/{name}")
    assert code == 0, said
    assert os.listdir("out") == [name]
    assert len(decoded(here / "out" / name)) == 6


@pytest.mark.skipif(sys.platform != "linux", reason="other systems take text alone")
def test_a_name_that_is_no_text_is_only_a_name(here):
    name = os.fsdecode(b"\xff\xfe\x80.mp4")
    shutil.copy("in.mp4", name)
    assert call("video", name, *QUICK)[0] == 0
    assert b"\xff\xfe\x80.50fps.mp4" in os.listdir(b".")
    code, said = call("video", name, name, *QUICK, "--overwrite")
    assert code == 1
    assert "is the input itself" in said


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="other systems take text alone")
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_a_name_that_cannot_be_printed_is_printed_as_it_can_be(here, encoding):
    shutil.copy("in.mp4", name := b"\xff\xc3\xa9.mp4")
    code = (
        "from midflow import cli, pipeline; from tests.crossfade import CrossFade;"
        "pipeline.load_model = lambda source: CrossFade(); cli.main()"
    )
    command = [sys.executable, "-c", code, "video", name, "--preset", "ultrafast"]
    root = str(Path(__file__).parent.parent)
    settings = {"PYTHONIOENCODING": f"{encoding}:strict", "PYTHONUTF8": "1", "PYTHONPATH": root}
    done = subprocess.run(command, env={**os.environ, **settings}, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(b"\\udcff")
    assert b".50fps.mp4: 6 frames from 3" in done.stdout


@pytest.mark.parametrize(
    "text",
    [
        "ffconcat version 1.0\nfile in.mp4\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nin.mp4\n#EXT-X-ENDLIST\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:9/x.ts\n#EXT-X-ENDLIST\n",
    ],
    ids=["concat", "hls", "network"],
)
def test_a_list_of_other_files_is_no_clip(here, text):
    for name in ("list.mp4", "list.m3u8"):
        Path(name).write_text(text)
        code, said = call("video", name, "out.mp4", *QUICK)
        assert code == 1
        assert "is a list of other files" in said or "cannot be opened as a video" in said
        assert not Path("out.mp4").exists()


@posix
def test_a_default_name_that_gets_too_long_is_told(here):
    name = "n" * 251 + ".mp4"
    shutil.copy("in.mp4", name)
    code, said = call("video", name, *QUICK)
    assert (code, "File name too long" in said) == (1, True)
    code, said = call("video", "in.mp4", "n" * 300 + ".mp4", *QUICK)
    assert (code, "File name too long" in said) == (1, True)


@pytest.fixture
def odd_inputs(here):
    os.mkfifo("pipe")
    os.symlink("nowhere", "broken")
    os.symlink("circle", "circle")
    os.mkdir("folder")
    Path("empty").touch()
    return here


ODD = {
    "pipe": "pipe or a device",
    "/dev/zero": "pipe or a device",
    "/dev/null": "pipe or a device",
    "broken": "does not exist",
    "circle": "Too many levels of symbolic links",
    "folder": "is a folder",
    "empty": "is empty",
}


@posix
@pytest.mark.parametrize("name", ODD)
def test_what_is_no_file_is_not_read(odd_inputs, name):
    for command in (
        *([("video", name, "out.mp4", *QUICK)] if name != "folder" else []),
        ("images", "a.png", name, "out.png", "--quiet"),
        ("flow", name, "b.png", "out.png"),
    ):
        code, said = call(*command)
        assert (code, ODD[name] in said) == (1, True), said
    assert not [n for n in os.listdir() if "out" in n]


@posix
@pytest.mark.parametrize("name", ["pipe", "/dev/zero", "broken", "circle", "folder", "empty"])
def test_what_is_no_file_is_not_taken_for_weights(odd_inputs, name):
    reasons = "pipe or a device|no file or folder|cannot read|must hold one file|is empty"
    with pytest.raises(CheckpointError, match=reasons):
        read_weights(Path(name))


@posix
def test_a_link_to_a_clip_is_read_and_its_target_never_written(here):
    os.symlink("in.mp4", "link.mp4")
    before = Path("in.mp4").read_bytes()
    assert call("video", "link.mp4", "out.mp4", *QUICK)[0] == 0
    for source, target in (("link.mp4", "in.mp4"), ("in.mp4", "link.mp4")):
        code, said = call("video", source, target, *QUICK, "--overwrite")
        assert (code, "is the input itself" in said) == (1, True)
    assert Path("in.mp4").read_bytes() == before
    assert Path("link.mp4").is_symlink()


@posix
def test_an_output_through_a_link_goes_where_the_link_leads(here):
    os.mkdir("deep")
    os.symlink("deep/out.mp4", "link.mp4")
    assert call("video", "in.mp4", "link.mp4", *QUICK)[0] == 0
    assert Path("link.mp4").is_symlink()
    assert os.listdir("deep") == ["out.mp4"]


@posix
@pytest.mark.parametrize("options", [(), ("--overwrite",)], ids=["", "overwrite"])
def test_pipes_and_devices_are_not_replaced_by_an_output(here, options):
    os.mkfifo("pipe.mp4")
    os.mkfifo("pipe.png")
    os.symlink("/dev/full", "full.mp4")
    os.symlink("circle.mp4", "circle.mp4")
    for name in ("pipe.mp4", "full.mp4", "circle.mp4"):
        code, said = call("video", "in.mp4", name, *QUICK, *options)
        assert (code, f"{name} is a " in said) == (1, True), said
    code, said = call("images", "a.png", "b.png", "pipe.png", *options)
    assert code == 1, said
    assert stat.S_ISFIFO(os.stat("pipe.mp4").st_mode) and stat.S_ISFIFO(os.stat("pipe.png").st_mode)
    assert stat.S_ISCHR(os.stat("/dev/full").st_mode)
    assert not [name for name in os.listdir() if "partial" in name]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_a_disk_that_is_full_is_told_and_nothing_looks_finished(here, monkeypatch):
    """The unfinished file leads to a device that is always full."""
    from midflow.video import output

    def to_full(self, *args):
        begin(self, *args)
        self.path.unlink()
        os.symlink("/dev/full", self.path)

    begin = output.PartialFile.__init__
    monkeypatch.setattr(output.PartialFile, "__init__", to_full)
    before = sorted(os.listdir())
    for command in (("video", "in.mp4", "out.mkv", *QUICK), ("images", "a.png", "b.png", "o.png")):
        code, said = call(*command)
        assert (code, "No space left on device" in said) == (1, True), said
        kept = {".out.mkv.midflow"}  # the finished segments, for the next try
        assert sorted(set(os.listdir()) - kept) == before


def still(path, **settings):
    return make_clip(path, Recipe(frames=1, **settings))


def test_a_clip_that_claims_a_billion_frames_a_second_gets_a_usual_rate(tmp_path):
    clip = make_clip(tmp_path / "in.y4m", Recipe(codec="rawvideo", frames=1)).read_bytes()
    assert clip.count(b" F25:1 ") == 1
    (tmp_path / "in.y4m").write_bytes(clip.replace(b" F25:1 ", b" F1000000000:1 "))
    result = interpolate_video(tmp_path / "in.y4m", tmp_path / "out.mp4", options=FAST)
    assert result.job.frame_rate == 50
    assert result.frames_out <= 2


def with_first_gap(clip, ticks):
    """An MP4 whose first frame lasts so many ticks by its table of times (stts)."""
    at = clip.index(b"stts") + 12  # version, number of entries
    count, _ = struct.unpack_from(">II", clip, at)
    assert count == 1
    return clip[: at + 4] + struct.pack(">I", ticks) + clip[at + 8 :]


def test_a_frame_that_claims_to_last_for_years_is_not_held_so_long(tmp_path, caplog):
    clip = still(tmp_path / "in.mp4").read_bytes()
    (tmp_path / "in.mp4").write_bytes(with_first_gap(clip, 2**31 - 1))
    result = interpolate_video(tmp_path / "in.mp4", tmp_path / "out.mp4", fps=60, options=FAST)
    assert result.frames_out < 100
    assert "its last frame claims to last" in caplog.text


def test_a_huge_gap_is_an_error_until_it_is_allowed(tmp_path):
    source = write_clock(tmp_path / "in.mkv", [Fraction(t) for t in (0, 1, 2)])
    late = make_clip(tmp_path / "late.mkv", Recipe(times=[Fraction(t) for t in (0, 1, 40_000_000)]))
    assert interpolate_video(source, tmp_path / "a.mp4", fps=1, options=FAST).frames_out > 2
    with pytest.raises(VideoError, match=r"shows nothing between 1\.000 s and 40000000\.000 s"):
        interpolate_video(late, tmp_path / "out.mp4", fps=60, options=FAST)
    assert not [path for path in tmp_path.iterdir() if "out" in path.name]

    short = make_clip(tmp_path / "short.mkv", Recipe(times=[Fraction(t) for t in (0, 1, 900)]))
    code, said = call("video", short, tmp_path / "out.mp4", "--fps", "0.1", *QUICK)
    assert (code, "allow more (max_gap)" in said) == (1, True)
    allowed = ("--fps", "0.1", "--max-gap", "0:20:00", *QUICK)
    assert call("video", short, tmp_path / "out.mp4", *allowed)[0] == 0
    assert len(decoded(tmp_path / "out.mp4")) > 80


def test_max_gap_is_checked():
    with pytest.raises(OptionError, match="max_gap must be above 0 seconds, got 0"):
        VideoOptions(max_gap=0)


@pytest.mark.parametrize("fps", ["1e999999999", "1e-999999999", "0.0000001", "1" * 5000, "1/0"])
def test_an_absurd_rate_is_refused_at_once(fps):
    with pytest.raises(OptionError, match=r"fps must be a number|the output rate must be"):
        output_rate(Fraction(25), fps=fps)


def test_pictures_too_narrow_for_x265_do_not_reach_it():
    """With rows of 48 pixels or fewer it writes beyond its memory and takes the process along."""
    colour = ColorSpec()
    narrow = VideoOptions(codec="hevc")
    with pytest.raises(OptionError, match="libx265 needs pictures at least 64 pixels wide, got 48"):
        plan_encoder(narrow, "mp4", "yuv420p", (48, 32), colour, {})
    chosen = [
        plan_encoder(VideoOptions(), "mp4", "yuv420p10le", (width, 32), colour, {}).encoder
        for width in (62, 64)
    ]
    assert chosen == ["libx264", "libx265"]


def test_a_stream_that_begins_late_does_not_end_the_reading(caplog):
    class Late:
        def __init__(self):
            self.packets = iter(["one", IndexError("a stream that was not there"), "two"])

        def demux(self, streams):
            for packet in self.packets:
                if isinstance(packet, IndexError):
                    raise packet
                yield packet

    assert list(demux(Late(), [])) == ["one", "two"]
    assert caplog.text == ""
    assert list(demux(Late(), [], Path("a.flv"))) == ["one", "two"]
    assert "a.flv has a stream that begins late: it is left out" in caplog.text


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts Linux's open files")
def test_a_file_that_is_refused_is_closed(here):
    with av.open("sound.mka", "w") as output:
        stream = output.add_stream("flac", rate=48000)
        sound = av.AudioFrame(format="s16", layout="mono", samples=1024)
        sound.sample_rate = 48000
        output.mux(stream.encode(sound))
        output.mux(stream.encode(None))
    before = len(os.listdir("/proc/self/fd"))
    errors = []
    for _ in range(3):
        with pytest.raises(VideoError, match="has no video stream") as caught:
            VideoReader("sound.mka")
        errors.append(caught)  # with it, all that the reader had
    assert len(os.listdir("/proc/self/fd")) == before


def entry(name, mode):
    made = zipfile.ZipInfo(name)
    made.create_system, made.external_attr = 3, mode << 16
    return made


def test_links_and_climbing_names_in_an_archive_lead_nowhere(tmp_path):
    (tmp_path / "secret.pkl").write_bytes(b"secret")
    path = tmp_path / "net.zip"
    for name, content in (
        ("flownet.pkl", "secret.pkl"),
        ("train_log/flownet.pkl", "../secret.pkl"),
        ("flownet.pkl", str(tmp_path / "secret.pkl")),
    ):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(entry(name, stat.S_IFLNK | 0o777), content)
        with pytest.raises(CheckpointError, match="got a file that begins with"):
            read_weights(path)
    for name in ("../secret.pkl", str(tmp_path / "secret.pkl"), "a/../../secret.pkl"):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(name, "x")
        with pytest.raises(CheckpointError, match=r"must hold one file of weights.* got none"):
            read_weights(path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["net.zip", "secret.pkl"]


def test_an_archive_that_unpacks_to_a_thousandfold_is_refused_unread(tmp_path):
    path = tmp_path / "net.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("flownet.pkl", "w") as member:
            for _ in range(80):
                member.write(bytes(1 << 20))
    assert path.stat().st_size < 200_000
    with pytest.raises(CheckpointError, match=r"unpacks from \d+ to 83886080 bytes: refused"):
        read_weights(path)
