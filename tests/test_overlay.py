import pytest
import torch
import torch.nn.functional as F

from midflow.errors import OptionError
from midflow.evaluate.lettering import LINE, caption
from midflow.interpolator import Interpolator
from midflow.nets.prediction import Prediction
from midflow.nets.warp import warp
from midflow.overlay import REACH, Protection, read_protection, still_overlay, without_ghosts
from midflow.places import largest
from midflow.video.image import write_image
from tests.crossfade import CrossFade

SIZE = (96, 160)


@pytest.fixture(autouse=True, params=(True, False), ids=("kernels", "torch"))
def by(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to the same."""
    if not request.param:
        monkeypatch.setattr("midflow.native.overlay.can_run", lambda image: False)


def scene(shift=0, seed=0):
    """Soft blots, none of them white, that move to the right, (1, 3, 96, 160)."""
    coarse = torch.rand(1, 3, 8, 24, generator=torch.Generator().manual_seed(seed))
    wide = F.interpolate(coarse, (96, 288), mode="bicubic").clamp(0, 1) * 0.6
    return wide[..., 64 - shift : 224 - shift]


def lettering(size=2):
    """Ink of a caption, (1, 1, 96, 160) in 0 or 1."""
    ink = torch.zeros(1, 1, *SIZE)
    ink[..., 40 : 40 + LINE * size, :] = 1 - caption("still words", 160, size)[:1]
    return ink


def with_letters(image, ink):
    return torch.lerp(image, torch.ones(1, 3, 1, 1), ink)


def error_inside(image, ink):
    return float(((image - 1).abs() * ink).sum() / ink.sum() / 3)


def covered(weight, ink):
    return float((weight * ink).sum() / ink.sum())


def test_still_lettering_before_a_moving_picture_is_found():
    ink = lettering()
    img0, img1 = with_letters(scene(0), ink), with_letters(scene(12), ink)
    assert covered(still_overlay(img0, img1), ink) > 0.9


def test_lettering_that_moves_with_the_picture_is_not():
    ink = lettering()
    img0 = with_letters(scene(0), ink)
    img1 = with_letters(scene(12), ink.roll(7, -1))
    assert covered(still_overlay(img0, img1), ink) < 0.05


@pytest.mark.parametrize("speed", [0.5, 1, 2])
def test_a_slow_edge_does_not_freeze(speed):
    x = torch.arange(160.0).expand(1, 3, 96, -1)
    img0, truth, img1 = ((x - 80 - speed * k).clamp(0, 1) for k in (0, 0.5, 1))
    protection = Protection()
    still = protection.find(img0, img1)
    result = protection(truth, img0, img1, torch.tensor([0.5]), still)
    assert (result - truth).abs().max() < 0.1
    changed = ((img0 - img1).abs().amax(1, keepdim=True) > 0.1).float()
    assert (still_overlay(img0, img1) * changed).max() < 0.5


def test_a_slow_plain_background_does_not_freeze():
    img0 = torch.linspace(0.2, 0.8, 160).expand(1, 3, 96, -1)
    assert still_overlay(img0, img0 + 0.001).max() == 0


def test_lettering_is_found_under_the_noise_of_an_encoder():
    ink, noise = lettering(), torch.Generator().manual_seed(1)
    img0, img1 = (
        with_letters(scene(shift), ink) + 2 / 255 * torch.randn(1, 3, *SIZE, generator=noise)
        for shift in (0, 12)
    )
    assert covered(still_overlay(img0, img1), ink) > 0.7


def test_the_order_of_the_frames_does_not_matter_and_a_batch_is_one_by_one():
    ink = lettering()
    img0, img1 = with_letters(scene(0), ink), with_letters(scene(12), ink)
    weight = still_overlay(img0, img1)
    assert torch.equal(weight, still_overlay(img1, img0))
    both = still_overlay(torch.cat((img0, scene(0))), torch.cat((img1, scene(9))))
    assert torch.equal(both[:1], weight)


def test_protected_pixels_are_the_inputs_and_the_rest_is_painted():
    ink = lettering()
    img0, img1 = with_letters(scene(0), ink), with_letters(scene(12), ink)
    painted = torch.zeros(3, 3, *SIZE)
    weight = still_overlay(img0, img1)
    result = Protection()(painted, img0, img1, torch.tensor([0.25, 0.5, 0.75]), weight)
    whole = (weight == 1).expand_as(img0)
    for frame in result:
        assert (frame[None][whole] - img0[whole]).abs().max() < 12 / 255
        assert frame[None][(weight == 0).expand_as(img0)].max() == 0


def test_lettering_does_not_wobble_in_a_painted_frame():
    """A network that mixes the frames, one of them shifted, carries the words along."""

    class Dragging(CrossFade):
        def forward(self, frame0, frame1, timestep=0.5, **options):
            prediction = super().forward(frame0, frame1, timestep, **options)
            return prediction._replace(frame=prediction.frame.roll(5, -1))

    ink = lettering()
    img0, img1 = with_letters(scene(0), ink), with_letters(scene(12), ink)
    off, auto = (
        Interpolator(Dragging(), "cpu", protect=protect)(img0, img1) for protect in ("off", "auto")
    )
    assert error_inside(auto, ink) < error_inside(off, ink) / 8


def test_lettering_leaves_no_ghosts_beside_it():
    """Along the true flow of the picture behind, letters of either frame land beside themselves."""
    ink = lettering()
    img0, img1 = with_letters(scene(0), ink), with_letters(scene(12), ink)
    flow = torch.zeros(1, 4, *SIZE)
    flow[:, 0], flow[:, 2] = -6, 6  # of the scene, which moves to the right
    weight = torch.full((1, 1, *SIZE), 0.5)
    painted = torch.lerp(warp(img1, flow[:, 2:]), warp(img0, flow[:, :2]), weight)
    still = still_overlay(img0, img1)
    clean = without_ghosts(Prediction(painted, flow, weight), img0, img1, still)
    beside = (F.max_pool2d(still, 3, 1, 1) == 0).float()
    before, after = (((x - scene(6)).abs() * beside).mean() for x in (painted, clean))
    assert after < before / 2


def test_a_mask_keeps_the_nearer_frame(tmp_path):
    mask = torch.zeros(1, 3, *SIZE)
    mask[..., :40] = 1
    write_image(tmp_path / "mask.png", mask)
    interp = Interpolator(CrossFade(), "cpu", protect=tmp_path / "mask.png")
    early, late = interp(scene(0), scene(12), [0.25, 0.75])
    assert torch.equal(early[None, ..., :40], scene(0)[..., :40])
    assert torch.equal(late[None, ..., :40], scene(12)[..., :40])
    blend = torch.lerp(scene(0), scene(12), 0.25)
    torch.testing.assert_close(early[None, ..., 40:], blend[..., 40:])


def test_protections_tell_themselves_apart():
    masks = [torch.zeros(1, 1, 4, 4), torch.ones(1, 1, 4, 4)]
    names = {str(read_protection(protect)) for protect in ("auto", "off", *masks)}
    assert len(names) == 4


def test_what_cannot_be_a_protection_is_refused():
    with pytest.raises(OptionError, match=r"auto, off or a picture that exists, got nothing\.png"):
        read_protection("nothing.png")
    with pytest.raises(OptionError, match=r"shape \(1, 1, H, W\), got \(4, 4\)"):
        read_protection(torch.zeros(4, 4))
    interp = Interpolator(CrossFade(), "cpu", protect=torch.ones(1, 1, 8, 8))
    with pytest.raises(OptionError, match="size of the frames, 160x96, got 8x8"):
        interp(scene(0), scene(5))


def dense_ghosts(prediction, img0, img1, still):
    """What `without_ghosts` says, worked out at every pixel."""
    frame, flow, weight = prediction

    def carried(cover, flow):
        led_away = flow.square().sum(1, keepdim=True) > 9
        return warp(cover, flow) * (1 - cover) * led_away

    def mean(x):
        return F.avg_pool2d(x, 15, 1, 7, count_include_pad=False)

    cover = F.max_pool2d(still, 3, 1, 1).expand(len(frame), -1, -1, -1)
    img0, img1 = (x.expand(len(frame), -1, -1, -1) for x in (img0, img1))
    shown0 = weight * (1 - carried(cover, flow[:, :2]))
    shown1 = (1 - weight) * (1 - carried(cover, flow[:, 2:]))
    shown = shown0 + shown1
    clean = torch.where(shown > 0.02, shown0 / shown.clamp(min=0.02), weight)
    warped0, warped1 = (
        warp(x, f, "bicubic") for x, f in ((img0, flow[:, :2]), (img1, flow[:, 2:]))
    )
    frame = frame + (clean - weight) * (warped0 - warped1)
    believed = (shown / 0.25).clamp(max=1)
    seen = believed * (1 - cover)
    share = mean(seen)
    around = mean(frame * seen) / share.clamp(min=0.02)
    return torch.where(share > 0.02, around.lerp(frame, believed), frame)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("lone", [True, False])
def test_ghosts_are_taken_away_as_if_every_pixel_were_looked_at(batch, lone):
    random = torch.Generator().manual_seed(batch)
    still = F.pad(torch.ones(1, 1, 6, 40), (40, 80, 2, 88))  # near the upper border
    img0, img1 = (torch.rand(1, 3, *SIZE, generator=random) for _ in range(2))
    flow = torch.zeros(batch, 4, *SIZE)
    flow[:, 0], flow[:, 2] = 12, -15
    flow += torch.randn(flow.shape, generator=random)
    painted = torch.rand(batch, 3, *SIZE, generator=random)
    prediction = Prediction(painted, flow, torch.rand(batch, 1, *SIZE, generator=random))
    inputs = [x if lone else x.expand(batch, -1, -1, -1) for x in (img0, img1, still)]

    kept = painted.clone()
    frame = without_ghosts(prediction, *inputs)
    torch.testing.assert_close(frame, dense_ghosts(prediction, *inputs), atol=1e-4, rtol=0)
    assert torch.equal(painted, kept)
    assert (frame != painted).any(1).float().mean() > 0.01


def test_a_frame_without_ghosts_stays_as_it_is():
    still = F.pad(torch.ones(1, 1, 6, 40), (40, 80, 40, 50))
    painted, resting = torch.rand(1, 3, *SIZE), torch.zeros(1, 4, *SIZE)
    prediction = Prediction(painted, resting, torch.full((1, 1, *SIZE), 0.5))
    assert without_ghosts(prediction, scene(), scene(3), still) is painted


@pytest.mark.parametrize("place", [(0, 0), (30, 60), (-12, -30)])
def test_what_stands_still_is_found_wherever_it_is(place):
    ink = torch.zeros(1, 1, *SIZE)
    ink[..., :12, :30] = lettering()[..., 40:52, 60:90]
    ink = ink.roll(place, (2, 3))
    found = still_overlay(with_letters(scene(), ink), with_letters(scene(20), ink))
    assert covered(found, ink) > 0.5
    far = 1 - F.max_pool2d(ink, 21, 1, 10)
    assert (found * far).sum() == 0
    wide = torch.cat([F.max_pool2d(found, (9, 1), 1, (4, 0)), largest(found, REACH)])
    assert torch.equal(F.max_pool2d(wide[:1], (1, 9), 1, (0, 4)), wide[1:])
