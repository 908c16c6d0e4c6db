"""Fused chains: several nodes in one worker, one after the other."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Serve
from tests.supervisor import CALL, LOG, PROGRESS, SHUTDOWN, Failed, Supervisor


def chain(*types: str, **named: dict[str, Any]) -> dict[str, Any]:
    """Return the part of the setup for a chain of nodes, whose ids are those of their types."""
    members = [
        {
            "node": f"{kind}-{i}",
            "python": "nodes.py",
            "node_type": kind,
            "params": None,
            "ports": None,
            "timeout": 0,
        }
        | named.get(kind, {})
        for i, kind in enumerate(types)
    ]
    return {"members": members, "node_type": types[0], "begun": True}


def running(worker: Supervisor) -> int:
    """Return the number of the running member."""
    return int.from_bytes(os.pread(worker._autopsy, 8, 16), "little")


ARITHMETIC = """
    from gophersnake import node

    @node
    def add(value, amount=1):
        return value + amount

    @node(name="Scale")
    class Scale:
        def __init__(self, factor=2):
            self.factor = factor

        def process(self, value):
            return value * self.factor

    @node
    def named(value, *, bias=0):
        return f"{value} {bias}"
"""


def test_a_call_passes_through_all_members(serve: Serve) -> None:
    worker = serve(
        ARITHMETIC,
        **chain("add", "Scale", "add", "named", Scale={"params": {"factor": 10}}),
    )
    assert worker.call(4) == "51 0"
    assert worker.begun == 1
    assert running(worker) == 4


def test_the_description_is_that_of_all_members(start: Serve, tmp_path: Path) -> None:
    (tmp_path / "nodes.py").write_text(
        "from gophersnake import node\n"
        "@node\ndef measure(text: str) -> int:\n    return len(text)\n"
        "@node\ndef half(value: int) -> float:\n    return value / 2\n"
    )
    found = start().set_up(base=str(tmp_path), **chain("measure", "half"))
    assert [each["name"] for each in found["members"]] == ["measure", "half"]
    assert (found["name"], found["returns"], found["concurrency"]) == ("measure", "float", 1)
    assert found["inputs"] == found["members"][0]["inputs"]
    assert found["output"] == found["members"][1]["output"]


def test_a_port_is_the_name_of_the_argument(serve: Serve) -> None:
    worker = serve(ARITHMETIC, **chain("add", "named", named={"ports": ["value"]}))
    assert worker.call(1) == "2 0"
    call = worker._begin(CALL, 2, [[], {"value": 7}])
    assert worker.end(call) == "7 0"


def test_a_member_is_called_alone(serve: Serve) -> None:
    worker = serve(ARITHMETIC, **chain("add", "Scale", "add"))
    for member, want in ((1, 6), (2, 10), (3, 6)):
        assert worker.end(worker._begin(CALL, member, [[5], {}])) == want
        assert running(worker) == member
    worker._begin(CALL, 4, [[5], {}])
    assert worker.wait() == 70
    assert "a call of member 4 of a chain of 3" in worker.stderr()


def test_objects_are_handed_over_as_they_are(serve: Serve) -> None:
    worker = serve(
        """
        from gophersnake import node
        made = object()

        @node
        def make(value):
            return {"made": made, "key": (1, 2), 3: value}

        @node
        def check(value):
            assert value["made"] is made and type(value["key"]) is tuple
            return value[3]
        """,
        **chain("make", "check"),
    )
    assert worker.call([1, None]) == [1, None]


def test_an_array_is_the_one_that_was_returned(serve: Serve) -> None:
    pytest.importorskip("numpy")
    worker = serve(
        """
        import numpy
        from gophersnake import node

        @node
        def first(value):
            assert not value.flags.writeable  # as it comes from another process
            return value

        @node
        def copy(value):
            assert not value.flags.writeable
            return value.copy()

        @node
        def change(value):
            value *= 2
            return value
        """,
        **chain("first", "copy", "change"),
    )
    import numpy as np

    assert worker.call(np.arange(4.0)).tolist() == [0, 2, 4, 6]


TYPED = """
    from dataclasses import dataclass
    from gophersnake import node

    @dataclass
    class Point:
        x: int
        y: float = 0.5

    @node
    def plain(value):
        return value

    @node
    def point(value: Point) -> Point:
        return Point(value.x + 1, value.y)

    @node
    def inner(value: dict[str, Point]) -> list[Point]:
        return list(value.values())

    @node
    def put(value):
        return {"at": Point(value)}

    @node
    def socket(value):
        import socket
        return socket.socket()

    @node
    def integer(value: int):
        return value
