"""The locations of arrays in shared memory."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from typing import Any

import msgpack
import pytest
from gophersnake._worker.memory.shared import SharedMemory
from gophersnake._worker.wire import frames
from gophersnake._worker.wire.connection import Connection
from gophersnake._worker.wire.frames import CALL, HEADER, RELEASE, Frame, Location

from tests.sharing import FROM, OWN, Host
from tests.supervisor import frame

np: Any = pytest.importorskip("numpy")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="segments are Linux's")

MIB = 1 << 20


@pytest.fixture(name="host")
def a_host() -> Iterator[Host]:
    host = Host()
    yield host
    host.close()


@pytest.fixture(name="shared")
def shared_with(host: Host) -> SharedMemory:
    return SharedMemory(host.worker_end, FROM, 64 * MIB, 0.0)


def place(shared: SharedMemory, array: Any) -> Any:
    """Return the location at which the memory of an array is lent."""
    (found,) = shared.lend([memoryview(array).cast("B")], lambda _: None)
    return found


def given_back(shared: SharedMemory) -> list[list[int]]:
    """Return the loans that the worker gives back."""
    news = shared.pending_frames(blocking=True)
    return list(msgpack.unpackb(news[HEADER.size :])) if news else []


def test_an_array_and_its_parts_are_found_where_they_lie(shared: SharedMemory) -> None:
    array = shared.allocate(MIB).view("f4")
    for whole in (array, array.reshape(512, -1), array.view("u1"), array[:]):
        assert place(shared, whole) == Location(OWN | 1, 0, MIB)
    assert place(shared, array[16:]) == Location(OWN | 1, 64, MIB - 64)
    assert place(shared, array.reshape(512, -1)[128:]) == Location(
        OWN | 1, MIB // 4, MIB - MIB // 4
    )
    assert place(shared, np.frombuffer(array, "u1")) == Location(OWN | 1, 0, MIB)
    assert place(shared, array.copy()) == Location(OWN | 2, 0, MIB)
    assert place(shared, np.ones(MIB, "u1")[:]) == Location(OWN | 3, 0, MIB)


def test_an_input_is_lent_from_its_own_segment(host: Host, shared: SharedMemory) -> None:
    data = bytes(range(256)) * (MIB // 256)
    array = shared.borrow(*host.lend(data, offset=4096)).view("f4")
    assert array.tobytes() == data
    assert place(shared, array) == Location(1, 4096, MIB)
    assert place(shared, array[1024:]) == Location(1, 8192, MIB - 4096)


def test_an_array_may_take_the_identity_of_one_that_is_gone(
    host: Host, shared: SharedMemory
) -> None:
    where = host.lend(bytes(MIB))
    identities = set()
    for _ in range(100):  # nothing is worked off in between
        identities.add(id(shared.borrow(*where)))
    assert len(identities) < 100
    kept = shared.borrow(*where)
    assert place(shared, kept[:]) == Location(*where)
    assert given_back(shared) == [[where[0], 100]]
    assert place(shared, kept[:]) == Location(*where)
    del kept
    assert given_back(shared) == [[where[0], 1]]
    assert given_back(shared) == []


def test_a_segment_is_used_again_once_all_are_done_with_it(shared: SharedMemory) -> None:
    array = shared.allocate(MIB).view("f4")
    for _ in range(2):
        assert place(shared, array) == Location(OWN | 1, 0, MIB)
    assert place(shared, shared.allocate(MIB)[:]) == Location(OWN | 2, 0, MIB)
    del array
    release = msgpack.packb([[OWN | 1, 2]])
    assert shared.handle_frame(Frame(RELEASE, 0, release, []))
    assert place(shared, shared.allocate(MIB)[:]) == Location(OWN | 1, 0, MIB)
    with pytest.raises(frames.ProtocolError, match="was not lent"):
        shared.handle_frame(Frame(RELEASE, 0, release, []))


Pair = tuple[socket.socket, socket.socket]


def test_a_small_call_with_a_shared_buffer_is_taken_as_it_lies(
    pair: Pair, host: Host, shared: SharedMemory
) -> None:
    link = Connection(pair[0])
    link.share(shared)
    data = np.random.default_rng(1).bytes(MIB)
    where = host.lend(data)
    pair[1].sendall(frame(CALL, 1, b"first", (where,)))
    link.flush()
    link.await_frame()
    assert link.next_call() is None  # the segment's descriptor must be received
    assert link.receive().buffers[0].tobytes() == data
    lent = shared.allocate(MIB)
    assert place(shared, lent) == Location(OWN | 1, 0, MIB)
    del lent
    over = msgpack.packb([[OWN | 1, 1]])
    pair[1].sendall(frame(RELEASE, 0, over) + frame(CALL, 2, b"body", (where,), session=3))
    link.flush()
    link.await_frame()
    found = link.next_call()
    assert found is not None
    call, session, body, (buffer,) = found
    assert (call, session, bytes(body), buffer.tobytes()) == (2, 3, b"body", data)
    assert not buffer.flags.writeable
    assert place(shared, buffer[:]) == Location(*where)
    assert place(shared, shared.allocate(MIB)) == Location(OWN | 1, 0, MIB)  # it was released
    del buffer, found
    assert given_back(shared) == [[where[0], 1]]  # flush has sent the first


def test_other_calls_are_received(pair: Pair, host: Host, shared: SharedMemory) -> None:
    link = Connection(pair[0])
    link.share(shared)
    where = host.lend(bytes(MIB))
    shared.borrow(*where)
    assert given_back(shared) == [[where[0], 1]]
    for buffers in ((where, where), (where, b"inline"), ((where[0], 5, 0),)):
        pair[1].sendall(frame(CALL, 1, b"body", buffers))
        link.flush()
        link.await_frame()
        assert link.next_call() is None
        assert len(link.receive().buffers) == len(buffers)
    given_back(shared)
    pair[1].sendall(frame(CALL, 1, b"body", ((where[0], 1, MIB),)))
    link.flush()
    link.await_frame()
    assert link.next_call() is None
    with pytest.raises(frames.ProtocolError, match="a buffer of 1048576 bytes at 1 in segment"):
        link.receive()
    assert given_back(shared) == []
    pair[1].sendall(frame(RELEASE, 0, msgpack.packb([[OWN | 1, 1]])))
    link.flush()
    link.await_frame()
    with pytest.raises(frames.ProtocolError, match="was not lent"):
        link.next_call()
