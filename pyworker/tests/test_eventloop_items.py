"""Async generators in real workers: items, credits and their end."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from gophersnake._worker.values.decoder import Decoder

from tests.conftest import Serve
from tests.supervisor import (
    CALL,
    CANCEL,
    CREDIT,
    ERROR,
    ITEM,
    LOG,
    PING,
    PONG,
    RESULT,
    Supervisor,
    frame,
)

HEAD = """
    import asyncio, logging
    log = logging.getLogger("node").info
"""

COUNT = (
    HEAD
    + """
    async def n(count, size=0):
        try:
            for i in range(count):
                yield bytes(size) if size else i
        finally:
            log("closed")
    """
)


def heard(worker: Supervisor) -> list[Any]:
    """Return the next frame: its name, its call, and what it says."""
    found = worker.receive()
    if found.type == LOG:
        return ["log", 0, found.message["message"]]
    if found.type == ERROR:
        return ["error", found.call, found.message]
    if found.type == PONG:
        return ["pong", found.call, None]
    name = {ITEM: "item", RESULT: "result"}[found.type]
    return [name, found.call, Decoder().decode(found.body, list(found.buffers), "result")]


def is_still(worker: Supervisor) -> None:
    """Check that the worker sends nothing, though its loop goes round."""
    for i in range(3):
        worker.send(PING, 1000 + i)
        assert heard(worker) == ["pong", 1000 + i, None]


def test_values_come_one_by_one_and_then_nothing(serve: Serve) -> None:
    worker = serve(COUNT, python="nodes.py:n")
    for count in (0, 1, 16):
        call = worker.begin(count)
        found = [heard(worker) for _ in range(count + 2)]
        assert found[:count] == [["item", call, i] for i in range(count)]
        assert found[count:] == [["log", 0, "closed"], ["result", call, None]]


def test_a_value_is_sent_before_the_next_one_is_made(serve: Serve) -> None:
    worker = serve(
        HEAD
        + """
    gate = asyncio.Event()

    async def n(value):
        if value:
            gate.set()
            return
        yield "first"
        await gate.wait()
        yield "second"
    """,
        python="nodes.py:n",
    )
    one = worker.begin(0)
    assert heard(worker) == ["item", one, "first"]
    other = worker.begin(1)
    assert sorted([heard(worker) for _ in range(3)]) == [
        ["item", one, "second"],
        ["result", one, None],
        ["result", other, None],
    ]


def test_no_more_is_sent_than_there_is_credit_for(serve: Serve) -> None:
    worker = serve(COUNT, python="nodes.py:n", window={"items": 2, "bytes": 1 << 20})
    call = worker.begin(6)
    assert [heard(worker) for _ in range(2)] == [["item", call, 0], ["item", call, 1]]
    is_still(worker)
    worker.credit(call, 1)
    assert heard(worker) == ["item", call, 2]
    is_still(worker)
    worker.credit(call, 2)
    assert [heard(worker)[2] for _ in range(2)] == [3, 4]
    worker.credit(call, 1)
    assert [heard(worker)[::2] for _ in range(3)] == [
        ["item", 5],
        ["log", "closed"],
        ["result", None],
    ]
    worker.credit(call, 2)  # too late
    is_still(worker)


def test_bytes_are_counted_and_one_item_may_always_go(serve: Serve) -> None:
    worker = serve(
        COUNT, python="nodes.py:n", params={"size": 30_000}, window={"items": 9, "bytes": 50_000}
    )
    call = worker.begin(4)
    assert [heard(worker)[0] for _ in range(2)] == ["item", "item"]
    is_still(worker)
    worker.credit(call, 2)
    assert [heard(worker)[0] for _ in range(4)] == ["item", "item", "log", "result"]


def test_each_call_has_its_own_credit(serve: Serve) -> None:
    worker = serve(COUNT, python="nodes.py:n", window={"items": 1, "bytes": 1})
    one, other = worker.begin(3), worker.begin(3)
    assert sorted([heard(worker), heard(worker)]) == [["item", one, 0], ["item", other, 0]]
    for i in (1, 2):
        worker.credit(other, 1)
        assert heard(worker) == ["item", other, i]
    worker.credit(other, 1)
    assert [heard(worker)[0] for _ in range(2)] == ["log", "result"]
    is_still(worker)
    worker.credit(one, 1)
    assert heard(worker) == ["item", one, 1]


def test_a_generator_that_waits_for_credit_is_closed_by_a_cancel(serve: Serve) -> None:
    worker = serve(COUNT, python="nodes.py:n", window={"items": 1, "bytes": 1})
    call = worker.begin(3)
    assert heard(worker) == ["item", call, 0]
    worker.cancel(call)
    worker.cancel(call)
    worker.credit(call, 1)
    assert heard(worker) == ["log", 0, "closed"]
    kind, number, body = heard(worker)
    assert (kind, number, body["kind"]) == ("error", call, "canceled")
    is_still(worker)


def test_a_cancel_reaches_a_generator_where_it_waits(serve: Serve) -> None:
    worker = serve(
        HEAD
        + """
    async def n(value):
        try:
            yield value
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            log("cancelled")
            raise
        finally:
            await asyncio.sleep(0)
            log("closed")
    """,
        python="nodes.py:n",
    )
    call = worker.begin(1)
    assert heard(worker) == ["item", call, 1]
    worker.cancel(call)
    assert [heard(worker)[2] for _ in range(2)] == ["cancelled", "closed"]
    kind, number, body = heard(worker)
    assert (kind, number, body["kind"]) == ("error", call, "canceled")


def test_a_generator_that_is_cancelled_before_it_begins_is_not_called(serve: Serve) -> None:
    worker = serve(COUNT, python="nodes.py:n")
    assert worker.socket is not None
    body = msgpack.packb([[3], {}])
    worker.socket.sendall(frame(CALL, 7, body) + frame(CANCEL, 7, b""))
    kind, call, message = heard(worker)
    assert (kind, call, message["kind"]) == ("error", 7, "canceled")
    is_still(worker)


def test_an_error_follows_the_values_before_it(serve: Serve) -> None:
    worker = serve(
        HEAD
        + """
    async def n(count):
        for i in range(count):
            yield i
        raise ValueError(f"after {count}")
    """,
        python="nodes.py:n",
    )
    call = worker.begin(2)
    assert [heard(worker), heard(worker)] == [["item", call, 0], ["item", call, 1]]
    kind, _, body = heard(worker)
    assert (kind, body["class"], body["message"]) == ("error", "ValueError", "after 2")
    assert (body["stage"], [each["function"] for each in body["frames"]]) == ("call", ["n"])


def test_a_value_that_cannot_be_carried_ends_its_generator(serve: Serve) -> None:
    worker = serve(
        HEAD
        + """
    async def n(value):
        try:
            yield value
            yield {value}
            yield value
        finally:
            log("closed")
    """,
        python="nodes.py:n",
    )
    call = worker.begin(1)
    assert heard(worker) == ["item", call, 1]
    assert heard(worker) == ["log", 0, "closed"]
    kind, _, body = heard(worker)
    assert (kind, body["kind"], body["stage"]) == ("error", "marshaling", "encode")
    is_still(worker)


def test_a_generator_that_will_not_close_has_failed(serve: Serve) -> None:
    worker = serve(
        """
    async def n(value):
        while True:
            try:
                yield value
            except GeneratorExit:
                yield "and on"
    """,
        python="nodes.py:n",
        window={"items": 1, "bytes": 1},
    )
    call = worker.begin(1)
    assert heard(worker) == ["item", call, 1]
    worker.cancel(call)
    kind, _, body = heard(worker)
    assert (kind, body["kind"], body["class"]) == ("error", "execution", "RuntimeError")
    assert "ignored GeneratorExit" in body["message"]
    is_still(worker)


@pytest.mark.parametrize("body", [b"", msgpack.packb("x"), msgpack.packb(-1)])
def test_credit_that_is_not_a_number_ends_the_worker(serve: Serve, body: bytes) -> None:
    worker = serve(COUNT, python="nodes.py:n")
    worker.send(CREDIT, 1, body)
    assert worker.wait() == 70
    assert "a credit frame" in worker.stderr()


def test_credit_for_a_call_that_gives_one_value_changes_nothing(serve: Serve) -> None:
    worker = serve(
        HEAD
        + """
    async def n(value):
        if not value:
            log("at work")
            await asyncio.Event().wait()
        return value
    """,
        python="nodes.py:n",
    )
    call = worker.begin(0)
    worker.until_log("at work")
    worker.credit(call, 1)
    assert worker.call(1) == 1


def test_no_item_follows_the_error_that_ends_the_worker(serve: Serve) -> None:
    worker = serve(
        """
    import sys
    async def n(value):
        yield value
        yield value
        if value == "exit": sys.exit(3)
    """,
        python="nodes.py:n",
        window={"items": 1, "bytes": 1},
    )
    one, other = worker.begin("exit"), worker.begin("other")
    assert sorted([heard(worker), heard(worker)]) == [
        ["item", one, "exit"],
        ["item", other, "other"],
    ]
    assert worker.socket is not None
    both = [frame(CREDIT, call, msgpack.packb(1)) for call in (one, other)]
    worker.socket.sendall(b"".join(both))
    assert heard(worker) == ["item", one, "exit"]
    kind, call, body = heard(worker)
    assert (kind, call, body["class"]) == ("error", one, "SystemExit")
    with pytest.raises(EOFError):
        heard(worker)
    assert worker.wait() == 3
