"""Decoding on video hardware: what happens without it, and with frames as it gives them."""

import logging
from functools import partial
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from av.codec.hwaccel import HWAccel, hwdevices_available
from av.filter import Graph

from midflow.errors import OptionError, VideoError
from midflow.options import VideoOptions
from midflow.pipeline import interpolate_video
from midflow.video import hwaccel
from midflow.video.frame import Frame
from midflow.video.reader import VideoReader
from tests.crossfade import CrossFade
from tests.video.clips import Recipe, make_clip
from tests.video.test_deinterlace import interlaced_clip


def frames_of(path: Path, **options: str) -> list[Frame]:
    with VideoReader(path, **options) as reader:
        return list(reader)


def require_equal(found: list[Frame], expected: list[Frame]) -> None:
    assert [(frame.pts, frame.duration) for frame in found] == [
        (frame.pts, frame.duration) for frame in expected
    ]
    for ours, theirs in zip(found, expected, strict=True):
        for plane, other in zip(ours.data, theirs.data, strict=True):
            np.testing.assert_array_equal(plane, other)


@pytest.fixture
def semi_planar(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames in NV12 and P010, which is how they come back from a device."""
    decode = VideoReader._decode

    def decoded(reader):
        graph = None
        for picture in decode(reader):
            graph = graph or _converting(picture)
            graph.push(picture)
            yield graph.pull()

    monkeypatch.setattr(VideoReader, "_decode", decoded)


def _converting(picture: av.VideoFrame) -> Graph:
    name = {"yuv420p": "nv12", "yuv420p10le": "p010le"}[picture.format.name]
    graph = Graph()
    tags = f"colorspace={int(picture.colorspace)}:range={int(picture.color_range)}"
    size = f"{picture.width}x{picture.height}"
    form = f"video_size={size}:pix_fmt={picture.format.name}:time_base={picture.time_base}"
    source = graph.add("buffer", f"{form}:{tags}")
    made, sink = graph.add("format", name), graph.add("buffersink")
    source.link_to(made)
    made.link_to(sink)
    graph.configure()
    return graph


def test_where_the_device_is_missing_the_processor_decodes(tmp_path, monkeypatch, caplog):
    """There is no 99th GPU, whether there is a first or not."""
    monkeypatch.setattr(hwaccel, "HWAccel", partial(HWAccel, device="99"))
    clip = make_clip(tmp_path / "in.mp4")
    with caplog.at_level(logging.WARNING):
        found = frames_of(clip, hwaccel="cuda")
    require_equal(found, frames_of(clip))
    assert "no decoding by cuda (" in caplog.text
    assert "the processor does it" in caplog.text


def test_a_device_that_does_not_decode_the_codec_is_told(tmp_path, caplog):
    if "drm" not in hwdevices_available():
        pytest.skip("this FFmpeg has no such device")
    clip = make_clip(tmp_path / "in.mkv", Recipe(codec="ffv1", options={}))
    with caplog.at_level(logging.WARNING):
        found = frames_of(clip, hwaccel="drm")
    require_equal(found, frames_of(clip))
    assert "no decoding by drm (FFmpeg has no such decoder for it)" in caplog.text


def test_what_is_no_video_is_an_error_of_the_file(tmp_path, caplog):
    (tmp_path / "in.mp4").write_bytes(b"nothing" * 100)
    with pytest.raises(VideoError, match="cannot be opened as a video"):
        frames_of(tmp_path / "in.mp4", hwaccel="cuda")
    assert not caplog.text


def test_a_kind_that_ffmpeg_lacks_is_refused_with_those_it_has():
    with pytest.raises(OptionError, match=r"hwaccel must be one of off, .* here, got 'nvdec'"):
        VideoOptions(hwaccel="nvdec")


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv420p10le"])
@pytest.mark.parametrize("size", [(64, 48), (62, 46)])
def test_frames_of_a_device_are_those_of_the_processor(tmp_path, request, pixel_format, size):
    recipe = Recipe(pixel_format=pixel_format, size=size, color=(9, 1, 9, 16))
    clip = make_clip(tmp_path / "in.mp4", recipe)
    with VideoReader(clip) as reader:
        expected, info = list(reader), reader.info
    request.getfixturevalue("semi_planar")
    with VideoReader(clip) as reader:
        require_equal(list(reader), expected)
        assert reader.info.pixel_format == info.pixel_format
        assert reader.info.color == info.color


def test_interlaced_frames_of_a_device_are_made_whole(tmp_path, request):
    clip = interlaced_clip(tmp_path / "in.mp4")
    expected = frames_of(clip, deinterlace="fields")
    assert len(expected) == 16
    request.getfixturevalue("semi_planar")
    require_equal(frames_of(clip, deinterlace="fields"), expected)


def test_the_output_is_the_same(tmp_path, request):
    clip = make_clip(tmp_path / "in.mp4", Recipe(audio=["eng"]))
    for name in ("cpu", "device"):
        interpolate_video(clip, tmp_path / f"{name}.mp4", model=CrossFade())
        if name == "cpu":
            request.getfixturevalue("semi_planar")
    assert (tmp_path / "cpu.mp4").read_bytes() == (tmp_path / "device.mp4").read_bytes()


@pytest.mark.gpu
@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv420p10le"])
def test_on_a_gpu_nvdec_gives_the_same_frames(tmp_path, pixel_format, caplog):
    if not torch.cuda.is_available():
        pytest.skip("needs an NVIDIA GPU")
    clip = make_clip(
        tmp_path / "in.mp4", Recipe(size=(640, 360), pixel_format=pixel_format, codec="libx265")
    )
    with av.open(str(clip), hwaccel=HWAccel("cuda", allow_software_fallback=False)) as container:
        assert next(container.decode(video=0)).format.name in ("nv12", "p010le")
    require_equal(frames_of(clip, hwaccel="cuda"), frames_of(clip))
    assert "the processor does it" not in caplog.text
