"""Nodes that several threads of one worker call, in real workers."""

from __future__ import annotations

import re

import pytest

from tests.conftest import Serve
from tests.supervisor import Failed
from tests.test_eventloop import answer, answers

HEAD = """
    import logging, os, threading, time
    import gophersnake
    from gophersnake import Cancelled, Permanent, node
    log = logging.getLogger("node").info
    together = threading.Barrier(4, timeout=60)
    stop = threading.Event()
"""


def test_calls_run_at_once_in_threads(serve: Serve) -> None:
    worker = serve(
        HEAD
        + """
    @node(threads=4)
    def n(value):
        together.wait()
        return [value, threading.current_thread() is threading.main_thread()]
    """
    )
    calls = [worker.begin(i) for i in range(8)]
    assert answers(worker, 8) == {call: [i, False] for i, call in enumerate(calls)}


def test_the_manifest_says_how_many_threads(serve: Serve) -> None:
    source = (
        HEAD + "\n    @node\n    def n(value):\n        together.wait()\n        return value\n"
    )
    worker = serve(source, threads=4)
    calls = [worker.begin(i) for i in range(4)]
    assert answers(worker, 4) == {call: i for i, call in enumerate(calls)}
    assert worker.shut_down() == 0


def test_threads_are_started_when_calls_need_them(serve: Serve) -> None:
    worker = serve(
        HEAD + "\n    @node(threads=4)\n    def n(value): return threading.active_count()\n"
    )
    first = worker.call(0)
    assert [worker.call(i) for i in range(5)] == [first] * 5


CANCELED = (
    HEAD
    + """
    @node(threads=4)
    def n(value):
        if value == "runs":
            log("runs")
            try:
                while True:
                    time.sleep(0.001)
            except Cancelled:
                log("is canceled")
                raise
        return value
    """
)


def test_a_canceled_call_is_interrupted_and_the_others_are_not(serve: Serve) -> None:
    worker = serve(CANCELED)
    canceled, other = worker.begin("runs"), worker.begin("runs")
    worker.until_log("runs")
    worker.until_log("runs")
    worker.cancel(canceled)
    number, body = answer(worker)
    assert number == canceled
    assert body["kind"] == "canceled"
    assert body["message"] == "the supervisor canceled the call"
    assert body["frames"][-1]["function"] == "n"
    assert worker.call("next") == "next"
    worker.cancel(other)
    assert answer(worker)[0] == other


def test_an_interruption_that_comes_too_late_harms_no_other_call(serve: Serve) -> None:
    worker = serve(HEAD + "\n    @node(threads=2)\n    def n(value): return value\n")
    kinds = set()
    for i in range(300):
        call = worker.begin(i)
        worker.cancel(call)
        number, found = answer(worker)
        assert number == call
        kinds.add(found["kind"] if isinstance(found, dict) else "right")
        assert worker.call(-i) == -i
    assert kinds <= {"right", "canceled"}


def test_an_exception_fails_its_call_alone(serve: Serve) -> None:
    worker = serve(
        HEAD
        + """
    @node(threads=4)
    def n(value):
        together.wait()
        if value == 1: raise Permanent("no")
        if value == 2: raise StopIteration
        return object() if value == 3 else value
    """
    )
    calls = [worker.begin(i) for i in range(4)]
    found = answers(worker, 4)
    assert found[calls[0]] == 0
    assert found[calls[1]]["class"] == "gophersnake.Permanent"
    assert found[calls[1]]["retryable"] is False
    assert found[calls[2]]["class"] == "StopIteration"
    assert found[calls[3]]["kind"] == "marshaling"


@pytest.mark.parametrize(
    ("raised", "code"), [("SystemExit(3)", 3), ("MemoryError", 70), ("KeyboardInterrupt", None)]
)
def test_an_exit_in_a_thread_ends_the_worker_as_in_the_main_thread(
    serve: Serve, raised: str, code: int | None
) -> None:
    worker = serve(HEAD + f"\n    @node(threads=2)\n    def n(value): raise {raised}\n")
    with pytest.raises(Failed) as failed:
        worker.call(1)
    if code is None:
        assert failed.value.body["kind"] == "execution"
        assert worker.shut_down() == 0
        return
    assert failed.value.body["kind"] == "python_vm"
    assert worker.wait() == code


def test_a_thread_logs_reports_progress_and_has_shared_memory(serve: Serve) -> None:
    worker = serve(
        HEAD
        + """
    @node(threads=4)
    def n(value):
        log("in a thread")
        gophersnake.progress("half", 0.5)
        return gophersnake.empty((4,), "int64") is not None
    """
    )
    assert worker.call(1) is True
    assert worker.logs[-1]["message"] == "in a thread"
    assert worker.progress[-1]["fraction"] == 0.5


def test_the_worker_finishes_its_calls_when_it_shuts_down(serve: Serve, gate: object) -> None:
    worker = serve(
        HEAD
        + """
    @node(threads=2)
    def n(gate):
        log("runs")
        with open(gate) as file:
            return file.read()
    """
    )
    call = worker.begin(str(gate))
    worker.until_log("runs")
    with open(str(gate), "w") as file:
        file.write("the last answer")
    assert worker.end(call) == "the last answer"
    assert worker.shut_down() == 0


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("async def n(value): return value", "threads are for a plain def"),
        ("def n(value): yield value", "threads are for nodes that return one value"),
    ],
)
def test_nodes_that_cannot_have_threads_say_so(serve: Serve, source: str, says: str) -> None:
    with pytest.raises(Failed) as failed:
        serve(HEAD + f"\n    @node\n    {source}\n", threads=2)
    assert says in failed.value.body["message"]
    with pytest.raises(Failed) as failed:
        serve(HEAD + f"\n    @node(threads=2)\n    {source}\n")
    assert says in failed.value.body["message"]


def test_the_option_has_bounds() -> None:
    from gophersnake import node

    for wrong in (0, 257, True, "many"):
        with pytest.raises(TypeError, match=re.escape(f"not {wrong!r}")):
            node(threads=wrong)(lambda value: value)  # type: ignore[arg-type]
