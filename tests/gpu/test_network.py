"""The network in kernels beside the network they stand in for."""

import json
import logging
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import midflow
from midflow import backends
from midflow.errors import OptionError
from midflow.gpu.network import TritonNetwork, why_not
from midflow.interpolator import Interpolator
from midflow.memory import Settings
from midflow.nets.ifnet import IFNet
from midflow.nets.pyramid import PyramidNet
from midflow.nets.pyramid_config import PyramidConfig
from midflow.nets.releases import RELEASES
from tests.native.test_native import SMALL, frames, largest_difference, network

HAS_GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if HAS_GPU else "cpu")  # there, kernels run step by step
SHALLOW = replace(SMALL, depth=1, scales=(4, 2))
launch = pytest.importorskip("midflow.gpu.launch", reason="Triton is not installed")


def ifnet(scales: tuple[int, ...]) -> IFNet:
    """A small network laid out as 4.25, with random weights."""
    torch.manual_seed(1)
    small = {"channels": (16,) * len(scales), "depths": (1,) * len(scales), "encoder_width": 8}
    net = IFNet(replace(RELEASES["4.25"].config, scales=scales, **small)).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(2)
        for k in range(len(scales)):
            net.get_submodule(f"block{k}").lastconv[0].weight.mul_(4)
    return net


