import torch
from hypothesis import given
from hypothesis import strategies as st

from midflow.padding import Padding


@given(
    height=st.integers(1, 40), width=st.integers(1, 40), multiple=st.sampled_from((1, 4, 16, 64))
)
def test_unpadding_undoes_padding(height: int, width: int, multiple: int) -> None:
    x = torch.rand(1, 2, height, width)
    padding = Padding(height, width, multiple)
    padded = padding.pad(x)
    assert tuple(padded.shape[-2:]) == padding.padded
    assert all(side % multiple == 0 and side - multiple < old for side, old in
               zip(padding.padded, (height, width), strict=True))  # fmt: skip
    assert torch.equal(padding.unpad(padded), x)


def test_the_border_is_replicated() -> None:
    padded = Padding(2, 2, 4).pad(torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]))
    assert padded[0, 0].tolist() == [[1, 2, 2, 2], [3, 4, 4, 4], [3, 4, 4, 4], [3, 4, 4, 4]]
