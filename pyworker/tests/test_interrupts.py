"""Calls that the supervisor cancels, in real workers."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator

import msgpack
import pytest
from gophersnake import Cancelled
from gophersnake._worker.serving.interrupts import Interrupts
from gophersnake._worker.wire.connection import Connection
from gophersnake._worker.wire.frames import CANCEL, PING

from tests.conftest import Serve
from tests.supervisor import CALL, Failed, Supervisor, frame

HEAD = """
    import asyncio, logging, os, signal, sys, threading
    from gophersnake import Cancelled, node
    log = logging.getLogger("node").info

    async def for_ever():
        log("asleep")
        await asyncio.sleep(3600)
"""


def assert_canceled(worker: Supervisor, call: int) -> None:
    """Check that a call is answered as a cancelled one, and that the worker lives."""
    with pytest.raises(Failed) as failed:
        worker.end(call)
    assert failed.value.body["kind"] == "canceled"
    assert worker.call("quick") == "quick"
    assert worker.stderr() == ""


@pytest.mark.parametrize(
    "work",
    [
        "while True: pass",
        "threading.Event().wait()",
        "signal.pause()",
        "while True: log('noise')",
        "asyncio.run(for_ever())",
        "return (log('x') for _ in iter(int, 1))",
    ],
)
def test_a_node_at_work_is_interrupted(serve: Serve, work: str) -> None:
    worker = serve(
        HEAD
        + f"""
    def n(value):
        if value == "quick": return value
        if "run" not in {work!r}: log("asleep")
        {work}
    """,
        python="nodes.py:n",
    )
    for _ in range(3):
        call = worker.begin("long")
        worker.until_log("asleep")
        worker.cancel(call)
        assert_canceled(worker, call)


@pytest.mark.parametrize(
    "body",
    [
        "await asyncio.sleep(3600)",
        "await asyncio.gather(asyncio.sleep(3600), asyncio.sleep(3600))",
        "while True: await asyncio.sleep(0)",
        "await asyncio.to_thread(lambda: None); await asyncio.Event().wait()",
    ],
)
def test_an_async_node_is_woken_and_cancelled(serve: Serve, body: str) -> None:
    worker = serve(
        HEAD
        + f"""
    async def n(value):
        if value == "quick": return value
        try:
            log("at work")
            {body}
        finally:
            log("cleaned up")
    """,
        python="nodes.py:n",
    )
    call = worker.begin("long")
    worker.until_log("at work")
    worker.cancel(call)
    worker.until_log("cleaned up")
    assert_canceled(worker, call)


def test_an_async_node_is_cancelled_once_however_often_it_is_asked(serve: Serve) -> None:
    worker = serve(
        HEAD
        + """
    async def n(value):
        if value == "quick": return value
        try:
            log("at work")
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            for i in range(100):  # each of these checks for a wake signal
                log("cleaning up")
                await asyncio.sleep(0)
            return "cleaned up"
    """,
        python="nodes.py:n",
    )
    call = worker.begin("long")
    worker.until_log("at work")
    for _ in range(5):
        worker.cancel(call)
    assert worker.end(call) == "cleaned up"
    assert worker.call("quick") == "quick"


@pytest.mark.parametrize("how", ["yield from iter(int, 1)", "while True: yield"])
def test_a_generator_is_closed_when_it_is_interrupted(serve: Serve, how: str) -> None:
    worker = serve(
        HEAD
        + """
    def n(value):
        if value == "quick":
            return value
        return work()

    def work():
        try:
            log("at work")
            HOW
        finally:
            log("closed")
    """.replace("HOW", how),
        python="nodes.py:n",
    )
    call = worker.begin("long")
    worker.until_log("at work")
    worker.cancel(call)
    worker.until_log("closed")
    assert_canceled(worker, call)


def test_an_async_generator_is_closed_when_it_is_cancelled(serve: Serve) -> None:
    worker = serve(
        HEAD
        + """
    async def n(value):
        try:
            yield value
            if value != "quick":
                log("at work")
                await asyncio.sleep(3600)
        finally:
            log("closed")
    """,
        python="nodes.py:n",
    )
    call = worker.begin("long")
    assert worker.item(call) == "long"
    worker.until_log("at work")
    worker.cancel(call)
    worker.until_log("closed")
    with pytest.raises(Failed, match="Cancelled"):
        worker.items(call)
    assert worker.items(worker.begin("quick")) == ["quick"]


def test_a_cancel_right_behind_its_call_is_seen(serve: Serve) -> None:
    for source in ("def n(value):\n    while value: pass", "async def n(value): ..."):
        worker = serve(source, python="nodes.py:n")
        assert worker.socket is not None
        body = msgpack.packb([[1], {}])
        worker.socket.sendall(frame(CALL, 7, body) + frame(CANCEL, 7, b""))
        os.kill(worker.pid, signal.SIGUSR1)
        with pytest.raises(Failed) as failed:
            worker.end(7)
        assert failed.value.body["kind"] == "canceled"
        assert worker.call(0) is None


def test_a_cancel_of_another_call_does_not_interrupt(serve: Serve) -> None:
    worker = serve(
        HEAD
        + """
    def n(value):
        log("at work")
        for i in range(20): log("noise")
        return value
    """,
        python="nodes.py:n",
    )
    call = worker.begin("x")
    worker.cancel(call + 1)
    worker.until_log("at work")
    worker.cancel(call + 2)
    assert worker.end(call) == "x"


def test_a_node_that_suppresses_the_cancellation_is_answered(serve: Serve) -> None:
    worker = serve(
        HEAD
        + """
    import time
    def n(value):
        try:
            log("at work")
            while value: time.sleep(0.001)
        except BaseException as error:
            log("swallowed")
            return type(error).__name__
    """,
        python="nodes.py:n",
    )
    call = worker.begin(1)
    worker.until_log("at work")
    worker.cancel(call)
    worker.until_log("swallowed")
    worker.cancel(call)
    assert worker.end(call) == "Cancelled"
    assert worker.call(0) is None


def test_many_signals_at_any_moment_lose_and_tear_nothing(serve: Serve) -> None:
    worker = serve(
        HEAD
        + """
    def n(value):
        for i in range(20): log("noise")
        return value
    """,
        python="nodes.py:n",
    )
    kinds: set[str] = set()
    for i in range(300):
        call = worker.begin(i)
        for _ in range(3):
            worker.cancel(call)
        try:
            assert worker.end(call) == i
        except Failed as failed:
            kinds.add(failed.body["kind"])
    assert kinds <= {"canceled"}
    assert worker.stderr() == ""


def test_a_forked_child_does_not_answer_signals_or_write_frames(serve: Serve) -> None:
    worker = serve(
        HEAD
        + """
    def n(value):
        pid = os.fork()
        if pid == 0:
            log("from the child")
            os.kill(os.getpid(), signal.SIGUSR1)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    """,
        python="nodes.py:n",
    )
    assert worker.call(1) == -signal.SIGUSR1  # as under plain Python
    assert worker.call(1) == -signal.SIGUSR1
    assert worker.logs == []
    assert worker.stderr() == "from the child\n" * 2
    assert worker.exit_report() == ""


def test_a_child_that_returns_from_the_node_does_not_answer(serve: Serve) -> None:
    worker = serve("import os\ndef n(value): return os.fork()", python="nodes.py:n")
    assert worker.call(1) > 0
    assert worker.call(1) > 0


@pytest.fixture
def interrupts(pair: tuple[socket.socket, socket.socket]) -> Iterator[Interrupts]:
    """Return interrupts on a connection, whose other end is ``pair[1]``."""
    before = signal.getsignal(signal.SIGUSR1)
    yield Interrupts(Connection(pair[0]))
    signal.signal(signal.SIGUSR1, before)


def test_a_signal_while_frames_are_read_does_not_read_as_well(
    pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signal hits between the header of a frame and its body."""
    here, there = pair
    link = Connection(here)
    take = link._read_owned
    depth: list[int] = []

    def interrupted(size: int) -> object:
        assert not depth, "a frame is read inside another one"
        depth.append(1)
        if size:
            signal.raise_signal(signal.SIGUSR1)
        depth.clear()
        return take(size)

    monkeypatch.setattr(link, "_read_owned", interrupted)
    before = signal.getsignal(signal.SIGUSR1)
    try:
        interrupts = Interrupts(link)
        there.sendall(frame(CALL, 1, b"x", (b"buffer",)) + frame(CANCEL, 5, b""))
        link._fill(24)
        signal.raise_signal(signal.SIGUSR1)
        with pytest.raises(Cancelled):
            interrupts.begin(5)
        assert [each.type for each in link.mailbox] == [CALL, CANCEL]
        assert link.mailbox[0].buffers == [b"buffer"]
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_deferred_interruption_is_raised_at_the_end_of_the_block(
    pair: tuple[socket.socket, socket.socket], interrupts: Interrupts
) -> None:
    pair[1].sendall(frame(PING, 1, b"") + frame(CANCEL, 5, b""))
    interrupts.begin(5)
    reached = []
    with pytest.raises(Cancelled), interrupts.deferred(), interrupts.deferred():  # noqa: PT012
        signal.raise_signal(signal.SIGUSR1)
        reached.append(1)
    assert reached
    signal.raise_signal(signal.SIGUSR1)  # once


def test_a_signal_between_calls_is_for_the_next_one(
    pair: tuple[socket.socket, socket.socket], interrupts: Interrupts
) -> None:
    signal.raise_signal(signal.SIGUSR1)
    pair[1].sendall(frame(CANCEL, 6, b""))
    asked: list[int] = []
    interrupts.begin(6, lambda: asked.append(6))
    assert asked == [6]
    interrupts.end()
    interrupts.begin(7, lambda: asked.append(7))
    assert asked == [6]
