"""TensorRT: engines really built, where it is installed; run without a GPU by a stand-in."""

import ctypes
import math
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import onnxruntime
import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

import midflow
from midflow import cli
from midflow.errors import MidflowError, MissingExtraError, OptionError
from midflow.export import engines, files, tensorrt
from midflow.export.files import export_model
from midflow.export.graph import export_program, frame_graph
from midflow.interpolator import Interpolator
from midflow.nets.config import IFNetConfig
from midflow.nets.layout import Network
from tests.export.test_export import EVERY, FRAMES, LITTLE, moving
from tests.nets.tiny import network
from tests.test_interpolator import tiny

HALF = 2e-3
"""Far above what float16 convolutions change in small networks, below a level of 255."""


class Notes:
    ERROR, INTERNAL_ERROR = 1, 0


class Context:
    """Runs the graph where the addresses point to."""

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        self.session = session
        self.addresses: dict[str, int] = {}
        self.is_broken = False

    def set_tensor_address(self, name: str, address: int) -> None:
        self.addresses[name] = address

    def execute_async_v3(self, stream: int) -> bool:
        if self.is_broken:
            return False
        feed = {port.name: self._at(port).numpy().copy() for port in self.session.get_inputs()}
        for port, found in zip(
            self.session.get_outputs(), self.session.run(None, feed), strict=True
        ):
            self._at(port).copy_(torch.from_numpy(found))
        return True

    def _at(self, port: onnxruntime.NodeArg) -> Tensor:
        count = math.prod(port.shape)
        place = (ctypes.c_float * count).from_address(self.addresses[port.name])
        return torch.frombuffer(place, dtype=torch.float32).view(port.shape)


class Engine:
    def __init__(self, plan: bytes) -> None:
        self._session = onnxruntime.InferenceSession(plan, providers=["CPUExecutionProvider"])
        self.context = Context(self._session)

    def create_execution_context(self) -> Context:
        return self.context

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        ports = (*self._session.get_inputs(), *self._session.get_outputs())
        return next(tuple(port.shape) for port in ports if port.name == name)


class Parser:
    def __init__(self, made: SimpleNamespace, notes: object) -> None:
        self._made = made

    def parse_from_file(self, path: str) -> bool:
        self._made.plan = Path(path).read_bytes()
        return True


class Builder:
    def __init__(self, notes: object) -> None:
        pass

    def create_network(self, flags: int) -> SimpleNamespace:
        assert flags == 1 << 2
        return SimpleNamespace()

    def create_builder_config(self) -> SimpleNamespace:
        return SimpleNamespace()

    def build_serialized_network(self, made: SimpleNamespace, settings: object) -> bytes:
        return made.plan


class Runtime:
    opened: list[Engine] = []  # noqa: RUF012

    def __init__(self, notes: Notes) -> None:
        self.notes = notes

    def deserialize_cuda_engine(self, plan: bytes) -> Engine:
        self.opened.append(Engine(plan))
        return self.opened[-1]


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """ONNX Runtime on the CPU behind TensorRT's interface; an engine's file is the ONNX file."""
    library = SimpleNamespace(
        __name__="tensorrt",
        ILogger=Notes,
        Builder=Builder,
        OnnxParser=Parser,
        Runtime=Runtime,
        NetworkDefinitionCreationFlag=SimpleNamespace(STRONGLY_TYPED=2),
    )
    monkeypatch.setattr(Notes, "__init__", lambda self: None)
    monkeypatch.setattr(Runtime, "opened", [])
    monkeypatch.setattr(tensorrt, "library", lambda: library)
    monkeypatch.setattr(tensorrt, "_enqueue", lambda context: context.execute_async_v3(0))
    on_cpu = engines.ENGINES[".engine"]._replace(device="cpu", version=lambda: "stand-in")
    monkeypatch.setitem(engines.ENGINES, ".engine", on_cpu)
    monkeypatch.setenv("MIDFLOW_HOME", str(tmp_path / "home"))
    yield library


def engine_files(home: Path) -> set[Path]:
    return set((home / "home" / "engines").glob("[!.]*.engine"))


@pytest.mark.parametrize(
    ("config", "precision", "near"),
    [(LITTLE, "float32", FRAMES), (LITTLE, "float16", HALF), (EVERY["paper"], "float32", FRAMES)],
)
def test_the_backend_paints_what_torch_paints(
    stand_in: SimpleNamespace, config: IFNetConfig, precision: str, near: float
) -> None:
    """At odd sizes, in batches, at several times of one pair."""
    net = tiny(config)
    ours = Interpolator(net, "cpu", backend="tensorrt", precision=precision)
    theirs = Interpolator(net, "cpu", backend="torch", precision="float32")
    pair = [torch.cat((img, img.flip(3))) for img in moving(37, 51)]
    for times in (0.5, [0.2, 0.9]) if config.has_timestep else (0.5,):
        found, expected = ours(*pair, times), theirs(*pair, times)
        torch.testing.assert_close(found, expected, rtol=0, atol=near)
    assert len(Runtime.opened) == 2  # one to compare, one to keep: for both frames and all times


