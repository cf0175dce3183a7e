from fractions import Fraction

import numpy as np
import pytest

from midflow.cut_list import Cuts, read_cuts, write_cuts
from midflow.errors import OptionError, VideoError
from midflow.options import VideoOptions
from midflow.pipeline import interpolate_video
from midflow.video.reader import VideoReader
from tests.crossfade import CrossFade, luma, write_clip
from tests.video.clips import decoded


@pytest.fixture
def bright_then_dark(tmp_path):
    """Eight frames at 10 frames/s; a hard step of brightness before the fifth, no structure."""
    images = [np.full((48, 64), 200 if k < 4 else 60) for k in range(8)]
    return write_clip(tmp_path / "in.mp4", images, [Fraction(k, 10) for k in range(8)])


def between(source, target, **options):
    """Brightness of the frame between the fourth and the fifth, and the job's cuts."""
    result = interpolate_video(
        source,
        target,
        model=CrossFade(),
        options=VideoOptions(preset="ultrafast", device="cpu", overwrite=True, **options),
    )
    return luma(decoded(target)[7]).mean(), result.cuts


@pytest.mark.parametrize("line", ["4", "0.4", "0.41", "0:00:00.400", "4  # the dark", "\n4\n"])
def test_a_given_cut_is_held(bright_then_dark, tmp_path, line):
    (tmp_path / "cuts.txt").write_text(line)
    shown, cuts = between(bright_then_dark, tmp_path / "out.mp4", cuts=tmp_path / "cuts.txt")
    assert shown == pytest.approx(200, abs=3)
    assert cuts == (Fraction(4, 10),)


def test_an_empty_list_has_no_cuts(bright_then_dark, tmp_path):
    (tmp_path / "cuts.txt").write_text("# none\n")
    shown, cuts = between(bright_then_dark, tmp_path / "out.mp4", cuts=tmp_path / "cuts.txt")
    assert shown == pytest.approx(130, abs=3)
    assert cuts == ()


def test_what_was_found_is_written_and_read_again(bright_then_dark, tmp_path):
    path = tmp_path / "found.txt"
    _, found = between(bright_then_dark, tmp_path / "out.mp4", write_cuts=path, scene_threshold=0.9)
    assert found == (Fraction(4, 10),)
    assert path.read_text().splitlines()[1:] == ["0.400000"]
    _, again = between(bright_then_dark, tmp_path / "out.mp4", cuts=path)
    assert again == found


def test_a_cut_belongs_to_one_pair():
    cuts = Cuts((Fraction("0.401"), Fraction("0.699")))
    pairs = [(Fraction(k, 10), Fraction(k + 1, 10)) for k in range(9)]
    assert [k + 1 for k, pair in enumerate(pairs) if cuts.is_between(*pair)] == [4, 7]


def test_frame_numbers_count_at_the_rate_of_the_clip(bright_then_dark, tmp_path):
    (tmp_path / "cuts.txt").write_text("4\n7\n0:00:01.5\n")
    with VideoReader(bright_then_dark) as reader:
        cuts = read_cuts(tmp_path / "cuts.txt").of(reader.info)
    assert cuts.times == (Fraction(4, 10), Fraction(7, 10), Fraction(3, 2))


def test_lines_that_are_no_cuts_are_named(tmp_path):
    path = tmp_path / "cuts.txt"
    path.write_text("12\nsoon\n")
    with pytest.raises(OptionError, match=r"line 2 of .*cuts\.txt must be seconds or hh:mm:ss"):
        read_cuts(path)
    with pytest.raises(OptionError, match=r"the list of cuts .*missing\.txt cannot be read"):
        read_cuts(tmp_path / "missing.txt")
    with pytest.raises(VideoError, match="cannot be written"):
        write_cuts(tmp_path / "no" / "cuts.txt", [])
