"""The common part of the peers that run jobs.

A request is a line of JSON on standard input, with ``jobs``, a number, and ``value``, what
each job carries. The answer is a line of JSON on standard output, with ``ns``, the time
from the first submission to the last result, or ``error``, a traceback.
"""

from __future__ import annotations

import json
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any


def serve(run: Callable[[Any, int], list[Any]]) -> None:
    """Answer each request with the time of its jobs."""
    for line in sys.stdin:
        request = json.loads(line)
        try:
            start = time.perf_counter_ns()
            results = run(request["value"], request["jobs"])
            answer: dict[str, Any] = {"ns": time.perf_counter_ns() - start}
            if results != [request["value"]] * request["jobs"]:
                answer = {"error": f"the results are {results!r:.80}"}
        except Exception:
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), flush=True)
