from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from torch import Tensor

from midflow import images
from midflow.errors import OptionError, VideoError
from midflow.image_files import output_paths
from midflow.images import draw_flow, even_timesteps, interpolate_folder, interpolate_images
from midflow.interpolator import Interpolator
from midflow.nets.checkpoint import load_model
from midflow.video.image import read_image, read_rgba, write_image
from tests.crossfade import CrossFade
from tests.translation import Translation

SIZE = (24, 40)


class Blend(Interpolator):
    """Mixes the frames by time, and counts what it is asked for."""

    def __init__(self) -> None:
        self.encoded = 0
        self.batches: list[int] = []

    @property
    def has_timestep(self) -> bool:
        return True

    def encode(self, img: Tensor) -> Tensor:  # type: ignore[override]
        self.encoded += 1
        return img

    def __call__(self, img0: Tensor, img1: Tensor, timestep: Sequence[float]) -> Tensor:  # type: ignore[override]
        self.batches.append(len(timestep))
        return torch.lerp(img0, img1, torch.tensor(timestep).view(-1, 1, 1, 1))


def _write(path: Path, level: float, size: tuple[int, int] = SIZE, *, bits: int = 8) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, torch.full((1, 3, *size), level), bits)
    return path


def _level(path: Path, bits: int = 8) -> float:
    """Mean level of a picture in codes of `bits`."""
    picture, found = read_image(path)
    assert found == bits
    return float(picture.mean()) * (2**bits - 1)


def _pair(folder: Path) -> tuple[Path, Path]:
    return _write(folder / "a.png", 100 / 255), _write(folder / "b.png", 200 / 255)


def test_seven_frames_between_stand_at_eighths() -> None:
    assert even_timesteps(7) == [Fraction(k, 8) for k in range(1, 8)]
    assert even_timesteps(1) == [Fraction(1, 2)]


def test_no_frames_between_is_refused() -> None:
    with pytest.raises(OptionError, match="at least 1, got 0"):
        even_timesteps(0)


def test_one_frame_takes_the_name_given(tmp_path: Path) -> None:
    a, b = _pair(tmp_path)
    written = interpolate_images(a, b, tmp_path / "mid.png", Blend(), [0.25])
    assert written == [tmp_path / "mid.png"]
    assert _level(written[0]) == pytest.approx(125, abs=0.01)


def test_several_frames_are_numbered(tmp_path: Path) -> None:
    a, b = _pair(tmp_path)
    written = interpolate_images(a, b, tmp_path / "mid.png", Blend(), even_timesteps(3))
    assert [path.name for path in written] == ["mid_1.png", "mid_2.png", "mid_3.png"]
    assert [_level(path) for path in written] == pytest.approx([125, 150, 175], abs=0.01)


def test_a_name_without_an_extension_is_a_folder(tmp_path: Path) -> None:
    a, b = _pair(tmp_path)
    written = interpolate_images(a, b, tmp_path / "new" / "out", Blend(), even_timesteps(2))
    assert [path.name for path in written] == ["00000001.png", "00000002.png"]
    assert {path.parent for path in written} == {tmp_path / "new" / "out"}
    assert all(path.is_file() for path in written)


@pytest.mark.parametrize(
    ("out", "count", "names"),
    [
        ("a.png", 1, ["a.png"]),
        ("a.jpg", 10, [f"a_{k:02d}.jpg" for k in range(1, 11)]),
        ("shot_%03d.webp", 2, ["shot_001.webp", "shot_002.webp"]),
        ("shot_%d.png", 1, ["shot_1.png"]),
        ("folder", 1, ["00000001.jpeg"]),
    ],
)
def test_output_is_named_by_what_is_given(out: str, count: int, names: list[str]) -> None:
    assert [path.name for path in output_paths(out, count, ".JPEG")] == names


