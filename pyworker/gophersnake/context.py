"""What a node can ask about the call that it serves: its deadline, number, attempt and trace."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

__all__ = ["attempt", "call_id", "deadline", "node_id", "trace_context"]


class Running(NamedTuple):
    """The call that is served, or the calls of a batch.

    Attributes:
        call: the number of the call, 0 for a batch of several.
        attempt: which attempt it is, from 1; for a batch the highest.
        until: the deadline as a reading of ``time.monotonic``, for a batch the earliest;
            ``None`` if there is none.
        trace: the trace in its form on the wire; empty if there is none, and for a batch of
            several.
    """

    call: int
    attempt: int = 1
    until: float | None = None
    trace: bytes = b""


_node: str | Callable[[], str] | None = None
_find: Callable[[], Running | None] | None = None


def deadline() -> float | None:
    """Return how many seconds are left until the deadline of the running call.

    The deadline is the earlier one of the node's ``timeout``, which counts for each item of
    a generator anew, and the time until which the caller waits. In a batch it is the
    earliest of all its calls. The worker may be killed when the time is up, so leave some
    of it for the rest of the work::

        @node
        def fetch(url: str) -> bytes:
            return urlopen(url, timeout=gophersnake.deadline()).read()

    Returns:
        The seconds, at least 0; ``None`` if the call has no deadline or no call runs.
    """
    running = _running()
    if running is None or running.until is None:
        return None
    return max(running.until - time.monotonic(), 0.0)


def node_id() -> str | None:
    """Return the id of the node in its pipeline, ``None`` outside of a worker.

    It is also known while the node's module is imported, and in ``setup`` and ``close``. A
    fused chain has the id of the node that runs.
    """
    return _node() if callable(_node) else _node


def call_id() -> int | None:
    """Return the number of the running call in its worker.

    The supervisor's log has the same number in the field ``call``. Each attempt of a call
    has a number of its own.

    Returns:
        The number; ``None`` if no call runs, or a batch of several.
    """
    running = _running()
    return running.call or None if running is not None else None


def attempt() -> int | None:
    """Return which attempt of its operation the running call is: 1, or more after a retry.

    In a batch it is the highest of all its calls.

    Returns:
        The number; ``None`` if no call runs.
    """
    running = _running()
    return running.attempt if running is not None else None


def trace_context() -> dict[str, str] | None:
    """Return the trace that the running call belongs to, as W3C Trace Context writes it.

    It is the carrier from which OpenTelemetry's propagator takes the parent of the node's own
    spans::

        from opentelemetry.propagate import extract

        @node
        def fetch(url: str) -> bytes:
            parent = extract(gophersnake.trace_context() or {})
            with tracer.start_as_current_span("fetch", context=parent):
                return urlopen(url).read()

    Returns:
        ``traceparent`` and, if there is one, ``tracestate``; ``None`` if the call belongs to no
        trace, no call runs, or a batch of several.
    """
    running = _running()
    if running is None or not running.trace:
        return None
    trace = running.trace
    found = {"traceparent": f"00-{trace[:16].hex()}-{trace[16:24].hex()}-{trace[24]:02x}"}
    if len(trace) > 25:
        found["tracestate"] = trace[25:].decode("ascii", "replace")
    return found


def _running() -> Running | None:
    return None if _find is None else _find()


def describe_with(
    node: str | Callable[[], str] | None, find: Callable[[], Running | None] | None
) -> None:
    """Set the node of this process, and the function that finds the running call.

    The worker uses this. The function is called on the thread that asks. In a fused chain the
    node is a function, too.
    """
    global _node, _find
    _node, _find = node, find
