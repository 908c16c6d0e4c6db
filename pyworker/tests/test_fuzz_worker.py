"""Workers that get arbitrary frames: each answers or ends, and none hangs or crashes."""

from __future__ import annotations

import socket
import struct
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest
from gophersnake._worker.serving.answers import EXIT_SOFTWARE
from gophersnake._worker.wire import frames
from hypothesis import given, note, settings
from hypothesis import strategies as st

from tests.forked import Forker
from tests.supervisor import (
    CALL,
    CREDIT,
    DROP,
    ERROR,
    FINISH,
    HELLO,
    ITEM,
    LIMITS,
    LOG,
    OPEN,
    PING,
    PONG,
    PROGRESS,
    READY,
    RESULT,
    SETUP,
    SHUTDOWN,
    SNAPSHOT,
    frame,
)
from tests.test_properties import plain, tensors

NODES = """
    from gophersnake import node

    @node
    def value(x, *more, **named):
        return x

    @node
    def generator(x):
        yield from x

    @node
    async def at_once(x):
        return x

    @node(batch=4, max_wait_ms=1)
    def batch(xs):
        return xs

    @node(stateful=True)
    class Stateful:
        def begin(self):
            self.seen = []
        def process(self, x):
            self.seen.append(x)
            return len(self.seen)
        def finish(self):
            yield from self.seen
        def snapshot(self):
            return self.seen
        def restore(self, state):
            self.seen = list(state)
"""
KINDS = ("value", "generator", "at_once", "batch", "Stateful")
SMALL = LIMITS | {"body": 1 << 16, "buffers": 8, "buffer_bytes": 1 << 16}

EXAMPLES = settings().max_examples
SAID = {RESULT, ERROR, LOG, PROGRESS, PONG, ITEM}
"""The types of frames that a worker sends once it is ready."""


