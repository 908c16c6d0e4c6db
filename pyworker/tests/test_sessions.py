"""Stateful nodes, in real workers: each stream is a session."""

from __future__ import annotations

import os
import re
import signal

import msgpack
import pytest

from tests.conftest import Serve
from tests.supervisor import (
    CALL,
    CANCEL,
    DROP,
    FINISH,
    ITEM,
    OPEN,
    RESULT,
    SHUTDOWN,
    SNAPSHOT,
    Failed,
    Supervisor,
)

HEAD = """
    import asyncio, logging
    from gophersnake import node
    log = logging.getLogger("node").info
"""

TOTAL = (
    HEAD
    + """
    @node(stateful=True)
    class n:
        made = 0

        def __init__(self, step=1):
            self.step = step
            n.made += 1

        def setup(self):
            self.model = ["shared"]

        def begin(self):
            self.total = 0

        def process(self, value):
            if value == "raise": raise ValueError(value)
            if value == "none": return None
            if value == "model": return [id(self.model), n.made]
            self.total += value * self.step
            return self.total

        def finish(self):
            return {"total": self.total}

        def snapshot(self):
            return [self.total, self.step]

        def restore(self, state):
            self.total, self.step = state
            log("restored")

        def close(self):
            log(f"closed, {hasattr(self, 'total')}")
    """
)


ROUNDS = (
    HEAD
    + """
    waiting = []

    async def both():
        waiting.append(asyncio.get_running_loop().create_future())
        mine = waiting[-1]
        if len(waiting) == 2:
            for each in waiting: each.set_result(None)
            waiting.clear()
        await mine

    @node(stateful=True)
    class n:
        async def begin(self): await both()
        async def process(self, value):
            await both()
            return value
        async def finish(self):
            await both()
            yield "end"
    """
)


def total(how: str) -> str:
    """Return the source of TOTAL, with the methods of its sessions made async or not."""
    for method in ("begin", "process", "finish", "snapshot", "restore"):
        assert f"def {method}(" in TOTAL
    return re.sub(r"def (begin|process|finish|snapshot|restore)\(", rf"{how} \1(", TOTAL)


def opened(worker: Supervisor, *sessions: int) -> None:
    for session in sessions:
        assert worker.end(worker.open(session)) is None


def fed(worker: Supervisor, session: int, *values: object) -> list[object]:
    """Feed a session, and return all that it gives."""
    return [item for value in values for item in worker.items(worker.feed(session, value))]


def told(worker: Supervisor) -> list[str]:
    """Return what the node has logged."""
    return [record["message"] for record in worker.logs if record["logger"] == "node"]


def failure(worker: Supervisor, call: int) -> dict[str, object]:
    """Return the error that a call is answered with."""
    with pytest.raises(Failed) as failed:
        worker.items(call)
    return failed.value.body


@pytest.mark.parametrize("how", ["def", "async def"])
def test_each_session_has_a_state_of_its_own(serve: Serve, how: str) -> None:
    worker = serve(total(how), params={"step": 10})
    opened(worker, 1, 2)
    assert fed(worker, 1, 1, 2) == [10, 30]
    assert fed(worker, 2, 5) == [50]
    assert fed(worker, 1, 3) == [60]
    assert worker.items(worker.finish(1)) == [{"total": 60}]
    assert fed(worker, 2, 1) == [60]
    opened(worker, 1)  # the number is free again
    assert fed(worker, 1, 1) == [10]
    assert worker.shut_down() == 0  # with two sessions open
    assert worker.until_log("closed, False")


@pytest.mark.parametrize("how", ["def", "async def"])
def test_sessions_share_the_object_that_was_set_up(serve: Serve, how: str) -> None:
    worker = serve(total(how))
    opened(worker, 1, 2)
    (one,), (other,) = fed(worker, 1, "model"), fed(worker, 2, "model")
    assert one == other
    assert isinstance(one, list)
    assert one[1] == 1


