"""Nodes that several threads of one worker call, in real workers."""

from __future__ import annotations

import re

import pytest
from gophersnake._worker.values.decoder import Decoder

from tests.conftest import Serve
from tests.supervisor import LOG, RESULT, Failed, Frame
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


def test_a_cancellation_does_not_cut_short_what_the_worker_does_in_a_thread(serve: Serve) -> None:
    worker = serve(
        HEAD
        + """
    class Slow:
        def __str__(self):
            log("is sent")
            while not stop.is_set():
                time.sleep(0.001)
            return "whole"

    @node(threads=2)
    def n(value):
        if value == "stop":
            stop.set()
        elif value == "log":
            try:
                logging.getLogger("node").info("with a field", extra={"slow": Slow()})
            finally:
                log("goes on")
        return value
    """
    )
    call = worker.begin("log")
    worker.until_log("is sent")
    worker.cancel(call)
    stop = worker.begin("stop")
    seen: set[str] = set()
    found: dict[int, Frame] = {}
    while len(found) < 2:
        frame = worker.receive()
        if frame.type == LOG:
            seen.add(frame.message["fields"].get("slow", frame.message["message"]))
        else:
            found[frame.call] = frame
    assert seen == {"whole", "goes on"}
    assert found[stop].type == RESULT
    assert found[call].message["kind"] == "canceled"


def test_many_cancellations_of_calls_that_log_harm_no_other(serve: Serve) -> None:
    worker = serve(
        HEAD
        + """
    @node(threads=4)
    def n(value):
        while value is None:
            log("x" * 20000)
        return value
    """
    )
    running = [worker.begin(None) for _ in range(3)]
    for i in range(500):
        waiting = {running[i % 3], other := worker.begin(i)}
        worker.cancel(running[i % 3])
        while waiting:
            found = worker.receive()
            if found.type == LOG:
                continue
            waiting.remove(found.call)
            if found.call == other:
                assert Decoder().decode(found.body, [], "result") == i
            else:
                assert found.message["kind"] == "canceled"
        running[i % 3] = worker.begin(None)


FEW_THREADS = (
    CANCELED
    + """
    from gophersnake._worker.originals import _thread
    start = _thread.start_new_thread

    def limited(function, args):
        kind, _, number = args[0].partition("-")
        if kind == "gophersnake" and int(number) > int(os.environ["MOST"]):
            raise RuntimeError("can't start new thread")
        return start(function, args)

    _thread.start_new_thread = limited
    """
)


def test_a_call_waits_for_another_one_if_no_further_thread_can_be_started(serve: Serve) -> None:
    worker = serve(FEW_THREADS, env={"MOST": "1"})
    runs = worker.begin("runs")
    worker.until_log("runs")
    canceled, waits = worker.begin("canceled"), worker.begin("waits")
    worker.cancel(canceled)
    number, body = answer(worker)
    assert (number, body["kind"]) == (canceled, "canceled")
    worker.cancel(runs)
    assert answers(worker, 2)[waits] == "waits"
    assert worker.shut_down() == 0


def test_a_call_fails_if_no_thread_can_be_started(serve: Serve) -> None:
    worker = serve(FEW_THREADS, env={"MOST": "0"})
    for _ in range(2):
        with pytest.raises(Failed, match="can't start new thread"):
            worker.call("value")
    assert worker.shut_down() == 0


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
