"""Convolutions by minimal filtering give what torch's give, in every variant of the kernels."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from midflow.native.convolution import Convolution, Form
from midflow.native.library import Buffers, load_library
from midflow.native.winograd import WinogradConvolution, _is_slower, make_convolution

LIBRARY = load_library()
pytestmark = pytest.mark.skipif(LIBRARY is None, reason="installed without a C compiler")
HAS_BFLOAT16 = LIBRARY is not None and LIBRARY.midflow_fewest_channels(True) > 0
FORMS = (Form(), Form(transposed=True), Form(stride=2), Form(residual=True))


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def reference(x: Tensor, weight: Tensor, bias: Tensor, form: Form) -> Tensor:
    planes, weight, bias = x.double().permute(0, 3, 1, 2), weight.double(), bias.double()
    if form.transposed:
        y = F.conv_transpose2d(planes, weight, bias, 2, 1)
    else:
        y = F.conv2d(planes, weight, bias, form.stride, 1)
    y = y + planes if form.residual else y
    return (F.leaky_relu(y, 0.2) if form.leaky else y).permute(0, 2, 3, 1)


def error(found: Tensor, expected: Tensor) -> float:
    assert found.shape == expected.shape
    return float((found.double() - expected).norm() / expected.norm())


def draw(
    form: Form, height: int, width: int, channels: int, outputs: int
) -> tuple[Tensor, Tensor, Tensor]:
    if form.residual:
        outputs = channels
    shape = (channels, outputs, 4, 4) if form.transposed else (outputs, channels, 3, 3)
    weight = torch.randn(shape) / (shape[2] * channels**0.5)
    return torch.randn(1, height, width, channels), weight, torch.randn(outputs)


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("size", ((8, 8), (5, 11), (1, 1), (33, 70)))
@pytest.mark.parametrize("channels, outputs", ((16, 16), (24, 32), (33, 49), (96, 64)))
def test_every_variant_convolves(
    processor: str, form: Form, size: tuple[int, int], channels: int, outputs: int
) -> None:
    x, weight, bias = draw(form, *size, channels, outputs)
    found = WinogradConvolution(weight, bias, torch.float32, form)(x, Buffers())
    assert error(found, reference(x, weight, bias, form)) < 3e-6


@settings(max_examples=60, deadline=None)
@given(
    form=st.sampled_from(FORMS),
    height=st.integers(1, 40),
    width=st.integers(1, 60),
    channels=st.integers(8, 60).map(lambda half: 2 * half),
    outputs=st.integers(16, 130),
    leaky=st.booleans(),
)
def test_any_size_and_width(
    form: Form, height: int, width: int, channels: int, outputs: int, leaky: bool
) -> None:
    x, weight, bias = draw(form, height, width, channels, outputs)
    form = replace(form, leaky=leaky)
    expected = reference(x, weight, bias, form)
    convolution = WinogradConvolution(weight, bias, torch.float32, form)
    assert error(convolution(x, Buffers()), expected) < 3e-6
    if HAS_BFLOAT16:
        half = WinogradConvolution(weight, bias, torch.bfloat16, form)
        assert error(half(x.bfloat16(), Buffers()), expected) < 2e-2


def test_as_few_channels_as_a_vector_holds(processor: str) -> None:
    assert LIBRARY is not None
    fewest = LIBRARY.midflow_fewest_channels(False)
    assert fewest == (16 if processor == "AVX-512" else 8)
    x, weight, bias = draw(Form(transposed=True), 9, 12, fewest, fewest)
    convolution = make_convolution(weight, bias, torch.float32, Form(transposed=True))
    assert (
        error(convolution(x, Buffers()), reference(x, weight, bias, Form(transposed=True))) < 3e-6
    )
    few = make_convolution(weight[:, 1:], bias[1:], torch.float32, Form(transposed=True))
    assert isinstance(few, Convolution)


@pytest.mark.parametrize("form", FORMS[:3], ids=str)
@pytest.mark.parametrize("leaky", (True, False))
def test_where_torch_has_no_onednn_it_makes_the_others(
    monkeypatch: pytest.MonkeyPatch, form: Form, leaky: bool
) -> None:
    x, weight, bias = draw(form, 9, 12, 4, 24)
    form = replace(form, leaky=leaky)
    convolution = make_convolution(weight, bias, torch.float32, form)
    assert isinstance(convolution, Convolution)
    by_onednn = convolution(x, Buffers())
    monkeypatch.setattr("midflow.native.convolution.has_onednn", bool)
    found = convolution(x, Buffers())
    assert found.is_contiguous()
    assert error(found, reference(x, weight, bias, form)) < 3e-6
    assert torch.allclose(found, by_onednn, atol=1e-5)


@pytest.mark.skipif(not HAS_BFLOAT16, reason="this processor multiplies no bfloat16")
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_bfloat16_rounds_little_more_than_a_direct_convolution(form: Form) -> None:
    x, weight, bias = draw(form, 40, 60, 96, 96)
    x, weight = x.bfloat16(), weight.bfloat16().float()
    expected = reference(x, weight, bias, form)
    direct = error(Convolution(weight, bias, torch.bfloat16, form)(x, Buffers()), expected)
    found = error(WinogradConvolution(weight, bias, torch.bfloat16, form)(x, Buffers()), expected)
    assert direct < 4e-3
    assert found < 6 * direct


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_nothing_leaks_between_pictures_pieces_and_threads(form: Form) -> None:
    first, weight, bias = draw(form, 70, 90, 48, 40)
    second = torch.full_like(first, float("nan"))
    convolution, buffers = WinogradConvolution(weight, bias, torch.float32, form), Buffers()
    alone = convolution(first, buffers, keep=True)
    both = convolution(torch.cat((second, first)), buffers)
    assert both[0].isnan().all()
    assert torch.equal(both[1:], alone)
    before = torch.get_num_threads()
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            assert torch.equal(convolution(first, buffers), alone)
    finally:
        torch.set_num_threads(before)


def test_outputs_take_turns_unless_they_are_kept() -> None:
    x, weight, bias = draw(Form(residual=True), 9, 9, 16, 16)
    convolution, buffers = WinogradConvolution(weight, bias, torch.float32, Form()), Buffers()
    one = convolution(x, buffers)
    two = convolution(one, buffers)
    assert convolution(two, buffers).data_ptr() == one.data_ptr() != two.data_ptr()
    kept = convolution(two, buffers, keep=True)
    assert kept.data_ptr() not in (one.data_ptr(), two.data_ptr())


@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16), ids=str)
def test_few_channels_are_left_to_onednn_and_odd_ones_in_bfloat16(dtype: torch.dtype) -> None:
    assert LIBRARY is not None
    is_half = dtype is torch.bfloat16
    has_some = HAS_BFLOAT16 if is_half else not _is_slower(dtype)
    for channels, outputs, is_ours in (
        (4, 32, False),
        (33, 32, not is_half),
        (32, 4, False),
        (32, 17, True),
    ):
        _, weight, bias = draw(Form(), 1, 1, channels, outputs)
        found = make_convolution(weight, bias, dtype, Form())
        assert isinstance(found, WinogradConvolution) is (is_ours and has_some)
