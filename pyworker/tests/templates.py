"""A template and the workers that it forks, started like those of the Go supervisor."""

from __future__ import annotations

import os
import select
import signal
import socket
import struct
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgpack

from tests.supervisor import PACKAGE, PATIENCE, Supervisor

_CREDENTIALS = struct.Struct("3i")


class Template:
    """One template process and the socket on which it is asked."""

    def __init__(self, base: Path, **setup: Any) -> None:
        """Start it; the module is ``nodes.py`` in that folder."""
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.settimeout(PATIENCE)
        lifeline, self.lifeline = os.pipe()
        self._output, output = os.pipe()
        os.set_blocking(self._output, False)
        self._read = b""
        given = {3: lifeline, 4: os.open(os.devnull, os.O_RDWR), 5: theirs.detach()}
        given |= {1: output, 2: output}
        moved = {place: os.dup(fd) for place, fd in given.items()}
        self.pid = os.posix_spawn(
            sys.executable,
            [sys.executable, str(PACKAGE / "__main__.py")],
            {
                "PATH": os.environ["PATH"],
                "HOME": os.environ.get("HOME", "/"),
                "GOPHERSNAKE_TEMPLATE": "b3d1c2f0",
                "PYTHONDONTWRITEBYTECODE": "1",
            },
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                *((os.POSIX_SPAWN_DUP2, fd, place) for place, fd in moved.items()),
            ],
            setpgroup=0,
        )
        for fd in (*moved.values(), lifeline, output, given[4], given[5]):
            os.close(fd)
        self.status: int | None = None
        self._setup = {
            "base": str(base),
            "python": "nodes.py:n",
            "node_type": "n",
            "log_level": "info",
            "memory": 0,
        } | setup

    def prepare(self) -> Any:
        """Have it import the module, and return its answer."""
        return self.ask({"setup": self._setup})

    def ask(self, question: Any, *descriptors: int) -> Any:
        """Return the answer to a request; ``None`` if there is none."""
        message = question if isinstance(question, bytes) else msgpack.packb(question)
        socket.send_fds(self._control, [message], descriptors)
        answer = self._control.recv(1 << 16)
        return msgpack.unpackb(answer) if answer else None

    def output(self) -> str:
        """Return what it has written."""
        try:
            self._read += os.read(self._output, 1 << 16)
        except BlockingIOError:
            pass  # nothing more
        return self._read.decode()

    def hang_up(self) -> int:
        """Close its socket, and return its exit code."""
        self._control.close()
        return self.wait()

    def wait(self) -> int:
        """Return its exit code, once it has ended; that of a signal is negative."""
        if self.status is None:
            self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.status

    def kill(self) -> None:
        """End it."""
        if self.status is None:
            os.kill(self.pid, signal.SIGKILL)
            self.wait()

    def close(self) -> None:
        """End it, and let all of it go."""
        self.kill()
        self._control.close()
        for fd in (self.lifeline, self._output):
            os.close(fd)


class Forked(Supervisor):
    """A worker that a template forks."""

    def __init__(self, template: Template, shared: bool = False) -> None:
        """Have it forked."""
        self._template = template
        super().__init__(shared=shared)

    def _spawn(self, options: tuple[str, ...], env: dict[str, str], given: list[int]) -> int:
        lifeline, autopsy, stdout, stderr = given
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._channel.settimeout(PATIENCE)
        self._channel.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        descriptors = [theirs.fileno(), stdout, stderr, lifeline, autopsy]
        if self.shares is not None:
            descriptors.append(self.shares.worker_end.fileno())
        environment = ["GOPHERSNAKE_WORKER=b3d1c2f0", f"PLUGIN_UNIX_SOCKET_DIR={self.folder}"]
        self.reaper: int = self._template.ask({"fork": environment}, *descriptors)["forked"]
        theirs.close()
        if self.shares is not None:
            self.shares.worker_end.close()
        senders = dict(self._hear() for _ in range(2))
        assert senders["reaper"] == self.reaper
        self._pidfd = os.pidfd_open(senders["worker"])
        self._channel.send(b"adopted")
        return senders["worker"]

    def _hear(self) -> tuple[str, int]:
        """Return the next message of the reaper or the worker, and the process that sent it."""
        message, extra, _, _ = self._channel.recvmsg(128, socket.CMSG_SPACE(_CREDENTIALS.size))
        return message.decode(), _CREDENTIALS.unpack(extra[0][2])[0]

    def ended(self) -> dict[str, float]:
        """Wait for its end, and return what the reaper reports of it."""
        assert select.select([self._pidfd], [], [], PATIENCE)[0]
        report, sender = self._hear()
        assert sender == self.reaper
        kind, *numbers = report.split()
        assert kind == "ended"
        self.status = os.waitstatus_to_exitcode(int(numbers[0]))
        assert not self._channel.recv(1), "the reaper ends, too"
        with suppress(ProcessLookupError):  # another process reaps it if its template has ended
            reaper = os.pidfd_open(self.reaper)
            assert select.select([reaper], [], [], PATIENCE)[0]
            os.close(reaper)
        return dict(zip(("user", "system", "max_rss"), map(float, numbers[1:]), strict=True))

    def wait(self) -> int:
        """Return its exit code, as the reaper knows it."""
        if self.status is None:
            self.ended()
        assert self.status is not None
        return self.status

    def close(self) -> None:
        """End it, however it is, and let all of it go."""
        if self.status is None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            self.wait()
        super().close()
        os.close(self._pidfd)
        self._channel.close()


Begin = Callable[..., Template]


@contextmanager
def templates(folder: Path) -> Iterator[Begin]:
    """Start templates of the node ``n`` of a source text; they end with the block."""
    started: list[Template] = []

    def begin(source: str, **setup: Any) -> Template:
        (folder / "nodes.py").write_text(textwrap.dedent(source), encoding="utf-8")
        started.append(Template(folder, **setup))
        return started[-1]

    try:
        yield begin
    finally:
        for template in started:
            template.close()
