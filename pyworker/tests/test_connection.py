"""Frames over a socket: cut short, in pieces, many at once, from many threads."""

from __future__ import annotations

import os
import socket
import threading

import pytest
from gophersnake._worker.wire import frames
from gophersnake._worker.wire.connection import READ_AHEAD, Closed, Connection, NoRoom
from gophersnake._worker.wire.frames import CALL, CANCEL, CREDIT, LOG, PING, Limits, ProtocolError

from tests.supervisor import frame

Pair = tuple[socket.socket, socket.socket]

WHOLE = frame(CALL, 5, b"body", (b"one", b"", b"three"))


@pytest.mark.parametrize("size", range(1, len(WHOLE)))
def test_a_frame_cut_short_is_the_end(pair: Pair, size: int) -> None:
    here, there = pair
    there.sendall(WHOLE[:size])
    there.close()
    with pytest.raises(Closed, match="end of file"):
        Connection(here).receive()


def test_a_frame_that_arrives_byte_by_byte_is_complete(pair: Pair) -> None:
    here, there = pair
    there.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    for i in range(len(WHOLE)):
        there.sendall(WHOLE[i : i + 1])
    found = Connection(here).receive()
    assert (found.type, found.call, found.body) == (CALL, 5, b"body")
    assert found.buffers == [b"one", b"", b"three"]


def test_a_connection_that_breaks_is_the_end(pair: Pair) -> None:
    here, there = pair
    there.sendall(b"unread")
    here.sendall(b"unread")
    there.close()  # with something unread: a reset
    link = Connection(here)
    with pytest.raises(Closed):  # noqa: PT012 - the first ones may get away
        for _ in range(3):
            link.send(PING, 1, b"")
    here.close()
    with pytest.raises(Closed, match="broke"):
        link.receive()