def test_a_folder_that_exists_is_a_folder_whatever_its_name(tmp_path: Path) -> None:
    (tmp_path / "v1.0").mkdir()
    assert output_paths(tmp_path / "v1.0", 1, ".bmp") == [tmp_path / "v1.0" / "00000001.png"]


def test_a_name_that_is_not_a_pictures_is_refused(tmp_path: Path) -> None:
    a, b = _pair(tmp_path)
    with pytest.raises(OptionError, match=r"must end in \.png, .*, got 'out\.mp4'"):
        interpolate_images(a, b, tmp_path / "out.mp4", Blend(), [0.5])
    with pytest.raises(OptionError, match=r"must end in \.png, .*, got 'flow'"):
        draw_flow(a, b, tmp_path / "flow", Blend())


def test_sixteen_bits_in_give_sixteen_bits_out(tmp_path: Path) -> None:
    a = _write(tmp_path / "a.png", 1000 / 65535, bits=16)
    b = _write(tmp_path / "b.png", 1003 / 65535, bits=16)
    (written,) = interpolate_images(a, b, tmp_path / "mid.png", Blend(), [1 / 3])
    assert _level(written, bits=16) == pytest.approx(1001, abs=0.01)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_every_format_is_read_and_written(tmp_path: Path, suffix: str) -> None:
    a, b = _write(tmp_path / f"a{suffix}", 0.2), _write(tmp_path / f"b{suffix}", 0.6)
    (written,) = interpolate_images(a, b, tmp_path / f"mid{suffix}", Blend(), [0.5])
    assert _level(written) == pytest.approx(0.4 * 255, abs=1)


def test_pictures_of_two_sizes_are_refused(tmp_path: Path) -> None:
    a, b = _write(tmp_path / "a.png", 0.2), _write(tmp_path / "b.png", 0.6, (24, 44))
    message = r"a\.png is 40x24 and .*b\.png is 44x24"
    with pytest.raises(VideoError, match=message):
        interpolate_images(a, b, tmp_path / "mid.png", Blend(), [0.5])
    with pytest.raises(VideoError, match=message):
        draw_flow(a, b, tmp_path / "flow.png", Blend())
    assert not (tmp_path / "mid.png").exists()


def test_no_timestep_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="at least one timestep"):
        interpolate_images(*_pair(tmp_path), tmp_path / "mid.png", Blend(), [])


def test_an_existing_picture_is_kept_unless_told_otherwise(tmp_path: Path) -> None:
    a, b = _pair(tmp_path)
    out = _write(tmp_path / "mid_2.png", 0)
    blend = Blend()
    with pytest.raises(VideoError, match=r"mid_2\.png exists already"):
        interpolate_images(a, b, tmp_path / "mid.png", blend, even_timesteps(2))
    assert blend.batches == []
    assert _level(out) == 0
    interpolate_images(a, b, tmp_path / "mid.png", blend, even_timesteps(2), overwrite=True)
    assert _level(out) > 0


def test_an_input_is_never_written_over(tmp_path: Path) -> None:
    a, b = _pair(tmp_path)
    (tmp_path / "same.png").hardlink_to(a)
    for out in (b, tmp_path / "same.png"):
        with pytest.raises(VideoError, match="is an input itself"):
            interpolate_images(a, b, out, Blend(), [0.5], overwrite=True)
        with pytest.raises(VideoError, match="is an input itself"):
            draw_flow(a, b, out, Blend(), overwrite=True)


def _folder(folder: Path, levels: Sequence[float]) -> Path:
    for k, level in enumerate(levels):
        _write(
            folder / f"frame{k + 8}.png", level / 255
        )  # frame8 .. frame10: text sorts them wrong
    return folder


def test_a_folder_at_four_times_the_rate_has_its_own_pictures_at_every_fourth(
    tmp_path: Path,
) -> None:
    folder = _folder(tmp_path / "in", [0, 40, 120])
    written = interpolate_folder(folder, tmp_path / "out", Blend(), 4)
    assert [path.name for path in written] == [f"{k:08d}.png" for k in range(1, 10)]
    expected = [0, 10, 20, 30, 40, 60, 80, 100, 120]
    assert [_level(path) for path in written] == pytest.approx(expected, abs=0.01)


