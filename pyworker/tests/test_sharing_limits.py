"""Shared memory that is full, fails, or is used against the protocol."""

from __future__ import annotations

import mmap
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

import msgpack
import pytest
from gophersnake._worker.memory import arena, segments
from gophersnake._worker.memory.segments import Mappings

from tests.conftest import Serve
from tests.sharing import OWN, Host
from tests.supervisor import CALL, FORGET, LOG, PING, RELEASE, RESULT, Failed, Supervisor
from tests.test_sharing import MIB, floats, idle, maps, sharing

np: Any = pytest.importorskip("numpy")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="segments are Linux's")

ONES = """
def n(count):
    if count == "quick":
        return count
    log("at work")
    return np.ones(count, "u1")
"""


def test_a_result_waits_for_room(serve: Serve) -> None:
    worker, host = sharing(serve, ONES, limit=4 * MIB)
    host.keep = True
    for _ in range(2):
        worker.call(2 * MIB)
    call = worker.begin(3 * MIB)
    worker.until_log("at work")
    worker.send(PING, 77)  # other frames are read, and kept
    time.sleep(0.2)
    worker.give_back()
    assert (worker.end(call) == np.ones(3 * MIB, "u1")).all()
    assert worker.receive().call == 77
    assert sorted(host.forgotten) == [OWN | 1, OWN | 2]  # they were in the way
    assert host.places == []


def test_only_the_mapping_of_its_owner_writes_to_a_segment() -> None:
    segment = segments.create(OWN | 1, MIB)
    again = os.open(f"/proc/self/fd/{segment.descriptor}", os.O_RDWR)
    for descriptor in segment.descriptor, again:
        with pytest.raises(PermissionError):
            os.pwrite(descriptor, b"other", 0)
        with pytest.raises(PermissionError):
            os.truncate(descriptor, 0)
        with pytest.raises(PermissionError):
            mmap.mmap(descriptor, MIB)
    os.close(again)
    segment.memory[:5] = b"owner"
    with mmap.mmap(segment.descriptor, MIB, prot=mmap.PROT_READ) as borrowed:
        assert borrowed[:5] == b"owner"
    with mmap.mmap(segment.descriptor, MIB, mmap.MAP_PRIVATE) as private:
        private[:5] = b"other"
    assert segment.memory[:5] == b"owner"
    segments.discard(segment)


