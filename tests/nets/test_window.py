"""Windows of pictures."""

import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from midflow.nets.window import mean_around


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 9))
def test_means_are_of_what_lies_in_the_picture(height: int, width: int, reach: int) -> None:
    torch.manual_seed(height * width)
    picture = torch.rand(2, 3, height, width)
    side = 2 * reach + 1
    expected = F.avg_pool2d(picture.double(), side, 1, reach, count_include_pad=False)
    assert (mean_around(picture, reach) - expected).abs().max() < 1e-6
