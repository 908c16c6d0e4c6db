"""Async nodes in real workers: many calls at once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgpack
import pytest
from gophersnake._worker.values.decoder import Decoder

from tests.conftest import Serve
from tests.supervisor import (
    CALL,
    ERROR,
    LOG,
    RESULT,
    Failed,
    Supervisor,
    frame,
)

HEAD = """
    import asyncio, contextvars, logging, os, sys, threading
    from pathlib import Path
    from gophersnake import node
    log = logging.getLogger("node").info
    here = Path(__file__).parent
    gates = {}

    def gate(name):
        return gates.setdefault(name, asyncio.Event())
"""


def answer(worker: Supervisor) -> tuple[int, Any]:
    """Return the next answer: the call, and its result or the body of its error."""
    while True:
        found = worker.receive()
        if found.type == LOG:
            worker.logs.append(found.message)
            continue
        assert found.type in (RESULT, ERROR), found
        if found.type == ERROR:
            return found.call, found.message
        return found.call, Decoder().decode(found.body, list(found.buffers), "result")


def answers(worker: Supervisor, count: int) -> dict[int, Any]:
    """Return so many answers by their calls."""
    return dict(answer(worker) for _ in range(count))


def test_calls_run_at_once_and_wait_for_each_other(serve: Serve) -> None:
    worker = serve(
        HEAD
        + """
    inside = 0

    async def n(value):
        global inside
        inside += 1
        if inside == 64:
            gate("all").set()
        await gate("all").wait()
        return value
    """,
        python="nodes.py:n",
    )
    calls = [worker.begin(i) for i in range(64)]
    assert answers(worker, 64) == {call: i for i, call in enumerate(calls)}
    assert worker.shut_down() == 0
    assert worker.stderr() == ""


def test_answers_come_in_the_order_in_which_calls_end(serve: Serve) -> None:
    worker = serve(
        HEAD
        + """
    async def n(own, next):
        if own: await gate(own).wait()
        gate(next).set()
        return next
    """,
        python="nodes.py:n",
        ports=["own", "next"],
    )
    last = worker.begin(own="b", next="c")
    middle = worker.begin(own="a", next="b")
    first = worker.begin(own="", next="a")
    assert [answer(worker) for _ in range(3)] == [(first, "a"), (middle, "b"), (last, "c")]


def test_small_and_large_results_of_one_turn_all_arrive(serve: Serve) -> None:
    worker = serve(
        HEAD
        + """
    async def n(size):
        await gate("all").wait() if size else gate("all").set()
        return bytes(size)
    """,
        python="nodes.py:n",
    )
    sizes = [1, 100_000, 2, 40_000, 3, 300_000, 20_000, 4, 0]
    calls = [worker.begin(size) for size in sizes]
    assert answers(worker, len(sizes)) == {
        call: bytes(size) for call, size in zip(calls, sizes, strict=True)
    }


def test_a_call_that_blocks_does_not_hold_back_the_answers_before_it(
    serve: Serve, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "fifo")
    worker = serve(
        HEAD
        + """
    async def n(value):
        return open(value).read() if value else "quick"
    """,
        python="nodes.py:n",
    )
    assert worker.socket is not None
    bodies = [msgpack.packb([[each], {}]) for each in ("", "", str(tmp_path / "fifo"), "")]
    worker.socket.sendall(b"".join(frame(CALL, i, body) for i, body in enumerate(bodies)))
    assert [answer(worker), answer(worker)] == [(0, "quick"), (1, "quick")]
    (tmp_path / "fifo").write_text("slow")
    assert [answer(worker), answer(worker)] == [(2, "slow"), (3, "quick")]


def test_calls_beyond_the_concurrency_wait_for_those_before_them(serve: Serve) -> None:
    worker = serve(
        HEAD
        + """
    inside = []

    @node(concurrency=2)
    async def n(value):
        inside.append(value)
        log(f"inside: {inside}")
        try:
            if value < 9: await gate(value).wait()
        finally:
            inside.remove(value)
        return value
    """
    )
    calls = [worker.begin(i) for i in range(5)]
    worker.until_log("inside: [0, 1]")
    for number, then in ((2, ""), (0, "inside: [1, 3]"), (1, "inside: [3, 4]"), (3, ""), (4, "")):
        worker.cancel(calls[number])
        call, error = answer(worker)
        assert (call, error["kind"]) == (calls[number], "canceled")
        if then:
            worker.until_log(then)
    assert worker.call(9) == 9
    assert worker.logs[-1]["message"] == "inside: [9]"


def test_calls_are_counted_as_they_begin_in_the_order_in_which_they_came(serve: Serve) -> None:
    worker = serve(
        HEAD
        + """
    @node(concurrency=2)
    async def n(value):
        log(f"{value} begins")
        await gate(value).wait()
    """,
        begun=True,
    )
    calls = [worker.begin(i) for i in range(5)]
    worker.until_log("1 begins")
    assert worker.begun == 2
    for number in (2, 3, 0):
        worker.cancel(calls[number])
        assert answer(worker)[0] == calls[number]
    worker.until_log("4 begins")
    assert worker.begun == 5


@pytest.mark.parametrize("concurrency", [1, 2])
def test_each_call_has_its_own_context(serve: Serve, concurrency: int) -> None:
    worker = serve(
        HEAD
        + f"""
    var = contextvars.ContextVar("var")

    @node(concurrency={concurrency})
    async def n(value):
        before = var.get("nothing")
        var.set(value)
        gate(value).set()
        if {concurrency} == 2: await gate(1 - value).wait()
        return [before, var.get()]
    """
    )
    one, other = worker.begin(0), worker.begin(1)
    assert answers(worker, 2) == {one: ["nothing", 0], other: ["nothing", 1]}


def test_the_features_of_asyncio_work_in_a_node(serve: Serve) -> None:
    worker = serve(
        HEAD
        + """
    async def twice(value):
        await asyncio.sleep(0)
        return 2 * value

    async def n(value):
        task = asyncio.current_task()
        try:
            await asyncio.wait_for(asyncio.Event().wait(), 0.001)
        except asyncio.TimeoutError:
            pass
        assert task is asyncio.current_task() and task in asyncio.all_tasks()
        found = await asyncio.gather(twice(value), asyncio.to_thread(lambda: value + 1))
        if sys.version_info >= (3, 11):
            async with asyncio.timeout(3600), asyncio.TaskGroup() as group:
                found.append(group.create_task(twice(value)))
            found[-1] = found[-1].result()
        return found[:2]
    """,
        python="nodes.py:n",
    )
    calls = [worker.begin(i) for i in range(10)]
    assert answers(worker, 10) == {call: [2 * i, i + 1] for i, call in enumerate(calls)}
    assert worker.stderr() == ""


def test_the_loop_is_that_of_the_node_s_policy(serve: Serve) -> None:
    worker = serve(
        HEAD
        + """
    class Loop(asyncio.SelectorEventLoop):
        def add_reader(self, fd, callback, *args):
            os.set_blocking(fd, False)  # as uvloop does
            super().add_reader(fd, callback, *args)

    class Policy(asyncio.DefaultEventLoopPolicy):
        _loop_factory = Loop

    asyncio.set_event_loop_policy(Policy())

    async def n(size):
        return [type(asyncio.get_running_loop()).__name__, bytes(size)]
    """,
        python="nodes.py:n",
    )
    for size in (1, 1 << 20):
        assert worker.call(size) == ["Loop", bytes(size)]


def test_a_node_that_stops_the_loop_stops_nothing(serve: Serve) -> None:
    worker = serve(
        HEAD
        + """
    async def n(value):
        asyncio.get_running_loop().stop()
        await asyncio.sleep(0)
        return value
    """,
        python="nodes.py:n",
    )
    assert [worker.call(i) for i in range(3)] == [0, 1, 2]


def test_an_error_is_reported_with_its_frames_and_fails_its_call_alone(serve: Serve) -> None:
    worker = serve(
        HEAD
        + """
    async def deep(value):
        await asyncio.sleep(0)
        return 1 / value

    async def n(value):
        return await deep(value)
    """,
        python="nodes.py:n",
    )
    good, bad, unfit = worker.begin(1), worker.begin(0), worker.begin({})
    found = answers(worker, 3)
    assert found[good] == 1
    body = found[bad]
    assert (body["kind"], body["class"], body["stage"]) == (
        "execution",
        "ZeroDivisionError",
        "call",
    )
    assert [each["function"] for each in body["frames"]] == ["n", "deep"]
    assert "asyncio" not in body["text"]
    assert "eventloop.py" not in body["text"]
    assert found[unfit]["class"] == "TypeError"
    assert worker.call(2) == 0.5


def test_a_result_that_cannot_be_sent_fails_at_the_stage_encode(serve: Serve) -> None:
    worker = serve("async def n(value): return {'a': [1, {2}]}", python="nodes.py:n")
    with pytest.raises(Failed) as failed:
        worker.call(1)
    assert (failed.value.body["stage"], failed.value.body["path"]) == ("encode", "result.a[1]")


def test_a_node_that_cancels_itself_has_failed(serve: Serve) -> None:
    worker = serve(
        HEAD
        + """
    async def n(value):
        asyncio.current_task().cancel()
        await asyncio.sleep(0)
    """,
        python="nodes.py:n",
    )
    with pytest.raises(Failed) as failed:
        worker.call(1)
    assert failed.value.body["kind"] == "execution"
    assert failed.value.body["class"].endswith("CancelledError")


def test_a_failure_of_a_background_task_is_logged(serve: Serve) -> None:
    worker = serve(
        HEAD
        + """
    async def fails():
        raise OSError("in the background")

    async def n(value):
        done = asyncio.get_running_loop().create_task(fails())
        await asyncio.wait([done])
        return value
    """,
        python="nodes.py:n",
        log_level="info",
    )
    assert worker.call(1) == 1
    [record] = worker.logs
    assert (record["logger"], record["level"]) == ("asyncio", "error")
    assert "never retrieved" in record["message"]
    assert "OSError: in the background" in record["message"]