@pytest.mark.parametrize("step", [1, 7, 24, 25, 1000, READ_AHEAD - 24, READ_AHEAD, READ_AHEAD + 1])
def test_frames_cross_the_end_of_the_read_ahead_memory(pair: Pair, step: int) -> None:
    """Frames of all sizes, one after the other, so that headers lie across the end."""
    here, there = pair
    count = max(8, 3 * READ_AHEAD // (step + 24) + 2) if step >= 1000 else 6000
    sent = [bytes([i % 251]) * (step + i % 3) for i in range(count)]

    def write() -> None:
        there.sendall(b"".join(frame(LOG, i, body) for i, body in enumerate(sent)))

    writer = threading.Thread(target=write)
    writer.start()
    link = Connection(here)
    kept = [link.receive() for _ in sent]  # kept: none may be overwritten by a later one
    writer.join()
    assert [(each.call, bytes(each.body)) for each in kept] == list(enumerate(sent))


def test_large_frames_go_both_ways_through_a_small_socket(pair: Pair) -> None:
    here, there = pair
    for end in pair:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    body = os.urandom(300_000)
    buffers: list[frames.Bytes] = [os.urandom(100_000), b"", memoryview(os.urandom(50_000))]
    sender = threading.Thread(target=Connection(here).send, args=(CALL, 9, body, buffers))
    sender.start()
    found = Connection(there).receive()
    sender.join()
    assert found.body == body
    assert found.buffers == [bytes(each) for each in buffers]


def test_more_buffers_than_one_system_call_takes(pair: Pair) -> None:
    here, there = pair
    buffers: list[frames.Bytes] = [bytes([i % 256]) * (i % 5) for i in range(4096)]
    sender = threading.Thread(target=Connection(here).send, args=(CALL, 9, b"", buffers))
    sender.start()
    found = Connection(there).receive()
    sender.join()
    assert found.buffers == buffers


def test_threads_do_not_mix_their_frames(pair: Pair) -> None:
    here, there = pair
    link = Connection(here)
    each = 50

    def write(thread: int) -> None:
        for i in range(each):
            link.send(LOG, thread, bytes([thread]) * (i * 997))

    threads = [threading.Thread(target=write, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    reader = Connection(there)
    got: dict[int, int] = {}
    for _ in range(8 * each):
        found = reader.receive()
        turn = got.get(found.call, 0)
        assert bytes(found.body) == bytes([found.call]) * (turn * 997)
        got[found.call] = turn + 1
    for thread in threads:
        thread.join()
    assert set(got.values()) == {each}


def test_available_frames_are_received_in_order(pair: Pair) -> None:
    here, there = pair
    link = Connection(here)
    there.sendall(frame(PING, 1, b"") + frame(CALL, 2, b"x" * 200_000) + frame(PING, 3, b""))
    link.read_available()
    assert [each.call for each in link.mailbox] == [1, 2, 3]
    there.sendall(frame(PING, 4, b""))
    assert [link.receive().call for _ in range(4)] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("rest", "error"), [(b"", Closed), (b"\x47\x01", Closed), (b"x" * 24, ProtocolError)]
)
def test_errors_while_available_frames_are_read_are_raised_by_receive(
    pair: Pair, rest: bytes, error: type[Exception]
) -> None:
    here, there = pair
    link = Connection(here)
    there.sendall(frame(PING, 1, b"") + rest)
    there.close()
    link.read_available()
    link.read_available()
    assert link.receive().call == 1
    for _ in range(2):
        with pytest.raises(error):
            link.receive()


def test_small_calls_are_taken_as_they_lie_and_all_else_is_received(pair: Pair) -> None:
    here, there = pair
    link = Connection(here)
    assert link.next_call() is None
    last = frame(CALL, 4, b"last")
    there.sendall(
        frame(CALL, 1, b"one", session=9)
        + frame(PING, 2, b"")
        + frame(CALL, 3, b"", (b"buffer",))
        + last[:-1]
    )
    link.flush()
    link.await_frame()
    found = link.next_call()
    assert found is not None
    assert (*found[:2], bytes(found[2])) == (1, 9, b"one")
    for call, body in ((2, b""), (3, b"")):
        assert link.next_call() is None
        received = link.receive()
        assert (received.call, received.body) == (call, body)
    assert link.next_call() is None  # its last byte has not come
    there.sendall(last[-1:])
    assert link.receive().body == b"last"
    there.sendall(last)
    link.read_available()
    assert link.next_call() is None  # first what has been read before
    assert link.receive().body == b"last"


def test_arrived_frames_are_returned_without_waiting(pair: Pair) -> None:
    here, there = pair
    link = Connection(here)
    assert link.fileno() == here.fileno()
    small, large = frame(PING, 1, b"small"), frame(CALL, 2, b"x" * 100_000, (b"buffer",))
    there.sendall(small + small[:27])
    assert not link.has_arrived
    assert [each.body for each in link.arrived()] == [b"small"]
    assert not link.has_arrived  # half of a frame is none
    there.sendall(small[27:] + small)
    assert [each.body for each in link.arrived()] == [b"small"] * 2

    writer = threading.Thread(target=there.sendall, args=(large + frame(CANCEL, 7, b""),))
    writer.start()
    found = link.arrived()
    writer.join()
    if len(found) == 1:  # the last frame had not come yet
        found += link.arrived()
    assert [each.call for each in found] == [2, 7]
    assert link.canceled == set()  # the caller of arrived handles it

    there.sendall(small + small[:10])
    there.close()
    assert [each.body for each in link.arrived()] == [b"small"]
    with pytest.raises(Closed):
        link.arrived()
    assert link.has_arrived  # arrived can raise
    with pytest.raises(Closed):
        link.arrived()


def test_frames_in_the_mailbox_arrive_first(pair: Pair) -> None:
    here, there = pair
    link = Connection(here)
    there.sendall(frame(PING, 1, b"") + b"x" * 24)
    link.read_available()
    assert link.has_arrived
    assert [each.call for each in link.arrived()] == [1]
    assert link.has_arrived
    with pytest.raises(ProtocolError):
        link.arrived()


def test_an_invalid_header_is_refused_before_its_body_arrives(pair: Pair) -> None:
    here, there = pair
    there.sendall(frames.HEADER.pack(0x47, 2, CALL, 0, 100, 1, 0, 0))
    with pytest.raises(ProtocolError, match="version 2"):
        Connection(here).arrived()


def test_one_frame_can_be_waited_for_and_picked_out_of_the_mailbox(pair: Pair) -> None:
    here, there = pair
    link = Connection(here)
    there.sendall(frame(PING, 1, b"") + frame(CANCEL, 2, b"") + frame(CANCEL, 3, b""))
    for _ in range(3):
        link.receive_into_mailbox()
    assert link.canceled == {2, 3}
    assert link.pick(CANCEL, 4) is None
    picked = link.pick(CANCEL, 3)
    assert picked is not None
    assert picked.call == 3
    assert [link.receive().call for _ in range(2)] == [1, 2]
    there.close()
    link.read_available()
    with pytest.raises(Closed):
        link.receive_into_mailbox()


@pytest.mark.parametrize("kind", [PING, CANCEL, CREDIT])
def test_a_session_is_refused_where_none_belongs(pair: Pair, kind: int) -> None:
    here, there = pair
    there.sendall(frame(kind, 1, b"", session=3))
    with pytest.raises(ProtocolError, match="frame with session 3; it cannot belong to a session"):
        Connection(here).receive()


def test_a_forked_child_has_no_connection(pair: Pair) -> None:
    here, there = pair
    link = Connection(here)
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            link.send(PING, 1, b"from the child")
        except Closed:
            status = 3 if not link.open else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3
    link.send(PING, 2, b"")
    assert Connection(there).receive().call == 2


def test_limits_are_held_before_memory_is_taken(pair: Pair) -> None:
    here, there = pair
    there.sendall(frames.HEADER.pack(0x47, 1, CALL, 0, 11, 1, 0, 0))
    with pytest.raises(ProtocolError, match="a call frame claims a body of 11 bytes"):
        Connection(here, Limits(body=10)).receive()


def test_a_frame_without_room_names_its_call(pair: Pair) -> None:
    here, there = pair
    size = (1 << 62).to_bytes(8, "little")  # more than any machine has
    there.sendall(frames.HEADER.pack(0x47, 1, CALL, 0, 0, 12, 1, 0) + bytes(16) + size)
    with pytest.raises(NoRoom, match=str(1 << 62)) as full:
        Connection(here, Limits(buffer_bytes=1 << 63)).receive()
    assert full.value.call == 12


def test_messages_can_hold_any_text(pair: Pair) -> None:
    here, there = pair
    Connection(here).send_message(LOG, {"message": "a\udcffb"})
    assert b"a\\udcffb" in Connection(there).receive().body


@pytest.mark.timeout(20)
def test_a_frame_that_a_finalizer_sends_within_another_follows_it(pair: Pair) -> None:
    here, there = pair
    link, other = Connection(here), Connection(there)

    class Noisy:
        def __del__(self) -> None:
            link.send_message(LOG, {"message": "gone"})

    class Part(bytes):
        def __len__(self) -> int:
            Noisy()  # as the garbage collector would, at any point
            return super().__len__()

    link.send(CALL, 7, b"body", [Part(b"part")])
    found = [other.receive() for _ in range(3)]
    at = [frame.type for frame in found].index(CALL)
    assert (found[at].call, found[at].body, found[at].buffers) == (7, b"body", [b"part"])
    assert [frame.type for frame in found[at + 1 :]] == [LOG] * (2 - at)
    assert at < 2, "one was sent while the frame was being written"


def test_what_has_arrived_may_be_nothing(pair: Pair) -> None:
    pair[0].settimeout(None)
    link = Connection(pair[0])
    assert link.arrived() == []
    pair[1].sendall(frame(PING, 1, b"")[:10])
    assert link.arrived() == []
    pair[1].sendall(frame(PING, 1, b"")[10:])
    assert [each.type for each in link.arrived()] == [PING]
    pair[1].close()
    with pytest.raises(Closed):
        link.arrived()
