"""What is recorded when, kept and let go; the real recorder needs a GPU."""

import logging
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from midflow.gpu.graphs import Graphs
from midflow.gpu.network import TritonNetwork
from tests.gpu.test_network import DEVICE, SHALLOW
from tests.native.test_native import frames, largest_difference, network

Part = tuple[Tensor, ...]


class Replay:
    """Records by remembering the work: a repetition does it again, into the same outputs."""

    made: list["Replay"]

    def __init__(self) -> None:
        self.recorded = self.repeated = 0
        self.is_closed = False
        Replay.made.append(self)

    def record(self, work: Callable[[], Part]) -> tuple[Callable[[], object], Part]:
        self.recorded += 1
        outputs = work()
        for output in outputs:
            output.fill_(float("nan"))  # a recording computes nothing

        def repeat() -> None:
            self.repeated += 1
            for output, value in zip(outputs, work(), strict=True):
                output.copy_(value)

        return repeat, outputs

    def close(self) -> None:
        self.is_closed = True


@pytest.fixture(autouse=True)
def recorders() -> list[Replay]:
    Replay.made = []
    return Replay.made


def difference(parts: Any) -> Part:
    first, second, factor = parts
    return (factor[0] * (first[0] - second[0]),)


def pair(graphs: Graphs, first: Part, second: Part, factor: float) -> float:
    (found,) = graphs.run("pair", (first, second, (torch.tensor(factor),)), difference)
    return float(found.mean())


def frame(value: float, size: int = 4) -> Part:
    return (torch.full((size,), float(value)),)


def test_a_size_is_recorded_when_it_comes_again(recorders: list[Replay]) -> None:
    graphs = Graphs(Replay)
    assert pair(graphs, frame(5), frame(3), 1) == 2
    assert (len(graphs), recorders) == (0, [])
    assert pair(graphs, frame(7), frame(3), 1) == 4
    assert pair(graphs, frame(8), frame(3), 2) == 10
    assert len(graphs) == 1 and (recorders[0].recorded, recorders[0].repeated) == (1, 2)


def test_results_are_not_overwritten() -> None:
    graphs = Graphs(Replay)
    found = [graphs.run("pair", (frame(k), frame(0), frame(1)), difference)[0] for k in range(4)]
    assert [float(x.mean()) for x in found] == [0, 1, 2, 3]


def test_a_frame_goes_on_to_the_next_pair_without_a_copy(
    recorders: list[Replay], monkeypatch: pytest.MonkeyPatch
) -> None:
    graphs, sequence = Graphs(Replay), [frame(k * k) for k in range(6)]
    for left, right in pairwise(sequence):
        assert pair(graphs, left, right, 1) == left[0].mean() - right[0].mean()
    assert recorders[0].recorded == 2  # each frame first here, then there
    copied = 0
    copy = Tensor.copy_

    def counted(self: Tensor, source: Tensor, *options: Any, **more: Any) -> Tensor:
        nonlocal copied
        copied += any(source is part[0] for part in sequence)
        return copy(self, source, *options, **more)

    monkeypatch.setattr(Tensor, "copy_", counted)
    for left, right in pairwise(sequence):
        assert pair(graphs, left, right, 1) == left[0].mean() - right[0].mean()
    assert copied == 6
    assert pair(graphs, sequence[-1], sequence[-2], 1) == 25 - 16 and copied == 6
    assert pair(graphs, sequence[-1], sequence[-1], 1) == 0


def test_what_may_be_written_to_is_copied_every_time() -> None:
    graphs, image = Graphs(Replay), torch.zeros(3)
    for k in range(4):
        image.fill_(k)
        (found,) = graphs.run("one", ((image,),), lambda parts: (parts[0][0] + 1,))
        assert float(found.mean()) == k + 1


def test_the_sizes_used_longest_ago_are_let_go(recorders: list[Replay]) -> None:
    graphs = Graphs(Replay, kept=2)
    for size in (1, 2, 1, 2, 1, 3, 3):  # 2 makes room for 3
        pair(graphs, frame(1, size), frame(0, size), 1)
    assert [recorder.is_closed for recorder in recorders] == [False, True, False]
    assert len(graphs) == 2
    graphs.release()
    assert len(graphs) == 0 and all(recorder.is_closed for recorder in recorders)
    assert pair(graphs, frame(4, 1), frame(1, 1), 1) == 3


def test_sizes_that_never_come_again_soon_are_never_recorded(recorders: list[Replay]) -> None:
    graphs = Graphs(Replay, kept=2)
    for size in (1, 2, 3) * 3:
        assert pair(graphs, frame(3, size), frame(1, size), 1) == 2
    assert recorders == []


def test_what_is_done_counts_besides_the_size() -> None:
    graphs = Graphs(Replay)
    for _ in range(3):
        a = graphs.run("add", ((torch.ones(2),),), lambda parts: (parts[0][0] + 1,))
        b = graphs.run("double", ((torch.ones(2),),), lambda parts: (parts[0][0] * 3,))
        assert (float(a[0][0]), float(b[0][0])) == (2, 3)


def test_where_recording_fails_work_goes_on_and_that_is_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Refuses(Replay):
        def record(self, work: Callable[[], Part]) -> Any:
            raise RuntimeError("operation not permitted when stream is capturing\nmore")

    graphs = Graphs(Refuses)
    with caplog.at_level(logging.WARNING):
        assert [pair(graphs, frame(k), frame(1), 1) for k in (2, 3, 4, 5)] == [1, 2, 3, 4]
    assert len(caplog.records) == 1 and "not permitted when stream is capturing)" in caplog.text
    assert len(graphs) == 0


def test_the_network_paints_the_same_from_recordings(recorders: list[Replay]) -> None:
    pytest.importorskip("triton", reason="Triton is not installed")
    net = network(SHALLOW).to(DEVICE)
    sequence = [image.to(DEVICE) for image in (*frames(8, 16), *frames(8, 16)[::-1])]
    times = torch.tensor([0.3, 0.6], device=DEVICE)
    plain, recorded = TritonNetwork(net), TritonNetwork(net, Graphs(Replay))
    with torch.inference_mode():
        encoded = [recorded.encode_frame(image) for image in sequence]
        for k in range(3):
            found = recorded(encoded[k], encoded[k + 1], times)
            expected = plain(sequence[k], sequence[k + 1], times)
            assert largest_difference(found, expected) < 1e-4
    assert [recorder.recorded for recorder in recorders] == [1, 2]
    recorded.release_memory()
    assert all(recorder.is_closed for recorder in recorders)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_graphs_paint_what_launches_paint(caplog: pytest.LogCaptureFixture) -> None:
    net = network(SHALLOW).cuda()
    sequence = [image.cuda() for image in (*frames(64, 96), *frames(64, 96)[::-1])]
    graphs = Graphs()
    plain, recorded = TritonNetwork(net, None), TritonNetwork(net, graphs)
    with torch.inference_mode(), torch.autocast("cuda", torch.float16):
        encoded = [recorded.encode_frame(image) for image in sequence]
        for k in range(3):
            found = recorded(encoded[k], encoded[k + 1], torch.tensor([0.3, 0.6], device="cuda"))
            expected = plain(sequence[k], sequence[k + 1], torch.tensor([0.3, 0.6], device="cuda"))
            assert largest_difference(found, expected) < 1e-3
    assert len(graphs) == 2 and "graphs do not work" not in caplog.text
