"""The common part of the peers with Python on both sides.

The benchmark requests one batch of calls at a time, so that the peers can take turns. A
request is a line of JSON on standard input, an answer a line of JSON on standard output.
The program ends at the end of the input.
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
    """Double an array, and return any other value unchanged, as the workers of all peers do."""
    return np.multiply(value, 2, out=out) if isinstance(value, np.ndarray) else value


def serve(call: Call, requests: TextIO = sys.stdin, answers: TextIO = sys.stdout) -> None:
    """Answer each request with the times of its calls.

    A request has ``warmup`` and ``calls``, the numbers of calls to make before and during
    the measurement, and the keys of ``make``. The answer has either ``ns``, the durations
    of the calls in nanoseconds, or ``error``, a traceback.
    """
    for line in requests:
        try:
            answer: dict[str, Any] = {"ns": measure(call, json.loads(line))}
        except Exception:
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), file=answers, flush=True)


def make(request: dict[str, Any]) -> Any:
    """Return the value that a request describes.

    A request has ``value``, the value itself, or ``elements``, the length of a float32
    array, or ``bytes``, a number of bytes. Large values are not in the request, because
    they would be long in JSON.
    """
    if "elements" in request:
        return (np.arange(request["elements"]) % (1 << 16)).astype("<f4")
    if "bytes" in request:
        period = bytes(range(251))
        return (period * (request["bytes"] // len(period) + 1))[: request["bytes"]]
    return request["value"]


def measure(call: Call, request: dict[str, Any]) -> list[int]:
    """Make the calls of one request and return their durations in nanoseconds."""
    value = make(request)
    clock = time.perf_counter_ns
    for _ in range(request["warmup"]):
        call(value)
    took = []
    result: Any = None
    for _ in range(request["calls"]):
        result = None  # free the memory of the last result before the next call
        start = clock()
        result = call(value)
        took.append(clock() - start)
    expected = work(value)
    equal = np.array_equal if isinstance(value, np.ndarray) else lambda a, b: a == b
    if took and not equal(result, expected):
        raise ValueError(f"the result is {result!r:.80}, not {expected!r:.80}")
    return took
