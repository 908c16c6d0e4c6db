"""Many calls under way on one connection, in real workers."""

from __future__ import annotations

import _thread
import os
import signal
import socket
import time
from pathlib import Path

import msgpack
import pytest
from gophersnake._worker import originals
from gophersnake._worker.wire.connection import Closed, Connection
from gophersnake._worker.wire.frames import PING, RESULT

from tests.conftest import Serve
from tests.supervisor import CALL, CANCEL, ERROR, LOG, Failed, Supervisor, frame

HEAD = """
    import logging, os, signal
    log = logging.getLogger("node").info
"""

NODE = (
    HEAD
    + """
    def n(value, gate=""):
        if value == "wait":
            log("at work")
            with open(gate) as file: file.read()
        if value == "long":
            log("at work")
            while True: pass
        if value == "die": os.kill(os.getpid(), signal.SIGKILL)
        if value == "raise": raise ValueError(value)
        if value == "fork":
            pid = os.fork()
            return pid and os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if value == "count": open(gate, "a").write("x")
        return value
    """
)


def send(worker: Supervisor, *values: object) -> list[int]:
    """Send calls in one piece, and return their ids."""
    assert worker.socket is not None
    calls = [100 + i for i in range(len(values))]
    worker.socket.sendall(
        b"".join(
            frame(CALL, call, msgpack.packb([[value], {}]))
            for call, value in zip(calls, values, strict=True)
        )
    )
    return calls


def test_answers_come_in_the_order_of_the_calls(serve: Serve) -> None:
    worker = serve(NODE, python="nodes.py:n")
    for _ in range(20):
        calls = send(worker, *range(64))
        assert [worker.end(call) for call in calls] == list(range(64))


def test_small_and_large_answers_and_errors_keep_their_order(serve: Serve) -> None:
    worker = serve(NODE, python="nodes.py:n")
    values = [0, "x" * 20_000, "raise", b"y" * 100_000, *("z" * 900 for _ in range(60)), "raise", 1]
    for call, value in zip(send(worker, *values), values, strict=True):
        if value == "raise":
            with pytest.raises(Failed) as failed:
                worker.end(call)
            assert failed.value.body["class"] == "ValueError"
        else:
            assert worker.end(call) == value


def test_a_slow_call_does_not_hold_back_the_answers_before_it(serve: Serve, gate: Path) -> None:
    worker = serve(NODE, python="nodes.py:n", params={"gate": str(gate)})
    for _ in range(3):
        calls = send(worker, 1, 2, "wait", 3)
        # These come while the third call is at work: nothing lets it go on before.
        assert [worker.end(call) for call in calls[:2]] == [1, 2]
        gate.write_text("go on")
        assert [worker.end(call) for call in calls[2:]] == ["wait", 3]


def test_a_log_record_does_not_pass_the_answers_before_it(serve: Serve, gate: Path) -> None:
    worker = serve(NODE, python="nodes.py:n", params={"gate": str(gate)})
    send(worker, 1, 2, "wait")
    assert [worker.receive().type for _ in range(3)] == [RESULT, RESULT, LOG]
    gate.write_text("go on")


def test_calls_that_wait_can_be_cancelled(serve: Serve, gate: Path) -> None:
    worker = serve(NODE, python="nodes.py:n", params={"gate": str(gate)})
    calls = send(worker, "wait", "die", 1, "die", 2)
    worker.until_log("at work")
    for at in (3, 1):
        worker.cancel(calls[at])
    gate.write_text("go on")
    for call, value in zip(calls, ("wait", None, 1, None, 2), strict=True):
        if value is None:
            with pytest.raises(Failed) as failed:
                worker.end(call)
            assert failed.value.body["kind"] == "canceled"
        else:
            assert worker.end(call) == value
    assert worker.call("after") == "after"


def test_the_call_at_work_and_those_behind_it_can_be_cancelled_together(serve: Serve) -> None:
    worker = serve(NODE, python="nodes.py:n")
    for _ in range(5):
        calls = send(worker, "long", "long", "long")
        assert worker.socket is not None
        worker.socket.sendall(b"".join(frame(CANCEL, call, b"") for call in calls))
        os.kill(worker.pid, signal.SIGUSR1)
        for call in calls:
            with pytest.raises(Failed) as failed:
                worker.end(call)
            assert failed.value.body["kind"] == "canceled"
    assert worker.call("after") == "after"


@pytest.mark.parametrize("seed", range(3))
def test_cancels_at_any_moment_reach_only_their_call(serve: Serve, seed: int) -> None:
    worker = serve(NODE, python="nodes.py:n")
    for turn in range(60):
        calls = send(worker, *range(30))
        canceled = {calls[(turn * 7 + i * (seed + 3)) % 30] for i in range(4)}
        for call in canceled:
            worker.cancel(call)
        for i, call in enumerate(calls):
            found = worker.until(RESULT, ERROR)
            assert found.call == call
            if found.type == RESULT:
                assert msgpack.unpackb(found.body) == i
            else:
                assert found.message["kind"] == "canceled"
                assert call in canceled
    assert worker.call("after") == "after"
    assert worker.stderr() == ""


def test_the_begun_count_survives_the_worker(serve: Serve) -> None:
    worker = serve(NODE, python="nodes.py:n", begun=True)
    assert worker.call(1) == 1
    assert worker.begun == 1
    send(worker, 1, 2, "raise", "die", 5, 6)
    assert worker.wait() == -signal.SIGKILL
    assert worker.begun == 5