def test_each_size_and_precision_has_a_file_and_four_stay_open(
    stand_in: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = tiny(LITTLE)
    interp = Interpolator(net, "cpu", backend="tensorrt", precision="float32")
    for width in (16, 24, 32, 40, 48):
        interp(*moving(16, width))
    assert len(engine_files(tmp_path)) == 5
    Interpolator(net, "cpu", backend="tensorrt", precision="float16")(*moving(16, 16))
    assert len(engine_files(tmp_path)) == 6

    monkeypatch.setattr("midflow.export.network.export_model", None)  # nothing is made again
    opened = len(Runtime.opened)
    interp(*moving(16, 24))
    assert len(Runtime.opened) == opened
    interp(*moving(16, 16))
    assert len(Runtime.opened) == opened + 1


def test_what_is_made_for_another_gpu_or_version_is_not_used(
    stand_in: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = tiny(LITTLE)
    Interpolator(net, "cpu", backend="tensorrt")(*moving(16, 16))
    other = engines.ENGINES[".engine"]._replace(version=lambda: "another GPU")
    monkeypatch.setitem(engines.ENGINES, ".engine", other)
    Interpolator(net, "cpu", backend="tensorrt")(*moving(16, 16))
    assert len(engine_files(tmp_path)) == 2


def test_memory_is_given_back(stand_in: SimpleNamespace) -> None:
    interp = Interpolator(tiny(LITTLE), "cpu", backend="tensorrt")
    frame = interp(*moving(16, 16))
    opened = len(Runtime.opened)
    interp._engine.model.release_memory()
    torch.testing.assert_close(interp(*moving(16, 16)), frame)
    assert len(Runtime.opened) == opened + 1


def test_an_engine_that_fails_is_an_error(stand_in: SimpleNamespace, tmp_path: Path) -> None:
    export_model(tiny(LITTLE), tmp_path / "net.engine", size=(16, 24))
    run = tensorrt.TensorRT(tmp_path / "net.engine")
    pair, time = moving(16, 24), torch.tensor([0.5])
    assert run(*pair, time)[0].shape == (1, 3, 16, 24)
    with pytest.raises(
        OptionError, match=r"takes img0 as \(1, 3, 16, 24\) .* got \(1, 3, 16, 16\)"
    ):
        run(*moving(16, 16), time)
    with pytest.raises(OptionError, match=r"got .*float16"):
        run(*(img.half() for img in pair), time)
    Runtime.opened[-1].context.is_broken = True
    with pytest.raises(RuntimeError, match="TensorRT: it does not say why"):
        run(*pair, time)


def test_an_engine_of_another_network_is_not_kept(
    stand_in: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, other = tiny(LITTLE), tiny(LITTLE)
    with torch.no_grad():
        other.block1.lastconv[0].bias += 0.1
    right = engines.ENGINES[".engine"]
    wrong = right._replace(
        write=lambda program, path: right.write(export_program(frame_graph(other), (32, 32)), path)
    )
    monkeypatch.setitem(engines.ENGINES, ".engine", wrong)
    with pytest.raises(MidflowError, match=r"differs from .* allowed are 0\.008 and 0\.08 pixels"):
        export_model(net, tmp_path / "net.engine", size=(32, 32), precision="float16")
    assert not (tmp_path / "net.engine").exists()


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("net.engine", {}, "takes one size: give height and width"),
        ("net.pt2", {"precision": "float16"}, "must be float32 for torch.export, got 'float16'"),
        ("net.onnx", {"precision": "bfloat16"}, "must be float32 or float16 for ONNX"),
    ],
)
def test_what_a_file_cannot_be_is_said(
    tmp_path: Path, name: str, options: dict, message: str
) -> None:
    with pytest.raises(OptionError, match=message):
        export_model(tiny(LITTLE), tmp_path / name, **options)


def test_without_the_library_or_a_gpu_the_error_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt, "LIBRARIES", ("no_such_library",))
    with pytest.raises(MissingExtraError, match=r"pip install 'midflow\[tensorrt\]'"):
        tensorrt.version()
    monkeypatch.setattr(tensorrt, "LIBRARIES", ("math",))
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(OptionError, match="needs an NVIDIA GPU"):
        tensorrt.version()
    with pytest.raises(OptionError, match="TensorRT runs on cuda here: give it, got cpu"):
        Interpolator(tiny(LITTLE), "cpu", backend="tensorrt")


