"""Exported networks beside the networks themselves; exporting takes seconds even for these."""

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

import midflow
from midflow import cli
from midflow.errors import MidflowError, MissingExtraError, OptionError, VideoError
from midflow.export import engines, files
from midflow.export import network as library
from midflow.export.files import export_model
from midflow.interpolator import Interpolator
from midflow.nets.config import IFNetConfig
from midflow.nets.ifnet import IFNet
from midflow.nets.layout import Network
from midflow.nets.legacy import LegacyConfig
from midflow.nets.pyramid_config import PyramidConfig
from tests.nets.tiny import network
from tests.test_interpolator import moved, picture, tiny

LITTLE = IFNetConfig(channels=(8, 8), scales=(2, 1), depths=(1, 1))
RETRY = replace(LITTLE, trunk="skip", head="deconv", spare=0, retry=True)
CARRIED = replace(
    LITTLE, encoder="named", encoder_width=4, encoder_planes=2, spare=0, features=3, groups=2
)
PAPER = replace(RETRY, retry=False, has_timestep=False, refine=True)
PYRAMID = PyramidConfig(
    channels=8, depth=1, width=4, features=2, matched=4, radius=1, detail=4, detail_depth=1,
    scales=(2,),
)  # fmt: skip
EVERY = {
    "4.6": LITTLE,
    "4.0": RETRY,
    "4.25": CARRIED,
    "paper": PAPER,
    "1.8": LegacyConfig((8, 8), "squeeze", 1, "shuffle"),
    "2.3": LegacyConfig((8, 8), "plain", 1, "single"),
    "3.8": LegacyConfig((8, 8), "pairs", 1, "deep", ensemble="optional", retry=True),
    "midflow": PYRAMID,
}
FRAMES = 1e-4
"""Far above what was seen, far below a level of 255."""
SIZES = ((37, 51), (24, 72), (5, 90))


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of engine files, of these tests alone; they share it, as exporting is slow."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MIDFLOW_HOME", str(home))
        yield home / "engines"


def moving(height: int, width: int) -> tuple[Tensor, Tensor]:
    img0, _, img1 = moved(picture(height + 8, width + 8, seed=3), 2, 2)
    return img0, img1


def compare(backend: str, net: Network, sizes: Sequence[tuple[int, int]] = SIZES) -> None:
    """Holds a backend to torch at odd sizes, times alone and together; motion, batches."""
    ours, theirs = (Interpolator(net, "cpu", backend=name) for name in (backend, "torch"))
    assert ours.backend == backend
    for size, times in zip(sizes, (0.3, [0.2, 0.5, 0.9], 0.5), strict=False):
        pair = moving(*size)
        torch.testing.assert_close(ours(*pair, times), theirs(*pair, times), rtol=0, atol=FRAMES)
    pair = tuple(torch.cat((img, img.flip(3))) for img in moving(24, 40))
    for found, expected in zip(ours.predict(*pair), theirs.predict(*pair), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=10 * FRAMES)


def test_onnx_is_made_once_and_paints_what_torch_paints(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compare("onnx", tiny(LITTLE))
    monkeypatch.setattr("midflow.export.network.export_model", None)
    compare("onnx", tiny(LITTLE))
    assert len(list(cache.glob("[!.]*.onnx"))) == 1


def test_openvino_paints_what_torch_paints(cache: Path) -> None:
    compare("openvino", tiny(LITTLE))
    assert {file.suffix for file in cache.glob("[!.]*")} >= {".xml", ".bin"}


def test_a_torch_program_paints_what_torch_paints() -> None:
    compare("export", tiny(LITTLE), sizes=((37, 51), (24, 72)))


def test_small_pictures_are_padded_to_what_a_program_takes() -> None:
    net = tiny(LITTLE)
    img0, img1 = moving(8, 8)
    frame = Interpolator(net, "cpu", backend="export")(img0, img1)
    wide = (torch.nn.functional.pad(img, (0, 8, 0, 8), mode="replicate") for img in (img0, img1))
    with torch.no_grad():
        expected = net(*wide, 0.5).frame[..., :8, :8]
    torch.testing.assert_close(frame, expected, rtol=0, atol=FRAMES)


def test_flow_scale_and_ensemble_are_in_the_file(tmp_path: Path) -> None:
    net, pair, time = tiny(LITTLE), moving(32, 48), torch.tensor([0.3])
    export_model(net, tmp_path / "net.pt2", flow_scale=0.5, ensemble=True, size=(32, 48))
    with torch.no_grad():
        expected = net(*pair, 0.3, flow_scale=0.5, ensemble=True)
        found = engines.ENGINES[".pt2"].open(tmp_path / "net.pt2")(*pair, time)
        assert not torch.allclose(net(*pair, 0.3).flow, expected.flow, atol=0.01)
    torch.testing.assert_close(found[0], expected.frame, rtol=0, atol=FRAMES)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".onnx", ".xml", ".pt2"])
