"""Wires before a background that moves another way, beside what a network makes of them."""

import math

import pytest
import torch
from torch import Tensor

import midflow
from midflow.errors import OptionError
from midflow.nets.prediction import Prediction
from midflow.wire_painter import WirePainter
from midflow.wires import LEAST, Wires, find_thin, find_wires
from tests.crossfade import CrossFade

HEIGHT, WIDTH = 96, 160
BACKGROUND = 3.0  # pixels a frame, to the right
X = torch.arange(WIDTH, dtype=torch.float32)[None]
Y = torch.arange(HEIGHT, dtype=torch.float32)[:, None]


def background(time: float, seed: int = 0) -> Tensor:
    """Waves longer than 20 pixels, (3, H, W); they move by `BACKGROUND`."""
    random = torch.Generator().manual_seed(seed)
    rows = torch.rand(3, 6, 4, generator=random)
    x = X - BACKGROUND * time
    waves = [
        sum(
            torch.sin(0.3 * (a - 0.5) * x + 0.3 * (b - 0.5) * Y + 6 * c) * d
            for a, b, c, d in row.tolist()
        )
        for row in rows
    ]
    return 0.6 + 0.06 * torch.stack([wave + 0 * x for wave in waves])


def wire(time: float, motion: float, width: float, angle: float = 75.0) -> Tensor:
    """Cover (H, W) of a straight wire across the picture that moves by `motion` to the right."""
    turn = math.radians(angle)
    across = (X - 60 - motion * time) * math.sin(turn) - (Y - HEIGHT / 2) * math.cos(turn)
    return (width / 2 + 0.5 - across.abs()).clamp(0, 1)


def picture(
    time: float, motion: float, width: float = 1.5, ink: float = 0.1, angle: float = 75.0
) -> Tensor:
    cover = wire(time, motion, width, angle)
    return torch.lerp(background(time), torch.full((3, 1, 1), ink), cover)[None]


def blind(img0: Tensor, img1: Tensor, times: list[float]) -> Prediction:
    """What a network makes that sees the background alone: right, but for both copies of a wire."""
    frames, flows = [], []
    for time in times:
        copies = torch.maximum(
            torch.roll((img0[0] - background(0)), round(BACKGROUND * time), -1).abs(),
            torch.roll((img1[0] - background(1)), round(-BACKGROUND * (1 - time)), -1).abs(),
        )
        frames.append((background(time) - 0.5 * copies).clamp(0, 1))
        to0, to1 = -BACKGROUND * time, BACKGROUND * (1 - time)
        flow = torch.tensor([to0, 0, to1, 0]).view(4, 1, 1)
        flows.append(flow.expand(4, HEIGHT, WIDTH))
    weight = torch.full((len(times), 1, HEIGHT, WIDTH), 0.5)
    return Prediction(torch.stack(frames), torch.stack(flows), weight)


def error(found: Tensor, truth: Tensor, near: Tensor) -> float:
    """Root mean square in levels, where the wire is."""
    squares = (found - truth).square().mean(1) * (near > 0)
    return 255 * float((squares.sum() / (near > 0).sum()).sqrt())


@pytest.mark.parametrize("motion", [-20.0, -8.0, 11.0, 16.0, 30.0])
@pytest.mark.parametrize(("width", "ink"), [(1.5, 0.1), (3.0, 0.1), (2.0, 0.98)])
def test_a_wire_is_painted_where_it_is(motion: float, width: float, ink: float) -> None:
    times = [0.25, 0.5, 0.8]
    img0, img1 = picture(0, motion, width, ink), picture(1, motion, width, ink)
    before = blind(img0, img1, times)
    after = WirePainter()(before, img0, img1, torch.tensor(times)).frame
    for k, time in enumerate(times):
        truth, near = picture(time, motion, width, ink), wire(time, motion, width)
        wrong = error(before.frame[k], truth, near)
        assert wrong > 60
        assert error(after[k], truth, near) < 0.35 * wrong
        everywhere = torch.ones_like(near)
        assert error(after[k], truth, everywhere) < 0.5 * error(before.frame[k], truth, everywhere)


@pytest.mark.parametrize("angle", [0.0, 30.0, 90.0, 140.0])
def test_at_any_angle(angle: float) -> None:
    """Of a level wire that moves along itself nothing is to be seen, and nothing is done."""
    img0, img1 = picture(0, 16, angle=angle), picture(1, 16, angle=angle)
    before = blind(img0, img1, [0.5])
    after = WirePainter()(before, img0, img1, torch.tensor([0.5])).frame
    truth, near = picture(0.5, 16, angle=angle), wire(0.5, 16, 1.5, angle)
    if angle == 0:
        assert torch.equal(after, before.frame)
    else:
        assert error(after, truth, near) < 0.4 * error(before.frame, truth, near)