def test_a_segment_that_is_free_for_long_is_discarded(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("gophersnake._worker.memory.arena.time.monotonic", lambda: now)
    found = arena.Arena(64 * MIB, Mappings())
    for size in (MIB, 2 * MIB, 4 * MIB):
        segment = found.take(size)
        assert segment is not None
        segment.loans = 0
        found.free_if_unused(segment)
    now = 2 * arena.KEEP_SECONDS
    segment = found.take(4 * MIB)
    assert segment is not None
    segment.loans = 0
    found.free_if_unused(segment)
    assert [each.size for each in found.segments.values()] == [4 * MIB]
    assert found.in_use == 0
    now *= 2
    found.discard_unused()
    assert found.segments == {}


def test_releases_are_sent_before_the_worker_waits(serve: Serve) -> None:
    worker, host = sharing(serve, "def n(x): return x + 1", limit=2 * MIB)
    host.keep = True
    worker.call(floats(MIB))
    worker.call(floats(MIB))
    call = worker.begin(floats(MIB))
    found = worker.socket
    assert found is not None
    time.sleep(0.3)
    assert found.recv(24, 0x2)[2] == RELEASE  # 2: MSG_PEEK
    worker.give_back()
    assert (worker.end(call) == floats(MIB) + 1).all()


def test_a_result_that_waits_too_long_for_room_fails(serve: Serve) -> None:
    worker, host = sharing(serve, ONES, limit=4 * MIB, wait=0.3)
    host.keep = True
    worker.call(3 * MIB)
    with pytest.raises(Failed) as failed:
        worker.call(2 * MIB)
    body = failed.value.body
    assert (body["kind"], body["stage"]) == ("io", "encode")
    assert body["message"] == (
        "shared memory is full: 3 MiB of 4 MiB are lent and not given back, "
        "and there was no room for 2 MiB within 0.3 s"
    )
    assert "raise the limit" in body["hint"]
    assert len(worker.call(MIB)) == MIB  # there is room for that
    worker.give_back()
    assert len(worker.call(2 * MIB)) == 2 * MIB


def test_a_result_that_fails_in_part_takes_nothing(serve: Serve) -> None:
    source = """
    def n(sizes): return [np.ones(size, "u1") for size in sizes]
    """
    worker, host = sharing(serve, source, limit=4 * MIB, wait=0.1)
    host.keep = True
    worker.call([MIB])
    for _ in range(5):
        with pytest.raises(Failed, match=r"2 MiB of 4 MiB are lent.* no room for 3 MiB"):
            worker.call([MIB, 3 * MIB])
        with pytest.raises(Failed, match="take 6 MiB, more than all shared memory"):
            worker.call([MIB, MIB, MIB, 3 * MIB])
    worker.give_back()
    assert [len(each) for each in worker.call([2 * MIB, 2 * MIB])] == [2 * MIB] * 2
    idle(worker)
    assert host.forgotten == [OWN | 1]  # the others were never transferred


def test_a_buffer_beyond_the_limit_is_refused(serve: Serve) -> None:
    worker, _ = sharing(serve, ONES, limit=5 * MIB)
    assert len(worker.call(5 * MIB)) == 5 * MIB
    with pytest.raises(Failed) as failed:
        worker.call(5 * MIB + 1)
    assert failed.value.body["kind"] == "marshaling"
    assert "whose limit is 5 MiB" in failed.value.body["message"]


@pytest.mark.parametrize("how", ["def", "async def"])
def test_a_call_that_waits_for_room_can_be_canceled(serve: Serve, how: str) -> None:
    worker, host = sharing(serve, ONES.replace("def", how), limit=4 * MIB, wait=60)
    host.keep = True
    worker.call(3 * MIB)
    for _ in range(3):
        call = worker.begin(2 * MIB)
        worker.until_log("at work")
        time.sleep(0.1)
        worker.cancel(call)
        with pytest.raises(Failed) as failed:
            worker.end(call)
        assert failed.value.body["kind"] == "canceled"
    assert worker.call("quick") == "quick"
    assert worker.stderr() == ""


def test_a_cancel_of_another_call_does_not_end_the_wait(serve: Serve) -> None:
    worker, host = sharing(serve, ONES, limit=4 * MIB, wait=60)
    host.keep = True
    worker.call(3 * MIB)
    call = worker.begin(2 * MIB)
    for _ in range(20):
        worker.cancel(call + 5)
        time.sleep(0.01)
    worker.give_back()
    os.kill(worker.pid, signal.SIGUSR1)
    assert len(worker.end(call)) == 2 * MIB


def test_a_worker_that_waits_for_room_ends_with_the_supervisor(serve: Serve) -> None:
    worker, host = sharing(serve, ONES, limit=4 * MIB, wait=60)
    host.keep = True
    worker.call(3 * MIB)
    worker.begin(2 * MIB)
    time.sleep(0.2)
    assert worker.socket is not None
    worker.socket.close()
    assert worker.wait() == 0
    assert worker.stderr() == ""


def test_many_signals_lose_no_memory(serve: Serve) -> None:
    source = """
    def n(x):
        out = empty(x.shape)
        for i in range(5):
            more = empty(x.shape)
        return np.add(x, 1, out=out)
    """
    worker, host = sharing(serve, source, limit=8 * MIB)
    x = floats(MIB)
    for _ in range(200):
        call = worker.begin(x)
        for _ in range(3):
            worker.cancel(call)
        try:
            assert (worker.end(call) == x + 1).all()
        except Failed as failed:
            assert failed.body["kind"] == "canceled"  # noqa: PT017
    idle(worker)
    assert host.outstanding == 0
    assert len(maps(worker)) <= 12
    assert worker.stderr() == ""


def test_threads_take_and_let_go(serve: Serve) -> None:
    source = """
    def work():
        for i in range(300):
            made = empty(1 << 18, "u1")
            made[:] = i % 251
            log("noise")
            assert made.min() == made.max() == i % 251

    def n(x):
        threads = [threading.Thread(target=work) for _ in range(4)]
        for each in threads: each.start()
        for _ in range(50): y = x + np.float32(1)
        for each in threads: each.join()
        return [x, y]
    """
    worker, host = sharing(serve, source, limit=2 * MIB)
    x = floats(MIB)
    for _ in range(3):
        same, new = worker.call(x)
        assert (same == x).all()
        assert (new == x + 1).all()
    idle(worker)
    assert host.outstanding == 0
    assert worker.stderr() == ""


def test_finalizers_may_take_memory_anywhere(serve: Serve) -> None:
    source = """
    class Hostile:
        def __init__(self): self.me = self; self.memory = empty(1 << 18)
        def __del__(self): self.more = empty(1 << 18)

    def n(x):
        gc.set_threshold(1)
        made = [Hostile() for _ in range(3)]
        return [x + 1, empty(1 << 18)]
    """
    worker, host = sharing(serve, source, limit=16 * MIB)
    for _ in range(30):
        worker.call(floats(MIB))
    idle(worker)
    assert host.outstanding == 0
    assert worker.stderr() == ""


def test_a_forked_child_gives_nothing_back(serve: Serve) -> None:
    source = """
    def n(x):
        mine = empty(x.shape)
        pid = os.fork()
        if pid == 0:
            try:
                try: os.fstat(5)
                except OSError: code = 0
                else: code = 10
                mine = x = None
                gc.collect()
                code += empty(1 << 20).base is not None
                log("from the child")
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        idle = os.fork()
        if idle == 0:
            return x + 1  # on to the worker's own loop, which has no connection
        os.waitpid(idle, 0)
        return np.add(x, 1, out=mine)
    """
    worker, host = sharing(serve, source)
    x = floats(MIB)
    for _ in range(3):
        assert (worker.call(x) == x + 1).all()
    assert host.outstanding == 0
    assert set(host.places) == {(OWN | 1, 0, MIB)}


def test_without_shared_memory_buffers_are_sent_inline(serve: Serve) -> None:
    source = """
    def n(x):
        if isinstance(x, str):
            def fail(*args): raise OSError(24, "Too many open files")
            from gophersnake._worker.originals import os
            os.memfd_create = fail
            return empty(1 << 20).base is None
        return x + 1
    """
    worker, host = sharing(serve, source)
    x = floats(MIB)
    assert worker.call("break") is True
    for _ in range(3):
        assert (worker.call(x) == x + 1).all()
        assert host.places == [(0, 0, MIB)]
    assert [
        each["message"] for each in worker.logs if "Too many open files" in each["message"]
    ] == [
        "a large buffer was sent through the socket, for lack of shared memory: "
        "[Errno 24] Too many open files"
    ]


def test_more_new_segments_than_the_channel_takes(serve: Serve) -> None:
    """Those that cannot be handed over go inline."""
    worker, host = sharing(
        serve, 'def n(count): return [np.full(1 << 17, i % 256, "u1") for i in range(count)]'
    )
    for count in (600, 3):
        found = worker.call(count)
        assert [int(each.max()) for each in found] == [i % 256 for i in range(count)]
    assert [number != 0 for number, _, _ in host.places] == [True] * 3


def test_the_segments_that_the_supervisor_has_survive_the_worker(serve: Serve) -> None:
    worker, host = sharing(serve, "def n(x): kept.append(x); return x + 1")
    host.keep = True
    x = floats(MIB)
    worker.call(x)
    os.kill(worker.pid, signal.SIGKILL)
    assert worker.wait() == -signal.SIGKILL
    assert (np.frombuffer(host.read(*host.places[0]), "f4") == x + 1).all()


def lend_wrongly(number: int, size: int, **wrong: Any) -> Callable[[Supervisor, Host], None]:
    """Hand a wrong segment over, and name it."""

    def do(worker: Supervisor, host: Host) -> None:
        host.make(number, size, **wrong)
        worker.send(CALL, 1, b"", (number & ~OWN, 0, size))

    return do


def say(kind: int, message: Any) -> Callable[[Supervisor, Host], None]:
    """Send a frame about segments."""
    return lambda worker, _: worker.send(kind, 0, msgpack.packb(message))


def name(*place: int) -> Callable[[Supervisor, Host], None]:
    """Name a place of segment 1, which was lent, or of another one."""
    number, offset, size = place

    def do(worker: Supervisor, host: Host) -> None:
        host.make(1, MIB)
        worker.send(CALL, 1, b"", (number, offset, size))

    return do


def twice(worker: Supervisor, host: Host) -> None:
    """Hand a segment over that is known."""
    host.make(1, MIB)
    worker.send(PING, 1, b"", (1, 0, 1))
    host.make(1, MIB)
    worker.send(PING, 1, b"", (2, 0, 1))


def forget_lent(worker: Supervisor, host: Host) -> None:
    """Forget a segment that the node keeps."""
    worker.call(floats(MIB))
    worker.send(FORGET, 0, msgpack.packb([1]))


def release_too_often(worker: Supervisor, host: Host) -> None:
    """Give back more than was lent."""
    host.keep = True
    worker.call(floats(MIB))
    worker.send(RELEASE, 0, msgpack.packb([[OWN | 1, 2]]))


def no_descriptor(worker: Supervisor, host: Host) -> None:
    """Hand nothing over."""
    host.channel.send(b"x" * 12)
    worker.send(CALL, 1, b"", (1, 0, 1))


def closed(worker: Supervisor, host: Host) -> None:
    """Close the channel."""
    host.channel.close()
    worker.send(CALL, 1, b"", (1, 0, 1))


@pytest.mark.parametrize(
    ("speak", "reason"),
    [
        (lend_wrongly(1, MIB, seals=0), "size is not sealed"),
        (lend_wrongly(1, MIB, seals=2), "size is not sealed"),
        (lend_wrongly(1, MIB, seals=7), "not sealed against writing"),
        (lend_wrongly(1, MIB, claim=2 * MIB), "1048576 bytes is said to have 2097152"),
        (lend_wrongly(1, MIB, claim=1), "is said to have 1"),
        (lend_wrongly(OWN | 1, MIB), "a segment with the number 0x80000001 came"),
        (name(1, 0, MIB + 1), "a buffer of 1048577 bytes at 0 in segment 0x1"),
        (name(1, (1 << 64) - 1, 2), "2 bytes at 18446744073709551615"),
        (name(1, MIB, 1), "1 bytes at 1048576"),
        (name(OWN | 1, 0, 1), "one of this worker's own segments"),
        (twice, "a segment with the number 0x1 came"),
        (no_descriptor, "came with 0 descriptors"),
        (closed, "a message of 0 bytes came instead"),
        (forget_lent, "names 1, which is lent or unknown"),
        (release_too_often, "gives back \\[2147483649, 2\\]"),
        (say(RELEASE, [[OWN | 9, 1]]), "which was not lent"),
        (say(RELEASE, [[1, 1]]), "which was not lent"),
        (say(RELEASE, [["x"]]), "gives back \\['x'\\]"),
        (say(RELEASE, [[[], 1]]), "gives back \\[\\[\\], 1\\]"),
        (say(RELEASE, [3]), "gives back 3"),
        (say(RELEASE, 1), "a release frame whose body is not an array"),
        (say(FORGET, [9]), "names 9"),
        (say(FORGET, ["x"]), "names 'x'"),
        (lambda worker, _: worker.send(FORGET, 0, b"\xc1"), "a forget frame that is not msgpack"),
    ],
)
def test_a_supervisor_that_violates_the_protocol_ends_the_worker(
    serve: Serve, speak: Callable[[Supervisor, Host], None], reason: str
) -> None:
    worker, host = sharing(serve, "def n(x): kept.append(x); return x + 1")
    speak(worker, host)
    assert worker.wait() == 70
    assert re.search(f"gophersnake: out of protocol: .*{reason}", worker.stderr())


def test_a_segment_whose_descriptor_never_arrives(serve: Serve) -> None:
    worker, _ = sharing(serve, "def n(x): pass")
    began = time.monotonic()
    worker.send(CALL, 1, b"", (1, 0, 1))
    assert worker.wait() == 70
    assert 4 < time.monotonic() - began < 8
    assert "names the segment 0x1: its descriptor did not arrive" in worker.stderr()


def test_a_setup_with_shared_memory_needs_the_channel(
    start: Callable[..., Supervisor],
) -> None:
    worker = start()
    with pytest.raises(EOFError, match="has no channel"):
        worker.set_up(shared={"from": 1, "limit": 1, "wait": 1.0})


def test_buffers_beyond_the_number_of_segments_go_inline(serve: Serve) -> None:
    source = """
    def n(count): return [np.full(200_000, i, "u1") for i in range(count)]
    """
    worker, host = sharing(serve, source, segments=3)
    host.keep = True
    call = worker.begin(5)
    assert worker.until(LOG).message["message"].endswith("the worker may have 3 segments")
    assert [each[0] for each in worker.end(call)] == [0, 1, 2, 3, 4]
    assert [number != 0 for number, _, _ in host.places] == [True] * 3 + [False] * 2
    worker.give_back()
    assert len(worker.call(2)) == 2
    assert [number != 0 for number, _, _ in host.places] == [True] * 2


def test_buffers_that_go_inline_are_bounded_together(serve: Serve) -> None:
    source = """
    def n(count): return [np.full(200_000, i, "u1") for i in range(count)]
    """
    worker, host = sharing(serve, source, limits={"inline": 500_000}, segments=3)
    with pytest.raises(Failed) as failed:
        worker.call(6)
    body = failed.value.body
    assert (body["kind"], body["path"]) == ("marshaling", "result")
    assert (
        "outside of shared memory take 600000 bytes, more than the limit of 500000"
        in (body["message"])
    )
    assert "raise the limit of shared memory" in body["hint"]
    assert len(worker.call(5)) == 5
    assert [number != 0 for number, _, _ in host.places] == [True] * 3 + [False] * 2
    assert host.outstanding == 0


def test_a_free_segment_makes_way_for_another_size(serve: Serve) -> None:
    worker, host = sharing(serve, ONES, segments=1)
    for size in (MIB, 2 * MIB, 3 * MIB, MIB):
        assert len(worker.call(size)) == size
        assert len(host.places) == 1
        worker.give_back()
    assert host.forgotten == [OWN | 1, OWN | 2, OWN | 3]


def test_segments_are_forgotten_before_a_frame_names_their_successor(serve: Serve) -> None:
    worker, host = sharing(serve, ONES, limit=4 * MIB)
    for size in (3 * MIB, 2 * MIB, 4 * MIB):
        host.frame_types.clear()
        worker.call(size)
        if FORGET in host.frame_types:
            assert host.frame_types.index(FORGET) < host.frame_types.index(RESULT)
    assert host.forgotten
