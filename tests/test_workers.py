import time

import pytest

from midflow.workers import Feed, Sink


def one(item):
    return 1


def test_a_feed_gives_all_items_in_order():
    with Feed(range(100), one, limit=3) as feed:
        assert list(feed) == list(range(100))
    assert feed.count == 100


def test_a_feed_runs_ahead_by_its_limit_and_no_further():
    made = []

    def items():
        for i in range(50):
            made.append(i)
            yield i

    with Feed(items(), lambda item: 10, limit=30) as feed:
        received = iter(feed)
        assert next(received) == 0
        time.sleep(0.1)
        assert len(made) <= 1 + 3 + 1  # taken, waiting, and one that waits to be let in
        assert list(received) == list(range(1, 50))


def test_an_item_above_the_limit_still_passes():
    with Feed([1, 2, 3], lambda item: 1000, limit=10) as feed:
        assert list(feed) == [1, 2, 3]


def test_what_a_feed_raises_reaches_its_reader_after_the_items_before_it():
    def items():
        yield 1
        raise ValueError("the third packet is broken")

    received = []
    with pytest.raises(ValueError, match="third packet"), Feed(items(), one, limit=100) as feed:
        time.sleep(0.05)
        received += feed
    assert not feed._thread.is_alive()


def test_a_feed_left_early_ends_its_thread():
    with Feed(iter(int, 1), one, limit=5) as feed:
        assert next(iter(feed)) == 0
    assert not feed._thread.is_alive()


def test_a_sink_has_consumed_all_items_in_order_when_it_is_left():
    seen = []
    with Sink(lambda item: (time.sleep(0.001), seen.append(item)), one, limit=3) as sink:
        for i in range(50):
            sink.put(i)
    assert seen == list(range(50))
    assert sink.count == 50
    assert sink.busy_seconds >= 0.04


def test_what_a_sink_raises_reaches_the_next_put():
    def refuse(item):
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"), Sink(refuse, one, limit=1) as sink:
        for i in range(1000):
            sink.put(i)
    assert not sink._thread.is_alive()


def test_what_a_sink_raises_for_the_last_item_is_not_lost():
    def refuse_last(item):
        if item == 2:
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"), Sink(refuse_last, one, limit=10) as sink:
        for i in range(3):
            sink.put(i)


def test_a_sink_left_by_an_exception_drops_what_waits():
    with (
        pytest.raises(KeyboardInterrupt),
        Sink(lambda item: time.sleep(0.05), one, limit=100) as sink,
    ):
        for i in range(50):
            sink.put(i)
        raise KeyboardInterrupt
    assert not sink._thread.is_alive()
    assert sink.count < 10


def test_the_callers_own_error_is_not_replaced_by_the_sinks():
    def refuse(item):
        raise OSError("disk full")

    with pytest.raises(ValueError, match="mine"), Sink(refuse, one, limit=10) as sink:
        sink.put(1)
        raise ValueError("mine")