@pytest.mark.parametrize("how", ["def", "async def"])
def test_none_is_no_output_and_an_exception_leaves_the_session_open(serve: Serve, how: str) -> None:
    worker = serve(total(how))
    opened(worker, 1)
    assert fed(worker, 1, 1, "none", 1) == [1, 2]
    assert failure(worker, worker.feed(1, "raise"))["stage"] == "call"
    assert fed(worker, 1, 1) == [3]


@pytest.mark.parametrize("how", ["def", "async def"])
def test_a_state_is_carried_over_to_another_session(serve: Serve, how: str) -> None:
    worker, other = serve(total(how)), serve(total(how))
    opened(worker, 1)
    assert fed(worker, 1, 7) == [7]
    state = worker.snapshot(1)
    assert state == [7, 1]
    assert fed(worker, 1, 1) == [8]
    assert other.end(other.open(9, state)) is None
    assert told(other) == ["restored"]
    assert fed(other, 9, 2) == [9]
    assert other.items(other.finish(9)) == [{"total": 9}]


def test_begin_and_finish_can_be_left_out(serve: Serve) -> None:
    worker = serve(
        """
    from gophersnake import node
    @node(stateful=True)
    class n:
        count = 0
        def process(self, value):
            self.count += 1
            return self.count
    """
    )
    opened(worker, 1, 2)
    assert fed(worker, 1, "a", "b") == [1, 2]
    assert fed(worker, 2, "c") == [1]
    assert worker.items(worker.finish(1)) == []


@pytest.mark.parametrize("how", ["def", "async def"])
def test_process_and_finish_can_be_generators(serve: Serve, how: str) -> None:
    worker = serve(
        HEAD
        + f"""
    @node(stateful=True)
    class n:
        {how} begin(self):
            self.seen = []

        {how} process(self, value):
            self.seen.append(value)
            for each in range(value):
                yield each

        {how} finish(self):
            for each in self.seen:
                yield each
            yield None
    """,
        window={"items": 2, "bytes": 1 << 20},
    )
    opened(worker, 1)
    assert fed(worker, 1, 3, 0, 5) == [0, 1, 2, 0, 1, 2, 3, 4]
    assert worker.items(worker.finish(1)) == [3, 0, 5, None]


def test_async_methods_run_to_their_end_one_at_a_time(serve: Serve) -> None:
    worker = serve(
        HEAD
        + """
    @node(stateful=True)
    class n:
        async def begin(self): self.seen = []
        async def process(self, value):
            self.seen.append(f"begin {value}")
            await asyncio.sleep(0)
            self.seen.append(f"end {value}")
            return value if value else None
        async def finish(self): return self.seen
        async def snapshot(self): return self.seen
        async def restore(self, state): self.seen = [*state, "restored"]
    """
    )
    opened(worker, 1)
    calls = [worker.feed(1, value) for value in (0, 1, 2)]
    assert [worker.items(call) for call in calls] == [[], [1], [2]]
    state = worker.snapshot(1)
    assert state == ["begin 0", "end 0", "begin 1", "end 1", "begin 2", "end 2"]
    worker.end(worker.open(2, state))
    assert worker.items(worker.finish(2)) == [[*state, "restored"]]


@pytest.mark.parametrize("how", ["def", "async def"])
@pytest.mark.parametrize(
    ("stage", "method"),
    [
        ("begin", "def begin(self): raise ValueError('no')"),
        ("begin", "def __copy__(self): raise ValueError('no')"),
        ("restore", "def restore(self, state): raise ValueError('no')"),
    ],
)
def test_a_session_that_fails_to_begin_is_not_there(
    serve: Serve, stage: str, method: str, how: str
) -> None:
    worker = serve(
        f"""
    from gophersnake import node
    @node(stateful=True)
    class n:
        {how} process(self, value): return value
        {how} snapshot(self): return 1
        def restore(self, state): ...
        {method}
    """
    )
    call = worker.open(1, "state") if stage == "restore" else worker.open(1)
    body = failure(worker, call)
    assert (body["kind"], body["stage"]) == ("execution", stage)
    if "copy" in method:
        assert "give the class a __copy__" in str(body["message"])
        assert body["retryable"] is False
    worker.feed(1, 1)
    assert worker.wait() == 70
    assert "session 1, which is not open" in worker.stderr()


