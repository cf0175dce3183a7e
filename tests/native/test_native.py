"""The kernels beside the network they stand in for."""

import ctypes
import shutil
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import midflow
from midflow.errors import OptionError
from midflow.interpolator import Interpolator
from midflow.native import library
from midflow.native.network import NativeNetwork, why_not
from midflow.nets.ifnet import IFNet
from midflow.nets.pyramid import PyramidNet
from midflow.nets.pyramid_config import PyramidConfig
from midflow.nets.releases import RELEASES

CPU = torch.device("cpu")
SMALL = PyramidConfig(
    channels=16, depth=2, width=8, features=4, matched=8, radius=2, detail=16, detail_depth=1,
    scales=(8, 4, 2),
)  # fmt: skip
needs_kernels = pytest.mark.skipif(
    library.load_library() is None, reason="midflow was installed without a C compiler"
)


def network(config: PyramidConfig = SMALL, gain: float = 2.0) -> PyramidNet:
    """Random weights, large enough that flows leave small pictures."""
    torch.manual_seed(1)
    net = PyramidNet(config).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(gain)
    return net


def frames(height: int, width: int, batch: int = 1) -> tuple[Tensor, Tensor]:
    torch.manual_seed(2)
    coarse = torch.rand(batch, 3, height // 4 + 2, width // 4 + 2)
    fine = F.interpolate(coarse, scale_factor=4, mode="bicubic").clamp(0, 1)
    img0, img1 = fine[..., :height, :width], fine[..., 1 : height + 1, 2 : width + 2]
    return img0.contiguous(), img1.contiguous()


def largest_difference(a: tuple[Tensor, ...], b: tuple[Tensor, ...]) -> float:
    return max(float((x - y).abs().max()) for x, y in zip(a, b, strict=True))


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler here")
def test_where_there_is_a_compiler_the_kernels_are_there() -> None:
    assert library.load_library() is not None


@needs_kernels
@pytest.mark.parametrize(
    "config",
    [
        SMALL,
        PyramidConfig(channels=16, depth=1, radius=1, scales=(4,)),
        PyramidConfig(channels=16, depth=1, width=16, matched=16, radius=3, features=8),
        PyramidConfig(channels=16, depth=1, width=32, matched=8, radius=4, features=1, detail=8),
    ],
)
def test_the_kernels_compute_what_the_network_computes(config: PyramidConfig) -> None:
    net = network(config)
    cell = config.pad_multiple
    for height, width in ((cell, cell), (5 * cell, 3 * cell), (3 * cell, 9 * cell)):
        img0, img1 = frames(height, width)
        with torch.inference_mode():
            expected, native = net(img0, img1, 0.3), NativeNetwork(net)(img0, img1, 0.3)
        assert expected.flow.abs().max() > 0.1  # something moves
        torch.testing.assert_close(native.flow, expected.flow, atol=2e-3, rtol=1e-4)
        torch.testing.assert_close(native.weight, expected.weight, atol=1e-3, rtol=0)
        torch.testing.assert_close(native.frame, expected.frame, atol=2e-3, rtol=0)


@needs_kernels
@pytest.mark.parametrize("release", ["4.22.lite", "4.25", "4.26"])
def test_the_newest_releases_run_natively(release: str) -> None:
    torch.manual_seed(1)
    net = IFNet(RELEASES[release].config).eval()
    img0, img1 = frames(64, 136)
    for flow_scale in (0.5, 1.0, 2.0):
        both = [
            Interpolator(net, "cpu", "float32", flow_scale, backend=backend).predict(
                img0, img1, [0.25, 0.8]
            )
            for backend in ("native", "torch")
        ]
        assert both[0].flow.abs().max() > 0.1
        assert largest_difference(*both) < 1e-3
    assert Interpolator(net, "cpu").backend == "native"


def with_scales(*scales: float) -> IFNet:
    torch.manual_seed(1)
    config = RELEASES["4.25"].config
    return IFNet(replace(config, scales=scales, channels=config.channels[-len(scales) :])).eval()


@needs_kernels
@pytest.mark.parametrize("scales", [(8, 2, 1), (16, 4), (8, 4, 2)])
def test_networks_of_other_scales_run_natively(scales: tuple[float, ...]) -> None:
    net, (img0, img1) = with_scales(*scales), frames(64, 136)
    both = [
        Interpolator(net, "cpu", "float32", backend=backend).predict(img0, img1, [0.25, 0.8])
        for backend in ("native", "torch")
    ]
    assert both[0].flow.abs().max() > 0.1
    assert largest_difference(*both) < 1e-3


@pytest.mark.parametrize("scales", [(8, 4, 4, 1), (12, 4, 1), (12, 6, 3)])
def test_where_a_cell_has_no_middle_between_two_columns_torch_paints(
    scales: tuple[float, ...],
) -> None:
    assert "like midflow-2, 4.25" in (why_not(with_scales(*scales), CPU, "auto") or "")


@needs_kernels
@pytest.mark.parametrize("flow_scale", [0.25, 0.5, 1.0, 2.0, 4.0])
def test_any_size_scale_and_times_through_the_interpolator(flow_scale: float) -> None:
    net, (img0, img1) = network(gain=1.5), frames(37, 51)
    both = [
        Interpolator(net, "cpu", "float32", flow_scale, backend=backend).predict(
            img0, img1, [0.25, 0.8]
        )
        for backend in ("native", "torch")
    ]
    assert both[0].frame.shape == (2, 3, 37, 51)
    assert largest_difference(*both) < 1e-3


@needs_kernels
def test_the_bundled_model_runs_natively_and_bfloat16_stays_near() -> None:
    model, (img0, img1) = midflow.load_model(), frames(72, 104)
    interp = Interpolator(model, "cpu")
    assert interp.backend == "native"
    exact = Interpolator(model, "cpu", "float32", backend="torch")(img0, img1)
    assert (Interpolator(model, "cpu", "float32")(img0, img1) - exact).abs().max() < 1e-4
    half = Interpolator(model, "cpu", "bfloat16")(img0, img1)
    assert 0 < (half - exact).abs().mean() < 1e-3


@needs_kernels
def test_where_nothing_multiplies_bfloat16_torch_does_it_and_native_says_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("midflow.native.network._convolves_bfloat16", bool)
    assert Interpolator(network(), "cpu", "bfloat16").backend == "torch"
    assert Interpolator(network(), "cpu", "float32").backend == "native"
    with pytest.raises(OptionError, match="float32 is quicker"):
        Interpolator(network(), "cpu", "bfloat16", backend="native")


@needs_kernels
def test_sizes_in_turn_and_batches_leave_nothing_behind() -> None:
    net = network()
    painter = NativeNetwork(net)
    with torch.inference_mode():
        for height, width, batch in ((16, 48, 1), (40, 16, 2), (16, 48, 1)):
            img0, img1 = frames(height, width, batch)
            times = torch.linspace(0.2, 0.7, batch)
            assert largest_difference(painter(img0, img1, times), net(img0, img1, times)) < 2e-3


@needs_kernels
def test_the_frame_alone_is_the_same_frame() -> None:
    painter, (img0, img1) = NativeNetwork(network()), frames(24, 32)
    with torch.inference_mode():
        alone, whole = painter(img0, img1, 0.5, only_frame=True), painter(img0, img1, 0.5)
    assert torch.equal(alone.frame, whole.frame)
    assert alone.flow.numel() == 0


@needs_kernels
def test_pictures_beyond_white_keep_their_range() -> None:
    net, (img0, img1) = network(), frames(24, 32)
    with torch.inference_mode():
        native = NativeNetwork(net)(3 * img0 - 1, 3 * img1 - 1, 0.5)
        expected = net(3 * img0 - 1, 3 * img1 - 1, 0.5)
    assert expected.frame.max() > 1.2
    assert (native.frame - expected.frame).abs().max() < 2e-3


@needs_kernels
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -1e30])
def test_no_value_leads_outside_of_memory(bad: float) -> None:
    net, (img0, img1) = network(), frames(24, 32)
    img0[..., 5, 7] = bad
    with torch.inference_mode():
        assert NativeNetwork(net)(img0, img1, 0.5).frame.shape == img0.shape


