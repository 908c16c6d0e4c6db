"""What nodes read about their calls: deadline, node id, call id, attempt and trace."""

from __future__ import annotations

import struct
import threading
import time
from typing import Any

import gophersnake
import msgpack
import pytest

from tests.conftest import Serve
from tests.supervisor import CALL, ERROR, RESULT, Supervisor, frame

READ = """
import asyncio, threading
import gophersnake
from gophersnake import node

def read(*_):
    left = gophersnake.deadline()
    assert left is None or left >= 0
    rounded = None if left is None else round(left, -2)
    return [gophersnake.node_id(), gophersnake.call_id(), gophersnake.attempt(), rounded]
"""

NODES = {
    "a function": "def n(value): return read()",
    "a coroutine function": "async def n(value): return read()",
    "after a wait": "async def n(value):\n    await asyncio.sleep(0)\n    return read()",
    "a task of its own": "async def sub(): return read()\n"
    "async def n(value): return await asyncio.create_task(sub())",
    "asyncio.to_thread": "async def n(value): return await asyncio.to_thread(read)",
    "a thread": "@node(threads=4)\ndef n(value): return read()",
    "a batch of one": "@node(batch=4)\ndef n(values): return [read() for value in values]",
    "a wrapped coroutine": "import functools\n"
    "async def inner(value): return read()\n"
    "def n(value): return inner(value)",
}

MANY = {
    "a generator": "def n(value):\n    yield read()\n    yield read()",
    "an async generator": "async def n(value):\n    yield read()\n    yield read()",
}


@pytest.mark.parametrize("body", NODES.values(), ids=NODES)
def test_a_call_reads_what_it_was_sent_with(serve: Serve, body: str) -> None:
    worker = serve(READ + body, python="nodes.py:n", node="n7", timeout=1000.0)
    plain = worker.begin(0)
    assert worker.end(plain) == ["n7", plain, 1, 1000.0], "only the timeout of the node"
    worker.tell(300, 3)
    told = worker.begin(0)
    assert worker.end(told) == ["n7", told, 3, 300.0]
    worker.tell(5000, 2)
    later = worker.begin(0)
    assert worker.end(later) == ["n7", later, 2, 1000.0], "the earlier of both"


@pytest.mark.parametrize("body", MANY.values(), ids=MANY)
def test_each_value_of_a_generator_reads_its_call(serve: Serve, body: str) -> None:
    worker = serve(READ + body, python="nodes.py:n", node="n7")
    worker.tell(300, 3)
    told = worker.begin(0)
    assert worker.items(told) == [["n7", told, 3, 300.0]] * 2


@pytest.mark.parametrize("kind", ["", "async "])
def test_the_operations_of_a_session_read_their_calls(serve: Serve, kind: str) -> None:
    source = f"""
@node(stateful=True)
class n:
    {kind}def begin(self): self.first = read()
    {kind}def process(self, value): return [self.first, read()]
    {kind}def finish(self): return read()
    {kind}def snapshot(self): return read()
    {kind}def restore(self, state): pass
"""
    worker = serve(READ + source, python="nodes.py:n", node="n7")
    worker.tell(300, 2)
    opened = worker.open(1)
    worker.end(opened)
    fed = worker.feed(1, 0)
    assert worker.items(fed) == [[["n7", opened, 2, 300.0], ["n7", fed, 2, 300.0]]]
    assert worker.snapshot(1) == ["n7", fed + 1, 2, 300.0]
    finished = worker.finish(1)
    assert worker.items(finished) == [["n7", finished, 2, 300.0]]


def test_a_batch_reads_the_earliest_deadline_and_the_highest_attempt(
    serve: Serve,
) -> None:
    source = "@node(batch=3, max_wait_ms=60_000)\ndef n(values): return [read() for v in values]"
    worker = serve(READ + source, python="nodes.py:n", node="n7", timeout=7000.0)
    first = worker.begin(0)
    worker.tell(300, 1)
    second = worker.begin(0)
    worker.tell(600, 4)
    third = worker.begin(0)
    for call in (first, second, third):
        assert worker.end(call) == ["n7", None, 4, 300.0]


def test_calls_that_run_at_once_read_their_own(serve: Serve) -> None:
    for source in (
        "met = []\n"
        "async def n(value):\n"
        "    met.append(value)\n"
        "    while len(met) < 3: await asyncio.sleep(0.001)\n"
        "    return read()",
        "meet = threading.Barrier(3)\n"
        "@node(threads=3)\n"
        "def n(value):\n"
        "    meet.wait()\n"
        "    return read()",
    ):
        worker = serve(READ + source, python="nodes.py:n", node="n7")
        calls = {}
        for attempt in (1, 2, 3):
            worker.tell(attempt * 1000, attempt)
            calls[worker.begin(0)] = attempt
        found = {}
        for _ in calls:
            answer = worker.until(5)
            found[answer.call] = worker._value(answer)
        assert found == {call: ["n7", call, each, each * 1000.0] for call, each in calls.items()}


