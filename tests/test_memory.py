import logging

import pytest
import torch

from midflow import memory
from midflow.errors import MidflowError
from midflow.interpolator import Interpolator
from midflow.memory import Settings, Shortage, estimate_bytes, is_memory_error
from midflow.nets.pyramid_config import DEFAULT_CONFIG
from tests.crossfade import CrossFade

CPU, GPU = torch.device("cpu"), torch.device("cuda")
LARGE = torch.Size((1, 3, 2160, 3840))


class Hungry(CrossFade):
    """Runs out of memory above so many pixels."""

    def __init__(self, most):
        super().__init__()
        self.most = most

    def forward(self, frame0, *rest, **options):
        if frame0.image[0, 0].numel() > self.most:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate")
        return super().forward(frame0, *rest, **options)


def ladder(device, room, monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda _: room)
    return Shortage(DEFAULT_CONFIG, device).foresee(Settings(), LARGE)


def test_a_picture_that_fits_keeps_its_settings(monkeypatch):
    assert ladder(CPU, 1 << 50, monkeypatch) == Settings()
    assert ladder(CPU, None, monkeypatch) == Settings()


def test_settings_step_down_until_the_estimate_fits(monkeypatch, caplog):
    wanted = estimate_bytes(DEFAULT_CONFIG, LARGE, Settings())
    with caplog.at_level(logging.WARNING):
        assert ladder(CPU, wanted - 1, monkeypatch) == Settings(flow_scale=0.5)
        assert ladder(GPU, wanted - 1, monkeypatch) == Settings(precision="float16")
        tiled = ladder(CPU, wanted // 5, monkeypatch)
    assert tiled.tile in memory.TILES and tiled.flow_scale == 0.5
    assert "going on with float32, flow_scale 0.5, tiles of" in caplog.text


def test_an_estimate_near_the_limit_is_shown(monkeypatch, caplog):
    wanted = estimate_bytes(DEFAULT_CONFIG, LARGE, Settings())
    with caplog.at_level(logging.WARNING):
        ladder(CPU, 2 * wanted, monkeypatch)
        assert not caplog.text
        ladder(CPU, round(1.1 * wanted), monkeypatch)
    assert "takes about" in caplog.text


def test_estimates_grow_with_the_picture_and_fall_with_tiles():
    small = estimate_bytes(DEFAULT_CONFIG, (1, 3, 480, 848), Settings())
    large = estimate_bytes(DEFAULT_CONFIG, (1, 3, 960, 1696), Settings())
    assert large > 3 * small
    tiles = [estimate_bytes(DEFAULT_CONFIG, LARGE, Settings(tile=t)) for t in (0, 1024, 256)]
    assert tiles == sorted(tiles, reverse=True)


def test_a_picture_too_large_is_painted_in_tiles(caplog):
    img0, img1 = torch.rand(1, 3, 300, 400), torch.rand(1, 3, 300, 400)
    interp = Interpolator(Hungry(256 * 256), "cpu")
    with caplog.at_level(logging.WARNING):
        result = interp(img0, img1)
    torch.testing.assert_close(result, Interpolator(CrossFade(), "cpu")(img0, img1))
    assert interp.settings == Settings(flow_scale=0.5, tile=256)
    assert "out of memory with float32, flow_scale 1: going on with" in caplog.text


def test_what_does_not_fit_at_all_is_said():
    interp = Interpolator(Hungry(0), "cpu")
    with pytest.raises(MidflowError, match="300x200 does not fit into the memory of cpu even in"):
        interp(torch.rand(1, 3, 200, 300), torch.rand(1, 3, 200, 300))


def test_other_errors_are_no_shortage():
    class Broken(CrossFade):
        def forward(self, *frames, **options):
            raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        Interpolator(Broken(), "cpu")(torch.rand(1, 3, 64, 64), torch.rand(1, 3, 64, 64))
    assert is_memory_error(MemoryError()) and not is_memory_error(ValueError("no"))


def test_no_numbers_in_half_precision_are_computed_again(caplog):
    class Overflowing(CrossFade):
        def forward(self, *frames, **options):
            prediction = super().forward(*frames, **options)
            lost = float("nan") if torch.is_autocast_enabled("cpu") else 0.0
            return prediction._replace(frame=prediction.frame + lost)

    interp = Interpolator(Overflowing(), "cpu", precision="bfloat16")
    with caplog.at_level(logging.WARNING):
        assert interp(torch.rand(1, 3, 64, 64), torch.rand(1, 3, 64, 64)).isfinite().all()
    assert interp.precision == "float32"
    assert "bfloat16 gave values that are no numbers: going on in float32" in caplog.text


def test_what_is_available_is_known_here_or_not_asked_for():
    room = memory.available_bytes(CPU)
    assert room is None or room > 1 << 20