@pytest.fixture(scope="module")
def forker() -> Iterator[Forker]:
    """The process that forks the workers of this file."""
    forker = Forker()
    yield forker
    forker.close()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of the nodes."""
    folder: Path = tmp_path_factory.mktemp("nodes")
    (folder / "nodes.py").write_text(textwrap.dedent(NODES), encoding="utf-8")
    return str(folder)


def setup_of(base: str, kind: str) -> dict[str, Any]:
    return {
        "node": "n", "base": base, "python": "nodes.py", "node_type": kind, "params": None,
        "ports": None, "log_level": "info", "limits": SMALL, "window": {"items": 2, "bytes": 1 << 20},
    }  # fmt: skip


def received(link: socket.socket) -> Iterator[tuple[int, int, bytes]]:
    """Yield the type, call id and body of each frame up to the end, all of which are sound."""
    with link.makefile("rb") as stream:
        while header := stream.read(24):
            magic, version, kind, flags, size, call, count, session = struct.unpack(
                "<BBBBIQII", header
            )
            assert (magic, version, flags, session) == (frames.MAGIC, frames.VERSION, 0, 0)
            table = stream.read(24 * count)
            places = [struct.unpack_from("<IIQQ", table, 24 * i) for i in range(count)]
            body = stream.read(size)
            buffers = stream.read(sum(length for _, _, _, length in places))
            assert len(body) == size
            assert len(buffers) == sum(length for _, _, _, length in places)
            yield kind, call, body


def converse(
    forker: Forker, said: bytes, hang_up: bool = True
) -> tuple[int, list[tuple[int, int, bytes]]]:
    """Say something to a worker, and hang up; return its exit code and what it said."""
    with forker.worker() as link:
        try:
            link.sendall(said)
            if hang_up:
                link.shutdown(socket.SHUT_WR)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it has heard enough
        heard: list[tuple[int, int, bytes]] = []
        try:
            heard.extend(received(link))
        except ConnectionResetError:  # it did not hear the rest
            pass
        return forker.exit_code(), heard


calls = st.integers(0, 5) | st.integers(0, (1 << 64) - 1)
sessions = st.sampled_from([0, 0, 1, 2]) | st.integers(0, (1 << 32) - 1)
bodies = st.one_of(
    st.builds(lambda x: msgpack.packb([[x], {}], datetime=True), plain),
    st.builds(lambda x, name: msgpack.packb([x, name], datetime=True), plain, plain),
    st.builds(lambda x: msgpack.packb(x, datetime=True), plain | st.integers(0, 9)),
    st.binary(max_size=60),
    st.just(b""),
)
kinds = st.sampled_from(
    [CALL, CALL, CALL, OPEN, FINISH, DROP, SNAPSHOT, CREDIT, PING, SHUTDOWN]
) | st.integers(0, 255)
whole_frames = st.builds(
    lambda kind, call, body, buffers, session: frame(kind, call, body, tuple(buffers), session),
    kinds, calls, bodies, st.lists(st.binary(max_size=50), max_size=2), sessions,
)  # fmt: skip


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """Frames one after the other, some of them damaged, the last one perhaps cut short."""
    stream = bytearray(b"".join(draw(st.lists(whole_frames, max_size=8))))
    for _ in range(draw(st.sampled_from([0, 0, 1, 3]))):
        if stream:
            stream[draw(st.integers(0, len(stream) - 1))] = draw(st.integers(0, 255))
    return bytes(stream[: draw(st.sampled_from([len(stream), draw(st.integers(0, len(stream)))]))])


@settings(max_examples=2 * EXAMPLES)
@given(st.sampled_from(KINDS), streams())
def test_a_worker_answers_any_frames_or_ends(
    forker: Forker, base: str, kind: str, stream: bytes
) -> None:
    setup = frame(SETUP, 0, msgpack.packb(setup_of(base, kind)))
    code, heard = converse(forker, setup + stream)
    note(f"exit code {code}, heard {heard}")
    assert code in (0, EXIT_SOFTWARE)
    types = [each for each, _, _ in heard if each not in (LOG, PROGRESS)]
    assert types[:2] == [HELLO, READY]
    assert set(types[2:]) <= SAID
    for each, _, body in heard:
        if each == ERROR:
            message = msgpack.unpackb(body, timestamp=3)
            assert message["kind"]
            assert message["message"]


@given(st.sampled_from(KINDS), st.lists(plain | tensors(), max_size=6))
def test_valid_calls_are_all_answered_once(
    forker: Forker, base: str, kind: str, values: list[Any]
) -> None:
    from gophersnake._worker.values.encoder import Encoder

    setup = setup_of(base, kind) | {"window": {"items": 1 << 16, "bytes": 1 << 20}}
    stream = frame(SETUP, 0, msgpack.packb(setup))
    encoder = Encoder()
    if kind == "Stateful":
        stream += frame(OPEN, 100, msgpack.packb([]), (), 1)
    for i, value in enumerate(values):
        body, buffers = encoder.encode([[value], {}])
        stream += frame(
            CALL,
            i + 1,
            bytes(body),
            tuple(bytes(each) for each in buffers),
            1 if kind == "Stateful" else 0,
        )
    code, heard = converse(forker, stream + frame(SHUTDOWN, 0, b""), hang_up=False)
    assert code == 0
    answered = [call for each, call, _ in heard if each in (RESULT, ERROR) and call != 100]
    assert sorted(answered) == list(range(1, len(values) + 1))


fields = st.sampled_from(
    ["node", "base", "python", "node_type", "params", "ports", "log_level", "limits", "window",
     "shared", "begun", "idempotent"]
)  # fmt: skip


@given(
    st.dictionaries(fields, plain, min_size=1, max_size=3), st.binary(max_size=30), st.booleans()
)
def test_a_worker_with_an_invalid_setup_reports_it_or_ends(
    forker: Forker, base: str, wrong: dict[str, Any], body: bytes, mangled: bool
) -> None:
    setup = setup_of(base, "value") | wrong
    if mangled:
        setup = {"x": setup["node"]}
    packed = msgpack.packb(setup, datetime=True)
    code, heard = converse(forker, frame(SETUP, 0, packed + body if mangled else packed))
    assert code in (0, 1, EXIT_SOFTWARE)
    types = [each for each, _, _ in heard if each not in (LOG, PROGRESS)]
    assert types[:1] == [HELLO]
    assert types[1:] in ([], [READY], [ERROR])


@given(streams() | st.binary(max_size=100))
def test_a_worker_that_is_not_set_up_ends(forker: Forker, stream: bytes) -> None:
    code, heard = converse(forker, stream)
    assert code in (0, 1, EXIT_SOFTWARE)
    assert next(each for each, _, _ in heard) == HELLO