@pytest.mark.parametrize("layout", EVERY)
def test_every_layout_is_exported_to_every_engine(tmp_path: Path, layout: str, suffix: str) -> None:
    """At one size, which is quick; the check runs both and refuses what differs."""
    config = EVERY[layout]
    net = tiny(config) if isinstance(config, IFNetConfig) else network(config)
    checks = export_model(net, tmp_path / f"net{suffix}", size=(64, 96))
    assert max(found.difference for found in checks) < FRAMES


def test_a_graph_paints_both_where_the_network_would_look_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """4.0 and 3.8 decide by what they find; a graph cannot, so both ways are in it."""
    for large in (0.0, 1e6):
        for config, limit in ((RETRY, "ifnet"), (EVERY["3.8"], "legacy")):
            monkeypatch.setattr(f"midflow.nets.{limit}.LARGE_MOTION", large)
            net = tiny(config) if isinstance(config, IFNetConfig) else network(config)
            with monkeypatch.context() as patch, torch.no_grad():
                expected = net(*moving(64, 64), 0.5)
                patch.setattr("torch.compiler.is_exporting", lambda: True)
                found = net(*moving(64, 64), 0.5)
            for ours, theirs in zip(found, expected, strict=True):
                torch.testing.assert_close(ours, theirs)


def test_a_program_that_paints_something_else_is_refused_and_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = files.export_program

    def wrong(graph, size):
        program = right(graph, size)
        name = "model.block1.lastconv.0.bias"
        program.state_dict[name] = torch.nn.Parameter(program.state_dict[name] + 0.01)
        return program

    monkeypatch.setattr(files, "export_program", wrong)
    with pytest.raises(MidflowError, match=r"differs from the network itself .* it was not kept"):
        export_model(tiny(LITTLE), tmp_path / "net.pt2", size=(32, 32))
    assert list(tmp_path.iterdir()) == []


def test_the_command_writes_checks_and_prints_what_it_found(tmp_path: Path) -> None:
    weights = midflow.save_model(tiny(LITTLE), tmp_path / "net.safetensors")
    out = tmp_path / "net.pt2"
    arguments = ["export", str(weights), str(out), "--height", "16", "--width", "24"]
    result = CliRunner().invoke(cli.app, arguments)
    assert result.exit_code == 0, result.output
    assert "img0, img1, timestep -> frame, flow, weight" in result.stdout
    assert result.stdout.count("24x16 at") == 3
    run = engines.ENGINES[".pt2"].open(out)
    frame, flow, weight = run(*moving(16, 24), torch.tensor([0.5]))
    assert frame.shape == (1, 3, 16, 24)
    assert flow.shape == (1, 4, 16, 24)
    assert weight.shape == (1, 1, 16, 24)
    assert CliRunner().invoke(cli.app, arguments).exit_code == 1  # it exists


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("net.trt", {}, r"must end in \.onnx \(ONNX\), \.xml \(OpenVINO\), \.pt2"),
        ("net.pt2", {"flow_scale": 3.0}, "flow_scale must be one of"),
        ("net.pt2", {"size": (30, 32)}, "height must be a multiple of 8, .* got 30: take 32"),
        ("net.pt2", {"ensemble": True, "config": CARRIED}, "has no ensemble"),
        ("net.pt2", {"ensemble": True, "config": RETRY}, "no graph with ensemble"),
    ],
)
def test_what_cannot_be_exported_is_said(
    tmp_path: Path, name: str, options: dict, message: str
) -> None:
    net = IFNet(options.pop("config", LITTLE))
    with pytest.raises(OptionError, match=message):
        export_model(net, tmp_path / name, **options)


def test_what_is_there_is_not_overwritten_unasked(tmp_path: Path) -> None:
    (tmp_path / "net.pt2").write_text("mine")
    with pytest.raises(VideoError, match="exists"):
        export_model(IFNet(LITTLE), tmp_path / "net.pt2")


def test_backends_say_what_they_cannot_do() -> None:
    with pytest.raises(OptionError, match="works in float32 here, got precision bfloat16"):
        Interpolator(IFNet(LITTLE), "cpu", "bfloat16", backend="onnx")


def test_a_missing_engine_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for suffix, package, extra in (
        (".onnx", "onnxscript", "onnx"),
        (".xml", "openvino", "openvino"),
    ):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, package, None)
            with pytest.raises(MissingExtraError, match=rf"pip install 'midflow\[{extra}\]'"):
                export_model(IFNet(LITTLE), tmp_path / f"net{suffix}")


def test_the_cache_keeps_what_was_used_last(tmp_path: Path) -> None:

    for age, name in enumerate(("new.onnx", "old.onnx", "made.onnx")):
        (tmp_path / name).write_bytes(bytes(40))
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(library, "KEPT_BYTES", 90)
        library._forget(tmp_path, tmp_path / "made.onnx")
    assert {file.name for file in tmp_path.iterdir()} == {"new.onnx", "made.onnx"}
