"""Values that hypothesis damages, and the memory that reading them takes."""

from __future__ import annotations

import contextlib
import tracemalloc
from typing import Any

import msgpack
from gophersnake import Tensor
from gophersnake._worker.values import faults
from gophersnake._worker.values.decoder import Decoder
from gophersnake._worker.values.encoder import Encoder
from gophersnake._worker.values.format import ValueFault
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.test_properties import MANY, images, plain, tensors

PER_BYTE = 256 + 8 * 1024
"""A byte of a body takes no more memory than this. An empty map takes 64 bytes; and on
each level that msgpack goes down to, a count can claim as many items as there are bytes."""


def decoded(body: bytes, buffers: list[Any]) -> Any:
    """Return the value of a body, or the fault if it is invalid."""
    try:
        return Decoder().decode(body, buffers)
    except ValueFault as fault:
        return fault


@settings(max_examples=MANY)
@given(st.binary(min_size=1, max_size=20), st.integers(1, 2000))
@example(b"\xdd\xff\xff\xff\xff", 60)
@example(b"\xdf\xff\xff\xff\xff", 60)
@example(b"\xc9\xff\xff\xff\xff\x01", 60)
@example(b"\x80", 2000)
@example(b"\x91", 2000)
def test_a_value_takes_memory_in_proportion_to_its_bytes(piece: bytes, times: int) -> None:
    body = b"\xdc" + times.to_bytes(2, "big") + piece * times
    tracemalloc.start()
    try:
        decoded(body, [])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < (1 << 20) + PER_BYTE * len(body)


@settings(max_examples=MANY)
@given(st.binary(max_size=200))
def test_the_scanner_finds_a_fault_wherever_msgpack_does(body: bytes) -> None:
    found = decoded(body, [])
    if not isinstance(found, ValueFault):
        assert faults.find_in_body(
            body, lambda code, payload: None
        ) is None or _more_than_the_limit(body)
        return
    assert found.path.startswith("input")
    assert found.reason


def _more_than_the_limit(body: bytes) -> bool:
    """Return whether a value has faults that only the supervisor checks: keys of bytes, depth."""
    _, reason = faults.find_in_body(body, lambda code, payload: None) or ("", "")
    return "key" in reason or "nested deeper" in reason


@given(st.lists(plain | tensors() | images(), max_size=4), st.data())
def test_buffers_that_are_missing_or_too_many_or_short_are_a_fault(
    values: list[Any], data: st.DataObject
) -> None:
    large = Tensor("uint16", (8 << 10,), b"\x07" * (16 << 10))
    body, buffers = Encoder().encode([*values, large])
    assert len(buffers) == 1
    kept = [bytes(each) for each in buffers]
    wrong = data.draw(
        st.sampled_from([[], [*kept, b""], [kept[0][:-1]], [kept[0][:-2]], [b"", *kept]])
    )
    assert isinstance(decoded(bytes(body), list(wrong)), ValueFault)
    assert not isinstance(decoded(bytes(body), kept), ValueFault)


@given(plain)
def test_a_decoded_value_is_encoded_as_it_was_received(value: Any) -> None:
    body, _ = Encoder().encode(value)
    again, _ = Encoder().encode(Decoder().decode(bytes(body), []))
    assert bytes(again) == bytes(body)


@given(st.integers(-9, 9) | st.floats() | st.text() | st.binary() | st.none())
def test_a_key_that_is_not_text_does_not_crash(key: Any) -> None:
    decoded(msgpack.packb({key: 1}, unicode_errors="surrogatepass"), [])
    with contextlib.suppress(ValueFault):
        Encoder().encode({key: 1})
