"""The heartbeat, which shows whether Python code can run in a worker."""

from __future__ import annotations

import os
import sys
from fcntl import F_SETFL, fcntl, ioctl
from pathlib import Path
from struct import unpack
from termios import FIONREAD

import pytest
from gophersnake._worker import originals
from gophersnake._worker.process import heartbeat

from tests.conftest import Serve
from tests.supervisor import Supervisor

linux = pytest.mark.skipif(sys.platform != "linux", reason="it looks into /proc")


def pipe(worker: Supervisor) -> int:
    """Open the pipe of a worker's heartbeat, as its supervisor does."""
    folder = Path(f"/proc/{worker.pid}/fd")
    for entry in folder.iterdir():
        if os.readlink(entry) == f"pipe:[{worker.heartbeat}]":
            return os.open(entry, os.O_WRONLY | os.O_NONBLOCK)
    raise LookupError


def left(descriptor: int) -> int:
    """Return how many bytes have not been read yet."""
    return int(unpack("i", ioctl(descriptor, FIONREAD, bytes(4)))[0])


def beats(worker: Supervisor) -> bool:
    """Return whether two bytes are taken out, for which it has to be asked only once."""
    descriptor = pipe(worker)
    try:
        os.write(descriptor, b"??")
        while left(descriptor):
            os.sched_yield()
        return True
    finally:
        os.close(descriptor)


@linux
def test_an_idle_worker_has_a_heartbeat(serve: Serve) -> None:
    worker = serve("def n(value): return value", python="nodes.py:n")
    assert beats(worker)
    assert worker.call(1) == 1
    assert beats(worker)


@linux
@pytest.mark.parametrize("how", ["open(gate).read()", "while True: pass"])
def test_a_node_blocked_in_python_does_not_stop_the_heartbeat(
    serve: Serve, gate: Path, how: str
) -> None:
    worker = serve(f"def n(gate):\n    print('begun', flush=True)\n    {how}", python="nodes.py:n")
    worker.begin(str(gate))
    assert worker.stdout.readline() == "begun\n"
    assert beats(worker)


@linux
def test_c_code_that_holds_the_gil_stops_the_second_beat(serve: Serve, gate: Path) -> None:
    worker = serve(
        """
        import ctypes

        def n(gate):
            # The shell says that it has begun when the GIL is held already.
            return ctypes.PyDLL(None).system(f"echo begun; cat '{gate}'".encode())
        """,
        python="nodes.py:n",
    )
    call = worker.begin(str(gate))
    assert worker.stdout.readline() == "begun\n"
    descriptor = pipe(worker)
    os.write(descriptor, b"??")
    while left(descriptor) > 1:
        os.sched_yield()
    assert left(descriptor) == 1
    gate.write_text("go on\n")
    assert worker.end(call) == 0
    while left(descriptor):
        os.sched_yield()
    os.close(descriptor)


@pytest.fixture
def looked_after(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make pipes as if the kernel watched them, so that the lifeline needs no thread."""
    real = os.pipe

    def pipe() -> tuple[int, int]:
        ends = real()
        fcntl(ends[0], F_SETFL, os.O_ASYNC)
        return ends

    monkeypatch.setattr(os, "pipe", pipe)


@linux
@pytest.mark.usefixtures("looked_after")
def test_python_does_not_warn_of_the_thread_when_a_node_forks(serve: Serve) -> None:
    worker = serve(
        """
        import os, threading, warnings

        def n(what):
            forks, inode = what
            found = []
            with warnings.catch_warnings(record=True) as warned:
                warnings.simplefilter("always")
                for _ in range(forks):
                    here, there = os.pipe()
                    child = os.fork()
                    if not child:
                        pipes = [os.readlink(each) for each in os.scandir("/proc/self/fd")
                                 if os.path.exists(each)]
                        os.write(there, str(f"pipe:[{inode}]" in pipes).encode())
                        os._exit(0)
                    os.waitpid(child, 0)
                    found.append(os.read(here, 1000).decode())
                    os.close(here)
                    os.close(there)
            return found, [str(each.message) for each in warned], [each.name for each in threading.enumerate()]
        """,
        python="nodes.py:n",
    )
    for _ in range(3):
        found, warned, active = worker.call([20, worker.heartbeat])
        assert set(found) == {"False"}, "a child has no end of the pipe"
        assert warned == []
        assert active == ["MainThread"]
        # If Python would warn about the thread, it starts again when the worker is idle.
        worker.call([0, 0])
        assert beats(worker)


@linux
def test_several_threads_may_fork_at_once(serve: Serve) -> None:
    worker = serve(
        """
        import os, threading

        def fork():
            for _ in range(10):
                child = os.fork()
                if not child:
                    os._exit(0)
                os.waitpid(child, 0)

        def n(threads):
            some = [threading.Thread(target=fork) for _ in range(threads)]
            for each in some:
                each.start()
            for each in some:
                each.join()
            return "done"
        """,
        python="nodes.py:n",
    )
    assert worker.call(4) == "done"
    worker.call(0)
    assert beats(worker)


@linux
def test_a_node_may_close_the_descriptors_of_the_heartbeat(serve: Serve, tmp_path: Path) -> None:
    worker = serve(
        """
        import os

        def n(path):
            os.closerange(10, 256)
            with open(path, "w") as one, open(path, "w") as other:
                descriptors = [os.dup2(each.fileno(), n) for each, n in ((one, 10), (other, 11))]
                child = os.fork()
                if not child:
                    os._exit(0)
                os.waitpid(child, 0)
                return descriptors
        """,
        python="nodes.py:n",
    )
    path = tmp_path / "data"
    assert worker.call(str(path)) == [10, 11]
    assert path.read_text() == "", "nothing of the worker's was written into it"
    assert worker.call(str(path)) == [10, 11]
    assert worker.heartbeat == 0
    assert worker.shut_down() == 0


def test_a_worker_without_room_in_the_autopsy_file_has_no_heartbeat(
    tmp_path: Path,
) -> None:
    file = os.open(tmp_path / "autopsy", os.O_RDWR | os.O_CREAT)
    try:
        os.write(file, bytes(8))
        alone = heartbeat.Heartbeat(lambda do: do())
        alone.start(file)
        alone.revive()
        assert os.pread(file, 100, 0) == bytes(8)
        alone.start(999_999)  # no file at all
    finally:
        os.close(file)


def test_a_process_that_gets_no_thread_has_no_heartbeat(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(*_: object) -> int:
        raise RuntimeError("can't start new thread")

    hooks: list[object] = []
    monkeypatch.setattr(originals._thread, "start_new_thread", refuse)
    monkeypatch.setattr(originals.os, "register_at_fork", lambda **given: hooks.append(given))
    file = os.open(tmp_path / "autopsy", os.O_RDWR | os.O_CREAT)
    try:
        os.write(file, bytes(16))
        alone = heartbeat.Heartbeat(lambda do: do())
        alone.start(file)
        assert os.pread(file, 100, 0) == bytes(16)
        alone._close_in_child()
    finally:
        os.close(file)