@pytest.mark.parametrize("how", ["def", "async def"])
def test_an_invalid_state_is_an_error_and_the_worker_continues(serve: Serve, how: str) -> None:
    worker = serve(total(how))
    worker.send(OPEN, 5, b"\xc1", session=3)
    body = failure(worker, 5)
    assert (body["kind"], body["stage"]) == ("marshaling", "decode")
    opened(worker, 3)


@pytest.mark.parametrize("how", ["def", "async def"])
def test_a_finish_that_fails_ends_the_session_all_the_same(serve: Serve, how: str) -> None:
    worker = serve(
        f"""
    from gophersnake import node
    @node(stateful=True)
    class n:
        {how} process(self, value): return value
        {how} finish(self):
            yield 1
            raise ValueError("no")
    """
    )
    opened(worker, 1)
    call = worker.finish(1)
    assert worker.item(call) == 1
    assert failure(worker, call)["stage"] == "finish"
    opened(worker, 1)


@pytest.mark.parametrize("how", ["def", "async def"])
@pytest.mark.parametrize(
    ("body", "path", "message"),
    [
        ("raise ValueError('no')", None, "no"),
        ("return object()", "snapshot", "an object has no form on the wire"),
        ("return {'seen': [1, {2}]}", "snapshot.seen[1]", "a set has no form on the wire"),
        ("return 'x' * 3000", "snapshot", "it takes 3003 bytes, more than the limit of 2000"),
    ],
)
def test_a_snapshot_that_fails_is_named_and_leaves_the_session_as_it_is(
    serve: Serve, body: str, path: str | None, message: str, how: str
) -> None:
    worker = serve(
        f"""
    from gophersnake import node
    @node(stateful=True)
    class n:
        {how} process(self, value): return value
        {how} snapshot(self): {body}
        def restore(self, state): ...
    """,
        limits={"body": 2000},
    )
    opened(worker, 1)
    with pytest.raises(Failed) as failed:
        worker.snapshot(1)
    found = failed.value.body
    assert (found["stage"], found.get("path"), found["message"]) == ("snapshot", path, message)
    assert fed(worker, 1, 4) == [4]


@pytest.mark.parametrize("how", ["def", "async def"])
def test_a_dropped_session_is_over_and_nothing_is_called(serve: Serve, how: str) -> None:
    worker = serve(
        HEAD
        + f"""
    class State:
        def __del__(self): log("gone")

    @node(stateful=True)
    class n:
        {how} begin(self): self.state = State()
        {how} process(self, value): return value
        {how} finish(self): log("finish")
        def close(self): log("closed")
    """
    )
    opened(worker, 1)
    assert fed(worker, 1, 4) == [4]
    worker.send(DROP, 0, b"", session=1)
    worker.until_log("gone")
    worker.send(DROP, 0, b"", session=1)  # unknown: nothing happens
    worker.send(DROP, 0, b"", session=8)
    opened(worker, 1)
    assert told(worker) == ["gone"]
    worker.send(SHUTDOWN)  # drops what is open, before the node is closed
    worker.until_log("gone")
    worker.until_log("closed")
    assert worker.wait() == 0


def test_a_canceled_call_leaves_its_session_open(serve: Serve) -> None:
    worker = serve(
        HEAD
        + """
    @node(stateful=True)
    class n:
        def begin(self): self.count = 0
        def process(self, value):
            self.count += 1
            log("at work")
            while value: pass
            return self.count
    """
    )
    opened(worker, 1)
    running, waiting = worker.feed(1, 1), worker.feed(1, 1)
    worker.until_log("at work")
    worker.send(CANCEL, waiting)
    os.kill(worker.pid, signal.SIGUSR1)
    worker.cancel(running)
    for call in (running, waiting):
        assert failure(worker, call)["kind"] == "canceled"
    assert fed(worker, 1, 0) == [2]  # the call that waited was not begun


