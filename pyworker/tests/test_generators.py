"""Calls that give many values, in real workers: items, credit, and what ends them early."""

from __future__ import annotations

import os
import signal
import socket

import msgpack
import pytest
from gophersnake._worker.serving.answers import Answers
from gophersnake._worker.serving.interrupts import Interrupts
from gophersnake._worker.serving.items import Items, Window, window_limits
from gophersnake._worker.wire import frames
from gophersnake._worker.wire.connection import Connection
from gophersnake._worker.wire.frames import Frame

from tests.conftest import Serve
from tests.supervisor import (
    CANCEL,
    CREDIT,
    ERROR,
    ITEM,
    PING,
    PONG,
    RESULT,
    Failed,
    Supervisor,
    frame,
)

HEAD = """
    import logging, os, threading
    from gophersnake import Cancelled, node
    log = logging.getLogger("node").info
"""

COUNT = (
    HEAD
    + """
    def n(k):
        try:
            for i in range(k):
                log(f"gives {i}")
                yield i
        finally:
            log("closed")
    """
)

NARROW = {"window": {"items": 3, "bytes": 1 << 20}}


def counting(serve: Serve, **setup: object) -> Supervisor:
    worker: Supervisor = serve(COUNT, python="nodes.py:n", **NARROW | setup)
    return worker


def given(worker: Supervisor) -> list[str]:
    """Return what was logged so far."""
    return [record["message"] for record in worker.logs]


def test_items_come_one_by_one_before_the_result(serve: Serve) -> None:
    worker = serve(COUNT, python="nodes.py:n")
    call = worker.begin(2)
    worker.until_log("gives 0")
    assert worker.item(call) == 0
    worker.until_log("gives 1")
    assert worker.item(call) == 1
    worker.until_log("closed")
    assert worker.end(call) is None


def test_a_generator_waits_for_credit_before_it_gives_more(serve: Serve) -> None:
    worker = counting(serve)
    call = worker.begin(100)
    assert [worker.item(call) for _ in range(3)] == [0, 1, 2]
    worker.until_log("gives 3")  # it is ready, and is not sent
    for turn in range(3, 20):
        worker.credit(call)
        assert worker.item(call) == turn
    worker.credit(call, 3)
    assert worker.items(call) == list(range(20, 100))
    assert given(worker)[-1] == "closed"


def test_a_generator_without_credit_stands_still(serve: Serve) -> None:
    worker = counting(serve)
    call = worker.begin(10)
    assert [worker.item(call) for _ in range(3)] == [0, 1, 2]
    worker.until_log("gives 3")
    worker.cancel(call)  # the next answer is the end: no item has slipped out meanwhile
    worker.until_log("closed")
    with pytest.raises(Failed) as failed:
        worker.items(call)
    assert failed.value.body["kind"] == "canceled"
    assert given(worker)[-1] == "closed"
    assert "gives 4" not in given(worker)
    assert worker.items(worker.begin(2)) == [0, 1]


def test_bytes_that_are_under_way_hold_a_generator_back(serve: Serve) -> None:
    worker = serve(
        HEAD
        + """
    def n(size):
        for i in range(4):
            log(f"gives {i}")
            yield bytes(size)
    """,
        python="nodes.py:n",
        window={"items": 16, "bytes": 100_000},
    )
    call = worker.begin(90_000)
    assert len(worker.item(call)) == 90_000
    assert len(worker.item(call)) == 90_000  # there was room left when it was given
    worker.until_log("gives 2")
    worker.credit(call)
    assert len(worker.item(call)) == 90_000
    worker.until_log("gives 3")
    worker.credit(call)
    assert [len(item) for item in worker.items(call)] == [90_000]
    # One item may always be under way, whatever its size.
    assert [len(item) for item in worker.items(worker.begin(300_000))] == [300_000] * 4


def test_credit_that_was_read_ahead_counts(serve: Serve) -> None:
    worker = counting(serve)
    call = worker.begin(9)
    body = msgpack.packb(2)
    worker.send(CREDIT, call + 7, body)  # of no call that is known
    worker.send(CREDIT, call, body)
    os.kill(worker.pid, signal.SIGUSR1)  # so that all of it lands in the mailbox
    assert [worker.item(call) for _ in range(5)] == [0, 1, 2, 3, 4]
    worker.credit(call, 100)
    assert worker.items(call) == [5, 6, 7, 8]


