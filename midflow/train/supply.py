"""The samples of each step for this process, made ahead if wished."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import torch

from midflow.errors import OptionError
from midflow.train.batch import Batch, Source
from midflow.train.config import TrainConfig
from midflow.train.processes import Processes


class Supply:
    """Asks a source for the batches of this process.

    The parts of a step, over processes and accumulation, are numbered through: 4 processes see in
    one part each what one process sees in 4 parts.

    Args:
        source: of the samples.
        config: of the run; it says sizes, parts and how many steps to work ahead.
        processes: this process and the number of all.

    Raises:
        OptionError: a batch cannot be shared among the processes.
    """

    def __init__(self, source: Source, config: TrainConfig, processes: Processes) -> None:
        self.source, self.config, self.processes = source, config, processes
        pieces = processes.count * config.accumulate
        for batch in (config.batch, *(stage.batch for stage in config.stages)):
            if batch % pieces:
                raise OptionError(
                    f"batch must be a multiple of processes * accumulate = {pieces}, got {batch}"
                )
        self._ahead: deque[tuple[int, Future[list[Batch]]]] = deque()
        self._pool: ThreadPoolExecutor | None = None
        self._stream: torch.cuda.Stream | None = None  # of the thread that works ahead

    @contextmanager
    def working(self) -> Iterator[None]:
        """Keeps the thread that works ahead."""
        if not self.config.prefetch:
            yield
            return
        with ThreadPoolExecutor(1, "samples") as pool:
            self._pool = pool
            if self.processes.device.type == "cuda":
                self._stream = torch.cuda.Stream(self.processes.device)  # type: ignore[no-untyped-call]
            try:
                yield
            finally:
                self._pool = None
                for _, future in self._ahead:
                    future.cancel()
                self._ahead.clear()

    def parts(self, step: int, share: float) -> list[Batch]:
        """The batches of a step, one for each accumulated part.

        Args:
            step: from 0.
            share: of the run that is over; it decides crop and batch.
        """
        if self._pool is None:
            return self._make(step, share)
        self._order(self._pool, step, share)
        ordered, future = self._ahead.popleft()
        assert ordered == step
        parts = future.result()
        if self._stream is not None:
            for part in parts:
                part.record_stream(torch.cuda.current_stream(self.processes.device))
        return parts

    def _order(self, pool: ThreadPoolExecutor, step: int, share: float) -> None:
        """Has the step and the next ones made; by steps their share is known, by time it is not."""
        first = self._ahead[-1][0] + 1 if self._ahead else step
        for later in range(first, step + 1 + self.config.prefetch):
            known = later / self.config.steps if self.config.steps else 0.0
            expected = share if self.config.seconds else known
            self._ahead.append((later, pool.submit(self._make_ahead, later, expected)))

    def _make_ahead(self, step: int, share: float) -> list[Batch]:
        """On a GPU beside the step that runs there, not in line with it."""
        if self._stream is None:
            return self._make(step, share)
        with torch.cuda.stream(self._stream):
            parts = self._make(step, share)
        self._stream.synchronize()
        return parts

    def _make(self, step: int, share: float) -> list[Batch]:
        crop, batch = self.config.size_at(share)
        pieces = self.config.accumulate
        size = batch // (pieces * self.processes.count)
        first = self.processes.rank * pieces
        return [
            self.source.batch(step, size, crop, device=self.processes.device, rank=first + k)
            for k in range(pieces)
        ]