"""


def test_inputs_are_built_as_they_are_annotated(serve: Serve) -> None:
    pytest.importorskip("msgspec")
    worker = serve(TYPED, **chain("plain", "point", "point", "plain"))
    assert worker.call({"x": 1}) == {"x": 3, "y": 0.5}
    worker = serve(TYPED, **chain("put", "inner", "plain"))
    assert worker.call(7) == [{"x": 7, "y": 0.5}]


@pytest.mark.parametrize("first", ["plain", "socket"])
def test_a_value_that_does_not_fit_names_the_member(serve: Serve, first: str) -> None:
    worker = serve(TYPED, **chain("plain", first, "integer", "plain"))
    with pytest.raises(Failed) as failed:
        worker.call("five")
    body = failed.value.body
    assert (body["kind"], body["stage"], body["path"]) == ("marshaling", "decode", "input")
    assert body["member"] == 2
    if first == "plain":
        assert worker.call(5) == 5


FAILING = """
    import logging, os, sys
    import gophersnake
    from gophersnake import node

    class Bad(Exception): ...

    @node
    def plain(value):
        return value

    @node(permanent=Bad)
    def fail(value):
        logging.info("about to")
        gophersnake.progress(f"at {gophersnake.node_id()}")
        if value == "raise":
            raise ValueError("no")
        if value == "bad":
            raise Bad()
        if value == "exit":
            sys.exit(3)
        if value == "kill":
            os.kill(os.getpid(), 9)
        if value == "memory":
            raise MemoryError
        return value

    @node
    def odd(value):
        return object() if value == "object" else value
"""


def test_an_exception_names_the_member(serve: Serve) -> None:
    worker = serve(FAILING, **chain("plain", "fail", "odd"))
    for value, retryable in (("raise", None), ("bad", False)):
        with pytest.raises(Failed) as failed:
            worker.call(value)
        body = failed.value.body
        assert (body["member"], body["stage"], body.get("retryable")) == (1, "call", retryable)
        assert [each["function"] for each in body["frames"]] == ["fail"]
    with pytest.raises(Failed) as failed:
        worker.call("object")
    assert (failed.value.body["member"], failed.value.body["stage"]) == (2, "encode")
    assert worker.call("well") == "well"
    assert {each["member"] for each in worker.logs + worker.progress} == {1}
    assert {each["message"] for each in worker.progress} == {"at fail-1"}


@pytest.mark.parametrize(("value", "code"), [("exit", 3), ("memory", 70), ("kill", -9)])
def test_an_end_names_the_member(serve: Serve, value: str, code: int) -> None:
    worker = serve(FAILING, **chain("plain", "fail", "plain"))
    with pytest.raises(EOFError if value == "kill" else Failed) as failed:
        worker.call(value)
    assert not isinstance(failed.value, Failed) or failed.value.body["member"] == 1
    assert worker.wait() == code
    assert running(worker) == 2


def test_a_cancellation_reaches_the_member_that_runs(serve: Serve) -> None:
    worker = serve(
        """
        import logging, time
        from gophersnake import node

        @node
        def plain(value):
            return value

        @node
        def slow(value):
            if value:
                logging.info("sleeps")
                time.sleep(600)
            return value
        """,
        **chain("plain", "slow", "plain"),
    )
    call = worker.begin(1)
    worker.until_log("sleeps")
    worker.cancel(call)
    with pytest.raises(Failed) as failed:
        worker.end(call)
    assert (failed.value.body["kind"], failed.value.body["member"]) == ("canceled", 1)
    assert worker.call(0) == 0


def test_what_is_hidden_in_a_decorator_is_resolved(serve: Serve) -> None:
    worker = serve(
        """
        from gophersnake import node

        def hide(function):
            return lambda value: function(value)

        @node(name="many")
        @hide
        def many(value):
            yield value
            yield value + 1

        @node(name="later")
        @hide
        async def later(value):
            return sum(value)

        @node(name="each")
        @hide
        async def each(value):
            yield value
        """,
        **chain("many", "later", "each"),
    )
    assert worker.call(3) == [7]
    assert worker.end(worker._begin(CALL, 2, [[[3, 4]], {}])) == 7


def test_a_deadline_is_that_of_the_member(serve: Serve) -> None:
    worker = serve(
        """
        import gophersnake
        from gophersnake import node

        @node
        def left(value):
            return [*value, gophersnake.deadline(), gophersnake.node_id()]

        @node
        def other(value):
            return [*value, gophersnake.deadline(), gophersnake.node_id()]
        """,
        **chain("left", "other", "left", left={"timeout": 50.0}, other={"timeout": 1000.0}),
    )
    one, first, two, second, three, third = worker.call([])
    assert (first, second, third) == ("left-0", "other-1", "left-2")
    assert 0 < one <= 50 < two <= 1000
    assert 0 < three <= 50


CLOSING = """
    import logging
    import gophersnake
    from gophersnake import node

    class Base:
        def setup(self):
            logging.info(f"setup {gophersnake.node_id()}")
            if gophersnake.node_id() == "Broken-1":
                raise RuntimeError("no model")

        def process(self, value):
            return value

        def close(self):
            logging.info(f"close {gophersnake.node_id()}")
            if gophersnake.node_id() == "A-2":
                raise RuntimeError("cannot close")

    @node(name="A")
    class A(Base): ...

    @node(name="B")
    class B(Base): ...

    @node(name="Broken")
    class Broken(Base): ...
