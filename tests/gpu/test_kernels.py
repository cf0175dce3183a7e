"""Each kernel beside the operations in nets/ that it stands in for."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from midflow.nets.correlation import correlation
from midflow.nets.photometric import photometric_step
from midflow.nets.pyramid import blend
from midflow.nets.pyramid_blocks import passing
from midflow.nets.warp import resize, warp

launch = pytest.importorskip("midflow.gpu.launch", reason="Triton is not installed")

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"  # there, kernels run step by step
SIZES = [(1, 1), (3, 7), (13, 11), (16, 24)]
FAR = 1e6  # pixels


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def pictures(height: int, width: int, batch: int = 1) -> Tensor:
    """(2, batch, height, width, 4), the last channel 0."""
    made = torch.rand(2, batch, height, width, 4, device=DEVICE)
    made[..., 3] = 0
    return made


def planes(pixels: Tensor) -> Tensor:
    """(B, H, W, C) -> (B, C, H, W)."""
    return pixels.movedim(-1, 1)


def estimate(height: int, width: int, batch: int = 1, motion: float = 3.0) -> Tensor:
    made = torch.randn(batch, height, width, 16, device=DEVICE)
    made[..., :4] *= motion
    return made


def close(found: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    assert expected.isfinite().all()
    torch.testing.assert_close(found.float(), expected.float(), atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_planes_become_pixels(height: int, width: int) -> None:
    image = torch.rand(2, 3, width, height, device=DEVICE).transpose(2, 3)  # not contiguous
    picture, elements = launch.interleave(image, torch.float32)
    close(planes(picture)[:, :3], image, 0)
    close(planes(elements)[:, :3], image, 0)
    assert not picture[..., 3:].any() and not elements[..., 3:].any()


@pytest.mark.parametrize(("height", "width"), [(1, 1), (6, 10), (12, 16), (7, 13)])
def test_halving_takes_means_and_repeats_the_last_ones(height: int, width: int) -> None:
    whole = pictures(height, width, 2)[0]
    half, elements = launch.halve(whole, torch.float32)
    cells = F.pad(planes(whole), (0, -width % 8, 0, -height % 8), mode="replicate")
    expected = F.avg_pool2d(cells, 2)
    close(planes(half), expected)
    spare = (0, -expected.shape[-1] % 8, 0, -expected.shape[-2] % 8)
    close(planes(elements)[:, :4], F.pad(expected, spare, mode="replicate"))


@pytest.mark.parametrize("leaky", [True, False])
@pytest.mark.parametrize("channels", [8, 24, 96])
def test_bias_and_activation_are_added(channels: int, leaky: bool) -> None:
    x, bias = torch.randn(2, 5, 9, channels, device=DEVICE), torch.randn(channels, device=DEVICE)
    expected = F.leaky_relu(x + bias, 0.2) if leaky else x + bias
    close(launch.finish(x, bias, leaky=leaky), expected)


@pytest.mark.parametrize("motion", [3.0, FAR, 1e30])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_both_frames_are_warped_as_each_alone(height: int, width: int, motion: float) -> None:
    both, known = pictures(height, width, 2), estimate(height, width, 2, motion)
    warped = launch.warp_both(*both, known, 1.0)
    flow = planes(known).clamp(-FAR, FAR)  # beyond, torch's own grid is no number
    for k in range(2):
        close(planes(warped[k]), warp(planes(both[k]), flow[:, 2 * k : 2 * k + 2]), 1e-4)


def test_a_smaller_estimate_is_enlarged_first() -> None:
    both, known = pictures(12, 20), estimate(8, 12)
    warped = launch.warp_both(*both, known, 2.0)
    flow = resize(planes(known)[:, :4], 2)[..., :12, :20] * 2
    close(planes(warped[1]), warp(planes(both[1]), flow[:, 2:]), 1e-4)


def test_a_frame_that_meets_two_times_is_read_where_it_is() -> None:
    both, known = pictures(9, 11), estimate(9, 11, 2)
    once = [picture.expand(2, -1, -1, -1) for picture in both]
    found = launch.warp_both(*once, known, 1.0)
    close(found, launch.warp_both(*(picture.contiguous() for picture in once), known, 1.0), 1e-6)


@pytest.mark.filterwarnings("ignore:invalid value")  # of numpy, in which Triton runs here
def test_no_number_leads_outside_of_memory() -> None:
    both, known = pictures(9, 11), estimate(9, 11)
    known[..., 4, 5, :4] = float("nan")
    known[..., 2, 3, :4] = float("inf")
    warped = launch.warp_both(*both, known, 1.0)
    assert warped[:, :, 6:].isfinite().all()


@pytest.mark.parametrize(("height", "width"), [*SIZES, (2, 9), (9, 2), (21, 5)])
def test_the_photometric_step_is_that_of_the_network(height: int, width: int) -> None:
    first, second = pictures(height, width, 2)
    second = (first + 0.8 * (second - 0.5)) * (first > 0)
    time = torch.tensor([0.2, 0.7], device=DEVICE)
    expected = photometric_step(planes(first)[:, :3], planes(second)[:, :3], time.view(2, 1, 1, 1))
    found = launch.photometric_step(first, second, time)
    close(found, expected, 1e-4)
    assert height * width == 1 or expected.abs().max() > 0.05  # there is something to find


@pytest.mark.parametrize(
    ("radius", "height", "width"), [(1, 9, 14), (3, 3, 4), (3, 9, 8), (4, 5, 6)]
)
def test_views_are_compared_as_correlation_says(radius: int, height: int, width: int) -> None:
    matched, bias = torch.randn(4, height, width, 8, device=DEVICE), torch.randn(8, device=DEVICE)
    entered = torch.randn(2, height, width, 24, device=DEVICE)
    entered_bias = torch.randn(24, device=DEVICE)
    unit = planes(matched + bias)
    unit = F.normalize(unit - unit.mean(1, keepdim=True), dim=1, eps=1e-2)
    unit0, unit1 = unit.chunk(2)
    alike = correlation(unit0, unit1, radius)
    passes = passing(alike, (unit0 - unit1).square().sum(1, keepdim=True), radius)
    merged = planes(launch.match(matched.clone(), bias, entered, entered_bias, radius))
    close(merged[:, :24], F.leaky_relu(planes(entered + entered_bias), 0.2))
    side, slots = 2 * radius + 1, launch.slots(radius)
    rows, last = merged[:, 24 : 24 + side * slots], merged[:, 24 + side * slots :]
    rows = rows.unflatten(1, (side, slots))
    close(rows[:, :, :side].flatten(1, 2), F.leaky_relu(alike, 0.2))
    close(last[:, :3], passes)
    assert not rows[:, :, side:].any() and not last[:, 3:].any()


@pytest.mark.parametrize("slowest", [0.0, 3.0])
@pytest.mark.parametrize("is_first", [True, False])
def test_a_level_adds_what_its_block_found(is_first: bool, slowest: float) -> None:
    before = None if is_first else estimate(8, 8, 2)
    both, time = pictures(8, 12, 2), torch.tensor([0.25, 0.5], device=DEVICE)
    level = launch.Level(both[0], both[0], both[1], both[1], before, time)
    out, bias = torch.randn(2, 4, 6, 64, device=DEVICE), torch.randn(64, device=DEVICE)
    missed = torch.randn(2, 2, 8, 12, device=DEVICE)
    found = planes(launch.update(out, bias, level, missed, 9, slowest))
    cells = planes(out + bias).unflatten(1, (4, 16)).transpose(1, 2).flatten(1, 2)
    expected = F.pixel_shuffle(cells, 2)
    t = time.view(2, 1, 1, 1)
    expected[:, :4] += expected[:, 9:10] * torch.cat((-t * missed, (1 - t) * missed), 1)
    if before is not None:
        expected[:, :4] += 2 * resize(planes(before)[:, :4], 2)[..., :8, :12]
    is_fast = (expected[:, 2:4] - expected[:, :2]).norm(dim=1, keepdim=True) >= slowest
    assert is_fast.all() == (slowest == 0)
    close(found[:, :9], (expected * is_fast)[:, :9])


@pytest.mark.parametrize(("ratio", "motion"), [(2.0, 3.0), (1.0, 0.5), (0.5, 5.0), (2.0, FAR)])
def test_painting_reads_bicubically_mixes_and_limits(ratio: float, motion: float) -> None:
    both, known = pictures(8, 16, 2), estimate(int(8 / ratio), int(16 / ratio), 2, motion)
    both[0, 1] *= 2  # beyond white
    ends = [torch.stack((x.amin((1, 2, 3)), x.amax((1, 2, 3))), 1) for x in both]
    ends0, ends1 = (torch.stack((e[:, 0].clamp(max=0), e[:, 1].clamp(min=1)), 1) for e in ends)
    time, missed = torch.tensor([0.2, 0.7], device=DEVICE), torch.randn(2, 2, 8, 16, device=DEVICE)
    out, bias = torch.randn(2, 4, 8, 32, device=DEVICE), torch.randn(32, device=DEVICE)
    shape = (2, 1, 1, 2)
    whole = launch.Whole(both[0], ends0.view(shape), both[1], ends1.view(shape), known, time)
    painted = launch.paint(whole, out, bias, missed, only_frame=False)
    cells = planes(out + bias).unflatten(1, (4, 8)).transpose(1, 2).flatten(1, 2)
    change, t = F.pixel_shuffle(cells, 2), time.view(2, 1, 1, 1)
    known = resize(planes(known)[:, :5], ratio)
    flow = known[:, :4] * ratio + change[:, :4]
    flow += change[:, 5:6] * torch.cat((-t * missed, (1 - t) * missed), 1)
    weight = torch.sigmoid(known[:, 4:] + change[:, 4:5])
    close(painted.flow, flow, 1e-4)
    close(painted.weight, weight)
    frame = blend(planes(both[0])[:, :3], planes(both[1])[:, :3], flow, weight)
    close(painted.frame, frame, 1e-3 if motion < FAR else 2e-3)
    assert frame[1].max() > 1 and frame[0].max() <= 1
    alone = launch.paint(whole, out, bias, missed, only_frame=True)
    assert torch.equal(alone.frame, painted.frame) and alone.flow.numel() == 0
