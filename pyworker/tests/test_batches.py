"""Nodes that take several inputs at once, in real workers."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import msgpack
import pytest

from tests.conftest import Serve
from tests.supervisor import (
    CALL,
    CANCEL,
    ERROR,
    PING,
    PONG,
    RESULT,
    SHUTDOWN,
    Failed,
    Supervisor,
    frame,
)

HEAD = """
    import asyncio, logging, os, signal
    from gophersnake import Cancelled, Permanent, Transient, node
    log = logging.getLogger("node").info
"""

ECHO = (
    HEAD
    + """
    @node(batch=4)
    def n(values):
        log(repr(values))
        return [{"value": each} for each in values]
    """
)

LONG = 60_000
"""Milliseconds to wait for others that no test waits."""


def together(worker: Supervisor, *values: object, cancel: int | None = None) -> list[int]:
    """Send calls in one piece, so that they are there together, and return their ids."""
    assert worker.socket is not None
    calls = [100 + i for i in range(len(values))]
    data = b"".join(
        frame(CALL, call, msgpack.packb([[value], {}]))
        for call, value in zip(calls, values, strict=True)
    )
    if cancel is not None:
        data += frame(CANCEL, calls[cancel], b"")
    worker.socket.sendall(data)
    return calls


def answers(worker: Supervisor, calls: list[int]) -> dict[int, object]:
    """Return the values of calls, or the messages of their errors."""
    found: dict[int, object] = {}
    while len(found) < len(calls):
        each = worker.receive()
        if each.type == RESULT:
            found[each.call] = msgpack.unpackb(each.body)
        elif each.type == ERROR:
            found[each.call] = f"{each.message['stage']}: {each.message['message']}"
        else:
            worker.logs.append(each.message)
    assert sorted(found) == sorted(calls)
    return found


def batches(worker: Supervisor) -> list[str]:
    """Return what the node was called with."""
    return [record["message"] for record in worker.logs]


def test_calls_that_are_there_together_go_in_together(serve: Serve) -> None:
    worker = serve(ECHO)
    calls = together(worker, *range(10))
    assert answers(worker, calls) == {call: {"value": i} for i, call in enumerate(calls)}
    assert batches(worker) == ["[0, 1, 2, 3]", "[4, 5, 6, 7]", "[8, 9]"]
    assert worker.call("alone") == {"value": "alone"}
    assert batches(worker)[3:] == ["['alone']"]


def test_a_batch_waits_for_calls_that_make_it_full(serve: Serve) -> None:
    worker = serve(ECHO.replace("batch=4", f"batch=4, max_wait_ms={LONG}"))
    calls = [worker.begin(i) for i in range(3)]
    worker.send(PING, 5)  # ends the wait: nothing else is to wait for a batch
    assert answers(worker, calls) == {call: {"value": i} for i, call in enumerate(calls)}
    assert worker.until(PONG).call == 5
    large = "x" * 200_000  # not a small frame
    calls = [worker.begin(each) for each in ("a", large, "c", "d")]
    assert len(answers(worker, calls)) == 4
    assert len(batches(worker)) == 2


def test_a_batch_does_not_wait_longer_than_it_may(serve: Serve) -> None:
    worker = serve(ECHO.replace("batch=4", "batch=4, max_wait_ms=1.5"))
    assert worker.call("alone") == {"value": "alone"}


def test_a_shutdown_ends_the_wait_behind_the_batch(serve: Serve) -> None:
    worker = serve(ECHO.replace("batch=4", f"batch=4, max_wait_ms={LONG}"))
    call = worker.begin(1)
    worker.send(SHUTDOWN)
    assert worker.end(call) == {"value": 1}
    assert worker.wait() == 0


def test_a_class_and_an_async_function_take_batches(serve: Serve) -> None:
    sources = (
        """
    @node(batch=4)
    class n:
        def __init__(self, by): self.by = by
        def process(self, values): return tuple(self.by * each for each in values)
    """,
        """
    @node(batch=4)
    async def n(values, by):
        await asyncio.sleep(0)
        return [by * each for each in values]
    """,
    )
    for source in sources:
        worker = serve(HEAD + source, params={"by": 3})
        calls = together(worker, 1, 2, 3)
        assert answers(worker, calls) == dict(zip(calls, (3, 6, 9), strict=True))
        assert worker.call(4) == 12


def test_an_exception_in_the_list_is_one_callers_alone(serve: Serve) -> None:
    worker = serve(
        HEAD
        + """
    @node(batch=4)
    def n(values):
        return [Permanent("not this") if each == 1 else object() if each == 2 else each
                for each in values]
    """
    )
    calls = together(worker, 0, 1, 2, 3)
    found = answers(worker, calls)
    assert found[100] == 0
    assert found[101] == "call: not this"
    assert str(found[102]).startswith("encode: an object")
    assert found[103] == 3


BAD = (
    HEAD
    + """
    @node(batch=4)
    def n(values):
        log(repr(values))
        if "bad" in values:
            raise ValueError("bad input")
        return values
    """
)


def test_a_batch_that_fails_is_tried_one_by_one(serve: Serve) -> None:
    worker = serve(BAD)
    calls = together(worker, "a", "bad", "c")
    found = answers(worker, calls)
    assert found == {100: "a", 101: "call: bad input", 102: "c"}
    assert batches(worker) == ["['a', 'bad', 'c']", "['a']", "['bad']", "['c']"]
    with pytest.raises(Failed) as failed:
        worker.call("bad")
    assert "cause" not in failed.value.body  # no trace of the attempt with all of them


def test_one_that_is_tried_alone_holds_back_no_answer(serve: Serve, gate: Path) -> None:
    worker = serve(
        HEAD
        + """
    @node(batch=4)
    def n(values, gate):
        if len(values) > 1: raise ValueError("one by one")
        if values == ["wait"]:
            with open(gate) as file: file.read()
        return values
    """,
        params={"gate": str(gate)},
    )
    calls = together(worker, "a", "wait", "c")
    assert worker.end(calls[0]) == "a"  # while the next one waits
    gate.write_text("go on")
    assert [worker.end(call) for call in calls[1:]] == ["wait", "c"]


def test_a_batch_that_must_not_run_twice_fails_for_all(serve: Serve) -> None:
    worker = serve(BAD, idempotent=False)
    calls = together(worker, "a", "bad", "c")
    assert answers(worker, calls) == dict.fromkeys(calls, "call: bad input")
    assert batches(worker) == ["['a', 'bad', 'c']"]


@pytest.mark.parametrize(
    ("returned", "says"),
    [
        ("[1]", "got a list of 3 inputs, and returned 1 results"),
        ("(1, 2, 3, 4)", "got a list of 3 inputs, and returned 4 results"),
        ("None", "got a list of 3 inputs, and returned a NoneType instead"),
        ("{1: 1, 2: 2, 3: 3}", "got a list of 3 inputs, and returned a dict instead"),
    ],
)
def test_as_many_results_as_inputs_are_wanted(serve: Serve, returned: str, says: str) -> None:
    code = HEAD + f"\n    @node(batch=4)\n    def n(values): return {returned}\n"
    worker = serve(code, idempotent=False)
    found = answers(worker, together(worker, 1, 2, 3))
    assert len(found) == 3
    for message in found.values():
        assert says in str(message)


def test_an_input_for_which_a_batch_has_no_result_fails_alone(serve: Serve) -> None:
    worker = serve(
        HEAD + "\n    @node(batch=4)\n    def n(values): return [v for v in values if v]\n"
    )
    calls = together(worker, "a", "", "c")
    found = answers(worker, calls)
    wrong = "call: n got a list of 1 inputs, and returned 0 results"
    assert found == {calls[0]: "a", calls[1]: wrong, calls[2]: "c"}
    said = [record["message"] for record in worker.logs]
    assert said == ["n got a list of 3 inputs, and returned 2 results; each input runs again alone"]


def test_the_end_of_the_interpreter_is_reported_once(serve: Serve) -> None:
    worker = serve(HEAD + "\n    @node(batch=4)\n    def n(values): raise SystemExit(3)\n")
    together(worker, 1, 2, 3)
    with pytest.raises(Failed) as failed:
        worker.until(RESULT)
    assert failed.value.body["kind"] == "python_vm"
    assert worker.wait() == 3


def test_an_invalid_input_fails_alone(serve: Serve) -> None:
    worker = serve(ECHO)
    assert worker.socket is not None
    bodies = [
        msgpack.packb([["a"], {}]),
        bytes([0x92, 0x91, 0xC1, 0x80]),  # no value
        msgpack.packb([["b", "c"], {}]),
        msgpack.packb([["b"], {"port": 1}]),
        msgpack.packb([[], {}]),
        msgpack.packb([["z"], {}]),
    ]
    worker.socket.sendall(b"".join(frame(CALL, i + 1, body) for i, body in enumerate(bodies)))
    found = answers(worker, [1, 2, 3, 4, 5, 6])
    assert str(found[2]).startswith("decode: ")
    for call, count in ((3, "2 and 0"), (4, "1 and 1"), (5, "0 and 0")):
        assert f"a call came with {count} named ones" in str(found[call])
    assert (found[1], found[6]) == ({"value": "a"}, {"value": "z"})
    worker.send(CALL, 7, bodies[1])  # alone: nothing is left to be called
    assert str(answers(worker, [7])[7]).startswith("decode: ")


def test_a_call_that_waits_in_a_batch_can_be_cancelled(serve: Serve) -> None:
    worker = serve(ECHO.replace("batch=4", f"batch=4, max_wait_ms={LONG}"))
    calls = together(worker, 0, 1, 2, cancel=1)
    os.kill(worker.pid, signal.SIGUSR1)
    assert "canceled the call" in str(answers(worker, [calls[1]])[101])
    worker.send(CANCEL, 9999)  # of no call that is known
    others = [worker.begin("x"), worker.begin("y")]
    assert len(answers(worker, [100, 102, *others])) == 4
    assert batches(worker) == ["[0, 2, 'x', 'y']"]
    alone = worker.begin("alone")
    worker.cancel(alone)
    assert "canceled the call" in str(answers(worker, [alone])[alone])
    assert len(batches(worker)) == 1


GATED = (
    HEAD
    + """
    @node(batch=2)
    def n(values, gate):
        log(repr(values))
        if "wait" in values:
            with open(gate) as file: file.read()
        while "long" in values: pass
        return values
    """
)


def test_a_call_of_a_running_batch_is_not_cancelled_unless_it_is_alone(
    serve: Serve, gate: Path
) -> None:
    worker = serve(GATED, params={"gate": str(gate)})
    calls = together(worker, "wait", "other")
    worker.until_log("['wait', 'other']")
    worker.cancel(calls[0])
    worker.cancel(calls[1])
    gate.write_text("go on")
    assert answers(worker, calls) == {100: "wait", 101: "other"}
    alone = worker.begin("long")
    worker.until_log("['long']")
    worker.cancel(alone)
    with pytest.raises(Failed) as failed:
        worker.end(alone)
    assert failed.value.body["kind"] == "canceled"
    assert worker.call("after") == "after"


def test_a_cancel_that_was_read_during_another_batch_takes_the_call_out(
    serve: Serve, gate: Path
) -> None:
    worker = serve(GATED, params={"gate": str(gate)})
    together(worker, "wait", "x", "y", "z", "w", cancel=2)
    worker.until_log("['wait', 'x']")
    os.kill(worker.pid, signal.SIGUSR1)
    gate.write_text("go on")
    found = answers(worker, [100, 101, 102, 103, 104])
    assert "canceled the call" in str(found.pop(102))
    assert found == {100: "wait", 101: "x", 103: "z", 104: "w"}
    worker.call("after")
    assert "['y', 'z']" not in batches(worker)


def test_ports_and_batches_do_not_go_together(start: Serve, tmp_path: Path) -> None:
    (tmp_path / "nodes.py").write_text(
        "from gophersnake import node\n@node(batch=2)\ndef n(values, port): return values\n"
    )
    worker = start()
    with pytest.raises(Failed) as failed:
        worker.set_up(base=str(tmp_path), ports=["port"])
    assert (failed.value.body["kind"], failed.value.body["stage"]) == ("manifest", "params")
    assert "which have a single input" in failed.value.body["message"]
