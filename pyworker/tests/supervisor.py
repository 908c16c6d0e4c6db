"""A small supervisor: it starts a real worker and communicates with it like the Go one."""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import signal
import socket
import struct
import sys
import tempfile
import time
from collections import deque
from pathlib import Path
from typing import Any, NamedTuple

import msgpack
from gophersnake._worker.values.decoder import Decoder
from gophersnake._worker.values.encoder import Encoder

from tests.sharing import FROM, Host

PACKAGE = Path(__file__).parent.parent
PATIENCE = 60.0
"""Seconds after which a silent worker fails the test."""

HELLO, SETUP, READY, CALL, RESULT, ERROR, CANCEL, LOG, PROGRESS, PING, PONG, SHUTDOWN = range(1, 13)
RELEASE, FORGET, ITEM, CREDIT, OPEN, FINISH, DROP, SNAPSHOT = range(13, 21)

LIMITS = {
    "body": 256 << 20,
    "buffers": 4096,
    "buffer_bytes": 8 << 30,
    "depth": 64,
    "decoded": 512 << 20,
    "memory": 0,
}


class Frame(NamedTuple):
    """A frame that the worker sent."""

    type: int
    call: int
    body: bytes
    buffers: list[bytes]
    taken: int | None = None

    @property
    def message(self) -> dict[str, Any]:
        """The body of a message."""
        message: dict[str, Any] = msgpack.unpackb(self.body)
        return message


class Failed(Exception):
    """The worker answered with an error frame, whose body this has."""

    def __init__(self, body: dict[str, Any]) -> None:
        """Take the body."""
        super().__init__(f"{body.get('class')}: {body['message']}")
        self.body = body


def frame(
    kind: int,
    call: int,
    body: bytes,
    buffers: tuple[bytes | tuple[int, int, int], ...] = (),
    session: int = 0,
    context: bytes = b"",
) -> bytes:
    """Return a frame as it stands on the wire, written out apart from the package's code.

    A buffer is its bytes, or its segment, offset and length.
    """
    flags = 1 if context else 0
    head = struct.pack("<BBBBIQII", 0x47, 1, kind, flags, len(body), call, len(buffers), session)
    head += context
    inline = [each for each in buffers if isinstance(each, bytes)]
    places = [(0, 0, len(each)) if isinstance(each, bytes) else each for each in buffers]
    table = b"".join(struct.pack("<IIQQ", number, 0, at, n) for number, at, n in places)
    return head + table + body + b"".join(inline)


