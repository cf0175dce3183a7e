import json

import pytest
from typer.testing import CliRunner

from midflow import cli, pipeline
from midflow.batch import Task, plan_tasks
from midflow.errors import OptionError
from tests.crossfade import CrossFade
from tests.video.clips import Recipe, decoded, make_clip


@pytest.fixture(autouse=True)
def quick_model(monkeypatch):
    monkeypatch.setattr(pipeline, "load_model", lambda source: CrossFade())


@pytest.fixture
def clips(tmp_path):
    """A folder with a.mp4, b.mkv and a letter."""
    folder = tmp_path / "clips"
    folder.mkdir()
    make_clip(folder / "a.mp4", Recipe(frames=3))
    make_clip(folder / "b.mkv", Recipe(frames=4))
    (folder / "letter.txt").write_text("no video")
    return folder


def call(*arguments):
    return CliRunner().invoke(cli.app, ["video", *map(str, arguments), "--device", "cpu"])


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_is_made_into_a_folder(clips, tmp_path):
    result = call(clips, "--out-dir", tmp_path / "smooth" / "here")

    assert result.exit_code == 0, result.output
    assert names(tmp_path / "smooth" / "here") == ["a.50fps.mp4", "b.50fps.mkv"]
    assert len(decoded(tmp_path / "smooth" / "here" / "b.50fps.mkv")) == 8
    assert result.stdout.strip() == "2 done"


def test_several_inputs_go_into_the_folder_that_comes_last(clips, tmp_path):
    (tmp_path / "out").mkdir()
    assert call(clips / "a.mp4", clips / "b.mkv", tmp_path / "out").exit_code == 0
    assert names(tmp_path / "out") == ["a.50fps.mp4", "b.50fps.mkv"]


def test_outputs_beside_their_sources_are_not_taken_for_sources(clips):
    assert call(clips).exit_code == 0
    result = call(clips, "--skip-existing")

    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == "2 there already"
    assert names(clips) == ["a.50fps.mp4", "a.mp4", "b.50fps.mkv", "b.mkv", "letter.txt"]


def test_a_failure_does_not_end_the_queue_and_is_told_at_the_end(clips, tmp_path):
    (clips / "a.mp4").write_bytes(b"not a video at all" * 50)
    result = call(clips, clips / "gone.mp4", "--out-dir", tmp_path / "out")

    assert result.exit_code == 1
    assert names(tmp_path / "out") == ["b.50fps.mkv"]
    summary = result.stdout.strip().splitlines()
    assert summary[0] == "1 done, 2 failed"
    assert "a.mp4" in summary[1] and "cannot be opened" in summary[1]
    assert "gone.mp4 does not exist" in summary[2]


def test_a_list_names_inputs_beside_it(clips, tmp_path):
    listed = clips / "todo.txt"
    listed.write_text("# two clips\n\na.mp4\nb.mkv\n")
    result = call("--list", listed, "--out-dir", tmp_path / "out", "--json")

    said = json.loads(result.stdout)
    assert [done["frames_out"] for done in said["done"]] == [6, 8]
    assert (said["skipped"], said["failed"]) == ([], [])


def test_existing_outputs_fail_unless_they_are_skipped(clips, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.50fps.mp4").write_bytes(b"precious")
    assert "1 done, 1 failed" in call(clips, "--out-dir", out).stdout
    assert "2 there already" in call(clips, "--out-dir", out, "--skip-existing").stdout
    assert (out / "a.50fps.mp4").read_bytes() == b"precious"


def test_one_input_may_go_into_a_folder(clips, tmp_path):
    (tmp_path / "out").mkdir()
    result = call(clips / "a.mp4", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "6 frames from 3" in result.stdout
    assert names(tmp_path / "out") == ["a.50fps.mp4"]


def test_what_goes_where_must_be_clear(clips, tmp_path):
    a, b = clips / "a.mp4", clips / "b.mkv"
    assert plan_tasks([a, tmp_path / "out.mp4"]) == Task(a, tmp_path / "out.mp4")
    assert plan_tasks([a]) == Task(a, None)
    with pytest.raises(OptionError, match="several inputs need a folder"):
        plan_tasks([a, b, tmp_path / "out.mp4"])
    with pytest.raises(OptionError, match="several inputs need a folder"):
        plan_tasks([clips, tmp_path / "out.mp4"])
    with pytest.raises(OptionError, match="video needs an input"):
        plan_tasks([])
    with pytest.raises(OptionError, match=r"list .*none\.txt cannot be read"):
        plan_tasks([], None, tmp_path / "none.txt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(OptionError, match="holds no videos"):
        plan_tasks([tmp_path / "empty"])
    with pytest.raises(OptionError, match="would have one output"):
        plan_tasks([a, tmp_path / "a.mp4"], tmp_path)
