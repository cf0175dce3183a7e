"""CUDA graphs: all launches of a network recorded once for a size, then started as one.

A small kernel is done sooner than the processor launches the next. A recording reads and writes
memory of its own, so that inputs are copied into it and outputs out of it.
"""

import logging
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable

import torch
from torch import Tensor

from midflow.recorder import CudaRecorder, Part, Recorder

logger = logging.getLogger(__name__)

KEPT = 4
"""Sizes (and batches, and what is done) whose recordings are kept: each holds the memory that a
frame takes on its way through the network."""

Parts = tuple[Part, ...]
Work = Callable[[Parts], Part]
"""A function of tensors, made of launches alone: what the processor decides is decided once."""


class Graphs:
    """Runs work by recordings: the first time of a size as it is, from the second on recorded.

    Where recording fails, that is said once, and all work is done as it is from then on.

    Args:
        make_recorder: called for each size.
        kept: sizes whose recordings are kept; those used longest ago go first.
    """

    def __init__(
        self, make_recorder: Callable[[], Recorder] = CudaRecorder, kept: int = KEPT
    ) -> None:
        self._make_recorder = make_recorder
        self._kept = kept
        self._known: OrderedDict[Hashable, _Recorded | None] = OrderedDict()
        self._lock = threading.Lock()
        self._has_failed = False

    def run(self, tag: Hashable, parts: Parts, work: Work) -> Part:
        """What `work` makes of `parts`, in memory of its own.

        Args:
            tag: what is done, for everything that shapes and types do not tell.
            parts: the first two, of several, are frames that nobody writes to any more: where they
                have one shape, one that has been copied is not copied again, whichever of both it
                is by then.
            work: gives tensors it has made, no views of its inputs.
        """
        with self._lock:
            if self._has_failed:
                return work(parts)
            key = tag, tuple(_shapes(part) for part in parts)
            is_new = key not in self._known
            recorded = self._known.setdefault(key, None)
            self._known.move_to_end(key)
            self._forget(self._kept)
            if is_new:
                return work(parts)
            try:
                if recorded is None:
                    recorded = self._known[key] = _Recorded(self._make_recorder(), parts, work)
                return recorded(parts)
            except RuntimeError as error:
                self._has_failed = True
                reason = str(error).partition("\n")[0]
                logger.warning("CUDA graphs do not work here: going on without (%s)", reason)
                self._forget(0)
            return work(parts)

    def release(self) -> None:
        """Lets go of all recordings and their memory; sizes are recorded again when used again."""
        with self._lock:
            self._forget(0)

    def __len__(self) -> int:
        """Sizes that are recorded."""
        return sum(recorded is not None for recorded in self._known.values())

    def _forget(self, kept: int) -> None:
        while len(self._known) > kept:
            _, recorded = self._known.popitem(last=False)
            if recorded is not None:
                recorded.recorder.close()


class _Recorded:
    """The recordings of one size, one for each way in which its parts lie in memory.

    Args:
        recorder: makes them.
        parts: of the size.
        work: is recorded.
    """

    def __init__(self, recorder: Recorder, parts: Parts, work: Work) -> None:
        self.recorder = recorder
        self._work = work
        with torch.inference_mode(False):  # memory that may be written in any mode
            self._slots = [tuple(torch.empty_like(x) for x in part) for part in parts]
        self._held: dict[int, weakref.ref[Tensor]] = {}
        self._may_swap = len(parts) > 1 and _shapes(parts[0]) == _shapes(parts[1])
        self._recordings: dict[bool, tuple[Callable[[], object], Part]] = {}

    def __call__(self, parts: Parts) -> Part:
        is_swapped = self._may_swap and (self._holds(1, parts[0]) or self._holds(0, parts[1]))
        order = list(range(len(parts)))
        order[:2] = reversed(order[:2]) if is_swapped else order[:2]
        for slot, part in zip(order, parts, strict=True):
            self._fill(slot, part)
        if is_swapped not in self._recordings:
            ordered = tuple(self._slots[slot] for slot in order)
            self._work(ordered)  # so that nothing is compiled or chosen while it is recorded
            self._recordings[is_swapped] = self.recorder.record(lambda: self._work(ordered))
        replay, outputs = self._recordings[is_swapped]
        replay()
        return tuple(output.clone() for output in outputs)

    def _holds(self, slot: int, part: Part) -> bool:
        return slot in self._held and self._held[slot]() is part[0]

    def _fill(self, slot: int, part: Part) -> None:
        if self._holds(slot, part):
            return
        for to, source in zip(self._slots[slot], part, strict=True):
            to.copy_(source, non_blocking=True)
        if self._may_swap and slot < 2:
            self._held[slot] = weakref.ref(part[0])


def _shapes(part: Part) -> Hashable:
    return tuple((x.shape, x.dtype) for x in part)