class Supervisor:
    """One worker process and the connection to it."""

    def __init__(
        self, *options: str, env: dict[str, str] | None = None, shared: bool = False
    ) -> None:
        """Start a worker, with options for the interpreter and more of an environment.

        One with shared memory has descriptor 5, and takes large values from there.
        """
        self.shares = Host() if shared else None
        self.folder = tempfile.mkdtemp(prefix="gs-")
        self.logs: list[dict[str, Any]] = []
        self.progress: list[dict[str, Any]] = []
        self.answers: deque[Frame] = deque()
        self.status: int | None = None
        self._calls = 0
        self._secret = secrets.token_bytes(32)
        lifeline, self.lifeline = os.pipe()
        os.write(self.lifeline, self._secret)
        self._autopsy = os.memfd_create("autopsy") if sys.platform == "linux" else self._file()
        os.write(
            self._autopsy, bytes(32)
        )  # the begun count, the heartbeat and the running member; the exit report follows
        self._stderr = self._file()
        stdout, out = os.pipe()
        self.pid = self._spawn(options, env or {}, [lifeline, self._autopsy, out, self._stderr])
        os.close(lifeline)
        os.close(out)
        self.stdout = os.fdopen(stdout, encoding="utf-8", errors="replace")
        self.context = b""  # of the calls that are sent
        self.socket: socket.socket | None = None

    def _file(self) -> int:
        file, path = tempfile.mkstemp()
        os.unlink(path)
        return file

    def _spawn(self, options: tuple[str, ...], env: dict[str, str], given: list[int]) -> int:
        places: tuple[int, ...] = (3, 4, 1, 2)
        if self.shares is not None:
            given, places = [*given, self.shares.worker_end.fileno()], (*places, 5)
        # Out of the way of the numbers that they are to get.
        moved = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in given]
        environment = {key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ}
        environment |= {
            "GOPHERSNAKE_WORKER": "b3d1c2f0",
            "PLUGIN_UNIX_SOCKET_DIR": self.folder,
            "PLUGIN_PROTOCOL_VERSIONS": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
        } | env
        try:
            return os.posix_spawn(
                sys.executable,
                [sys.executable, *options, str(PACKAGE / "__main__.py")],
                environment,
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    *(
                        (os.POSIX_SPAWN_DUP2, fd, place)
                        for fd, place in zip(moved, places, strict=True)
                    ),
                ],
                setpgroup=0,
            )
        finally:
            for fd in moved:
                os.close(fd)
            if self.shares is not None:
                self.shares.worker_end.close()

    def connect(self) -> dict[str, Any]:
        """Take the announced socket, and return the worker's hello."""
        line = self.stdout.readline()
        assert line, self.stderr()
        version, protocol, network, path, encoding = line.rstrip().split("|")
        assert (version, protocol, network, encoding) == ("1", "1", "unix", "msgpack")
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(PATIENCE)
        self.socket.connect(path)
        self.socket.sendall(self._secret)
        return self.until(HELLO).message

    def set_up(self, **setup: Any) -> dict[str, Any]:
        """Have the worker set a node up, and return its description.

        Raises:
            Failed: it answered with an error.
        """
        if self.socket is None:
            self.connect()
        limits = LIMITS | setup.pop("limits", {})
        message = {
            "node": "n",
            "base": self.folder,
            "python": "nodes.py",
            "node_type": "n",
            "params": None,
            "ports": None,
            "log_level": "trace",
        }
        if self.shares is not None:
            shared: dict[str, Any] = {"from": FROM, "limit": 128 << 20, "wait": 10.0}
            message["shared"] = shared | setup.pop("shared", {})
        self.send(SETUP, 0, msgpack.packb(message | setup | {"limits": limits}))
        return self.until(READY).message

    def send(
        self,
        kind: int,
        call: int = 0,
        body: bytes = b"",
        *buffers: bytes | tuple[int, int, int],
        session: int = 0,
    ) -> None:
        """Send one frame."""
        assert self.socket is not None
        context = self.context if kind in (CALL, OPEN, FINISH, SNAPSHOT) else b""
        self.socket.sendall(frame(kind, call, body, buffers, session, context))

    def tell(self, seconds: float, attempt: int, trace: bytes = b"") -> None:
        """Send calls with a context from now on: a deadline in seconds, an attempt, a trace."""
        until = time.monotonic_ns() + int(seconds * 1e9)
        self.context = struct.pack("<QII", until, attempt, len(trace)) + trace

    def begin(self, *args: Any, **named: Any) -> int:
        """Send a call, and return its id."""
        return self._begin(CALL, 0, [list(args), named])

    def feed(self, session: int, *args: Any) -> int:
        """Send a call of a session, and return its id."""
        return self._begin(CALL, session, [list(args), {}])

    def open(self, session: int, *state: Any) -> int:
        """Have a session opened, with a state or without, and return the call id."""
        return self._begin(OPEN, session, list(state))

    def finish(self, session: int) -> int:
        """End a session, and return the call id."""
        return self._begin(FINISH, session)

    def snapshot(self, session: int) -> Any:
        """Return the state of a session."""
        return self.end(self._begin(SNAPSHOT, session))

    def _begin(self, kind: int, session: int, value: Any = None) -> int:
        self._calls += 1
        body, buffers = (b"", []) if value is None else Encoder().encode(value)
        lent = (self._lent(bytes(each)) for each in buffers)
        self.send(kind, self._calls, bytes(body), *lent, session=session)
        return self._calls

    def item(self, call: int) -> Any:
        """Return the next item of a call, without giving credit for it.

        Raises:
            Failed: the call was answered with an error.
        """
        found = self.until(ITEM)
        assert found.call == call
        return self._value(found)

    def credit(self, call: int, items: int = 1) -> None:
        """Let more items of a call come."""
        self.send(CREDIT, call, msgpack.packb(items))

    def items(self, call: int) -> list[Any]:
        """Return all items of a call that are to come, up to its result.

        Raises:
            Failed: it was answered with an error.
        """
        values: list[Any] = []
        while True:
            found = self.until(ITEM, RESULT)
            assert found.call == call
            value = self._value(found)
            if found.type == RESULT:
                assert value is None
                return values
            values.append(value)
            self.credit(call)

    def _lent(self, data: bytes) -> bytes | tuple[int, int, int]:
        return data if self.shares is None or len(data) < FROM else self.shares.lend(data)

    def give_back(self) -> None:
        """Tell the worker that all that it lent is read."""
        assert self.shares is not None
        if body := self.shares.give_back():
            self.send(RELEASE, 0, body)

    def end(self, call: int) -> Any:
        """Return the result of a call.

        Raises:
            Failed: it was answered with an error.
        """
        found = self.until(RESULT)
        assert found.call == call
        return self._value(found)

    def _value(self, found: Frame) -> Any:
        if self.shares is not None and not self.shares.keep:
            self.give_back()
        return Decoder().decode(found.body, list(found.buffers), "result")

    def call(self, *args: Any, **named: Any) -> Any:
        """Call the node, and return its result.

        Raises:
            Failed: it was answered with an error.
        """
        return self.end(self.begin(*args, **named))

    def cancel(self, call: int) -> None:
        """Give a call up."""
        self.send(CANCEL, call)
        os.kill(self.pid, signal.SIGUSR1)

    def until(self, *kinds: int) -> Frame:
        """Return the next frame of these types; logs and progress before it are kept.

        Raises:
            Failed: an error frame came instead.
        """
        while True:
            found = self.receive()
            if found.type == LOG:
                self.logs.append(found.message)
            elif found.type == PROGRESS:
                self.progress.append(found.message)
            if found.type in kinds:
                return found
            if found.type == ERROR:
                raise Failed(found.message)
            assert found.type in (LOG, PROGRESS), found

    def until_log(self, message: str) -> dict[str, Any]:
        """Return the next log record of this message."""
        while True:
            record = self.until(LOG).message
            if record["message"] == message:
                return record

    def receive(self) -> Frame:
        """Return the next frame.

        Raises:
            EOFError: there is none.
        """
        while True:
            magic, version, kind, flags, size, call, count, reserved = struct.unpack(
                "<BBBBIQII", self._read(24)
            )
            assert (magic, version, reserved) == (0x47, 1, 0)
            assert not flags or (flags == 1 and kind in (RESULT, ERROR))
            taken = struct.unpack("<Q", self._read(8))[0] if flags else None
            table = [struct.unpack("<IIQQ", self._read(24)) for _ in range(count)]
            body = self._read(size)
            places = [(number, offset, length) for number, _, offset, length in table]
            buffers = [self._buffer(*place) for place in places]
            if self.shares is not None:
                self.shares.frame_types.append(kind)
                if kind in (RELEASE, FORGET):
                    self.shares.hear(kind, body)
                    continue
                self.shares.places = places
            return Frame(kind, call, body, buffers, taken)

    def _buffer(self, number: int, offset: int, size: int) -> bytes:
        if number and self.shares is not None:
            return self.shares.read(number, offset, size)
        assert (number, offset) == (0, 0)
        return self._read(size)

    def _read(self, size: int) -> bytes:
        assert self.socket is not None
        data = b""
        while len(data) < size:
            part = self.socket.recv(size - len(data))
            if not part:
                raise EOFError(f"the worker closed the connection\n{self.stderr()}")
            data += part
        return data

    def stderr(self) -> str:
        """Return the text that the worker wrote to standard error."""
        return os.pread(self._stderr, 1 << 20, 0).decode(errors="replace")

    def exit_report(self) -> str:
        """Return the exit report in the autopsy file."""
        return os.pread(self._autopsy, 1 << 20, 32).decode(errors="replace")

    @property
    def heartbeat(self) -> int:
        """The inode of the pipe whose bytes a thread of the worker takes; 0 for no thread."""
        return int.from_bytes(os.pread(self._autopsy, 8, 8), "little")

    @property
    def begun(self) -> int | None:
        """How many frames the worker has begun; ``None`` if it does not count."""
        count = int.from_bytes(os.pread(self._autopsy, 8, 0), "little")
        return count - 1 if count else None

    def shut_down(self) -> int:
        """Ask the worker to end, and return its exit code."""
        self.send(SHUTDOWN)
        return self.wait()

    def wait(self) -> int:
        """Return the exit code of a worker that ends; that of a signal is negative."""
        if self.status is None:
            self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.status

    def close(self) -> None:
        """End the worker, however it is, and let all of it go."""
        if self.status is None:
            os.kill(self.pid, signal.SIGKILL)
            self.wait()
        if self.socket is not None:
            self.socket.close()
        self.stdout.close()
        if self.shares is not None:
            self.shares.close()
        for fd in (self.lifeline, self._autopsy, self._stderr):
            if fd >= 0:
                os.close(fd)
        shutil.rmtree(self.folder, ignore_errors=True)