@pytest.mark.parametrize("body", [b"", msgpack.packb(0), msgpack.packb(-1), msgpack.packb("3")])
def test_invalid_credit_is_a_protocol_error(serve: Serve, body: bytes) -> None:
    worker = counting(serve)
    call = worker.begin(9)
    worker.item(call)
    worker.send(CREDIT, call, body)
    assert worker.wait() == 70
    assert "a credit frame" in worker.stderr()


def test_an_exception_follows_the_items_before_it(serve: Serve) -> None:
    worker = serve(
        """
    def n(k):
        yield from range(k)
        raise ValueError("that was all")
    """,
        python="nodes.py:n",
    )
    call = worker.begin(2)
    assert [worker.item(call), worker.item(call)] == [0, 1]
    with pytest.raises(Failed, match="that was all") as failed:
        worker.items(call)
    assert failed.value.body["stage"] == "call"
    assert [each["function"] for each in failed.value.body["frames"]] == ["n"]


@pytest.mark.parametrize("how", ["def", "async def"])
def test_an_item_that_cannot_be_carried_closes_the_generator(serve: Serve, how: str) -> None:
    worker = serve(
        HEAD
        + f"""
    @node(stateful=True)
    class n:
        {how} process(self, value):
            try:
                yield 1
                yield [2, object()]
            except GeneratorExit:
                log("closed")
                raise
    """,
    )
    worker.end(worker.open(1))
    call = worker.feed(1, 0)
    assert worker.item(call) == 1
    worker.until_log("closed")
    with pytest.raises(Failed) as failed:
        worker.items(call)
    assert (failed.value.body["kind"], failed.value.body["stage"]) == ("marshaling", "encode")
    assert failed.value.body["path"] == "result[1]"


def test_a_cancel_while_a_generator_works_is_raised_inside(serve: Serve) -> None:
    worker = serve(
        HEAD
        + """
    def n(k):
        try:
            yield 1
            log("at work")
            if k: threading.Event().wait()
        except Cancelled:
            log("cancelled inside")
            raise
    """,
        python="nodes.py:n",
    )
    for _ in range(3):
        call = worker.begin(1)
        assert worker.item(call) == 1
        worker.until_log("at work")
        worker.cancel(call)
        worker.until_log("cancelled inside")
        with pytest.raises(Failed) as failed:
            worker.items(call)
        assert failed.value.body["kind"] == "canceled"
    assert worker.items(worker.begin(0)) == [1]


def test_a_generator_that_swallows_the_cancellation_ends_at_its_next_item(serve: Serve) -> None:
    worker = serve(
        HEAD
        + """
    def n(value):
        try:
            log("at work")
            threading.Event().wait()
        except Cancelled:
            yield "never minds"
    """,
        python="nodes.py:n",
    )
    call = worker.begin(1)
    worker.until_log("at work")
    worker.cancel(call)
    with pytest.raises(Failed) as failed:
        worker.items(call)
    assert failed.value.body["kind"] == "canceled"


def test_cancels_at_any_moment_end_a_generator_once(serve: Serve) -> None:
    worker = serve(COUNT.replace('log(f"gives {i}")', "pass"), python="nodes.py:n")
    ends = set()
    for count in range(300):
        call = worker.begin(count)
        for _ in range(count % 4):
            if worker.until(ITEM, RESULT).type == RESULT:
                break
        else:
            worker.cancel(call)
            while (found := worker.receive()).type not in (RESULT, ERROR):
                pass
            ends.add(found.type)
            if found.type == ERROR:
                assert found.message["kind"] == "canceled"
        worker.send(PING, call)
        worker.until(PONG)
    assert ERROR in ends
    assert worker.stderr() == ""


def test_a_supervisor_that_hangs_up_closes_a_generator_that_waits(serve: Serve) -> None:
    worker = serve(
        """
    import os
    def n(k):
        try:
            yield from range(k)
        finally:
            os.write(2, b"closed")
    """,
        python="nodes.py:n",
        **NARROW,
    )
    call = worker.begin(10)
    assert [worker.item(call) for _ in range(3)] == [0, 1, 2]
    assert worker.socket is not None
    worker.socket.close()
    assert worker.wait() == 0
    assert worker.stderr() == "closed"


