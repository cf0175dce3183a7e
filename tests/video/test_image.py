"""Pictures in and out; Pillow is the reference."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from midflow.errors import OptionError, VideoError
from midflow.video.image import natural_sort, read_image, write_image


@pytest.fixture
def smooth():
    y, x = np.mgrid[0:37, 0:41]
    waves = [128 + 90 * np.sin(x / 9), 128 + 90 * np.cos(y / 7), 128 + 90 * np.sin((x + y) / 11)]
    return np.stack(waves, -1).round().astype(np.uint8)


def tensor(array):
    return torch.from_numpy(np.array(array)).permute(2, 0, 1)[None] / 255


def pixels(rgb):
    return (rgb[0].permute(1, 2, 0) * 255).round().byte().numpy()


@pytest.mark.parametrize("suffix", [".png", ".webp", ".PNG"])
def test_lossless_pictures_are_exact(suffix, smooth, tmp_path):
    path = tmp_path / f"a{suffix}"
    write_image(path, tensor(smooth))
    np.testing.assert_array_equal(np.array(Image.open(path).convert("RGB")), smooth)
    rgb, bits = read_image(path)
    assert (rgb.shape, bits) == ((1, 3, 37, 41), 8)
    np.testing.assert_array_equal(pixels(rgb), smooth)


def test_sixteen_bits_survive_png(tmp_path):
    codes = torch.randint(0, 65536, (1, 3, 9, 11))
    write_image(tmp_path / "a.png", codes / 65535, bit_depth=16)
    rgb, bits = read_image(tmp_path / "a.png")
    assert bits == 16
    assert torch.equal((rgb * 65535).round().long(), codes)


def test_jpeg_is_close_and_keeps_full_chroma(smooth, tmp_path):
    write_image(tmp_path / "a.jpg", tensor(smooth))
    with Image.open(tmp_path / "a.jpg") as image:
        assert len({layer[1:3] for layer in image.layer}) == 1  # every plane in full size
        assert np.abs(np.array(image).astype(int) - smooth).max() <= 5
    rgb, _ = read_image(tmp_path / "a.jpg")
    assert np.abs(pixels(rgb).astype(int) - smooth).max() <= 5


def test_values_are_rounded_and_clamped(tmp_path):
    levels = torch.tensor([-1.0, 100.6 / 255, 2.0]).reshape(1, 1, 1, 3).expand(1, 3, 4, 3)
    write_image(tmp_path / "a.png", levels)
    assert np.array(Image.open(tmp_path / "a.png"))[0, :, 0].tolist() == [0, 101, 255]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_exif_orientation_is_applied(suffix, orientation, smooth, tmp_path):
    path = tmp_path / f"a{suffix}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 98, "subsampling": 0} if suffix == ".jpg" else {}
    options |= {"lossless": True} if suffix == ".webp" else {}
    Image.fromarray(smooth).save(path, exif=exif, **options)
    upright = np.array(ImageOps.exif_transpose(Image.open(path)).convert("RGB")).astype(int)
    got = pixels(read_image(path)[0]).astype(int)
    assert got.shape == upright.shape
    assert np.abs(got - upright).max() <= 3


@pytest.mark.parametrize("mode", ["L", "LA", "P", "1", "RGBA"])
def test_every_kind_of_picture_becomes_rgb(mode, smooth, tmp_path):
    path = tmp_path / "a.png"
    image = Image.fromarray(smooth).convert(mode)
    image.save(path)
    np.testing.assert_array_equal(pixels(read_image(path)[0]), np.array(image.convert("RGB")))


def test_transparency_is_left_out_with_a_warning(smooth, tmp_path, caplog):
    image = Image.fromarray(smooth)
    image.putalpha(128)
    image.save(tmp_path / "a.png")
    np.testing.assert_array_equal(pixels(read_image(tmp_path / "a.png")[0]), smooth)
    assert "transparency: it is left out" in caplog.text


def test_an_opaque_alpha_channel_is_no_reason_to_warn(smooth, tmp_path, caplog):
    Image.fromarray(smooth).convert("RGBA").save(tmp_path / "a.png")
    read_image(tmp_path / "a.png")
    assert not caplog.records


def test_lossy_webp_is_on_request(smooth, tmp_path):
    write_image(tmp_path / "a.webp", tensor(smooth), quality=90)
    error = np.abs(pixels(read_image(tmp_path / "a.webp")[0]).astype(int) - smooth)
    assert 0 < error.mean() < 4


def test_what_is_not_a_whole_picture_is_refused(smooth, tmp_path):
    for suffix in (".png", ".jpg", ".webp"):
        path = tmp_path / f"cut{suffix}"
        write_image(path, tensor(smooth))
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(VideoError, match="cannot be read as a picture: is it whole"):
            read_image(path)
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("hello" * 50)
    for name, message in (
        ("empty.png", "is empty"),
        ("text.png", "cannot be read as a picture"),
        ("missing.png", "does not exist"),
        (".", "is a folder"),
    ):
        with pytest.raises(VideoError, match=message):
            read_image(tmp_path / name)


def test_a_video_is_not_a_picture(tmp_path):
    from tests.video.clips import make_clip

    with pytest.raises(VideoError, match="is not a picture"):
        read_image(make_clip(tmp_path / "a.mp4"))


def test_bad_names_depths_and_existing_files_are_refused(smooth, tmp_path):
    rgb = tensor(smooth)
    with pytest.raises(
        OptionError, match=r"must end in \.png, \.jpg, \.jpeg, \.webp, got 'a\.bmp'"
    ):
        write_image(tmp_path / "a.bmp", rgb)
    with pytest.raises(OptionError, match="bit_depth must be 8 or 16, got 12"):
        write_image(tmp_path / "a.png", rgb, bit_depth=12)
    write_image(tmp_path / "a.png", rgb)
    with pytest.raises(VideoError, match="exists already"):
        write_image(tmp_path / "a.png", rgb)
    write_image(tmp_path / "a.png", rgb, overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_a_picture_too_large_for_its_format_leaves_nothing(tmp_path):
    with pytest.raises(VideoError, match="cannot hold a picture of 17000x1"):
        write_image(tmp_path / "a.webp", torch.zeros(1, 3, 1, 17000))
    assert list(tmp_path.iterdir()) == []


def test_names_are_sorted_as_people_count():
    names = ["f10.png", "f2.png", "F1.png", "b/9.png", "b/10.png", "f02.png"]
    found = [str(p) for p in natural_sort(names)]
    assert found == ["b/9.png", "b/10.png", "F1.png", "f02.png", "f2.png", "f10.png"]
