"""Threads around a loop, with queues bounded in bytes: a feed runs ahead of it, a sink behind it.

    with Feed(reader, frame_bytes, limit) as frames, Sink(write, frame_bytes, limit) as sink:
        for frame in frames:
            sink.put(work_on(frame))

What a thread raises comes out in the caller's loop. However the `with` is left, the threads have
ended by then, so whatever they used may be closed.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Generic, Self, TypeVar

T = TypeVar("T")

_POLL_SECONDS = 0.2  # waits are cut short, as Ctrl-C does not interrupt a wait on every system


class _EndedError(Exception):
    """The queue is closed: there is nothing more to get, or no use in putting."""


class _ByteQueue(Generic[T]):
    """First in, first out; `put` waits while the items inside hold `limit` bytes or more."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._items: deque[tuple[T, int]] = deque()
        self._bytes = 0
        self._is_closed = False
        self._changed = threading.Condition()

    def put(self, item: T, size: int) -> None:
        with self._changed:
            self._wait_while(lambda: self._bytes >= self._limit and not self._is_closed)
            if self._is_closed:
                raise _EndedError
            self._items.append((item, size))
            self._bytes += size
            self._changed.notify_all()

    def get(self) -> T:
        with self._changed:
            self._wait_while(lambda: not self._items and not self._is_closed)
            if not self._items:
                raise _EndedError
            item, size = self._items.popleft()
            self._bytes -= size
            self._changed.notify_all()
            return item

    def close(self, *, is_dropping: bool = False) -> None:
        """Lets nothing more in; what is inside can still be fetched, or is dropped."""
        with self._changed:
            self._is_closed = True
            if is_dropping:
                self._items.clear()
            self._changed.notify_all()

    def _wait_while(self, is_early: Callable[[], bool]) -> None:
        while is_early():
            self._changed.wait(_POLL_SECONDS)


class _Worker(Generic[T]):
    """A thread and its queue."""

    def __init__(self, size_of: Callable[[T], int], limit: int) -> None:
        self.busy_seconds = 0.0
        """Time spent working rather than waiting for the queue."""
        self.count = 0
        """Items worked on."""
        self._size_of = size_of
        self._queue: _ByteQueue[T] = _ByteQueue(limit)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._guard, daemon=True, name=type(self).__name__)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def _guard(self) -> None:
        try:
            self._work()
        except _EndedError:
            pass
        except BaseException as error:  # whatever it is, the caller's thread must hear of it
            self._error = error
        finally:
            self._queue.close(is_dropping=self._error is not None)

    def _work(self) -> None:
        raise NotImplementedError

    def _stop(self) -> None:
        self._queue.close(is_dropping=True)
        self._join()

    def _join(self) -> None:
        while self._thread.is_alive():
            self._thread.join(_POLL_SECONDS)

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error


class Feed(_Worker[T]):
    """Runs an iterator on its own thread, ahead of whoever iterates over the feed.

    Args:
        items: what to run.
        size_of: bytes an item holds.
        limit: bytes to run ahead; one item at least.
    """

    def __init__(self, items: Iterable[T], size_of: Callable[[T], int], limit: int) -> None:
        super().__init__(size_of, limit)
        self._items = items

    def __iter__(self) -> Iterator[T]:
        while True:
            try:
                item = self._queue.get()
            except _EndedError:
                break
            yield item
        self._raise_error()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()

    def _work(self) -> None:
        items = iter(self._items)
        while True:
            started = time.perf_counter()
            try:
                item = next(items)
            except StopIteration:
                return
            finally:
                self.busy_seconds += time.perf_counter() - started
            self.count += 1
            self._queue.put(item, self._size_of(item))


class Sink(_Worker[T]):
    """Gives items to `consume` on its own thread, in order.

    Leaving the `with` waits for all of them, unless it is left by an exception: then what still
    waits is dropped.

    Args:
        consume: called with each item.
        size_of: bytes an item holds.
        limit: bytes that may wait; one item at least.
    """

    def __init__(
        self, consume: Callable[[T], object], size_of: Callable[[T], int], limit: int
    ) -> None:
        super().__init__(size_of, limit)
        self._consume = consume

    def put(self, item: T) -> None:
        """Hands over an item; waits while the queue is full.

        Raises:
            BaseException: what `consume` raised for an earlier item.
        """
        try:
            self._queue.put(item, self._size_of(item))
        except _EndedError:
            self._join()
            self._raise_error()
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._queue.close()
                self._join()
                self._raise_error()
        finally:
            self._stop()

    def _work(self) -> None:
        while True:
            item = self._queue.get()
            started = time.perf_counter()
            self._consume(item)
            self.busy_seconds += time.perf_counter() - started
            self.count += 1
