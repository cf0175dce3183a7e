"""Planes on their way to a GPU and back, while it works on others.

Copies go by pinned memory, which torch keeps and gives again to later ones, and by a stream of
their own. Elsewhere nothing is copied that need not be.
"""

from collections.abc import Callable, Sequence
from functools import cache

import torch
from torch import Tensor

from midflow.video.frame import Plane, Planes


@cache
def _copying(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def upload(planes: Sequence[Tensor], device: torch.device | str) -> list[Tensor]:
    """The planes, of the CPU, on a device, for what is begun there from now on."""
    device = torch.device(device)
    if device.type != "cuda":
        return [plane.to(device) for plane in planes]
    working, copying = torch.cuda.current_stream(device), _copying(device)
    with torch.cuda.stream(copying):
        copies = [plane.pin_memory().to(device, non_blocking=True) for plane in planes]
    working.wait_stream(copying)
    for copy in copies:
        copy.record_stream(working)
    return copies


class Download:
    """Planes on their way from a device: `wait` gives them, on any thread, as often as asked.

    Args:
        planes: samples of one device, which nobody writes to any more.
        finish: makes of each, on the CPU, what is given.
    """

    def __init__(self, planes: Sequence[Tensor], finish: Callable[[Tensor], Plane]) -> None:
        self._finish = finish
        self._arrived: torch.cuda.Event | None = None
        self._planes: Planes | None = None
        self.nbytes = sum(plane.numel() * plane.element_size() for plane in planes)
        """How much it is that waits."""
        device = planes[0].device
        if device.type != "cuda":
            self._host = [plane.cpu() for plane in planes]
            return
        copying = _copying(device)
        copying.wait_stream(torch.cuda.current_stream(device))
        self._host = [torch.empty_like(plane, device="cpu", pin_memory=True) for plane in planes]
        with torch.cuda.stream(copying):
            for host, plane in zip(self._host, planes, strict=True):
                host.copy_(plane, non_blocking=True)
                plane.record_stream(copying)
            self._arrived = copying.record_event()

    def wait(self) -> Planes:
        """The planes, when they are there."""
        if self._planes is None:
            if self._arrived is not None:
                self._arrived.synchronize()
            self._planes = tuple(self._finish(host) for host in self._host)
        return self._planes
