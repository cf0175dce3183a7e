"""Planes to a device and back; what is special of a GPU needs one."""

import numpy as np
import pytest
import torch

from midflow.video.device_copies import Download, upload


def samples(count: int = 3) -> list[torch.Tensor]:
    return [torch.arange(12, dtype=torch.uint8).view(3, 4) + k for k in range(count)]


def test_on_a_cpu_nothing_is_copied() -> None:
    planes = samples()
    assert all(a is b for a, b in zip(upload(planes, "cpu"), planes, strict=True))
    given = Download(planes, lambda plane: plane.numpy()).wait()
    planes[1][2, 3] = 77
    assert given[1][2, 3] == 77


def test_planes_are_finished_once_and_given_as_often_as_asked() -> None:
    finished = []

    def finish(plane: torch.Tensor) -> np.ndarray:
        finished.append(plane)
        return plane.numpy() + 1

    download = Download(samples(), finish)
    assert finished == [] and download.nbytes == 36
    assert download.wait() is download.wait()
    assert len(finished) == 3 and download.wait()[2][0, 0] == 3


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_planes_come_back_from_a_gpu_that_is_busy_before_and_after() -> None:
    size = 2048
    matrix = torch.randn(size, size, device="cuda")
    for k in range(20):
        plane = torch.full((size, size), k, dtype=torch.uint8)
        (there,) = upload([plane], "cuda")
        for _ in range(5):
            matrix = (matrix @ matrix).clamp(-1, 1)
        doubled = there * 2
        download = Download([doubled], lambda host: host.numpy())
        del there, doubled  # their memory may be given to what follows
        matrix = matrix + torch.full_like(matrix, 0.1)
        assert (download.wait()[0] == 2 * k).all()
