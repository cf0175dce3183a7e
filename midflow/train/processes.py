"""The processes that train together: one, or as many as torchrun started."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from midflow.device import choose_device

T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """This process among those that train one network."""

    rank: int
    """Number of this process, from 0."""
    count: int
    """Number of processes."""
    device: torch.device
    """Where this process computes."""
    device_reason: str
    """Why there."""

    @property
    def is_first(self) -> bool:
        """Whether this process writes the files and tells the progress."""
        return self.rank == 0

    def wrap(self, module: nn.Module) -> nn.Module:
        """The module, with its gradients averaged over the processes."""
        return module if self.count == 1 else DistributedDataParallel(module)

    def share(self, value: T) -> T:
        """What the first process has, for all."""
        if self.count == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, device=self.device)
        return box[0]

    def share_number(self, value: float) -> float:
        """A number of the first process, for all."""
        if self.count == 1:
            return value
        number = torch.tensor(value, dtype=torch.float64, device=self.device)
        dist.broadcast(number, 0)
        return number.item()


def is_first() -> bool:
    """Whether this is the first of the processes torchrun started, or the only one."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def joined(device: str) -> Iterator[Processes]:
    """Joins the processes torchrun started, on GPUs if they are there, or stands alone.

    Args:
        device: as in `TrainConfig`; without an index each process takes the GPU of its local rank.

    Raises:
        OptionError: the device is not there.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    chosen, reason = choose_device(device)
    if count == 1:
        yield Processes(0, 1, chosen, reason)
        return
    if chosen.type == "cuda" and chosen.index is None:
        chosen = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    is_ours = not dist.is_initialized()
    if is_ours:
        dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    try:
        yield Processes(dist.get_rank(), count, chosen, reason)
    finally:
        if is_ours:
            dist.destroy_process_group()
