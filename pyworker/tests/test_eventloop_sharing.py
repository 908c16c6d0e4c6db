"""Large values of async nodes, beside the socket and in shared memory."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import Serve
from tests.supervisor import PING, PONG
from tests.test_eventloop import HEAD, answer, answers


@pytest.mark.parametrize(("size", "setup"), [(5_000, {}), (300_000, {"shared": {}})])
def test_arrays_go_through(serve: Serve, size: int, setup: dict[str, Any]) -> None:
    np = pytest.importorskip("numpy")
    worker = serve(
        """
        import asyncio
        async def n(value):
            await asyncio.sleep(0)
            return value + 1
        """,
        python="nodes.py:n",
        **setup,
    )
    for _ in range(3):
        given = [np.full(size, i, "f4") for i in range(4)]
        calls = [worker.begin(each) for each in given]
        for call, result in answers(worker, 4).items():
            assert (result == given[calls.index(call)] + 1).all()
        if worker.shares is not None:
            worker.give_back()
    assert worker.shut_down() == 0


class AllBack(Exception):
    """The worker has nothing left that it was lent."""


@pytest.mark.parametrize("fails", [False, True])
def test_an_input_is_given_back_when_its_call_is_over(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    np = pytest.importorskip("numpy")
    worker = serve(
        HEAD
        + f"""
    async def n(value):
        await asyncio.sleep(0)
        if {fails}:
            own = ValueError("this holds itself, and what the call was given")
            raise own
        return len(value)
    """,
        python="nodes.py:n",
        shared={},
    )
    shares = worker.shares
    assert shares is not None
    hear = shares.hear

    def heard(kind: int, body: bytes) -> None:
        hear(kind, body)
        if not shares.outstanding:
            raise AllBack

    monkeypatch.setattr(shares, "hear", heard)
    worker.begin(np.zeros(1 << 18, "u1"))
    with pytest.raises(AllBack):  # nothing more has to be said for it
        answers(worker, 2)


def test_frames_that_arrive_while_there_is_no_room_are_handled_afterwards(serve: Serve) -> None:
    pytest.importorskip("numpy")
    worker = serve(
        HEAD
        + """
    import numpy
    var = contextvars.ContextVar("var")

    async def n(size):
        before = var.get("nothing")
        var.set(size)
        log(before)
        return numpy.zeros(size, "u1") if size else before
    """,
        python="nodes.py:n",
        shared={"limit": 1 << 20},
        log_level="info",
    )
    assert worker.shares is not None
    worker.shares.keep = True
    assert worker.call(1 << 20).nbytes == 1 << 20
    call = worker.begin(1 << 20)
    worker.until_log("nothing")
    worker.send(PING, 5)
    small = worker.begin(0)
    worker.give_back()
    assert answer(worker)[0] == call
    assert worker.until(PONG).call == 5
    assert answer(worker) == (small, "nothing")