def test_what_goes_with_its_background_is_left_alone() -> None:
    img0, img1 = picture(0, BACKGROUND), picture(1, BACKGROUND)
    before = blind(img0, img1, [0.5])
    assert WirePainter()(before, img0, img1, torch.tensor([0.5])) is before


def test_what_the_network_follows_is_left_to_it() -> None:
    """The same wires with flows that lead along the wire, where it is."""
    img0, img1 = picture(0, 16), picture(1, 16)
    before = blind(img0, img1, [0.5])
    assert found(img0, img1, before.flow) is not None
    on_wire = torch.nn.functional.max_pool2d(wire(0.5, 16, 1.5)[None], 9, 1, 4) > 0
    flow = torch.where(on_wire[None], torch.tensor([-8.0, 0, 8, 0]).view(1, 4, 1, 1), before.flow)
    assert found(img0, img1, flow) is None


def found(img0: Tensor, img1: Tensor, flow: Tensor) -> Wires | None:
    return find_wires(find_thin(img0), find_thin(img1), flow, 0.5)


def test_noise_and_texture_are_no_wires() -> None:
    torch.manual_seed(0)
    img0, img1 = torch.rand(2, 1, 3, HEIGHT, WIDTH)
    assert found(img0, img1, torch.zeros(1, 4, HEIGHT, WIDTH)) is None
    few = (torch.rand(2, 1, 1, HEIGHT, WIDTH) < 0.01).float()  # specks, each time elsewhere
    assert (
        found(
            *(background(0)[None] * (1 - specks) for specks in few), blind(img0, img1, [0.5]).flow
        )
        is None
    )


def test_motion_and_background_are_those_drawn() -> None:
    img0, img1 = picture(0, 19), picture(1, 19)
    wires = found(img0, img1, blind(img0, img1, [0.5]).flow)
    assert wires is not None and len(wires.places) > LEAST
    angle = math.radians(75)
    normal = torch.tensor([math.sin(angle), -math.cos(angle)])
    apart = (wires.motion - wires.background) @ normal
    assert float((apart - 16 * math.sin(angle)).abs().mean()) < 0.6
    torch.testing.assert_close(wires.background, torch.tensor([3.0, 0]).expand(len(apart), 2))


def test_backwards_is_the_same() -> None:
    img0, img1 = picture(0, 16), picture(1, 16)
    before = blind(img0, img1, [0.3])
    turned = Prediction(before.frame, before.flow[:, [2, 3, 0, 1]], 1 - before.weight)
    ahead = WirePainter()(before, img0, img1, torch.tensor([0.3])).frame
    back = WirePainter()(turned, img1, img0, torch.tensor([0.7])).frame
    near = wire(0.3, 16, 1.5)
    assert error(ahead, back, near) < 0.3 * error(before.frame, ahead, near)


def test_pairs_in_a_batch_have_wires_of_their_own() -> None:
    pairs = [(picture(0, m), picture(1, m)) for m in (16, BACKGROUND, -9)]
    img0, img1 = (torch.cat(images) for images in zip(*pairs, strict=True))
    parts = [blind(a, b, [0.5]) for a, b in pairs]
    batch = Prediction(*(torch.cat(part) for part in zip(*parts, strict=True)))
    together = WirePainter()(batch, img0, img1, torch.tensor([0.5, 0.5, 0.5])).frame
    for k, (a, b) in enumerate(pairs):
        single = WirePainter()(parts[k], a, b, torch.tensor([0.5])).frame
        torch.testing.assert_close(together[k], single[0])
    assert torch.equal(together[1], batch.frame[1])
    assert not torch.equal(together[0], batch.frame[0])


def test_the_bundled_network_shows_wires_with_it_and_not_without() -> None:
    img0, img1 = picture(0, 16), picture(1, 16)
    truth, near = picture(0.5, 16), wire(0.5, 16, 1.5)
    model = midflow.load_model()
    on, off = (midflow.Interpolator(model, "cpu", wires=wires) for wires in ("auto", "off"))
    wrong = error(off(img0, img1), truth, near)
    assert error(on(img0, img1), truth, near) < 0.5 * wrong
    torch.testing.assert_close(off(img0, img1), off.predict(img0, img1).frame)


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (200, 3), (7, 9)])
def test_small_pictures(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    img0, img1 = torch.rand(2, 1, 3, *size)
    interp = midflow.Interpolator(CrossFade(), "cpu")
    assert interp(img0, img1).shape == img0.shape


def test_another_word_is_an_error() -> None:
    with pytest.raises(OptionError, match="wires must be one of"):
        midflow.Interpolator(CrossFade(), "cpu", wires="yes")