def test_only_the_main_thread_works_for_the_call_of_a_plain_node(serve: Serve) -> None:
    source = """
def n(value):
    found = []
    thread = threading.Thread(target=lambda: found.append(read()))
    thread.start()
    thread.join()
    return found[0]
"""
    worker = serve(READ + source, python="nodes.py:n", node="n7", timeout=1000.0)
    assert worker.call(0) == ["n7", None, None, None]


def test_a_task_that_outlives_its_call_has_none(serve: Serve) -> None:
    source = """
kept = []
async def later(): return read()
async def n(value):
    if value == "begin":
        gate = asyncio.Event()
        async def wait():
            await gate.wait()
            return read()
        kept.extend([gate, asyncio.create_task(wait())])
        return read()
    kept[0].set()
    return await kept[1]
"""
    worker = serve(READ + source, python="nodes.py:n", node="n7")
    first = worker.begin("begin")
    assert worker.end(first) == ["n7", first, 1, None]
    assert worker.call("end") == ["n7", None, None, None]


def test_setup_and_close_know_the_node_but_no_call(serve: Serve) -> None:
    source = """
class n:
    def setup(self): self.found = read()
    def process(self, value): return self.found
    def close(self): print(read(), flush=True)
"""
    worker = serve(READ + source, python="nodes.py:n", node="n7", timeout=1000.0)
    worker.tell(300, 2)
    assert worker.call(0) == ["n7", None, None, None]
    assert worker.shut_down() == 0
    assert worker.stdout.read() == "['n7', None, None, None]\n"


def test_a_deadline_that_has_passed_is_0(serve: Serve) -> None:
    worker = serve(READ + "def n(value): return gophersnake.deadline()", python="nodes.py:n")
    worker.tell(-5, 1)
    assert worker.call(0) == 0.0


def test_a_context_is_forgotten_with_its_call(serve: Serve) -> None:
    source = """
import gc
from gophersnake._worker.wire.connection import Connection
def n(value):
    if value == "raise":
        raise ValueError
    (found,) = (each for each in gc.get_objects() if type(each) is Connection)
    return len(found.contexts)
"""
    worker = serve("import gc; gc.freeze = lambda: None\n" + source, python="nodes.py:n")
    worker.tell(300, 2)
    for _ in range(3):
        assert worker.call(0) == 1
        with pytest.raises(Exception, match="ValueError"):
            worker.call("raise")


def test_large_and_split_frames_have_contexts(serve: Serve) -> None:
    worker = serve(READ + "def n(value): return [len(value), read()]", python="nodes.py:n")
    worker.tell(300, 2)
    for size in (1, 1 << 16, 1 << 20):
        call = worker.begin("x" * size)
        assert worker.end(call) == [size, ["n", call, 2, 300.0]]


@pytest.mark.parametrize(
    ("kind", "context"),
    [
        (CALL, struct.pack("<QII", 0, 0, 0)),
        (CALL, struct.pack("<QII", 0, 1, 1)),
        (CALL, struct.pack("<QII", 0, 1, 538)),
    ],
)
def test_an_invalid_context_is_out_of_protocol(serve: Serve, kind: int, context: bytes) -> None:
    worker = serve("def n(value): return value", python="nodes.py:n")
    worker.context = context
    worker.begin(0)
    assert worker.wait() == 70
    assert "a context of attempt" in worker.stderr()


def test_outside_of_a_worker_nothing_is_known() -> None:
    found: list[Any] = [
        gophersnake.deadline(),
        gophersnake.node_id(),
        gophersnake.call_id(),
        gophersnake.attempt(),
        gophersnake.trace_context(),
    ]
    assert found == [None] * 5


TRACE = bytes(range(1, 26)) + b"vendor=1"
TRACED = {
    "traceparent": "00-0102030405060708090a0b0c0d0e0f10-1112131415161718-19",
    "tracestate": "vendor=1",
}