def test_a_folder_at_a_fractional_rate_is_evenly_spaced(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "in", [0, 60, 120])
    written = interpolate_folder(folder, tmp_path / "out", Blend(), "3/2")
    assert [_level(path) for path in written] == pytest.approx([0, 40, 80, 120], abs=0.01)


def test_a_folder_of_one_picture_gives_that_picture(tmp_path: Path) -> None:
    (written,) = interpolate_folder(_folder(tmp_path / "in", [50]), tmp_path / "out", Blend(), 8)
    assert _level(written) == pytest.approx(50, abs=0.01)


def test_each_picture_of_a_folder_is_encoded_once(tmp_path: Path) -> None:
    blend = Blend()
    interpolate_folder(_folder(tmp_path / "in", [0, 60, 120]), tmp_path / "out", blend, 4)
    assert blend.encoded == 3
    assert blend.batches == [3, 3]


def test_large_pictures_are_painted_a_few_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "BATCH_PIXELS", 2 * SIZE[0] * SIZE[1])
    blend = Blend()
    written = interpolate_folder(_folder(tmp_path / "in", [0, 60]), tmp_path / "out", blend, 6)
    assert blend.batches == [2, 2, 1]
    levels = [_level(path) for path in written]
    assert levels == pytest.approx([0, 10, 20, 30, 40, 50, 60], abs=0.01)


def test_other_files_in_a_folder_are_not_looked_at(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "in", [0, 60])
    (folder / "notes.txt").write_text("hello")
    (folder / ".frame9.partial.png").write_bytes(b"half")
    (folder / "sub.png").mkdir()
    assert len(interpolate_folder(folder, tmp_path / "out", Blend(), 2)) == 3


