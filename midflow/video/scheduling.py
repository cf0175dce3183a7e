"""Threads of encoders that take more of the processor than they are given."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_THREADS = Path("/proc/self/task")


@contextmanager
def as_scheduled() -> Iterator[None]:
    """Gives this thread, and those that are begun within, the scheduling this one has before.

    Run by root, SVT-AV1 makes its threads and the one that opens it real-time threads of the
    highest priority, which leave nothing to the network, or to anybody else on the machine.
    """
    if not _THREADS.is_dir():
        yield
        return
    policy, priority, before = os.sched_getscheduler(0), os.sched_getparam(0), _threads()
    try:
        yield
    finally:
        for thread in (_threads() - before) | {threading.get_native_id()}:
            with suppress(OSError):  # it has ended
                os.sched_setscheduler(thread, policy, priority)


def _threads() -> set[int]:
    return {int(path.name) for path in _THREADS.iterdir()}