@pytest.fixture(autouse=True)
def few_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Larger blocks than on a GPU: step by step, it is the number of programs that takes time.

    On a GPU float32 is float32: rounded to TF32, convolutions of random weights differ too much.
    """
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    if not HAS_GPU:
        monkeypatch.setattr(launch, "PIXELS", 1024)
        monkeypatch.setattr(launch, "WIDE_PIXELS", 256)


@pytest.mark.parametrize(
    ("config", "height", "width"),
    [
        (SMALL, 8, 8),
        (SMALL, 24, 40),
        (PyramidConfig(channels=16, depth=1, radius=1, scales=(4,)), 16, 48),
        (PyramidConfig(channels=16, depth=1, width=32, matched=8, features=1, detail=8), 16, 24),
    ],
)
def test_the_kernels_compute_what_the_network_computes(
    config: PyramidConfig, height: int, width: int
) -> None:
    net = network(config).to(DEVICE)
    img0, img1 = (image.to(DEVICE) for image in frames(height, width))
    with torch.inference_mode():
        expected, found = net(img0, img1, 0.3), TritonNetwork(net)(img0, img1, 0.3)
    assert expected.flow.abs().max() > 0.1  # something moves
    torch.testing.assert_close(found.flow, expected.flow, atol=2e-3, rtol=1e-4)
    torch.testing.assert_close(found.weight, expected.weight, atol=1e-3, rtol=0)
    torch.testing.assert_close(found.frame, expected.frame, atol=2e-3, rtol=0)


@pytest.mark.parametrize(("scales", "flow_scale"), [((4, 2, 1), 1.0), ((2, 1), 0.5), ((1,), 2.0)])
def test_the_newest_releases_are_painted_too(scales: tuple[int, ...], flow_scale: float) -> None:
    net = ifnet(scales).to(DEVICE)
    img0, img1 = (image.to(DEVICE) for image in frames(16, 32))
    times = torch.tensor([0.25, 0.8], device=DEVICE)
    with torch.inference_mode():
        expected = net(img0, img1, times, flow_scale=flow_scale)
        found = TritonNetwork(net)(img0, img1, times, flow_scale=flow_scale)
    assert expected.flow.abs().max() > 0.1  # something moves
    assert largest_difference(found, expected) < 1e-3


def test_the_bundled_network_too() -> None:
    net, (img0, img1) = midflow.load_model().to(DEVICE), frames(24, 32)
    with torch.inference_mode():
        expected = net(img0.to(DEVICE), img1.to(DEVICE), 0.5)
        found = TritonNetwork(net)(img0.to(DEVICE), img1.to(DEVICE), 0.5)
    assert largest_difference(found, expected) < 1e-3


def test_pairs_and_times_in_one_batch() -> None:
    net, (img0, img1) = network(SHALLOW).to(DEVICE), frames(8, 8, 2)
    painter, times = TritonNetwork(net), torch.tensor([0.2, 0.7], device=DEVICE)
    first0, first1 = (painter.encode_frame(image[:1].to(DEVICE)) for image in (img0, img1))
    with torch.inference_mode():
        pairs = painter(img0.to(DEVICE), img1.to(DEVICE), times)
        assert largest_difference(pairs, net(img0.to(DEVICE), img1.to(DEVICE), times)) < 2e-3
        together = painter(first0, first1, times, only_frame=True)
        singly = [painter(first0, first1, time).frame for time in times]
    torch.testing.assert_close(together.frame, torch.cat(singly), atol=1e-4, rtol=0)
    assert together.flow.numel() == 0


@pytest.mark.parametrize("flow_scale", [0.5, 2.0, 4.0])
def test_any_scale_through_the_interpolator(
    flow_scale: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TritonNetwork, "try_out", lambda *_: None)
    net, (img0, img1) = network(SHALLOW, gain=1.5), frames(21, 27)
    both = [
        Interpolator(net, DEVICE, "float32", flow_scale, backend=backend).predict(img0, img1, 0.3)
        for backend in ("triton", "torch")
    ]
    assert both[0].frame.shape == (1, 3, 21, 27)
    assert largest_difference(*both) < 1e-3


@pytest.mark.parametrize(("dtype", "most"), [(torch.float16, 1e-3), (torch.bfloat16, 8e-3)])
def test_half_precision_stays_near(dtype: torch.dtype, most: float) -> None:
    net, (img0, img1) = midflow.load_model().to(DEVICE), frames(8, 16)
    painter = TritonNetwork(net)
    with torch.inference_mode():
        exact = net(img0.to(DEVICE), img1.to(DEVICE), 0.5).frame
        with torch.autocast(DEVICE.type, dtype):
            half = painter(img0.to(DEVICE), img1.to(DEVICE), 0.5).frame
    assert half.dtype == torch.float32
    assert 0 < (half - exact).abs().mean() < most


def test_pictures_beyond_white_keep_their_range() -> None:
    net, (img0, img1) = network(SHALLOW).to(DEVICE), frames(16, 16)
    wide = [(3 * image - 1).to(DEVICE) for image in (img0, img1)]
    with torch.inference_mode():
        found, expected = TritonNetwork(net)(*wide, 0.5), net(*wide, 0.5)
    assert expected.frame.max() > 1.2
    assert (found.frame - expected.frame).abs().max() < 2e-3


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of numpy, in which Triton runs here
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -1e30])
def test_no_value_leads_outside_of_memory(bad: float) -> None:
    net, (img0, img1) = network(SHALLOW).to(DEVICE), frames(8, 8)
    img0[..., 5, 7] = bad
    with torch.inference_mode():
        assert TritonNetwork(net)(img0.to(DEVICE), img1.to(DEVICE)).frame.shape == img0.shape


def test_a_trial_tells_kernels_that_paint_something_else() -> None:
    net = network(SHALLOW, gain=1.0).to(DEVICE)
    painter = TritonNetwork(net)
    assert painter.try_out(torch.float32) is None
    with torch.no_grad():
        net.detail.lastconv.bias[16:20] += 5  # the mask's; the kernels have copied the weights
        net.block.lastconv.bias[:16] += 5
    assert "other frames than torch" in (painter.try_out(torch.float32) or "")


def test_a_trial_tells_what_does_not_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("Failed to find C compiler.\nPlease specify one")

    monkeypatch.setattr(launch, "halve", fail)
    reason = TritonNetwork(network(SHALLOW).to(DEVICE)).try_out(torch.float32)
    assert reason == "RuntimeError: Failed to find C compiler."


def test_auto_goes_on_with_torch_where_the_kernels_do_not_work(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(backends, "_best", lambda *_: "triton")
    monkeypatch.setattr(TritonNetwork, "try_out", lambda *_: "no C compiler")
    with caplog.at_level(logging.WARNING):
        opened = backends.open_backend(
            "auto", network(SHALLOW), DEVICE, Settings("auto"), ensemble=False
        )
    assert (opened.name, opened.settings.precision) == ("torch", "float32")
    assert "no C compiler: backend torch may: going on" in caplog.text.replace(";", ":")
    with pytest.raises(midflow.MidflowError, match="no C compiler"):
        Interpolator(network(SHALLOW), DEVICE, backend="triton")


def test_auto_is_triton_in_float16_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    net, gpu = network(SHALLOW), torch.device("cuda")
    assert backends._best(net, gpu, Settings("auto"), False) == "triton"
    assert backends._best(net, gpu, Settings("auto"), True) == "torch"
    monkeypatch.setattr(backends, "_best", lambda *_: "triton")
    monkeypatch.setattr(TritonNetwork, "try_out", lambda *_: None)
    opened = backends.open_backend("auto", net, DEVICE, Settings("auto"), ensemble=False)
    assert (opened.name, opened.settings.precision) == ("triton", "float16")


@pytest.mark.parametrize(
    "config", [PyramidConfig(width=12), PyramidConfig(features=9), PyramidConfig(detail=0)]
)
def test_other_networks_are_left_to_torch(config: PyramidConfig) -> None:
    assert "midflow-2" in (why_not(PyramidNet(config), torch.device("cuda")) or "")


def test_without_triton_or_a_gpu_the_reason_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(OptionError, match="for CUDA devices, the device is cpu; backend torch"):
        Interpolator(network(SHALLOW), "cpu", backend="triton")
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert "not installed" in (why_not(network(SHALLOW), torch.device("cuda")) or "")


def test_midflow_does_without_triton(tmp_path: Path) -> None:
    code = "import sys; sys.modules['triton'] = None; import midflow.backends, midflow.doctor"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
@pytest.mark.parametrize(("capability", "precision"), [(80, "float32"), (90, "float16")])
def test_every_kernel_compiles_for_a_gpu_that_is_not_here(
    capability: int, precision: str, tmp_path: Path
) -> None:
    environment = dict(os.environ, TRITON_CACHE_DIR=str(tmp_path))
    environment.pop("TRITON_INTERPRET", None)
    words = [sys.executable, "-m", "tests.gpu.compiling", str(capability), precision]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    kernels = [json.loads(line) for line in done.stdout.splitlines()]
    # by Triton 3.7 one has 8 bytes, with registers to spare
    assert len(kernels) >= 12 and max(kernel["spilled"] for kernel in kernels) <= 8