def test_a_file_in_half_precision_has_convolutions_in_it_and_paints_the_same(
    tmp_path: Path,
) -> None:
    """By the command. ONNX's own evaluator rounds as the file says; ONNX Runtime's CPU does not."""
    import onnx
    from onnx.reference import ReferenceEvaluator

    net = tiny(LITTLE)
    weights = midflow.save_model(net, tmp_path / "net.safetensors")
    out = tmp_path / "net.onnx"
    size = ["--height", "32", "--width", "48"]
    command = ["export", str(weights), str(out), *size, "--precision", "float16"]
    result = CliRunner().invoke(cli.app, command)
    assert result.exit_code == 0, result.output
    made = onnx.load(out)
    for node in made.graph.node:  # as the evaluator knows it from opset 20 on
        for given in node.attribute:
            if given.name == "mode" and given.s == b"bilinear":
                given.s = b"linear"
    graph = onnx.shape_inference.infer_shapes(made)
    kinds = {value.name: value.type.tensor_type.elem_type for value in graph.graph.value_info}
    convolutions = [node for node in graph.graph.node if node.op_type in ("Conv", "ConvTranspose")]
    assert convolutions
    assert {kinds[node.output[0]] for node in convolutions} == {onnx.TensorProto.FLOAT16}
    reads = [node for node in graph.graph.node if node.op_type == "GridSample"]
    assert {kinds[node.output[0]] for node in reads} == {onnx.TensorProto.FLOAT}

    img0, img1 = moving(32, 48)
    feed = {"img0": img0.numpy(), "img1": img1.numpy(), "timestep": torch.tensor([0.3]).numpy()}
    frame = torch.from_numpy(ReferenceEvaluator(graph).run(["frame"], feed)[0])
    with torch.no_grad():
        exact = net(img0, img1, 0.3).frame
    difference = (frame - exact).abs().max().item()
    assert 1e-6 < difference < HALF


def _write(net: Network, path: Path, size: tuple[int, int], precision: str) -> None:
    files._fold_norms(net)
    with files._convolutions_in(precision):
        engines.ENGINES[".engine"].write(export_program(frame_graph(net), size), path)


class TestReally:
    """Engines that TensorRT for RTX builds, which needs no GPU. Running them does."""

    @pytest.fixture(autouse=True)
    def rtx(self, monkeypatch: pytest.MonkeyPatch) -> None:
        pytest.importorskip("tensorrt_rtx", reason="needs pip install 'midflow[tensorrt]'")
        monkeypatch.setattr(tensorrt, "LIBRARIES", ("tensorrt_rtx",))

    @pytest.mark.parametrize(
        ("layout", "precision"), [*((name, "float16") for name in EVERY), ("4.25", "float32")]
    )
    def test_every_layout_is_built(self, tmp_path: Path, layout: str, precision: str) -> None:
        config = EVERY[layout]
        net = tiny(config) if isinstance(config, IFNetConfig) else network(config)
        _write(net, tmp_path / "net.engine", (64, 96), precision)
        assert [file.name for file in tmp_path.iterdir()] == ["net.engine"]
        assert (tmp_path / "net.engine").stat().st_size > 10_000

    @pytest.mark.slow
    def test_the_bundled_model_is_built(self, tmp_path: Path) -> None:
        _write(midflow.load_model(), tmp_path / "net.engine", (256, 448), "float16")
        assert (tmp_path / "net.engine").stat().st_size > 1_000_000

    def test_what_it_cannot_read_is_said(self, tmp_path: Path) -> None:
        (tmp_path / "net.onnx").write_text("no graph")
        with pytest.raises(MidflowError, match="TensorRT cannot read the graph"):
            tensorrt.build(tmp_path / "net.onnx", tmp_path / "net.engine")

    def test_where_it_cannot_load_the_reason_is_its_own(self, tmp_path: Path) -> None:
        (tmp_path / "net.engine").write_text("no engine")
        with pytest.raises(MidflowError, match=r"TensorRT failed: .*Error Code"):
            tensorrt.TensorRT(tmp_path / "net.engine")


@pytest.mark.gpu
def test_on_a_gpu_the_backend_paints_what_torch_paints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        tensorrt.version()
    except (MissingExtraError, OptionError) as error:
        pytest.skip(f"needs a GPU and TensorRT: {error}")
    monkeypatch.setenv("MIDFLOW_HOME", str(tmp_path))
    net = tiny(LITTLE)
    theirs = Interpolator(net, "cuda", backend="torch", precision="float32")
    pair = [img.cuda() for img in moving(64, 96)]
    for precision in ("float32", "float16"):
        ours = Interpolator(net, "cuda", backend="tensorrt", precision=precision)
        for times in (0.3, [0.2, 0.9]):
            torch.testing.assert_close(ours(*pair, times), theirs(*pair, times), rtol=0, atol=HALF)
