"""Convolutions by midflow's own kernel beside torch's."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import midflow
from midflow.gpu.network import TritonNetwork
from midflow.native.convolution import Form
from tests.gpu.test_network import DEVICE, HAS_GPU, SHALLOW, ifnet
from tests.native.test_native import frames, largest_difference, network

fused = pytest.importorskip("midflow.gpu.fused_convolution", reason="Triton is not installed")
convolution = pytest.importorskip("midflow.gpu.convolution")

FORMS = [
    Form(),
    Form(leaky=False),
    Form(residual=True),
    Form(stride=2),
    Form(stride=2, leaky=False),
    Form(transposed=True, leaky=False),
]
# Half of the last digit; Triton's interpreter cuts bfloat16 off instead of rounding.
ROUNDING = {
    torch.float32: 2.0**-17,
    torch.float16: 2.0**-11,
    torch.bfloat16: 2.0**-8 if HAS_GPU else 2.0**-7,
}
ROUGH = 2.0**-8  # what factors of 10 bits, as TF32's, leave of a sum of some hundred terms
LARGE = fused.Tile(columns=16, rows=8, wide=128, warps=8, stages=3)


@pytest.fixture(autouse=True)
def exact_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """float32 is float32; and Triton's interpreter multiplies bfloat16 as numbers, not as bits."""
    torch.manual_seed(0)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    if HAS_GPU:
        return
    from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

    def numbers(factor: TensorHandle) -> np.ndarray:
        data = factor.data
        return data if data.dtype != np.uint16 else (data.astype(np.uint32) << 16).view(np.float32)

    def dot(
        self: InterpreterBuilder, a: TensorHandle, b: TensorHandle, d: TensorHandle, *_: object
    ):
        return TensorHandle(np.matmul(numbers(a), numbers(b), dtype=np.float32) + d.data, d.dtype)

    monkeypatch.setattr(InterpreterBuilder, "create_dot", dot)


def made(form: Form, channels: int, outputs: int) -> tuple[Tensor, Tensor]:
    """Weight and bias, such that what comes out is about as large as what goes in."""
    side, pair = (4, (channels, outputs)) if form.transposed else (3, (outputs, channels))
    weight = torch.randn(*pair, side, side, device=DEVICE) / (9 * channels) ** 0.5
    return weight, torch.randn(outputs, device=DEVICE)


def pixels(channels: int, dtype: torch.dtype, batch: int = 2, height: int = 7, width: int = 11):
    return torch.randn(batch, height, width, channels, device=DEVICE).to(dtype)


def expected(x: Tensor, weight: Tensor, bias: Tensor, form: Form) -> Tensor:
    """By torch, of the same rounded factors, in float64."""
    planes = x.double().permute(0, 3, 1, 2)
    if form.residual:
        weight = weight.clone()
        weight[range(len(weight)), range(len(weight)), 1, 1] += 1
    weight, bias = weight.to(x.dtype).double(), bias.double()
    if form.transposed:
        y = F.conv_transpose2d(planes, weight, bias, 2, 1)
    else:
        y = F.conv2d(planes, weight, bias, form.stride, 1)
    y = F.leaky_relu(y, 0.2) if form.leaky else y
    return y.permute(0, 2, 3, 1)


def close(found: Tensor, wanted: Tensor, rounding: float | None = None) -> None:
    assert found.is_contiguous()
    rounding = rounding or ROUNDING[found.dtype]
    torch.testing.assert_close(found.double(), wanted, atol=1e-5 + rounding / 16, rtol=rounding)


@pytest.mark.parametrize("dtype", ROUNDING)
@pytest.mark.parametrize("form", FORMS)
def test_it_computes_what_torch_computes(form: Form, dtype: torch.dtype) -> None:
    x, (weight, bias) = pixels(24, dtype), made(form, 24, 24)
    found = fused.FusedConvolution(weight, bias, dtype, form)(x)
    close(found, expected(x, weight, bias, form))


@pytest.mark.parametrize("form", [Form(), Form(stride=2), Form(transposed=True, leaky=False)])
@pytest.mark.parametrize(("channels", "outputs"), [(8, 40), (40, 8), (96, 24), (64, 96)])
@pytest.mark.parametrize("deep", [32, 64])
def test_any_channels(form: Form, channels: int, outputs: int, deep: int) -> None:
    x, (weight, bias) = pixels(channels, torch.float32, 1, 5, 7), made(form, channels, outputs)
    found = fused.FusedConvolution(weight, bias, torch.float32, form, deep, LARGE)(x)
    close(found, expected(x, weight, bias, form))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 3), (9, 33), (17, 16)])
@pytest.mark.parametrize("form", [Form(), Form(stride=2), Form(transposed=True, leaky=False)])
def test_any_size(form: Form, height: int, width: int) -> None:
    x, (weight, bias) = pixels(8, torch.float16, 2, height, width), made(form, 8, 16)
    found = fused.FusedConvolution(weight, bias, torch.float16, form)(x)
    close(found, expected(x, weight, bias, form))