@needs_kernels
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_the_number_of_threads_does_not_matter(threads: int) -> None:
    net, (img0, img1) = network(), frames(120, 136)
    with torch.inference_mode():
        expected = NativeNetwork(net)(img0, img1, 0.5).frame
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            found = NativeNetwork(net)(img0, img1, 0.5).frame
        finally:
            torch.set_num_threads(before)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_without_kernels_torch_paints_and_native_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("midflow.native.network.load_library", lambda: None)
    assert Interpolator(network(), "cpu").backend == "torch"
    assert Interpolator(network(), "cpu").precision == "float32"
    with pytest.raises(OptionError, match="without a C compiler"):
        Interpolator(network(), "cpu", backend="native")


@pytest.mark.parametrize(
    "config", [PyramidConfig(width=12), PyramidConfig(features=9), PyramidConfig(detail=0)]
)
def test_other_networks_are_left_to_torch(config: PyramidConfig) -> None:
    assert "midflow-2" in (why_not(PyramidNet(config), CPU, "auto") or "")


def test_a_device_or_precision_it_does_not_have_is_said() -> None:
    assert "CPU" in (why_not(network(), torch.device("cuda"), "auto") or "")
    with pytest.raises(OptionError, match="float32 and bfloat16"):
        Interpolator(network(), "cpu", "float16", backend="native")
    assert Interpolator(network(), "cpu", "float16").backend == "torch"