def test_progress_is_told_picture_by_picture(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    interpolate_folder(
        _folder(tmp_path / "in", [0, 60]),
        tmp_path / "out",
        Blend(),
        2,
        on_progress=lambda done, total: calls.append((done, total)),
    )
    assert calls == [(1, 3), (2, 3), (3, 3)]


def test_a_folder_is_not_written_into_itself(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "in", [0, 60])
    with pytest.raises(VideoError, match="is the input folder itself"):
        interpolate_folder(folder, folder / ".." / "in", Blend(), 2, overwrite=True)


def test_a_folder_that_holds_pictures_is_kept_unless_told_otherwise(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = _folder(tmp_path / "in", [0, 60])
    _write(tmp_path / "out" / "00000009.png", 1)
    with pytest.raises(VideoError, match="holds 1 pictures already"):
        interpolate_folder(folder, tmp_path / "out", Blend(), 2)
    interpolate_folder(folder, tmp_path / "out", Blend(), 2, overwrite=True)
    assert "keeps 1 other pictures, such as 00000009.png" in caplog.text
    assert _level(tmp_path / "out" / "00000009.png") == 255


def test_a_folder_that_cannot_serve_is_refused(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "in", [0, 60])
    (tmp_path / "empty").mkdir()
    with pytest.raises(VideoError, match=r"missing is not a folder"):
        interpolate_folder(tmp_path / "missing", tmp_path / "out", Blend(), 2)
    with pytest.raises(VideoError, match=r"empty holds no pictures \(\.png"):
        interpolate_folder(tmp_path / "empty", tmp_path / "out", Blend(), 2)
    with pytest.raises(VideoError, match=r"frame8\.png is a file: give a folder"):
        interpolate_folder(folder, folder / "frame8.png", Blend(), 2)
    with pytest.raises(VideoError, match="cannot be made"):
        interpolate_folder(folder, folder / "frame8.png" / "out", Blend(), 2)
    with pytest.raises(OptionError, match=r"factor must be at least 1, got 0\.5"):
        interpolate_folder(folder, tmp_path / "out", Blend(), 0.5)
    assert not (tmp_path / "out").exists()


def test_a_folder_with_a_picture_of_another_size_says_which(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "in", [0, 60])
    _write(folder / "frame10.png", 0, (24, 44))
    with pytest.raises(VideoError, match=r"frame9\.png is 40x24 and .*frame10\.png is 44x24"):
        interpolate_folder(folder, tmp_path / "out", Blend(), 2)
    assert len(list((tmp_path / "out").iterdir())) == 3


def test_the_bundled_model_paints_and_draws_a_move_to_the_right(tmp_path: Path) -> None:
    """Motion to the right is red: the drawn flow goes from the first picture to the second."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, 8, 16, generator=generator)
    scene = torch.nn.functional.interpolate(coarse, (64, 128), mode="bicubic").clamp(0, 1)
    write_image(tmp_path / "a.png", scene[..., 12:108])
    write_image(tmp_path / "b.png", scene[..., 4:100])
    files = tmp_path / "a.png", tmp_path / "b.png"
    interpolator = Interpolator(load_model(), device="cpu")

    longest = draw_flow(*files, tmp_path / "flow.png", interpolator, max_motion=10)
    assert longest > 7
    drawn, _ = read_image(tmp_path / "flow.png")
    middle = drawn[0, :, 16:48, 24:72].flatten(1).median(1).values
    assert middle.tolist() == pytest.approx([1, 0.2, 0.2], abs=0.25)  # 8 of 10 pixels

    (frame,) = interpolate_images(*files, tmp_path / "mid.png", interpolator, [0.5])
    error = (read_image(frame)[0] - scene[..., 8:104])[..., 16:-16].abs().mean()
    assert error < 0.02


def drawn_with_alpha(path, left, bits=8):
    """A red square on nothing; what is transparent is green in the file."""
    rgb = torch.zeros(1, 3, 32, 64)
    rgb[:, 1], alpha = 1, torch.zeros(1, 1, 32, 64)
    rgb[..., 8:24, left : left + 16] = torch.tensor([0.8, 0.2, 0.0]).view(3, 1, 1)
    alpha[..., 8:24, left : left + 16] = 1
    write_image(path, rgb, bits, alpha=alpha)
    return path


@pytest.mark.parametrize(("suffix", "bits"), [(".png", 8), (".png", 16), (".webp", 8)])
def test_a_folder_of_pictures_keeps_its_transparency(tmp_path, suffix, bits):
    (tmp_path / "in").mkdir()
    for index in range(3):
        drawn_with_alpha(tmp_path / "in" / f"{index}{suffix}", 20 + 4 * index, bits)
    interp = Interpolator(Translation(4), device="cpu")
    files = interpolate_folder(tmp_path / "in", tmp_path / "out", interp, 2)
    assert len(files) == 5
    for index, file in enumerate(files):
        rgb, alpha, depth = read_rgba(file)
        assert depth == bits
        left = 20 + 2 * index
        wanted = torch.zeros(32, 64)
        wanted[8:24, left : left + 16] = 1
        assert torch.equal(alpha[0, 0], wanted)
        inside = rgb[0, :, 8:24, left : left + 16].flatten(1)
        assert inside.amax(1).tolist() == pytest.approx([0.8, 0.2, 0.0], abs=0.003)
        assert inside.amin(1).tolist() == pytest.approx([0.8, 0.2, 0.0], abs=0.003)


def test_an_opaque_picture_and_one_with_transparency_make_a_pair(tmp_path):
    drawn_with_alpha(tmp_path / "a.png", 20)
    write_image(tmp_path / "b.png", torch.full((1, 3, 32, 64), 0.5))
    interp = Interpolator(CrossFade(), device="cpu")
    interpolate_images(tmp_path / "a.png", tmp_path / "b.png", tmp_path / "m.png", interp, [0.5])
    assert read_rgba(tmp_path / "m.png")[1] is not None
