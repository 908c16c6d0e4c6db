"""The vectors that the tests of both languages share: ipc/testdata/vectors.json."""

from __future__ import annotations

import datetime
import json
import math
import socket
from pathlib import Path
from typing import Any

import pytest
from gophersnake import Audio, Image, Json, Table, Tensor
from gophersnake._worker.values import tables
from gophersnake._worker.values.decoder import Decoder
from gophersnake._worker.values.encoder import Encoder
from gophersnake._worker.values.format import ValueFault
from gophersnake._worker.wire import frames
from gophersnake._worker.wire.connection import Closed, Connection
from gophersnake._worker.wire.frames import ProtocolError

VECTORS = json.loads(
    (Path(__file__).parents[2] / "ipc" / "testdata" / "vectors.json").read_text(encoding="utf-8")
)

LEFT_TO_THE_HOST = {"list of depth 65", "map of depth 65", "bytes key"}
"""Faults that the worker does not check, because the supervisor does: it checks every value
before it sends it, and its check costs 20 times less than one in Python."""


def octets(spec: Any) -> bytes:
    if isinstance(spec, str):
        return bytes.fromhex(spec)
    if isinstance(spec, dict):
        what, count = spec["repeat"]
        return octets(what) * int(count)
    return b"".join(map(octets, spec))


def buffers_of(vector: dict[str, Any]) -> list[Any]:
    return [octets(buffer) for buffer in vector.get("buffers", [])]


def build(value: dict[str, Any]) -> Any:
    """Return the Python value that a vector describes."""
    ((tag, given),) = value.items()
    match tag:
        case "nil" | "bool":
            return given
        case "int":
            return int(given)
        case "float":
            return float(given)
        case "bytes":
            return octets(given)
        case "str":
            return given if isinstance(given, str) else given["repeat"][0] * given["repeat"][1]
        case "list" if isinstance(given, dict):
            return [build(given["repeat"][0]) for _ in range(given["repeat"][1])]
        case "list":
            return list(map(build, given))
        case "map":
            return {key: build(each) for key, each in given}
        case "timestamp":
            return datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc) + datetime.timedelta(
                seconds=given["seconds"], microseconds=given["nanoseconds"] // 1000
            )
        case "tensor":
            return Tensor(given["dtype"], tuple(given["shape"]), octets(given["data"]))
        case "audio":
            samples = memoryview(octets(given["data"])).cast("f")
            return Audio(samples, given["rate"], given["channels"])
        case "image":
            pts = None if given["pts"] is None else float(given["pts"])
            pixels = octets(given["data"])
            return Image(pixels, given["format"], given["width"], given["height"], pts)
        case "table":
            return Table(octets(given["stream"]))
        case "json":
            return Json(given)
    raise AssertionError(tag)


def assert_same(found: Any, want: Any) -> None:
    """Compare by what counts on the wire: bytes, not arrays."""
    if isinstance(want, Tensor):
        if not isinstance(found, Tensor):
            dtype, shape = found.dtype.name, found.shape
            found = Tensor(dtype, shape, found.tobytes())
        assert (found.dtype, found.shape) == (want.dtype, want.shape)
        assert bytes(found.data) == want.data
    elif isinstance(want, Audio):
        assert type(found) is Audio
        assert (found.rate, found.channels) == (want.rate, want.channels)
        assert found.samples.tobytes() == want.samples.tobytes()
    elif isinstance(want, Image):
        assert type(found) is Image
        assert (found.format, found.width, found.height) == (want.format, want.width, want.height)
        assert (found.pts, bytes(memoryview(found.pixels).tobytes())) == (want.pts, want.pixels)
    elif isinstance(want, Table):
        if isinstance(found, Table):  # without pyarrow
            assert bytes(found.stream) == want.stream
        else:
            stream = tables.encode(found)
            assert stream is not None
            assert found.equals(tables.decode(want.stream))
            assert found.equals(tables.decode(stream.stream))
    elif isinstance(want, list):
        assert len(found) == len(want)
        for one, other in zip(found, want, strict=True):
            assert_same(one, other)
    elif isinstance(want, dict):
        assert list(found) == list(want)
        for key, each in want.items():
            assert_same(found[key], each)
    elif isinstance(want, float):
        assert type(found) is float
        assert found == want or (math.isnan(found) and math.isnan(want))
        assert math.copysign(1, found) == math.copysign(1, want) or math.isnan(want)
    else:
        assert type(found) is type(want)
        assert found == want


