import logging
from functools import lru_cache

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import midflow
from midflow.bisection import nearest_dyadic, plan_depth
from midflow.errors import OptionError
from midflow.interpolator import Interpolator
from midflow.nets.config import IFNetConfig
from midflow.nets.ifnet import IFNet

TINY = IFNetConfig(
    channels=(8, 8, 8, 8), scales=(8, 4, 2, 1), depths=(1, 1, 1, 1), encoder="named",
    encoder_width=8, encoder_planes=4, spare=0, features=4,
)  # fmt: skip
TINY_ENSEMBLE = IFNetConfig(channels=(8, 8, 8, 8), depths=(1, 1, 1, 1))
TINY_MIDDLE = IFNetConfig(
    channels=(8, 8), scales=(2, 1), depths=(1, 1), trunk="skip", head="deconv", spare=0,
    has_timestep=False, refine=True,
)  # fmt: skip


def tiny(config: IFNetConfig = TINY) -> IFNet:
    """A network with random weights that moves things by a few pixels."""
    torch.manual_seed(1)
    net = IFNet(config)
    for k in range(len(config.channels)):
        for p in net.get_submodule(f"block{k}.lastconv").parameters():
            torch.nn.init.normal_(p, std=0.3)
    return net


@lru_cache(maxsize=1)
def bundled() -> IFNet:
    return midflow.load_model()


