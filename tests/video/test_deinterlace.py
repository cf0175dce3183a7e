"""Interlaced clips: two fields, each with a stripe at its own moment, made whole or refused."""

from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
import pytest

from midflow.errors import VideoError
from midflow.options import VideoOptions
from midflow.pipeline import interpolate_video
from midflow.video.reader import VideoReader, probe
from tests.crossfade import CrossFade
from tests.video.clips import Recipe, decoded, make_clip

RATE = 25


def field_times(count):
    return [Fraction(k, 2 * RATE) for k in range(2 * count)]


def interlaced_clip(path, codec="libx264", count=8, order="tff", first_marked=0):
    """A stripe that stands at column 4 k in field k; the even rows are first in order tff."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream(codec, rate=RATE)
        form = "yuv422p10le" if codec == "prores_ks" else "yuv420p"
        stream.width, stream.height, stream.pix_fmt = 128, 64, form
        params = {"x264-params": "interlaced=1", "crf": "5"} if codec == "libx264" else {}
        stream.codec_context.options = {"flags": "+ildct+ilme", **params}
        for k in range(count):
            image = np.full((64, 128), 30, np.uint8)
            first, second = (0, 1) if order == "tff" else (1, 0)
            image[first::2, 8 * k : 8 * k + 4] = 200
            image[second::2, 8 * k + 4 : 8 * k + 8] = 200
            frame = av.VideoFrame.from_ndarray(image, "gray").reformat(format=form)
            frame.pts, frame.time_base = k, Fraction(1, RATE)
            output.mux(stream.encode(marked(frame, order)))
        output.mux(stream.encode(None))
    return path


def marked(frame, order):
    graph = av.filter.Graph()
    nodes = [
        graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
        ),
        graph.add("setfield", order),
        graph.add("buffersink"),
    ]
    for before, after in pairwise(nodes):
        before.link_to(after)
    graph.configure()
    graph.push(frame)
    return graph.pull()


def stripe(frame):
    """First column of the stripe in the middle rows."""
    image = frame.data[0][24:40].astype(float)
    weight = np.clip(image.mean(axis=0) - image.min() - 10, 0, None)
    return (weight * np.arange(image.shape[1])).sum() / weight.sum() - 1.5


@pytest.mark.parametrize("codec", ["libx264", "mpeg2video", "prores_ks"])
@pytest.mark.parametrize("order", ["tff", "bff"])
def test_each_field_becomes_a_picture_of_its_own_moment(tmp_path, codec, order):
    path = interlaced_clip(tmp_path / "in.mov", codec, order=order)
    with VideoReader(path, deinterlace="fields") as reader:
        frames = list(reader)
        assert reader.info.frame_rate == 2 * RATE
        assert reader.info.frame_count == 16
    assert [f.pts - frames[0].pts for f in frames] == field_times(8)
    assert {f.duration for f in frames} == {Fraction(1, 2 * RATE)}
    for k, frame in list(enumerate(frames))[2:-2]:
        assert stripe(frame) == pytest.approx(4 * k, abs=1.5)


def test_a_picture_for_each_frame_shows_the_first_field(tmp_path):
    path = interlaced_clip(tmp_path / "in.mov")
    with VideoReader(path, deinterlace="frames") as reader:
        frames = list(reader)
        assert reader.info.frame_rate == RATE
    assert [f.pts for f in frames] == field_times(8)[::2]
    assert [stripe(f) for f in frames[1:-1]] == pytest.approx(range(8, 56, 8), abs=1.5)


def test_interlaced_clips_are_refused_and_told_what_to_do(tmp_path):
    path = interlaced_clip(tmp_path / "in.mp4")
    assert probe(path).is_interlaced
    with pytest.raises(VideoError, match=r"is interlaced.*--deinterlace fields.*or off"):
        interpolate_video(path, tmp_path / "out.mp4", model=CrossFade())
    assert [p.name for p in tmp_path.iterdir()] == ["in.mp4"]


def test_off_takes_the_frames_as_they_are(tmp_path, caplog):
    path = interlaced_clip(tmp_path / "in.mp4")
    with VideoReader(path, deinterlace="off") as reader:
        frames = list(reader)
    for frame, plain in zip(frames, decoded(path), strict=True):
        assert np.array_equal(frame.data[0], plain.to_ndarray()[:64])
    assert "is interlaced: its frames are taken as they are" in caplog.text


def test_auto_leaves_progressive_clips_alone_and_makes_fields_of_others(tmp_path):
    plain = make_clip(tmp_path / "plain.mp4", Recipe(frames=4))
    for choice in ("auto", "refuse"):
        with VideoReader(plain, deinterlace=choice) as reader:
            assert len(list(reader)) == 4
    with VideoReader(interlaced_clip(tmp_path / "in.mp4"), deinterlace="auto") as reader:
        assert len(list(reader)) == 16


def test_a_part_of_an_interlaced_clip_can_be_taken(tmp_path):
    path = interlaced_clip(tmp_path / "in.mp4")
    part = (Fraction(2, RATE), Fraction(3, RATE))
    with VideoReader(path, *part, deinterlace="fields") as reader:
        frames = list(reader)
    assert [f.pts for f in frames] == field_times(8)[4:10]
    assert stripe(frames[2]) == pytest.approx(24, abs=1.5)


def test_fields_are_interpolated_to_any_rate(tmp_path):
    path = interlaced_clip(tmp_path / "in.mov")
    options = VideoOptions(deinterlace="fields", device="cpu", preset="ultrafast")
    result = interpolate_video(
        path, tmp_path / "out.mp4", fps=100, model=CrossFade(), options=options
    )
    assert (result.frames_in, result.frames_out) == (16, 32)
    assert not probe(tmp_path / "out.mp4").is_interlaced


@pytest.mark.parametrize("count", [1, 2])
def test_very_short_clips_are_whole_too(tmp_path, count):
    path = interlaced_clip(tmp_path / "in.mov", "mpeg2video", count=count)
    with VideoReader(path, deinterlace="fields") as reader:
        assert [f.pts for f in reader] == field_times(count)
