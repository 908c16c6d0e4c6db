"""What the peers that are Python on both sides have in common.

The benchmark asks for one batch of calls at a time, so that it can take turns
between the peers: a line of JSON on standard input, a line of JSON on standard
output. End of file ends the program.
"""

from __future__ import annotations

import base64
import json
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np

Echo = Callable[[Any], Any]


def serve(echo: Echo) -> None:
    """Answer each request on standard input with the times of its calls.

    A request holds ``warmup`` and ``calls``, how many calls to make without and
    with the clock, and ``value``, or ``bytes`` in base64. The answer holds
    ``ns``, what each call took in nanoseconds, or else ``error``.
    """
    for line in sys.stdin:
        try:
            answer: dict[str, Any] = {"ns": measure(echo, json.loads(line))}
        except Exception:
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), flush=True)


def measure(echo: Echo, request: dict[str, Any]) -> list[int]:
    """Make the calls of one request and return what each took in nanoseconds."""
    value = base64.b64decode(request["bytes"]) if "bytes" in request else request["value"]
    if request.get("array"):
        value = np.frombuffer(value, "<f4")
    clock = time.perf_counter_ns
    for _ in range(request["warmup"]):
        echo(value)
    took = []
    for _ in range(request["calls"]):
        start = clock()
        result = echo(value)
        took.append(clock() - start)
    if not (np.array_equal(result, value) if request.get("array") else result == value):
        raise ValueError(f"the echo of {value!r:.80} is {result!r:.80}")
    return took


def again(value: Any) -> Any:
    """Return the value as it came, and an array as a new one: what every peer's echo does."""
    return value.copy() if isinstance(value, np.ndarray) else value