@pytest.mark.parametrize("body", NODES.values(), ids=NODES)
def test_a_call_reads_its_trace_and_its_answer_says_how_long_it_took(
    serve: Serve, body: str
) -> None:
    source = READ.replace("gophersnake.attempt()", "gophersnake.trace_context()") + body
    worker = serve(source, python="nodes.py:n", node="n7")
    worker.tell(300, 1)
    told = worker.begin(0)
    assert worker.end(told) == ["n7", told, None, 300.0]
    before = time.monotonic_ns()
    worker.tell(300, 1, TRACE)
    told = worker.begin(0)
    found = worker.until(RESULT)
    assert msgpack.unpackb(found.body) == ["n7", told, TRACED, 300.0]
    assert found.taken is not None
    assert 0 < found.taken < time.monotonic_ns() - before
    worker.tell(300, 1, TRACE[:25])
    told = worker.begin(0)
    assert worker.end(told)[2] == {"traceparent": TRACED["traceparent"]}


@pytest.mark.parametrize("body", MANY.values(), ids=MANY)
def test_each_value_of_a_generator_reads_its_trace(serve: Serve, body: str) -> None:
    source = READ.replace("gophersnake.attempt()", "gophersnake.trace_context()") + body
    worker = serve(source, python="nodes.py:n", node="n7")
    worker.tell(300, 1, TRACE)
    told = worker.begin(0)
    assert worker.items(told) == [["n7", told, TRACED, 300.0]] * 2


@pytest.mark.parametrize("kind", ["", "async "])
def test_an_error_says_how_long_its_call_took(serve: Serve, kind: str) -> None:
    worker = serve(f"{kind}def n(value): raise ValueError(value)", python="nodes.py:n")
    worker.tell(300, 1, TRACE)
    worker.begin(0)
    assert worker.until(ERROR).taken
    worker.tell(300, 1)
    worker.begin(0)
    assert worker.until(ERROR).taken is None


@pytest.mark.parametrize("kind", ["", "async "])
def test_large_and_split_frames_have_traces(serve: Serve, kind: str) -> None:
    source = (
        "import gophersnake\n"
        f"{kind}def n(value): return [len(value), gophersnake.trace_context(), value]"
    )
    worker = serve(source, python="nodes.py:n")
    worker.tell(300, 1, TRACE)
    for size in (1, 1 << 16, 1 << 20):
        worker.begin("x" * size)
        found = worker.until(RESULT)
        assert msgpack.unpackb(found.body)[:2] == [size, TRACED]
        assert found.taken
    # Many at once, so that the ends of what is read fall inside of their contexts.
    assert worker.socket is not None
    body = msgpack.packb([["x" * 100], {}])
    calls = range(1000, 4000)
    frames = [frame(CALL, each, body, context=worker.context) for each in calls]
    sender = threading.Thread(target=worker.socket.sendall, args=(b"".join(frames),))
    sender.start()
    answered = []
    for _ in calls:
        found = worker.until(RESULT)
        answered.append(found.call)
        assert msgpack.unpackb(found.body)[:2] == [100, TRACED]
    assert sorted(answered) == list(calls)
    sender.join()


def test_a_batch_of_several_calls_has_no_trace(serve: Serve) -> None:
    source = (
        "import gophersnake\n@gophersnake.node(batch=2, max_wait_ms=60_000)\n"
        "def n(values): return [gophersnake.trace_context()] * len(values)"
    )
    worker = serve(source, python="nodes.py:n")
    worker.tell(300, 1, TRACE)
    for call in (worker.begin(0), worker.begin(0)):
        found = worker.until(RESULT)
        assert (found.call, msgpack.unpackb(found.body)) == (call, None)
        assert found.taken


def test_other_frames_cannot_have_a_context(serve: Serve) -> None:
    worker: Supervisor = serve("def n(value): return value", python="nodes.py:n")
    assert worker.socket is not None
    worker.socket.sendall(struct.pack("<BBBBIQII", 0x47, 1, 10, 1, 0, 1, 0, 0) + bytes(16))
    assert worker.wait() == 70
    assert "a ping frame with flags 0x1, which it cannot have" in worker.stderr()


def test_the_trace_is_the_parent_of_the_spans_of_opentelemetry(serve: Serve) -> None:
    pytest.importorskip("opentelemetry.sdk.trace")
    source = """
import gophersnake
from opentelemetry.propagate import extract
from opentelemetry.sdk.trace import TracerProvider

tracer = TracerProvider().get_tracer("nodes")

def n(value):
    parent = extract(gophersnake.trace_context() or {})
    with tracer.start_as_current_span("work", context=parent) as span:
        of = span.get_span_context()
        return [
            f"{of.trace_id:032x}", f"{span.parent.span_id:016x}", span.parent.is_remote,
            of.trace_flags.sampled, dict(of.trace_state),
        ]
"""
    worker = serve(source, python="nodes.py:n")
    worker.tell(300, 1, TRACE)
    told = worker.begin(0)
    assert worker.end(told) == [
        TRACE[:16].hex(),
        TRACE[16:24].hex(),
        True,
        True,
        {"vendor": "1"},
    ]
