"""Properties of values and frames, for whatever hypothesis thinks of."""

from __future__ import annotations

import datetime
import math
import socket
import threading
from typing import Any

import msgpack
import pytest
from gophersnake import Audio, Image, Json, Tensor
from gophersnake._worker.values.decoder import Decoder
from gophersnake._worker.values.encoder import Encoder
from gophersnake._worker.values.format import ValueFault
from gophersnake._worker.wire.connection import Closed, Connection
from gophersnake._worker.wire.frames import Bytes, Limits, ProtocolError
from gophersnake.values import ITEM_SIZES, PIXEL_SIZES
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.supervisor import frame

MANY = 5 * settings().max_examples
"""Examples of what is quickly looked at."""

text = st.text(st.characters(exclude_categories=["Cs"]))
plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats()
    | text
    | st.binary()
    | st.datetimes(timezones=st.just(datetime.timezone.utc)),
    lambda inner: st.lists(inner) | st.dictionaries(text, inner),
    max_leaves=20,
)


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    dtype = draw(st.sampled_from(sorted(ITEM_SIZES)))
    shape = tuple(draw(st.lists(st.integers(0, 4), max_size=4)))
    size = ITEM_SIZES[dtype] * math.prod(shape)
    return Tensor(dtype, shape, draw(st.binary(min_size=size, max_size=size)))


@st.composite
def images(draw: st.DrawFn) -> Image:
    format = draw(st.sampled_from(sorted(PIXEL_SIZES)))
    width, height = draw(st.integers(0, 5)), draw(st.integers(0, 5))
    size = width * height * PIXEL_SIZES[format]
    pts = draw(st.none() | st.floats(allow_nan=False))
    return Image(draw(st.binary(min_size=size, max_size=size)), format, width, height, pts)


def same(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return repr(one) == repr(other)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    return bool(type(one) is type(other) and one == other)


@given(plain)
def test_plain_values_come_back(value: Any) -> None:
    body, buffers = Encoder().encode(value)
    assert same(Decoder().decode(bytes(body), buffers), value)


@given(tensors())
def test_tensors_come_back(value: Tensor) -> None:
    body, _ = Encoder().encode([value])
    (found,) = Decoder().decode(bytes(body), [])
    again, _ = Encoder().encode([found])
    assert bytes(again) == bytes(body)


@given(st.lists(st.floats(width=32), max_size=30), st.integers(1, 1 << 31 - 1))
def test_audio_is_returned_unchanged(samples: list[float], rate: int) -> None:
    body, _ = Encoder().encode(Audio(samples, rate))
    found = Decoder().decode(bytes(body), [])
    assert found.rate == rate
    assert same([float(each) for each in memoryview(found.samples.tobytes()).cast("f")], samples)


@given(images())
def test_images_come_back(value: Image) -> None:
    body, _ = Encoder().encode(value)
    found = Decoder().decode(bytes(body), [])
    assert memoryview(found.pixels).tobytes() == value.pixels
    assert (found.format, found.width, found.height) == (value.format, value.width, value.height)
    assert same(found.pts, value.pts)


@given(plain)
def test_documents_come_back(value: Any) -> None:
    try:
        document = Json.dump(value)
    except (TypeError, ValueError):  # bytes, datetimes and NaN have no form in JSON
        return
    body, _ = Encoder().encode(document)
    assert Decoder().decode(bytes(body), []) == document


def place_of_fault(body: bytes, buffers: list[Bytes]) -> str:
    """Return the path of the fault in a body, empty if there is none."""
    try:
        Decoder().decode(body, buffers)
    except ValueFault as fault:
        return fault.path if fault.reason else ""
    return "input"


@settings(max_examples=MANY)
@given(st.binary(max_size=200), st.lists(st.binary(max_size=40), max_size=3))
def test_any_bytes_are_a_value_or_a_fault(body: bytes, buffers: list[Bytes]) -> None:
    assert place_of_fault(body, buffers).startswith("input")


@settings(max_examples=MANY)
@given(
    st.integers(0, 127),
    plain | st.lists(plain | tensors().map(lambda each: each.data), max_size=6),
    st.lists(st.binary(max_size=40), max_size=2),
)
def test_any_payload_of_an_extension_is_a_value_or_a_fault(
    code: int, payload: Any, buffers: list[Bytes]
) -> None:
    inner = msgpack.packb(payload, datetime=True)
    body = msgpack.packb([{"a": msgpack.ExtType(code % 6, inner)}])
    assert place_of_fault(body, buffers) in ("input", "input[0].a")


@given(plain | tensors() | images(), st.data())
def test_a_body_with_a_byte_changed_or_cut_off_is_a_value_or_a_fault(
    value: Any, data: st.DataObject
) -> None:
    body = bytearray(Encoder().encode(value)[0])
    body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    for mangled in (bytes(body), bytes(body[: data.draw(st.integers(0, len(body)))])):
        try:
            Decoder().decode(mangled, [])
        except ValueFault:
            pass


class Odd:
    """A value that has no form."""


@given(st.recursive(plain | st.builds(Odd) | st.integers() | st.text(), st.lists, max_leaves=10))
def test_any_value_is_encoded_or_a_fault(value: Any) -> None:
    try:
        Encoder().encode(value)
    except ValueFault as fault:
        place = value
        for index in fault.path.removeprefix("result[").removesuffix("]").split("]["):
            if not isinstance(place, list):
                break
            place = place[int(index)]
        assert not isinstance(place, list)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 255),
            st.integers(0, (1 << 64) - 1),
            st.binary(max_size=300),
            st.lists(st.binary(max_size=100), max_size=3),
        ),
        max_size=8,
    ),
    st.lists(st.integers(1, 400), min_size=1, max_size=30),
)
def test_frames_in_pieces_of_any_size_are_put_together(
    sent: list[tuple[int, int, bytes, list[bytes]]], pieces: list[int]
) -> None:
    whole = b"".join(frame(kind, call, body, tuple(buffers)) for kind, call, body, buffers in sent)
    one, other = socket.socketpair()
    with one, other:

        def write() -> None:
            at = turn = 0
            while at < len(whole):
                size = pieces[turn % len(pieces)]
                other.sendall(whole[at : at + size])
                at, turn = at + size, turn + 1
            other.shutdown(socket.SHUT_WR)

        writer = threading.Thread(target=write)
        writer.start()
        link = Connection(one)
        found = [link.receive() for _ in sent]
        writer.join()
        with pytest.raises(Closed):
            link.receive()
    assert [(each.type, each.call, each.body, each.buffers) for each in found] == sent


@given(st.binary(max_size=300), st.booleans())
def test_any_stream_is_frames_or_out_of_protocol(stream: bytes, begins: bool) -> None:
    one, other = socket.socketpair()
    with one, other:
        other.sendall(b"\x47\x01" + stream if begins else stream)
        other.close()
        link = Connection(one, Limits(body=1000, buffers=5, buffer_bytes=1000))
        with pytest.raises((Closed, ProtocolError)):  # noqa: PT012
            while True:
                link.receive()
