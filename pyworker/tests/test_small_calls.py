"""What calls cost in the worker's Python, counted so that the machine's speed is nothing."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from tests.conftest import Serve
from tests.supervisor import Supervisor

COUNTED = """
    import sys

    count = 0

    def step(frame, event, arg):
        global count
        count += event == "opcode"
        return step

    def enter(frame, event, arg):
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return step

    def outer():
        frame = sys._getframe(1)
        while frame is not None:
            yield frame
            frame = frame.f_back

    def n(value):
        global count
        if type(value) is str and value == "start":
            count = 0
            sys.settrace(enter)
            for frame in outer():
                enter(frame, "call", None)
                frame.f_trace = step
        elif type(value) is str and value == "stop":
            sys.settrace(None)
            for frame in outer():
                frame.f_trace = None
            return count
        return value
"""

MOST = 600
"""The bound of the steps of a small call. Python 3.10 takes 556, 3.11 580 and 3.13 535."""


counts = pytest.mark.skipif(
    sys.version_info[:2] == (3, 12), reason="Python 3.12 reports many instructions twice"
)


def steps(worker: Supervisor, value: Any) -> float:
    """Return the steps of a call that has been made before."""

    def counted(calls: int) -> int:
        worker.call("start")
        for _ in range(calls):
            worker.call(value)
        count = worker.call("stop")
        assert isinstance(count, int)
        return count

    for _ in range(20):
        worker.call(value)
    few = counted(20)
    return (counted(40) - few) / 20  # what the calls to start and stop take cancels out


@counts
def test_a_small_call_takes_few_steps(serve: Serve) -> None:
    worker = serve(COUNTED, python="nodes.py:n")
    small = {"id": 123456, "text": "from gopher to snake and back", "score": 0.75, "final": True}
    taken = steps(worker, small)
    assert 100 < taken <= MOST, taken


MOST_OF_ARRAY, MOST_OF_BYTES = 1800, 1500
"""The bounds of calls through shared memory. Python 3.11 takes 1,610 and 1,320."""


@counts
@pytest.mark.skipif(sys.platform != "linux", reason="segments are Linux's")
def test_a_call_through_shared_memory_takes_few_steps(serve: Serve) -> None:
    np = pytest.importorskip("numpy")
    doubled = """
    import gophersnake, numpy
    echo = n

    def n(value):
        if type(value) is not numpy.ndarray:
            return echo(value)
        return numpy.multiply(value, 2, out=gophersnake.empty(value.shape, value.dtype))
"""
    worker = serve(COUNTED + doubled, python="nodes.py:n", shared={})
    taken = steps(worker, np.zeros(1 << 14, "f4"))
    assert 100 < taken <= MOST_OF_ARRAY, taken
    taken = steps(worker, bytes(64 << 10))
    assert 100 < taken <= MOST_OF_BYTES, taken
