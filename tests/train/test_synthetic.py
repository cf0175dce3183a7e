from dataclasses import replace
from pathlib import Path

import pytest
import torch

from midflow.errors import OptionError, VideoError
from midflow.train.augment import UNCHANGED
from midflow.train.batch import Source
from midflow.train.motion import draw_motion, frame_maps
from midflow.train.rendered import Rendered, render_ahead
from midflow.train.synthetic import LayerOptions, Layers
from midflow.train.textures import COLORS, OVERLAYS, SHAPES, paint
from tests.train.footage import photographs, same
from tests.train.test_augment import warping_error

CPU = torch.device("cpu")


def layers(seed: int = 0, **options: float) -> Layers:
    return Layers(
        photographs(), replace(LayerOptions(), **options), augmentation=UNCHANGED, seed=seed
    )


@pytest.fixture
def no_grain(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is as fine as a pixel cannot be read between pixels: no flow would explain it."""
    monkeypatch.setitem(COLORS, "grain", 0)


@pytest.mark.usefixtures("no_grain")
@pytest.mark.parametrize("crop", [64, 96])
def test_warping_by_the_true_flow_gives_the_true_frame_where_visible(crop: int) -> None:
    batch = layers(max_motion=24).batch(0, 8, crop, device=CPU)
    right = warping_error(batch)
    assert right < 2
    assert 0.5 < float(batch.visible.mean()) < 0.98
    # flows of the wrong sign, of the wrong frame and none at all do not
    assert warping_error(replace(batch, flow=-batch.flow)) > 4 * right
    assert warping_error(replace(batch, flow=batch.flow[:, [2, 3, 0, 1]])) > 4 * right
    assert warping_error(replace(batch, flow=0 * batch.flow)) > 3 * right


def test_what_is_not_visible_does_not_fit() -> None:
    batch = layers(max_motion=24, translucent=0).batch(0, 8, 64, device=CPU)
    hidden = replace(batch, visible=1 - batch.visible)
    assert warping_error(hidden) > 8 * warping_error(batch)


def test_a_pixel_is_hidden_in_one_of_the_inputs_more_often_than_in_both() -> None:
    batch = layers(translucent=0, overlay=0).batch(0, 8, 96, device=CPU)
    one = float((batch.visible.sum(1) == 1).float().mean())
    none = float((batch.visible.sum(1) == 0).float().mean())
    assert one > 0.02
    assert none < one + 0.1


def test_motion_is_linear_in_time() -> None:
    batch = layers(central_share=0).batch(0, 8, 64, device=CPU)
    t = batch.timestep[:, None, None, None]
    assert float((batch.timestep - 0.5).abs().min()) > 1e-4
    # both flows lie on one line through the pixel, in the ratio of the times
    assert torch.allclose(batch.flow[:, :2] * (1 - t), -batch.flow[:, 2:] * t, atol=1e-4)


def test_a_point_is_where_its_speed_takes_it() -> None:
    random = torch.Generator().manual_seed(3)
    motion = draw_motion(16, 64, 24.0, random, None)
    times = torch.rand(16, generator=random)
    maps = frame_maps(motion, times, 64, 96)
    points = torch.cat((64 * torch.rand(16, 2, 5, generator=random), torch.ones(16, 1, 5)), 1)
    velocity = motion.velocity() @ points
    on_canvas = maps[:, 1] @ points
    for frame, after in ((0, -times), (2, 1 - times)):
        moved = points.clone()
        moved[:, :2] += after[:, None, None] * velocity
        assert torch.allclose(maps[:, frame] @ moved, on_canvas, atol=1e-4)


def test_motion_never_exceeds_the_fastest() -> None:
    motion = draw_motion(500, 256, 20.0, torch.Generator().manual_seed(0), None)
    lengths = motion.speed.norm(dim=1)
    assert float(lengths.max()) <= 20.001
    assert float((lengths == 0).float().mean()) == pytest.approx(0.12, abs=0.05)
    assert float((lengths > 10).float().mean()) > 0.15


def test_the_curriculum_goes_from_small_to_large_motion() -> None:
    options = LayerOptions(start_motion=4, max_motion=32, curriculum_steps=100)
    assert options.motion(0, 256) == pytest.approx(4)
    assert 4 < options.motion(50, 256) < 32
    assert options.motion(500, 256) == pytest.approx(32)
    assert options.motion(500, 64) == pytest.approx(0.4 * 64)


def test_overlays_stand_still_in_all_frames() -> None:
    source = layers(overlay=1, start_motion=20, max_motion=20, layers=1)
    batch = source.batch(0, 8, 96, device=CPU)
    speed = (batch.flow[:, 2:] - batch.flow[:, :2]).norm(dim=1)
    still = (speed == 0) & (batch.visible.sum(1) == 2)
    assert float(still.float().mean()) > 0.01
    for picture in (batch.img0, batch.img1):
        difference = (picture - batch.truth).abs().amax(1)[still]
        assert float((difference < 0.3).float().mean()) > 0.9


def test_scenes_depend_on_seed_step_and_rank_alone() -> None:
    source = layers(1)
    assert isinstance(source, Source)
    first = source.batch(3, 2, 32, device=CPU)
    assert same(first, layers(1).batch(3, 2, 32, device=CPU))
    assert not same(first, source.batch(4, 2, 32, device=CPU))
    assert not same(first, source.batch(3, 2, 32, device=CPU, rank=1))
    assert not same(first, layers(2).batch(3, 2, 32, device=CPU))


@pytest.mark.usefixtures("no_grain")
def test_scenes_need_no_photographs() -> None:
    batch = Layers(augmentation=UNCHANGED).batch(0, 16, 64, device=CPU)
    assert warping_error(batch) < 3
    assert float(batch.truth.std()) > 0.05
    for name in ("img0", "img1", "truth"):
        picture = getattr(batch, name)
        assert 0 <= float(picture.min()) <= float(picture.max()) <= 1.0001


@pytest.mark.parametrize("kind", sorted({*SHAPES, *OVERLAYS}))
@pytest.mark.parametrize("color", sorted(COLORS))
def test_every_kind_of_canvas_is_partly_covered(kind: str, color: str) -> None:
    random = torch.Generator().manual_seed(0)
    canvas = paint([kind] * 4, [color] * 4, 96, photographs(2, 60), random, CPU)
    cover = canvas[:, 3]
    assert 0 <= float(cover.min()) <= float(cover.max()) <= 1
    assert 0.005 < float(cover.mean()) < 0.95
    assert bool((canvas[:, :3] <= cover[:, None] + 1e-5).all())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_gpu_paints_the_same_scenes() -> None:
    here = layers().batch(0, 4, 64, device=CPU)
    there = layers().batch(0, 4, 64, device=torch.device("cuda")).to("cpu")
    assert float((here.truth - there.truth).abs().mean()) < 1e-3
    assert float((here.flow - there.flow).abs().mean()) < 1e-2


def test_wrong_options_are_refused() -> None:
    with pytest.raises(OptionError, match="motion must grow from a start above 0"):
        LayerOptions(start_motion=9, max_motion=3)
    with pytest.raises(OptionError, match="layers must be at least 1"):
        LayerOptions(layers=0)
    with pytest.raises(OptionError, match=r"photographs must be \(3, H, W\) uint8"):
        Layers([torch.zeros(3, 8, 8)])


def test_rendered_scenes_come_back_with_their_flows(tmp_path: Path) -> None:
    render_ahead(tmp_path, layers(max_motion=16, overlay=0.3), 16, 64)
    source = Rendered(tmp_path, augmentation=UNCHANGED)
    assert len(source) == 16
    for crop in (64, 48):
        batch = source.batch(0, 6, crop, device=CPU)
        assert batch.truth.shape == (6, 3, crop, crop)
        right = warping_error(batch)
        assert right < 2.5
        assert warping_error(replace(batch, flow=-batch.flow)) > 3 * right


def test_a_continued_folder_equals_one_made_in_one_go(tmp_path: Path) -> None:
    render_ahead(tmp_path / "once", layers(), 32, 32)
    render_ahead(tmp_path / "twice", layers(), 16, 32)
    with (tmp_path / "twice" / "pictures.u8").open("ab") as torn:
        torn.write(b"what an interrupted run left")
    render_ahead(tmp_path / "twice", layers(), 32, 32)
    for name in ("pictures.u8", "motion.f16", "visible.u8", "rendered.json"):
        assert (tmp_path / "once" / name).read_bytes() == (tmp_path / "twice" / name).read_bytes()


def test_rendered_scenes_are_a_function_of_seed_and_step(tmp_path: Path) -> None:
    render_ahead(tmp_path, layers(), 16, 32)
    one, other = Rendered(tmp_path), Rendered(tmp_path, seed=1)
    assert same(one.batch(7, 4, 32, device=CPU), Rendered(tmp_path).batch(7, 4, 32, device=CPU))
    assert not same(one.batch(7, 4, 32, device=CPU), other.batch(7, 4, 32, device=CPU))


def test_rendering_says_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OptionError, match="holds no rendered scenes"):
        Rendered(tmp_path)
    render_ahead(tmp_path, layers(), 16, 32)
    with pytest.raises(OptionError, match="crop of 64 pixels is larger than the scenes"):
        Rendered(tmp_path).batch(0, 1, 64, device=CPU)
    with pytest.raises(OptionError, match="holds other scenes"):
        render_ahead(tmp_path, layers(), 16, 64)

    def full(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(VideoError, match="No space left on device; 16 are there and usable"):
        render_ahead(tmp_path, layers(), 32, 32)
    assert len(Rendered(tmp_path)) == 16