@needs_kernels
def test_memory_that_runs_out_in_a_kernel_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels = library.load_library()

    class Library:
        def __getattr__(self, name: str) -> object:
            return getattr(kernels, name)

        def midflow_run_rows(self, *_: object) -> int:
            return 1

    monkeypatch.setattr(library, "load_library", Library)
    with pytest.raises(MemoryError):
        NativeNetwork(network())(*frames(16, 16), 0.5)


@pytest.mark.parametrize("config", (SMALL, RELEASES["4.25"].config), ids=("midflow", "4.25"))
def test_kernels_for_every_processor_paint_the_same(processor: str, config: object) -> None:
    net = network() if config is SMALL else IFNet(config).eval()
    img0, img1 = frames(64, 128)
    with torch.inference_mode():
        assert largest_difference(NativeNetwork(net)(img0, img1), net(img0, img1)) < 2e-3


@needs_kernels
def test_torchs_openmp_is_found_and_without_one_the_kernels_run_in_one_thread() -> None:
    kernels, openmp = library.load_library(), library.find_openmp()
    assert kernels is not None
    assert openmp is not None
    net, (img0, img1) = NativeNetwork(network()), frames(160, 240)
    with torch.inference_mode():
        expected = net(img0, img1)
        library.use_openmp(kernels, None)
        try:
            assert largest_difference(net(img0, img1), expected) == 0
        finally:
            library.use_openmp(kernels, openmp)


@needs_kernels
def test_threads_by_whatever_openmp_has() -> None:
    """Functions as LLVM's and Intel's have them, which call what they are given in turn."""
    kernels = library.load_library()
    assert kernels is not None
    number, place, pointer = ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p
    part = ctypes.CFUNCTYPE(None, pointer, pointer, pointer)
    asked: list[int] = []

    @ctypes.CFUNCTYPE(number, place)
    def number_of_thread(place: int) -> int:
        return 7

    @ctypes.CFUNCTYPE(None, place, number, number)
    def push(place: int, thread: int, threads: int) -> None:
        assert thread == 7
        asked.append(threads)

    @ctypes.CFUNCTYPE(None, place, number, part, pointer)
    def fork(place: int, count: int, work: Callable[..., None], shared: int) -> None:
        assert count == 1
        for _ in range(asked[-1]):
            work(None, None, shared)

    net, (img0, img1) = NativeNetwork(network()), frames(160, 240)
    before = torch.get_num_threads()
    with torch.inference_mode():
        expected = net(img0, img1)
        torch.set_num_threads(3)
        kernels.midflow_use_gomp(None)
        kernels.midflow_use_kmp(number_of_thread, push, fork)
        try:
            assert largest_difference(net(img0, img1), expected) == 0
        finally:
            torch.set_num_threads(before)
            library.use_openmp(kernels, library.find_openmp())
    assert set(asked) <= {2, 3} and 3 in asked
