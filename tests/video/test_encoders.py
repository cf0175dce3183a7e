"""Names, presets and pixel formats: what is chosen, and what is refused with the choices."""

import pytest

from midflow.errors import OptionError
from midflow.video.encoders import WriterOptions, plan_encoder
from midflow.video.frame import ColorSpec


def plan(pixel_format="yuv420p", size=(64, 64), container="mp4", hdr=None, **options):
    return plan_encoder(
        WriterOptions(**options), container, pixel_format, size, ColorSpec(), hdr or {}
    )


def test_the_default_is_h264_at_crf_17():
    chosen = plan()
    assert chosen.encoder == "libx264"
    assert chosen.coded_format == "yuv420p"
    assert (chosen.options["crf"], chosen.options["preset"]) == ("17", "medium")


@pytest.mark.parametrize(
    ("container", "pixel_format", "encoder"),
    [
        ("mp4", "yuv420p10le", "libx265"),
        ("webm", "yuv420p", "libvpx-vp9"),
        ("webm", "yuv420p10le", "libsvtav1"),
    ],
)
def test_the_default_suits_depth_and_container(container, pixel_format, encoder):
    assert plan(pixel_format, container=container).encoder == encoder


@pytest.mark.parametrize(
    ("codec", "source", "coded", "planar"),
    [
        ("h264", "yuv422p", "yuv422p", "yuv422p"),
        ("h264", "gbrp", "yuv420p", "yuv420p"),
        ("h264", "gray", "yuv420p", "yuv420p"),
        ("ffv1", "gbrp", "bgr0", "gbrp"),
        ("ffv1", "gray16le", "gray16le", "gray16le"),
        ("prores", "yuv420p", "yuv422p10le", "yuv422p10le"),
        ("prores", "yuv444p10le", "yuv444p10le", "yuv444p10le"),
        ("av1", "yuv444p", "yuv420p", "yuv420p"),
        ("h264", "yuv444p12le", "yuv444p10le", "yuv444p10le"),
        ("vp9", "yuv440p", "yuv440p", "yuv440p"),
        ("h264", "yuv411p", "yuv422p", "yuv422p"),
    ],
)
def test_the_pixel_format_loses_as_little_as_the_encoder_allows(codec, source, coded, planar):
    chosen = plan(source, codec=codec)
    assert (chosen.coded_format, chosen.planar_format) == (coded, planar)


def test_fewer_bits_are_reported(caplog):
    plan("yuv420p10le", codec="vp9", container="webm")
    assert "8 bits: yuv420p10le becomes yuv420p" in caplog.text


def test_friendly_names_and_encoders_are_the_same_thing():
    assert plan(codec="h265") == plan(codec="hevc") == plan(codec="libx265")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"codec": "h266x"}, "no video encoder 'h266x': choose h264, hevc, av1, vp9, prores, ffv1"),
        ({"codec": "aac"}, "a video codec is needed, got 'aac', which is audio"),
        ({"preset": "quick"}, "must be one of ultrafast, superfast,.* got 'quick'"),
        ({"codec": "av1", "preset": "slow"}, "must be one of 0, 1, 2"),
        ({"codec": "ffv1", "preset": "slow"}, "ffv1 has no presets"),
        ({"crf": 52}, r"crf must lie in 0\.\.51 for h264, got 52"),
        ({"crf": -1}, "crf must lie in"),
        ({"codec": "ffv1", "crf": 10}, "ffv1 has no constant quality"),
        ({"pix_fmt": "rgb24"}, "libx264 takes the pixel formats yuv420p, .*got 'rgb24'"),
        ({"pix_fmt": "yuv42"}, "no pixel format 'yuv42': libx264 takes yuv420p"),
        ({"encoder_options": {"tun": "film"}}, "no encoder option for libx264 'tun': .*tune"),
    ],
)
def test_what_does_not_exist_is_refused_with_the_choices(options, message):
    with pytest.raises(OptionError, match=message):
        plan(**options)


def test_an_odd_size_in_an_even_format_is_refused_when_asked_for():
    with pytest.raises(OptionError, match="only in even sizes, got 427x239: choose yuv444p"):
        plan(size=(427, 239), pix_fmt="yuv420p")


def test_options_reach_the_encoder():
    chosen = plan(crf=0, preset="slow", encoder_options={"tune": "grain", "g": "12"})
    wanted = {"crf": "0", "preset": "slow", "tune": "grain", "g": "12"}
    assert wanted.items() <= chosen.options.items()


def test_quality_of_an_encoder_without_crf_goes_to_its_own_option():
    assert plan(codec="h264_nvenc", crf=20).options["cq"] == "20"


def test_own_x265_parameters_join_those_for_hdr():
    chosen = plan(
        codec="hevc", hdr={"max-cll": "1000,400"}, encoder_options={"x265-params": "aq-mode=3"}
    )
    assert chosen.options["x265-params"] == "log-level=error:max-cll=1000,400:aq-mode=3"