def test_a_frame_without_room_while_a_generator_waits_ends_the_worker(serve: Serve) -> None:
    worker = counting(serve, limits={"buffer_bytes": 1 << 63})
    call = worker.begin(10)
    assert [worker.item(call) for _ in range(3)] == [0, 1, 2]
    assert worker.socket is not None
    head = frames.HEADER.pack(0x47, 1, frames.CALL, 0, 0, 99, 1, 0)
    worker.socket.sendall(head + frames.DESCRIPTOR.pack(0, 0, 0, 1 << 62))
    with pytest.raises(Failed) as failed:
        worker.items(99)
    assert failed.value.body["kind"] == "python_vm"
    assert worker.wait() == 70


def test_an_abandoned_generator_is_closed_at_once_and_its_failure_reported(serve: Serve) -> None:
    worker = serve(
        """
    def n(k):
        try:
            yield from range(k)
        finally:
            raise OSError("cannot be closed")
    """,
        python="nodes.py:n",
        **NARROW,
    )
    call = worker.begin(10)
    assert [worker.item(call) for _ in range(3)] == [0, 1, 2]
    worker.cancel(call)
    with pytest.raises(Failed, match="cannot be closed"):
        worker.items(call)


def test_large_items_share_memory_and_wait_for_room_in_it(serve: Serve) -> None:
    np = pytest.importorskip("numpy")
    worker = serve(
        """
    import numpy
    def n(k):
        for i in range(k):
            yield numpy.full(1 << 18, i, "f4")
    """,
        python="nodes.py:n",
        shared={"limit": 3 << 20},
    )
    assert worker.shares is not None
    call = worker.begin(20)
    for i in range(20):  # 20 MiB through 3
        assert (worker.item(call) == np.full(1 << 18, i, "f4")).all()
        assert worker.shares.places[0][0] != 0
        worker.credit(call)
    assert worker.end(call) is None


def test_frames_that_come_while_a_generator_waits_are_kept_in_order(serve: Serve) -> None:
    worker = counting(serve)
    first = worker.begin(5)
    assert [worker.item(first) for _ in range(3)] == [0, 1, 2]
    second, third = worker.begin(1), worker.begin(2)
    worker.send(PING, 77)
    worker.send(CANCEL, second)
    os.kill(worker.pid, signal.SIGUSR1)
    worker.credit(first, 2)
    assert worker.items(first) == [3, 4]
    with pytest.raises(Failed) as failed:
        worker.items(second)
    assert failed.value.body["kind"] == "canceled"
    assert worker.items(third) == [0, 1]
    assert worker.until(PONG).call == 77


def test_credit_that_arrives_with_a_wake_signal_is_not_awaited_twice(
    pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signal of another call's cancellation hits between two reads of the frames."""
    before = signal.getsignal(signal.SIGUSR1)
    link = Connection(pair[0])
    pick, signals = link.pick, [1]

    def woken(kind: int, call: int) -> Frame | None:
        found = pick(kind, call)
        if signals:
            signals.pop()
            assert found is None
            pair[1].sendall(frame(CANCEL, 8, b"") + frame(CREDIT, 7, msgpack.packb(1)))
            signal.raise_signal(signal.SIGUSR1)
        return found

    monkeypatch.setattr(link, "pick", woken)
    try:
        interrupts = Interrupts(link)
        items = Items(7, link, interrupts, Answers(link, interrupts), Window(1, 100))
        items("first")
        items("second")
    finally:
        signal.signal(signal.SIGUSR1, before)
    there = Connection(pair[1])
    assert [there.receive().type for _ in range(2)] == [ITEM, ITEM]
    assert link.receive().call == 8


def test_a_window_counts_items_and_their_bytes_in_order() -> None:
    window = Window(3, 100)
    for size, full in ((60, False), (40, False)):
        window.sent(size)
        assert window.full is full
    window.sent(1)
    assert window.full
    window.credit(1)
    assert not window.full
    window.sent(200)
    assert window.full
    window.credit(5)  # more than there are
    assert not window.full
    assert window_limits({}) == (16, 32 << 20)
    assert window_limits({"window": {"items": 2, "bytes": 3}}) == (2, 3)