def picture(height: int, width: int, seed: int = 0) -> Tensor:
    """Smooth colours in [0, 1], (1, 3, H, W)."""
    torch.manual_seed(seed)
    small = torch.rand(1, 3, max(2, height // 12), max(2, width // 12))
    return F.interpolate(small, (height, width), mode="bicubic").clamp(0, 1)


def moved(image: Tensor, dx: int, dy: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Three crops of one picture: before, half way, after a motion of (2 dx, 2 dy) pixels."""
    pad = 2 * max(abs(dx), abs(dy))
    height, width = image.shape[-2] - 2 * pad, image.shape[-1] - 2 * pad
    crops = []
    for k in range(3):
        y, x = pad - k * dy, pad - k * dx
        crops.append(image[..., y : y + height, x : x + width])
    return crops[0], crops[1], crops[2]


def psnr(a: Tensor, b: Tensor) -> float:
    return float(-10 * torch.log10((a - b).square().mean()))


@pytest.mark.parametrize("config", [TINY, TINY_MIDDLE], ids=["any time", "middle"])
def test_identical_frames_give_that_frame(config: IFNetConfig) -> None:
    interp = Interpolator(tiny(config), "cpu")
    image, other = picture(40, 60), picture(40, 60, seed=1)
    assert torch.equal(interp(image, image, [0.25, 0.5]), image.expand(2, -1, -1, -1))
    mixed = interp(torch.cat((image, image)), torch.cat((image, other)))
    assert torch.equal(mixed[0], image[0])
    assert torch.allclose(mixed[1:], interp(image, other), atol=1e-6)


def test_almost_identical_frames_stay_almost_the_same() -> None:
    image = picture(120, 200)
    noisy = image + 1e-4 * torch.randn_like(image)
    for t in (0.25, 0.5):
        result = Interpolator(bundled(), "cpu")(image, noisy, t)
        assert (result - image).abs().mean() <= 0.5 / 255


def test_middle_frame_of_a_translation_is_halfway() -> None:
    img0, truth, img1 = moved(picture(160, 256), 4, 2)
    interp = Interpolator(bundled(), "cpu")
    result = interp(img0, img1)
    blend = (img0 + img1) / 2
    inner = (..., slice(16, -16), slice(16, -16))
    assert psnr(result[inner], truth[inner]) > psnr(blend[inner], truth[inner]) + 8
    flow, weight = interp.flow(img0, img1)
    assert flow.shape == (1, 4, *img0.shape[-2:]) and weight.shape == (1, 1, *img0.shape[-2:])
    expected = torch.tensor([-4.0, -2.0, 4.0, 2.0])
    assert (flow[inner].mean((0, 2, 3)) - expected).abs().max() < 0.5


def test_timesteps_run_from_one_frame_to_the_other() -> None:
    img0, _, img1 = moved(picture(160, 256), 3)
    early, late = Interpolator(bundled(), "cpu")(img0, img1, [0.02, 0.98])
    assert psnr(early, img0) > psnr(early, img1) + 6
    assert psnr(late, img1) > psnr(late, img0) + 6


def test_at_the_ends_the_result_is_the_input() -> None:
    img0, img1 = picture(40, 50), picture(40, 50, seed=1)
    result = Interpolator(tiny(), "cpu")(img0, img1, [0, 0.5, 1])
    assert torch.equal(result[0], img0[0]) and torch.equal(result[2], img1[0])


def test_swapping_the_inputs_with_the_opposite_time_gives_nearly_the_same_frame() -> None:
    img0, _, img1 = moved(picture(160, 256), 4)
    interp = Interpolator(bundled(), "cpu")
    assert psnr(interp(img0, img1, 0.3), interp(img1, img0, 0.7)) > 35


def test_the_ensemble_is_exactly_symmetric() -> None:
    img0, img1 = picture(64, 96), picture(64, 96, seed=1)
    interp = Interpolator(tiny(TINY_ENSEMBLE), "cpu", ensemble=True)
    difference = (interp(img0, img1, 0.3) - interp(img1, img0, 0.7)).abs().max()
    assert difference < 1e-4
    plain = Interpolator(tiny(TINY_ENSEMBLE), "cpu")
    assert (plain(img0, img1, 0.3) - plain(img1, img0, 0.7)).abs().max() > 1e-3


def test_tta_does_not_see_a_turn_by_180_degrees() -> None:
    img0, img1 = picture(64, 96), picture(64, 96, seed=1)  # multiples: the padding stays put
    for config in (TINY, TINY_MIDDLE):
        interp = Interpolator(tiny(config), "cpu", tta=True)
        turned = interp(img0.flip(2, 3), img1.flip(2, 3)).flip(2, 3)
        assert (interp(img0, img1) - turned).abs().max() < 1e-5
        flow, _ = interp.flow(img0, img1)
        turned_flow, _ = interp.flow(img0.flip(2, 3), img1.flip(2, 3))
        assert (flow + turned_flow.flip(2, 3)).abs().max() < 1e-3


@pytest.mark.parametrize("config", [TINY, TINY_ENSEMBLE, TINY_MIDDLE], ids=["4", "4.6", "middle"])
def test_a_batch_is_the_same_as_one_by_one(config: IFNetConfig) -> None:
    interp = Interpolator(tiny(config), "cpu")
    img0 = torch.cat([picture(50, 70, seed=k) for k in range(3)])
    img1 = torch.cat([picture(50, 70, seed=k + 3) for k in range(3)])
    times = [0.25, 0.5, 0.75]
    together = interp(img0, img1, times)
    for k, t in enumerate(times):
        alone = interp(img0[k : k + 1], img1[k : k + 1], t)
        assert (together[k] - alone[0]).abs().max() < 1e-5


def test_many_timesteps_of_a_pair_are_the_same_as_one_by_one() -> None:
    interp = Interpolator(tiny(), "cpu")
    img0, img1 = interp.encode(picture(50, 70)), picture(50, 70, seed=1)
    together = interp(img0, img1, torch.tensor([0.2, 0.6]))
    assert together.shape == (2, 3, 50, 70)
    for k, t in enumerate((0.2, 0.6)):
        assert (together[k] - interp(img0, img1, t)[0]).abs().max() < 1e-5


@settings(max_examples=25, deadline=None)
@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    flow_scale=st.sampled_from((0.25, 0.5, 1.0, 2.0, 4.0)),
)
def test_every_size_and_scale_works(height: int, width: int, flow_scale: float) -> None:
    interp = Interpolator(tiny(), "cpu", flow_scale=flow_scale)
    img0, img1 = torch.rand(1, 3, height, width), torch.rand(1, 3, height, width)
    result = interp(img0, img1, 0.4)
    assert result.shape == img0.shape and bool(result.isfinite().all())
    low, high = min(img0.min(), img1.min()), max(img0.max(), img1.max())
    assert low - 1e-5 <= result.min() and result.max() <= high + 1e-5  # a convex mix of the inputs


def test_padding_does_not_matter() -> None:
    img0, _, img1 = moved(picture(160, 240), 2)
    interp = Interpolator(bundled(), "cpu")
    height, width = 128, 192
    whole = interp(img0[..., :height, :width], img1[..., :height, :width])
    odd = interp(img0[..., : height - 5, : width - 7], img1[..., : height - 5, : width - 7])
    assert psnr(odd[..., 8:-8, 8:-8], whole[..., 8 : height - 13, 8 : width - 15]) > 38


def test_padding_does_not_darken_the_border() -> None:
    white = torch.ones(1, 3, 33, 47)
    assert Interpolator(tiny(), "cpu")(white, white).min() > 0.999


def test_strides_do_not_matter() -> None:
    interp = Interpolator(tiny(), "cpu")
    img0, img1 = picture(40, 60), picture(40, 60, seed=1)
    expected = interp(img0, img1, 0.3)
    last = img0.contiguous(memory_format=torch.channels_last)
    sliced = torch.zeros(1, 6, 80, 120)[:, ::2, ::2, ::2]
    sliced.copy_(img1)
    mirrored = img0.flip(3).contiguous().flip(3)
    for a in (last, mirrored, img0.double(), img0.transpose(2, 3).contiguous().transpose(2, 3)):
        assert (interp(a, sliced, 0.3) - expected).abs().max() < 1e-5


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_stays_close(precision: str) -> None:
    img0, _, img1 = moved(picture(96, 160), 2)
    full = Interpolator(bundled(), "cpu", "float32")(img0, img1)
    half = Interpolator(bundled(), "cpu", precision=precision)(img0, img1)
    assert half.dtype == torch.float32
    assert 40 < psnr(half, full) < 120  # not the same computation


@pytest.mark.slow
def test_half_precision_holds_in_wide_pictures() -> None:
    img0, _, img1 = moved(picture(208, 3856), 4, 2)
    assert img0.shape[-1] == 3840
    full = Interpolator(bundled(), "cpu", "float32")(img0, img1)
    half = Interpolator(bundled(), "cpu", precision="bfloat16")(img0, img1)
    assert 45 < psnr(half, full) < 120


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_float16_holds_in_wide_pictures() -> None:
    img0, _, img1 = moved(picture(1096, 3856), 4, 2)
    full = Interpolator(midflow.load_model(), "cuda", precision="float32")(img0, img1)
    half = Interpolator(midflow.load_model(), "cuda", precision="float16")(img0, img1)
    assert 45 < psnr(half, full) < 120


def test_networks_of_the_middle_reach_other_times_by_halving(caplog) -> None:
    interp = Interpolator(tiny(TINY_MIDDLE), "cpu")
    img0, img1 = picture(40, 60), picture(40, 60, seed=1)
    middle = interp(img0, img1)
    quarter = interp(img0, middle)
    assert (interp(img0, img1, 0.25) - quarter).abs().max() < 1e-6
    with caplog.at_level(logging.WARNING):
        result = interp(img0, img1, [0.25, 0.26])
    assert (result[0] - quarter[0]).abs().max() < 1e-6
    assert "knows timestep 0.5 only" in caplog.text
    with pytest.raises(OptionError, match=r"flow at timestep 0\.5 only"):
        interp.flow(img0, img1, 0.25)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_halving_keeps_times_apart(times: list[float]) -> None:
    depth = plan_depth(times)
    assert 4 <= depth <= 8
    assert all(abs(float(nearest_dyadic(t, depth)) - t) <= 2 ** -(depth + 1) for t in times)


def test_each_refinement_of_halving_serves_its_times() -> None:
    assert plan_depth([0.5, 0.25]) == 4
    assert plan_depth([k / 32 for k in range(1, 32)]) == 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "half"}, "precision must be one of auto, float32, bfloat16, float16"),
        ({"flow_scale": 0.3}, r"flow_scale must be one of 0\.25, 0\.5"),
        ({"backend": "magic"}, "backend must be one of auto, torch"),
        ({"device": "tpu"}, "device must be auto, cpu, cuda"),
        ({"device": "cuda:99"}, "cuda:99 cannot be used"),
        ({"ensemble": True}, "has no ensemble"),
    ],
)
def test_bad_options_are_named(options: dict, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        Interpolator(tiny(), **{"device": "cpu", **options})


@pytest.mark.parametrize(
    ("img0", "img1", "timestep", "message"),
    [
        (torch.rand(3, 8, 8), torch.rand(3, 8, 8), 0.5, r"shape \(B, 3, H, W\), got \(3, 8, 8\)"),
        (torch.rand(1, 4, 8, 8), torch.rand(1, 4, 8, 8), 0.5, r"got \(1, 4, 8, 8\)"),
        (torch.rand(1, 3, 8, 8), torch.rand(1, 3, 8, 9), 0.5, "one shape"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8),) * 2 + (0.5, "divide by 255"),
        (torch.full((1, 3, 8, 8), 200.0),) * 2 + (0.5, "divide by 255"),
        ("a.png", torch.rand(1, 3, 8, 8), 0.5, "got str"),
        (torch.rand(1, 3, 8, 8), torch.rand(1, 3, 8, 8), 1.5, "between 0 and 1"),
        (torch.rand(1, 3, 8, 8), torch.rand(1, 3, 8, 8), float("nan"), "between 0 and 1"),
        (torch.rand(1, 3, 8, 8), torch.rand(1, 3, 8, 8), [], "between 0 and 1"),
        (torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8), [0.1, 0.2, 0.3], "each of the 2 pairs"),
    ],
)
def test_bad_frames_and_times_are_named(img0, img1, timestep, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        Interpolator(tiny(), "cpu")(img0, img1, timestep)


def test_a_model_name_is_not_a_model() -> None:
    with pytest.raises(OptionError, match="load_model"):
        Interpolator("4.25", "cpu")


def test_flow_scale_changes_the_resolution_of_the_motion_only() -> None:
    img0, truth, img1 = moved(picture(192, 256), 6)
    for flow_scale in (0.5, 2.0):
        result = Interpolator(bundled(), "cpu", flow_scale=flow_scale)(img0, img1)
        assert psnr(result[..., 24:-24, 24:-24], truth[..., 24:-24, 24:-24]) > 28


def test_gradients_are_not_kept() -> None:
    image = picture(32, 32).requires_grad_()
    assert not Interpolator(tiny(), "cpu")(image, image).requires_grad


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("precision", "least"), [("float32", 60), ("float16", 45)])
def test_a_gpu_paints_what_the_cpu_paints(precision: str, least: float) -> None:
    img0, _, img1 = moved(picture(160, 256), 3)
    expected = Interpolator(midflow.load_model(), "cpu")(img0, img1, [0.3, 0.5])
    result = Interpolator(midflow.load_model(), "cuda", precision=precision)(img0, img1, [0.3, 0.5])
    assert result.device.type == "cuda" and psnr(result.cpu(), expected) > least
