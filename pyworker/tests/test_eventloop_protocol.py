"""The frames that the worker of an async node gets, in any order."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgpack
import pytest

from tests.conftest import Serve
from tests.supervisor import (
    CALL,
    CANCEL,
    LIMITS,
    LOG,
    OPEN,
    PING,
    PONG,
    READY,
    RESULT,
    SETUP,
    SHUTDOWN,
    Supervisor,
    frame,
)
from tests.test_eventloop import HEAD, answer
from tests.test_eventloop_ends import WAITS


def test_a_ping_is_answered_while_calls_wait(serve: Serve) -> None:
    worker = serve(HEAD + "    async def n(value): await gate(value).wait()", python="nodes.py:n")
    for i in range(3):
        worker.begin(i)
        worker.send(PING, 70 + i)
        assert worker.until(PONG).call == 70 + i


def test_frames_cut_anywhere_are_put_together(serve: Serve) -> None:
    worker = serve("async def n(value): return value", python="nodes.py:n")
    assert worker.socket is not None
    body = msgpack.packb([["hello"], {}])
    whole = b"".join(
        frame(kind, i, data)
        for i, (kind, data) in enumerate([(CALL, body), (PING, b""), (CANCEL, b""), (CALL, body)])
    )
    for i in range(len(whole)):
        worker.socket.sendall(whole[i : i + 1])
    found: list[tuple[int, int]] = []
    while len(found) < 3:
        each = worker.receive()
        if each.type != LOG:
            found.append((each.type, each.call))
    assert sorted(found) == [(RESULT, 0), (RESULT, 3), (PONG, 1)]


def test_a_call_that_arrives_with_setup_is_served(
    start: Callable[..., Supervisor], tmp_path: Path
) -> None:
    (tmp_path / "nodes.py").write_text("async def n(value): return value")
    worker = start()
    worker.connect()
    setup = {
        "base": str(tmp_path),
        "python": "nodes.py:n",
        "node_type": "n",
        "params": None,
        "ports": None,
        "log_level": "info",
        "limits": LIMITS,
    }
    assert worker.socket is not None
    worker.socket.sendall(
        frame(SETUP, 0, msgpack.packb(setup)) + frame(CALL, 7, msgpack.packb([["early"], {}]))
    )
    assert worker.until(READY).message["concurrency"] == 64
    assert worker.end(7) == "early"


def test_nothing_is_read_behind_the_shutdown_where_no_call_is_under_way(serve: Serve) -> None:
    worker = serve(WAITS, python="nodes.py:n", log_level="info")
    assert worker.socket is not None
    worker.socket.sendall(frame(SHUTDOWN, 0, b"") + frame(PING, 5, b""))
    with pytest.raises(EOFError):
        worker.receive()
    assert worker.wait() == 0


def test_a_call_after_the_shutdown_is_out_of_protocol(serve: Serve) -> None:
    worker = serve(WAITS, python="nodes.py:n")
    worker.begin("a")
    worker.until_log("at work on a")
    worker.send(SHUTDOWN)
    worker.begin("b")
    assert worker.wait() == 70
    assert "sent a call frame after shutdown" in worker.stderr()


def test_a_call_id_that_is_under_way_is_out_of_protocol(serve: Serve) -> None:
    worker = serve(WAITS, python="nodes.py:n")
    call = worker.begin("a")
    worker.send(CALL, call, msgpack.packb([["b"], {}]))
    assert worker.wait() == 70
    assert f"a call frame with the id {call}, which is in use" in worker.stderr()


def test_an_input_beyond_the_memory_limit_fails_its_call(serve: Serve) -> None:
    worker = serve(WAITS, python="nodes.py:n", limits={"memory": 160 << 20})
    assert worker.socket is not None
    # A header alone: there is no need to send what cannot be taken.
    worker.socket.sendall(bytes([0x47, 1, CALL, 0]) + (250 << 20).to_bytes(4, "little"))
    worker.socket.sendall((9).to_bytes(8, "little") + bytes(8))
    number, body = answer(worker)
    assert (number, body["class"], body["stage"]) == (9, "MemoryError", "decode")
    assert worker.wait() == 70


@pytest.mark.parametrize(
    ("kind", "body", "session", "says"),
    [
        (RESULT, b"", 0, "sent a result frame"),
        (OPEN, msgpack.packb([]), 1, "sent a open frame"),
        (CALL, msgpack.packb([["a"], {}]), 1, "session 1 for a node that is not stateful"),
        (CALL, msgpack.packb(5), 0, "a map of arguments"),
    ],
)
def test_protocol_violations_end_the_worker(
    serve: Serve, tmp_path: Path, kind: int, body: bytes, session: int, says: str
) -> None:
    worker = serve(WAITS, python="nodes.py:n")
    assert worker.socket is not None
    call = frame(CALL, 8, msgpack.packb([["a"], {}]))
    worker.socket.sendall(frame(kind, 9, body, session=session) + call)
    assert worker.wait() == 70
    assert says in worker.stderr()
    assert not (tmp_path / "ended").exists()
