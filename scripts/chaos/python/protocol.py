"""Faults in which the worker violates the wire protocol."""

from __future__ import annotations

import os
from typing import Any

import wire


def closes_the_socket(call: dict[str, Any], answer: Any, index: int) -> Any:
    """Close the connection."""
    wire.send(b"", last=True)
    return answer


def writes_garbage(call: dict[str, Any], answer: Any, index: int) -> Any:
    """Write bytes that are no frame."""
    wire.send(b"\xff" + os.urandom(300))
    return answer


def cuts_a_frame_short(call: dict[str, Any], answer: Any, index: int) -> Any:
    """Send a part of an answer, and close the connection."""
    body = wire.packed("cut short")
    wire.send(wire.frame(wire.RESULT, wire.own_call(index), body, claimed=2 * len(body)), last=True)
    return answer


def claims_4_gib(call: dict[str, Any], answer: Any, index: int) -> Any:
    """Send a frame with a length of 4 GiB."""
    wire.send(wire.frame(wire.RESULT, wire.own_call(index), b"", claimed=(4 << 30) - 1))
    return answer


def claims_a_buffer_of_4_gib(call: dict[str, Any], answer: Any, index: int) -> Any:
    """Announce a buffer of 4 GiB, which is within the limit, and send none of it."""
    wire.send(wire.with_buffer(wire.RESULT, wire.own_call(index), 4 << 30))
    return answer


def answers_a_wrong_call(call: dict[str, Any], answer: Any, index: int) -> Any:
    """Answer a call that was not made."""
    wire.send(wire.frame(wire.RESULT, wire.own_call(index) + (1 << 40), wire.packed("unknown")))
    return answer


def answers_twice(call: dict[str, Any], answer: Any, index: int) -> Any:
    """Send an answer in addition to the worker's own."""
    wire.send(wire.frame(wire.RESULT, wire.own_call(index), wire.packed(answer)))
    return answer


def fails_after_the_answer(call: dict[str, Any], answer: Any, index: int) -> Any:
    """Send an answer, and then raise an exception."""
    wire.send(wire.frame(wire.RESULT, wire.own_call(index), wire.packed(answer)))
    raise ValueError(f"call {call['n']} has been answered")


def sends_an_item(call: dict[str, Any], answer: Any, index: int) -> Any:
    """Send an item of a stream for a call that returns one value."""
    wire.send(wire.frame(wire.ITEM, wire.own_call(index), wire.packed(answer)))
    return answer


def sends_an_unknown_frame(call: dict[str, Any], answer: Any, index: int) -> Any:
    """Send a frame of an unknown type."""
    wire.send(wire.frame(wire.UNKNOWN, wire.own_call(index), b""))
    return answer


def sends_a_broken_error(call: dict[str, Any], answer: Any, index: int) -> Any:
    """Send an error whose body is not msgpack."""
    wire.send(
        wire.frame(wire.ERROR, wire.own_call(index), b"\xc1")
    )  # a byte that msgpack does not use
    return answer


def sends_a_broken_result(call: dict[str, Any], answer: Any, index: int) -> Any:
    """Send a result whose body is not msgpack."""
    wire.send(wire.frame(wire.RESULT, wire.own_call(index), b"\x92\xc1\xc1"))
    return answer
