"""The limits that a worker keeps by itself: on results, and on descriptors."""

from __future__ import annotations

import resource
from typing import Any

import pytest
from gophersnake._worker.process import limits

from tests.conftest import Serve
from tests.supervisor import ITEM, Failed

BYTES = 1000


def refused(failed: pytest.ExceptionInfo[Failed]) -> dict[str, Any]:
    """Return what an error says of a result that is too large."""
    body = failed.value.body
    assert (body["kind"], body["path"], body["stage"]) == ("marshaling", "result", "encode")
    assert body["message"] == (
        f"it takes {body['oversize']} bytes, more than the {BYTES} that limits.result allows"
    )
    return body


@pytest.mark.parametrize("shared", [False, True])
def test_a_result_that_is_too_large_fails_its_call_alone(serve: Serve, shared: bool) -> None:
    pytest.importorskip("numpy")
    worker = serve(
        """
        import numpy

        def n(what):
            kind, size = what
            return {"text": lambda: "x" * size, "array": lambda: numpy.zeros(size, "uint8"),
                    "list": lambda: list(range(size))}[kind]()
        """,
        limits={"result": BYTES},
        **({"shared": {}} if shared else {}),
        python="nodes.py:n",
    )
    for kind, size in (("text", BYTES - 2), ("array", 300_000), ("array", 2000), ("list", BYTES)):
        with pytest.raises(Failed) as failed:
            worker.call([kind, size])
        assert refused(failed)["oversize"] > BYTES
    assert worker.call(["text", BYTES - 3]) == "x" * (BYTES - 3)  # and three for its head
    assert len(worker.call(["array", 500])) == 500


def test_a_pipelined_call_beside_it_is_answered(serve: Serve) -> None:
    worker = serve("def n(size): return 'x' * size", limits={"result": BYTES}, python="nodes.py:n")
    calls = [worker.begin(size) for size in (10, 5000, 20)]
    assert worker.end(calls[0]) == "x" * 10
    with pytest.raises(Failed) as failed:
        worker.end(calls[1])
    refused(failed)
    assert worker.end(calls[2]) == "x" * 20


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_one_value_of_many_that_is_too_large_ends_them(serve: Serve, kind: str) -> None:
    worker = serve(
        f"""
        {kind} n(sizes):
            for size in sizes:
                yield "x" * size
        """,
        limits={"result": BYTES},
        python="nodes.py:n",
    )
    call = worker.begin([10, 5000, 10])
    assert worker.item(call) == "x" * 10
    with pytest.raises(Failed) as failed:
        worker.until(ITEM)
    refused(failed)
    assert worker.items(worker.begin([10])) == ["x" * 10]


def test_in_a_batch_it_fails_its_own_call(serve: Serve) -> None:
    worker = serve(
        """
        from gophersnake import node

        @node(batch=3, max_wait_ms=60_000)
        def n(sizes):
            return ["x" * size for size in sizes]
        """,
        limits={"result": BYTES},
    )
    calls = [worker.begin(size) for size in (10, 5000, 20)]
    assert worker.end(calls[0]) == "x" * 10
    with pytest.raises(Failed) as failed:
        worker.end(calls[1])
    refused(failed)
    assert worker.end(calls[2]) == "x" * 20


def test_a_state_is_not_limited_like_a_result(serve: Serve) -> None:
    worker = serve(
        """
        from gophersnake import node

        @node(stateful=True)
        class n:
            def process(self, value):
                return value
            def snapshot(self):
                return "x" * 5000
            def restore(self, state):
                pass
        """,
        limits={"result": BYTES},
    )
    worker.end(worker.open(1))
    assert worker.snapshot(1) == "x" * 5000


def test_a_worker_may_not_open_more_descriptors(serve: Serve) -> None:
    worker = serve(
        """
        import os, resource

        kept = []

        def n(count):
            kept.extend(open(os.devnull) for _ in range(count))
            return list(resource.getrlimit(resource.RLIMIT_NOFILE))
        """,
        limits={"open_files": 64},
        python="nodes.py:n",
    )
    assert worker.call(1) == [64, 64]
    with pytest.raises(Failed, match="Too many open files"):
        worker.call(100)
    with pytest.raises(Failed, match="Too many open files"):
        worker.call(1)
    assert worker.shut_down() == 0


def test_a_lower_limit_of_the_system_stays(serve: Serve) -> None:
    source = "import resource\ndef n(v): return list(resource.getrlimit(resource.RLIMIT_NOFILE))"
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert serve(source, limits={"open_files": 10**9}, python="nodes.py:n").call(1) == [hard, hard]
    assert serve(source, limits={"open_files": 0}, python="nodes.py:n").call(1) == list(
        resource.getrlimit(resource.RLIMIT_NOFILE)
    )


def test_workers_leave_some_of_the_users_threads_to_the_supervisor(serve: Serve) -> None:
    source = "import resource\ndef n(v): return list(resource.getrlimit(resource.RLIMIT_NPROC))"
    own, hard = resource.getrlimit(resource.RLIMIT_NPROC)
    soft, most = serve(source, python="nodes.py:n").call(1)
    assert soft == most > 0
    if own != resource.RLIM_INFINITY:
        assert soft == own - min(own // 8, 1024)
    if hard != resource.RLIM_INFINITY:
        assert soft <= hard


def test_the_systems_limits_count_if_the_user_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    applied: list[tuple[int, int]] = []
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    monkeypatch.setattr(resource, "getrlimit", lambda _: unlimited)
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: applied.append(limits))
    limits.reserve_threads()
    [(soft, hard)] = applied
    assert 0 < soft == hard < 1 << 22