"""


def test_members_are_set_up_in_order_and_closed_in_reverse(serve: Serve) -> None:
    worker = serve(CLOSING, **chain("A", "B", "A"))
    worker.send(SHUTDOWN)
    try:
        while True:
            worker.until(LOG, PROGRESS)
    except EOFError:
        pass
    assert worker.wait() == 1
    assert [each["message"] for each in worker.logs] == [
        "setup A-0", "setup B-1", "setup A-2", "close A-2", "close B-1", "close A-0",
    ]  # fmt: skip
    assert [each["member"] for each in worker.logs] == [0, 1, 2, 2, 1, 0]
    assert "cannot close" in worker.stderr()


@pytest.mark.parametrize(
    ("kind", "stage", "text"),
    [
        ("Broken", "setup", "no model"),
        ("missing", "import", "missing"),
        ("B", "params", "'unknown'"),
    ],
)
def test_a_setup_that_fails_names_the_member(
    serve: Serve, kind: str, stage: str, text: str
) -> None:
    with pytest.raises(Failed) as failed:
        serve(CLOSING, **chain("A", kind, "A", B={"params": {"unknown": 1}}))
    body = failed.value.body
    assert (body["member"], body["stage"]) == (1, stage)
    assert text in body["message"]


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("later", "is async"),
        ("many", "may yield any number of values"),
        ("batched", "takes batches"),
        ("Kept", "keeps a state in each stream"),
        ("threaded", "runs in several threads"),
    ],
)
def test_other_kinds_of_nodes_are_refused(serve: Serve, kind: str, text: str) -> None:
    with pytest.raises(Failed) as failed:
        serve(
            """
            from gophersnake import node

            @node
            def plain(value):
                return value

            @node
            async def later(value):
                return value

            @node
            def many(value):
                yield value

            @node(batch=4)
            def batched(value):
                return value

            @node(threads=4)
            def threaded(value):
                return value

            @node(name="Kept", stateful=True)
            class Kept:
                def process(self, value):
                    return value
            """,
            **chain("plain", kind),
        )
    body = failed.value.body
    assert (body["kind"], body["stage"], body["member"]) == ("manifest", "params", 1)
    assert text in body["message"]
    assert "fuse" in body["hint"]


def test_a_forked_child_changes_nothing_of_its_parent(serve: Serve) -> None:
    worker = serve(
        """
        import os
        from gophersnake import node

        @node
        def fork(value):
            child = os.fork()
            if child:
                assert os.waitpid(child, 0)[1] == 0
            return child

        @node
        def after(value):
            if not value:
                os._exit(0)
            return "parent"
        """,
        **chain("fork", "after"),
    )
    assert worker.call(1) == "parent"
    assert worker.begun == 1
    assert running(worker) == 2
    os.kill(worker.pid, signal.SIGTERM)