def named(kind: str, *, encoded: bool = False) -> pytest.MarkDecorator:
    vectors = VECTORS[kind]
    if encoded:  # of the others, Python writes another form
        vectors = [each for each in vectors if "python" in each["encode"]]
    return pytest.mark.parametrize("vector", vectors, ids=[each["name"] for each in vectors])


@named("values")
def test_a_body_decodes_to_its_value(vector: dict[str, Any], numpy: Any) -> None:
    found = Decoder().decode(octets(vector["body"]), buffers_of(vector), "value")
    assert_same(found, build(vector["value"]))


@named("values", encoded=True)
def test_a_value_encodes_to_its_body(vector: dict[str, Any], numpy: Any) -> None:
    body, buffers = Encoder().encode(build(vector["value"]))
    assert bytes(body) == octets(vector["body"])
    assert [bytes(buffer) for buffer in buffers] == buffers_of(vector)


@named("values", encoded=True)
def test_a_decoded_value_encodes_to_its_body_again(vector: dict[str, Any], numpy: Any) -> None:
    found = Decoder().decode(octets(vector["body"]), buffers_of(vector), "value")
    body, buffers = Encoder().encode(found)
    assert bytes(body) == octets(vector["body"])
    assert [bytes(buffer) for buffer in buffers] == buffers_of(vector)


@named("refused")
def test_invalid_values_are_refused_with_their_path(vector: dict[str, Any], numpy: Any) -> None:
    if vector["name"] in LEFT_TO_THE_HOST:
        assert Decoder().decode(octets(vector["body"]), buffers_of(vector), "value")
        return
    with pytest.raises(ValueFault) as refused:
        Decoder().decode(octets(vector["body"]), buffers_of(vector), "value")
    assert refused.value.path == vector["path"]
    assert vector["reason"].lower() in refused.value.reason.lower()


@named("frames")
def test_a_frame_is_received(
    vector: dict[str, Any], pair: tuple[socket.socket, socket.socket]
) -> None:
    here, there = pair
    there.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    there.sendall(octets(vector["frame"]))
    found = Connection(here).receive()
    assert (found.type, str(found.call)) == (vector["type"], vector["call"])
    assert frames.name(found.type) == vector["type_name"]
    assert bytes(found.body) == octets(vector["body"])
    assert [bytes(buffer) for buffer in found.buffers] == buffers_of(vector)


@named("frames")
def test_a_frame_is_sent(vector: dict[str, Any], pair: tuple[socket.socket, socket.socket]) -> None:
    here, there = pair
    here.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    Connection(here).send(
        vector["type"], int(vector["call"]), octets(vector["body"]), buffers_of(vector)
    )
    here.close()
    sent = b""
    while part := there.recv(1 << 20):
        sent += part
    assert sent == octets(vector["frame"])


@named("session_frames")
def test_a_frame_of_session_9_is_received(
    vector: dict[str, Any], pair: tuple[socket.socket, socket.socket]
) -> None:
    here, there = pair
    there.sendall(octets(vector["frame"]))
    found = Connection(here).receive()
    assert (found.type, str(found.call), found.session) == (vector["type"], vector["call"], 9)
    assert frames.name(found.type) == vector["type_name"]
    assert bytes(found.body) == octets(vector["body"])


@named("refused_frames")
def test_invalid_frames_are_refused(
    vector: dict[str, Any], pair: tuple[socket.socket, socket.socket]
) -> None:
    here, there = pair
    there.sendall(octets(vector["frame"]))
    there.close()
    with pytest.raises((ProtocolError, Closed), match=f"(?i){vector['reason']}"):
        Connection(here).receive()
