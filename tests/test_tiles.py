from itertools import pairwise

import pytest
import torch

import midflow
from midflow.errors import OptionError
from midflow.interpolator import Interpolator
from midflow.tiles import OVERLAP, _spans, in_tiles, tile_size
from tests.crossfade import CrossFade
from tests.test_interpolator import moved, picture, psnr


@pytest.mark.parametrize(("length", "side"), [(64, 256), (256, 256), (320, 256), (1984, 512)])
def test_shares_sum_to_one_and_tiles_begin_on_the_grid(length, side):
    spans = _spans(length, side)
    total = torch.zeros(length)
    for first, share in spans:
        assert first % 64 == 0
        total[first : first + len(share)] += share
    torch.testing.assert_close(total, torch.ones(length))
    assert spans[0][0] == 0 and spans[-1][0] + len(spans[-1][1]) == length


def test_neighbouring_tiles_share_the_overlap():
    firsts = [first for first, _ in _spans(1984, 512)]
    assert all(b - a <= 512 - OVERLAP for a, b in pairwise(firsts))


def test_a_picture_is_put_together_from_its_tiles():
    image = torch.rand(2, 3, 640, 704)
    whole = in_tiles(lambda crop: 2 * crop(image), (640, 704), 256)
    torch.testing.assert_close(whole, 2 * image)


def test_the_network_sees_no_more_than_a_tile():
    seen = []

    class Watched(CrossFade):
        def forward(self, frame0, *rest, **options):
            seen.append(tuple(frame0.image.shape[-2:]))
            return super().forward(frame0, *rest, **options)

    img0, img1 = torch.rand(1, 3, 500, 300), torch.rand(1, 3, 500, 300)
    tiled = Interpolator(Watched(), "cpu", tile=256)(img0, img1, [0.25, 0.5])
    assert set(seen) == {(256, 256)} and len(seen) == 6
    whole = Interpolator(CrossFade(), "cpu")(img0, img1, [0.25, 0.5])
    torch.testing.assert_close(tiled, whole)


def test_tiles_meet_whole_pictures():
    img0, _, img1 = moved(picture(360, 360), 5, 3)
    model = midflow.load_model()
    whole, flow = Interpolator(model, "cpu"), None
    tiled = Interpolator(model, "cpu", tile=256)
    assert psnr(tiled(img0, img1), whole(img0, img1)) > 45
    flow, weight = tiled.flow(img0, img1)
    assert flow.shape[1:] == (4, *img0.shape[-2:]) and weight.shape[1] == 1
    assert (flow - whole.flow(img0, img1)[0]).abs().mean() < 0.3


def test_tiles_fit_the_grid_of_the_network():
    assert tile_size(300, 64) == 320
    assert tile_size(512, 128) == 512
    assert tile_size(1, 48) == 288


def test_tiles_too_small_are_refused():
    with pytest.raises(OptionError, match="tile must be 0 or at least 256 pixels, got 32"):
        Interpolator(CrossFade(), "cpu", tile=32)
