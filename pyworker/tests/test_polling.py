"""Polling before the worker sleeps, on real sockets and in real workers."""

from __future__ import annotations

import _thread
import socket
import sys
import time
from collections.abc import Iterator

import pytest
from gophersnake._worker.wire import polling
from gophersnake._worker.wire.polling import FULL, LONGEST, MISS, SHORTEST, Polling

from tests.conftest import Serve

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only polls on Linux")

INSPECT = """
    import os, sys

    def n(value=None):
        if value == "affinity":
            return len(os.sched_getaffinity(0))
        frame = sys._getframe()
        while frame.f_code.co_name != "serve":
            frame = frame.f_back
        polling = frame.f_locals["polling"]
        return polling is not None
"""


class Ends:
    """A pair of sockets, and the polling of one of them by this process.

    Attributes:
        polling: the polling.
        own: how many threads of the process are said to be the worker's own. By default,
            all of them are, because other tests may have left some that are about to end.
    """

    def __init__(self) -> None:
        """Connect the sockets."""
        self._near, self._far = socket.socketpair()
        self.own = 1 << 30
        self.watch()

    def watch(self) -> None:
        """Begin with a new polling."""
        self.polling = Polling(self._near.fileno(), lambda: self.own)

    def send(self) -> None:
        """Send a byte, which is never read."""
        self._far.send(b"x")

    def close(self) -> None:
        """Close the sockets."""
        self._near.close()
        self._far.close()

    def wait(self, times: int = 1, since: float | None = None) -> None:
        """Wait so many times, as after calls that began just now."""
        for _ in range(times):
            self.polling.before_wait(time.monotonic() if since is None else since)


@pytest.fixture
def ends() -> Iterator[Ends]:
    """Return connected sockets."""
    made = Ends()
    yield made
    made.close()


@pytest.fixture
def hits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make polls so patient that what has arrived is found, however slow the machine is."""
    monkeypatch.setattr(polling, "POLL_TIME", 60.0)
    monkeypatch.setattr(polling, "LONG_CALL", 60.0)


@pytest.fixture
def misses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every poll a miss."""
    monkeypatch.setattr(polling, "POLL_TIME", 0.0)
    monkeypatch.setattr(polling, "LONG_CALL", 60.0)


def test_a_poll_ends_when_a_frame_arrives(ends: Ends, hits: None) -> None:
    _thread.start_new_thread(ends.send, ())
    ends.wait()
    assert ends.polling.rest == 0


def test_a_worker_without_hits_rests_longer_and_longer(ends: Ends, misses: None) -> None:
    ends.wait()
    assert ends.polling.rest == 0, "one miss is allowed"
    rests = []
    for _ in range(10):
        ends.wait()
        rests.append(ends.polling.rest)
        ends.wait(rests[-1])
        assert ends.polling.rest == 0
    assert rests == [min(SHORTEST << i, LONGEST) for i in range(10)]


def test_a_worker_with_hits_may_miss_some(
    ends: Ends, hits: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends.send()
    ends.wait(2 * FULL)
    monkeypatch.setattr(polling, "POLL_TIME", 0.0)
    ends.wait(FULL // MISS)
    assert ends.polling.rest == 0
    ends.wait()
    assert ends.polling.rest == SHORTEST


def test_full_credit_makes_the_next_rest_short_again(
    ends: Ends, misses: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends.wait(2)
    ends.wait(ends.polling.rest + 1)
    assert ends.polling.rest == 2 * SHORTEST
    ends.wait(ends.polling.rest)
    monkeypatch.setattr(polling, "POLL_TIME", 60.0)
    ends.send()
    ends.wait(FULL)
    monkeypatch.setattr(polling, "POLL_TIME", 0.0)
    ends.wait(FULL // MISS + 1)
    assert ends.polling.rest == SHORTEST


def test_a_frame_after_a_pause_of_the_process_is_a_miss(ends: Ends, misses: None) -> None:
    ends.send()
    ends.wait(2)
    assert ends.polling.rest == SHORTEST


def test_it_does_not_poll_while_the_node_has_threads(ends: Ends, misses: None) -> None:
    ends.own = 0
    ends.watch()
    gate = _thread.allocate_lock()
    gate.acquire()
    _thread.start_new_thread(gate.acquire, ())
    try:
        while not _thread._count():
            pass
        ends.wait(3)
        assert ends.polling.rest == 0, "a poll would be a miss"
    finally:
        gate.release()


def test_it_does_not_poll_after_a_long_call(
    ends: Ends, misses: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends.wait(3, since=time.monotonic() - polling.LONG_CALL - 1)
    assert ends.polling.rest == 0, "a poll would be a miss"


def test_the_end_of_the_connection_ends_a_poll(ends: Ends, hits: None) -> None:
    ends._far.close()
    ends.wait()
    assert ends.polling.rest == 0


def test_a_worker_does_not_poll_otherwise(serve: Serve) -> None:
    assert serve(INSPECT, python="nodes.py:n").call() is False


def test_a_worker_on_one_processor_does_not_poll(serve: Serve) -> None:
    pinned = "import os\nos.sched_setaffinity(0, [min(os.sched_getaffinity(0))])\n"
    source = "\n".join("    " + line for line in pinned.splitlines()) + INSPECT
    worker = serve(source, python="nodes.py:n", polls=True)
    assert worker.call("affinity") == 1
    assert worker.call() is False