def test_operations_of_different_async_sessions_run_at_once(serve: Serve) -> None:
    worker = serve(ROUNDS)
    calls = {worker.open(1), worker.open(2)}
    assert {worker.until(RESULT).call for _ in calls} == calls
    calls = {worker.feed(1, 1), worker.feed(2, 1)}
    found = [worker.until(ITEM, RESULT) for _ in range(4)]
    assert {each.call for each in found if each.type == RESULT} == calls
    calls = {worker.finish(1), worker.finish(2)}
    found = [worker.until(ITEM, RESULT) for _ in range(4)]
    assert {each.call for each in found if each.type == RESULT} == calls
    assert worker.shut_down() == 0


def test_a_canceled_async_call_leaves_its_session_and_the_others_open(serve: Serve) -> None:
    worker = serve(
        HEAD
        + """
    @node(stateful=True)
    class n:
        async def begin(self): self.count = 0
        async def process(self, value):
            self.count += 1
            log("at work")
            if value: await asyncio.sleep(3600)
            return self.count
    """
    )
    opened(worker, 1, 2)
    running, waiting = worker.feed(1, 1), worker.feed(1, 1)
    worker.until_log("at work")
    assert fed(worker, 2, 0) == [1]
    worker.cancel(waiting)
    assert failure(worker, waiting)["kind"] == "canceled"
    worker.cancel(running)
    assert failure(worker, running)["kind"] == "canceled"
    assert fed(worker, 1, 0) == [2]  # the call that waited did not reach the node


def test_a_finish_that_is_canceled_in_the_queue_ends_its_session(serve: Serve) -> None:
    worker = serve(
        HEAD
        + """
    @node(stateful=True, concurrency=1)
    class n:
        async def process(self, value):
            log("at work")
            await asyncio.sleep(3600)
        async def finish(self): log("finish")
    """
    )
    opened(worker, 1, 2)
    running, waiting = worker.feed(2, 1), worker.finish(1)
    worker.until_log("at work")
    worker.cancel(waiting)
    assert failure(worker, waiting)["kind"] == "canceled"
    opened_again = worker.open(1)
    worker.cancel(running)
    assert failure(worker, running)["kind"] == "canceled"
    assert worker.end(opened_again) is None
    assert worker.shut_down() == 0
    assert "finish" not in told(worker)


@pytest.mark.parametrize("how", ["def", "async def"])
@pytest.mark.parametrize(
    ("kind", "session", "body", "says"),
    [
        (CALL, 0, msgpack.packb([[1], {}]), "a call of session 0, which is not open"),
        (CALL, 7, msgpack.packb([[1], {}]), "a call of session 7, which is not open"),
        (FINISH, 7, b"", "a finish frame of session 7, which is not open"),
        (SNAPSHOT, 7, b"", "a snapshot frame of session 7, which is not open"),
        (SNAPSHOT, 1, b"", "without snapshot and restore"),
        (OPEN, 0, msgpack.packb([]), "session 0 cannot be opened"),
        (OPEN, 1, msgpack.packb([]), "session 1 cannot be opened"),
        (OPEN, 2, msgpack.packb([5]), "the node cannot restore"),
        (OPEN, 2, msgpack.packb([1, 2]), "an array of one state, or none"),
        (OPEN, 2, msgpack.packb(None), "an array of one state, or none"),
    ],
)
def test_sessions_that_are_not_there_are_out_of_protocol(
    serve: Serve, kind: int, session: int, body: bytes, says: str, how: str
) -> None:
    worker = serve(
        f"""
    from gophersnake import node
    @node(stateful=True)
    class n:
        {how} process(self, value): return value
    """
    )
    opened(worker, 1)
    worker.send(kind, 9, body, session=session)
    assert worker.wait() == 70
    assert says in worker.stderr()


@pytest.mark.parametrize("kind", [CALL, OPEN, FINISH, DROP, SNAPSHOT])
@pytest.mark.parametrize(
    "source",
    ["def n(value): return value", "def n(value): yield value", "async def n(value): ..."],
)
def test_other_nodes_have_no_sessions(serve: Serve, kind: int, source: str) -> None:
    worker = serve(source, python="nodes.py:n")
    worker.send(kind, 9, msgpack.packb([[1], {}]), session=1)
    assert worker.wait() == 70
    assert "out of protocol" in worker.stderr()
