"""What the peers that are Python on both sides have in common.

The benchmark asks for one batch of calls at a time, so that it can take turns
between the peers: a line of JSON on standard input, a line of JSON on standard
output. End of file ends the program.
"""

from __future__ import annotations

import json
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any, TextIO

import numpy as np

Call = Callable[[Any], Any]


def work(value: Any, out: np.ndarray | None = None) -> Any:
    """Return twice an array, and any other value as it came: what every peer does."""
    return np.multiply(value, 2, out=out) if isinstance(value, np.ndarray) else value


def serve(call: Call, requests: TextIO = sys.stdin, answers: TextIO = sys.stdout) -> None:
    """Answer each request with the times of its calls.

    A request holds ``warmup`` and ``calls``, how many calls to make without and
    with the clock, and what ``make`` says. The answer holds ``ns``, what each
    call took in nanoseconds, or else ``error``.
    """
    for line in requests:
        try:
            answer: dict[str, Any] = {"ns": measure(call, json.loads(line))}
        except Exception:
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), file=answers, flush=True)


def make(request: dict[str, Any]) -> Any:
    """Return the value that a request names.

    It is ``value`` itself, an array of so many ``elements``, or so many ``bytes``.
    Large ones are made here, for they would be long in JSON.
    """
    if "elements" in request:
        return (np.arange(request["elements"]) % (1 << 16)).astype("<f4")
    if "bytes" in request:
        period = bytes(range(251))
        return (period * (request["bytes"] // len(period) + 1))[: request["bytes"]]
    return request["value"]


def measure(call: Call, request: dict[str, Any]) -> list[int]:
    """Make the calls of one request and return what each took in nanoseconds."""
    value = make(request)
    clock = time.perf_counter_ns
    for _ in range(request["warmup"]):
        call(value)
    took = []
    result: Any = None
    for _ in range(request["calls"]):
        result = None  # the memory of the one before is free, as it is for a loop's variable
        start = clock()
        result = call(value)
        took.append(clock() - start)
    expected = work(value)
    right = np.array_equal if isinstance(value, np.ndarray) else lambda a, b: a == b
    if took and not right(result, expected):
        raise ValueError(f"the result is {result!r:.80}, not {expected!r:.80}")
    return took