@pytest.mark.parametrize("form", FORMS)
def test_a_product_is_what_is_there_before_bias_and_activation(form: Form) -> None:
    x, (weight, bias) = pixels(24, torch.float16), made(form, 24, 24)
    found = fused.FusedConvolution(weight, bias, torch.float16, form).product(x)
    close(found, expected(x, weight, torch.zeros_like(bias), replace(form, leaky=False)))


@pytest.mark.parametrize("form", FORMS)
def test_it_stands_in_for_the_other_class(form: Form) -> None:
    x, (weight, bias) = pixels(24, torch.float32), made(form, 24, 24)
    one, other = (
        make(weight, bias, torch.float32, form)
        for make in (fused.FusedConvolution, convolution.Convolution)
    )
    close(one(x), other(x).double())
    close(one.product(x), other.product(x).double())


def test_tf32_stays_near(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    x, (weight, bias) = pixels(24, torch.float32), made(Form(), 24, 40)
    found = fused.FusedConvolution(weight, bias, torch.float32, Form())(x)
    close(found, expected(x, weight, bias, Form()), ROUGH)


@pytest.mark.parametrize("form", [Form(), Form(stride=2), Form(transposed=True, leaky=False)])
def test_a_kernel_turned_over_is_told(form: Form) -> None:
    x, (weight, bias) = pixels(24, torch.bfloat16), made(form, 24, 24)
    turned = fused.FusedConvolution(weight.mT.contiguous(), bias, torch.bfloat16, form)(x)
    with pytest.raises(AssertionError, match="Tensor-likes are not close"):
        close(turned, expected(x, weight, bias, form))


@pytest.mark.parametrize("channels", [8, 32])
def test_a_value_that_is_no_number_reaches_its_neighbours_only(channels: int) -> None:
    x, (weight, bias) = pixels(channels, torch.float16, 2), made(Form(), channels, 8)
    x[0, 3, 5] = float("nan")
    bad = ~fused.FusedConvolution(weight, bias, torch.float16, Form())(x).isfinite()
    assert bad[0, 2:5, 4:7].all() and int(bad.sum()) == 9 * 8


def test_a_frame_comes_out_the_same_in_any_batch() -> None:
    x, (weight, bias) = pixels(24, torch.float16, 3), made(Form(), 24, 40)
    convolve = fused.FusedConvolution(weight, bias, torch.float16, Form())
    assert torch.equal(convolve(x), torch.cat([convolve(x[k : k + 1]) for k in range(3)]))


def test_pictures_get_large_tiles_and_small_levels_many() -> None:
    precise = {"is_half": True, "is_exact": False}
    assert fused.choose_tile(544, 960, 24, 1, **precise)[:3] == (16, 8, 32)
    assert fused.choose_tile(136, 240, 96, 1, **precise)[:3] == (16, 8, 128)
    assert fused.choose_tile(68, 120, 96, 1, **precise)[:3] == (8, 8, 128)
    columns, rows, wide, *_ = fused.choose_tile(17, 30, 192, 1, **precise)
    assert columns * rows * wide == 32 * 32


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_network_paints_the_same(dtype: torch.dtype) -> None:
    for net in (network(SHALLOW).to(DEVICE), ifnet((2, 1)).to(DEVICE)):
        img0, img1 = (image.to(DEVICE) for image in frames(16, 24))
        painter = TritonNetwork(net, make=fused.FusedConvolution)
        with torch.inference_mode():
            reference = net(img0, img1, 0.3)
            with torch.autocast(DEVICE.type, dtype, enabled=dtype != torch.float32):
                found = painter(img0, img1, 0.3)
        assert reference.flow.abs().max() > 0.1  # something moves
        if dtype == torch.float32:
            assert largest_difference(found, reference) < 2e-3
        assert (found.frame - reference.frame).abs().mean() < 5e-3


@pytest.mark.slow
def test_the_bundled_network_paints_the_same() -> None:
    net, (img0, img1) = midflow.load_model().to(DEVICE), frames(8, 16)
    with torch.inference_mode():
        reference = net(img0.to(DEVICE), img1.to(DEVICE), 0.5)
        painter = TritonNetwork(net, make=fused.FusedConvolution)
        found = painter(img0.to(DEVICE), img1.to(DEVICE), 0.5)
    assert largest_difference(found, reference) < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("capability", "precision"), [(80, "float16"), (80, "float32"), (90, "float16")]
)
def test_convolutions_of_1080p_compile(capability: int, precision: str, tmp_path: Path) -> None:
    environment = dict(os.environ, TRITON_CACHE_DIR=str(tmp_path))
    environment.pop("TRITON_INTERPRET", None)
    words = "-m", "tests.gpu.compiling", str(capability), precision, "convolutions"
    done = subprocess.run(
        [sys.executable, *words], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    kernels = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(kernels) >= 10
    for kernel in kernels:
        assert kernel["spilled"] == 0 and kernel["shared"] <= 96 << 10, kernel
        is_hopper_product = capability == 90 and kernel["pixels"] >= 64
        assert (kernel["wgmma"] > 0) == is_hopper_product, kernel
    assert any(kernel["pixels"] >= 64 for kernel in kernels)