def test_a_call_canceled_while_queued_counts_as_begun(serve: Serve, gate: Path) -> None:
    worker = serve(NODE, python="nodes.py:n", params={"gate": str(gate)}, begun=True)
    calls = send(worker, "wait", "long", "die", 3)
    worker.until_log("at work")
    worker.cancel(calls[1])
    assert worker.begun == 1
    gate.write_text("go on")
    assert worker.wait() == -signal.SIGKILL
    assert worker.begun == 3


def test_each_frame_of_a_session_that_is_begun_counts(serve: Serve) -> None:
    worker = serve(
        """
    from gophersnake import node
    @node(stateful=True)
    class n:
        def process(self, value): return value
        def snapshot(self): return 1
        def restore(self, state): ...
    """,
        begun=True,
    )
    worker.end(worker.open(1))
    worker.items(worker.feed(1, 2))
    worker.snapshot(1)
    worker.items(worker.finish(1))
    assert worker.begun == 4


def test_the_calls_of_a_batch_count_at_once(serve: Serve) -> None:
    worker = serve(
        """
    import os
    from gophersnake import node
    @node(batch=4)
    def n(values):
        if "die" in values: os.abort()
        return values
    """,
        begun=True,
    )
    send(worker, 1, 2, 3, 4, 5, "die", 7, 8, 9, 10)
    assert worker.wait() == -signal.SIGABRT
    assert worker.begun == 8
    assert "Fatal Python error: Aborted" in worker.exit_report()


def test_generators_count_as_other_calls_do(serve: Serve) -> None:
    worker = serve("def n(k): yield from range(k)", python="nodes.py:n", begun=True)
    assert worker.items(worker.begin(3)) == [0, 1, 2]
    assert worker.begun == 1


def test_a_worker_does_not_count_unless_setup_says_so(serve: Serve) -> None:
    worker = serve(NODE, python="nodes.py:n")
    assert worker.call(1) == 1
    assert worker.begun is None


def test_a_file_without_room_for_the_count_is_out_of_protocol(start: Serve) -> None:
    worker = start()
    os.ftruncate(worker._autopsy, 0)
    with pytest.raises(EOFError):
        worker.set_up(begun=True)
    assert worker.wait() == 70
    assert "the autopsy file has no room" in worker.stderr()


def test_answers_before_a_protocol_error_are_sent(serve: Serve) -> None:
    worker = serve(NODE, python="nodes.py:n")
    assert worker.socket is not None
    good, bad = msgpack.packb([[1], {}]), msgpack.packb(5)
    worker.socket.sendall(frame(CALL, 1, good) + frame(CALL, 2, bad) + frame(CALL, 3, good))
    assert worker.end(1) == 1
    assert worker.wait() == 70
    with pytest.raises(EOFError):
        worker.receive()


def test_a_forked_child_does_not_serve_the_calls_that_wait(serve: Serve, tmp_path: Path) -> None:
    """A child that returns from the node has its parent's read-ahead, and must leave it alone."""
    log = tmp_path / "log"
    log.touch()
    worker = serve(NODE, python="nodes.py:n", params={"gate": str(log)})
    calls = send(worker, 1, "fork", "count", "count")
    assert [worker.end(call) for call in calls] == [1, 0, "count", "count"]
    assert log.read_text() == "xx"


def test_where_no_thread_is_to_be_had_nothing_is_kept(
    pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(originals._thread, "start_new_thread", start)
    link = Connection(pair[0])
    link.keep(RESULT, 7, b"x")
    link.flush_soon()
    assert pair[1].recv(100) == frame(RESULT, 7, b"x")


def test_kept_frames_are_sent_by_the_flusher_or_with_the_next_frame(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    link = Connection(pair[0])
    there = Connection(pair[1])
    for turn in range(50):
        link.keep(RESULT, turn, b"x")
        link.flush_soon()
        if turn % 2:
            link.send(PING, turn, b"")
        assert there.receive().call == turn
        if turn % 2:
            assert there.receive().type == PING


def test_the_flusher_ends_with_the_connection(pair: tuple[socket.socket, socket.socket]) -> None:
    link = Connection(pair[0])
    pair[1].close()
    link.keep(RESULT, 1, b"x")
    before = _thread._count()
    link.flush_soon()
    while _thread._count() > before:
        time.sleep(0)
    link.keep(RESULT, 2, b"x")
    with pytest.raises(Closed):
        link.flush()


def test_so_much_is_kept_and_no_more(pair: tuple[socket.socket, socket.socket]) -> None:
    link = Connection(pair[0])
    pair[1].setblocking(False)
    for body, fit in ((b"", 64), (b"x" * (8 << 10), 4)):
        for _ in range(fit - 1):
            link.keep(RESULT, 1, body)
        with pytest.raises(BlockingIOError):
            pair[1].recv(1)
        link.keep(RESULT, 1, body)
        assert len(pair[1].recv(1 << 20)) == fit * (24 + len(body))


def test_a_failed_write_ends_the_connection(pair: tuple[socket.socket, socket.socket]) -> None:
    link = Connection(pair[0])
    pair[1].close()
    link.keep(RESULT, 1, b"x")
    with pytest.raises(Closed):
        link.flush()
