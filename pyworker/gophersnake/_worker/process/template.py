"""A process that has imported a node's module, and forks workers on request.

The supervisor asks, and this answers, one msgpack map each, over a socket that keeps
messages apart; Go's ``runner/internal/worker/template_server.go`` has both. A worker gets
the descriptors that come with the question, and is from there on what it would be
if it had been spawned: ``start`` is yet to come.

A worker that has ended is not reaped until the supervisor says so. Until then its
number is its own.
"""

from __future__ import annotations

import fcntl
import gc
import os
import signal
import socket
import sys
from typing import Any, NoReturn

from gophersnake._worker.memory.segments import RECEIVE_FLAGS
from gophersnake._worker.process import exit_report, handshake
from gophersnake._worker.process.start import write_line_by_line

CONTROL = handshake.CHANNEL
"""The descriptor of the socket, which is where a worker has its channel."""

GIVEN = (1, 2, handshake.LIFELINE, handshake.AUTOPSY, handshake.CHANNEL)
"""What the descriptors of a worker are, in the order in which they come; the last may be missing."""

MAX_MESSAGE = 64 << 10
F_SETSIG = getattr(fcntl, "F_SETSIG", 10)


class BadQuestion(Exception):
    """The supervisor asks what cannot be done as it is asked."""


def run() -> None:
    """Serve the supervisor until it closes the socket. Returns in each worker."""
    for descriptor in (handshake.LIFELINE, handshake.AUTOPSY, CONTROL):
        os.set_inheritable(descriptor, False)
    write_line_by_line()
    Template(socket.socket(fileno=CONTROL)).serve()


class Template:
    """The process, behind its socket."""

    def __init__(self, control: socket.socket) -> None:
        """Take the socket."""
        import msgpack  # a worker says better what is to be done where it is missing

        self._control = control
        self._pack, self._unpack = msgpack.packb, msgpack.unpackb
        self._on_child: Any = None

    def serve(self) -> None:
        """Import the module and fork workers."""
        try:
            self._prepare()
            while True:
                question, descriptors = self._receive()
                try:
                    if "fork" in question:
                        if self._fork(question["fork"], descriptors):
                            return
                    elif "reap" in question:
                        self._reap(question["reap"])
                    else:
                        raise BadQuestion(f"there is no question {sorted(question)}")
                except BadQuestion as error:
                    self._answer(error=str(error))
                for descriptor in descriptors:
                    os.close(descriptor)
        except ConnectionError:
            exit_report.leave_at_once(0)  # the supervisor is gone

    def _prepare(self) -> None:
        """Do what a worker does up to the import of its module."""
        setup = self._receive()[0].get("setup")
        if setup is None:
            self._give_up(error="setup comes first")
        try:
            from gophersnake._worker.definition.lookup import load
            from gophersnake._worker.process import logs, memory_limit
            from gophersnake._worker.process.fork_safety import why_not
            from gophersnake._worker.process.worker import Worker  # noqa: F401 - the workers need not

            memory_limit.limit(setup["memory"])
            logs.prepare(setup["log_level"])
            load(setup["base"], setup["python"], setup["node_type"])
            unfit = why_not({CONTROL})
        except BaseException as error:  # sys.exit, too; a worker tells more of it
            self._give_up(failed=f"{type(error).__name__}: {error}")
        if unfit:
            self._give_up(unfit=unfit)
        # Nothing else may reap the workers, nor be told of them.
        self._on_child = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        gc.collect()
        gc.freeze()  # the workers do not write there, and so share it
        self._answer(ready=True)

    def _receive(self) -> tuple[dict[str, Any], list[int]]:
        message, descriptors, flags, _ = socket.recv_fds(
            self._control, MAX_MESSAGE, len(GIVEN), RECEIVE_FLAGS
        )
        if not message:
            exit_report.leave_at_once(0)
        question = None if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC) else self._read(message)
        if not isinstance(question, dict):
            sys.exit("gophersnake: the supervisor's question to the template cannot be read")
        return question, descriptors

    def _read(self, message: bytes) -> Any:
        try:
            return self._unpack(message)
        except ValueError:
            return None

    def _answer(self, **answer: Any) -> None:
        self._control.send(self._pack(answer))

    def _give_up(self, **why: Any) -> NoReturn:
        self._answer(**why)
        exit_report.leave_at_once(0)

    def _fork(self, environment: list[str], descriptors: list[int]) -> bool:
        """Fork a worker, and return whether this is it."""
        if len(descriptors) not in (len(GIVEN) - 1, len(GIVEN)):
            raise BadQuestion(f"a worker is not born with {len(descriptors)} descriptors")
        exit_report.flush()  # or both would write it
        try:
            worker = os.fork()
        except OSError as error:
            raise BadQuestion(f"cannot fork: {error}") from error
        if worker == 0:
            self._become_worker(environment, descriptors)
            return True
        _lead_group(worker)  # before the supervisor knows of it
        self._answer(forked=worker)
        return False

    def _become_worker(self, environment: list[str], descriptors: list[int]) -> None:
        """Take what a worker is born with."""
        _lead_group(0)
        # Out of the way of the numbers that they are to get: a module may have closed some.
        moved = [fcntl.fcntl(each, fcntl.F_DUPFD_CLOEXEC, 10) for each in descriptors]
        for descriptor in (*descriptors, self._control.detach()):
            os.close(descriptor)
        for descriptor, place in zip(moved, GIVEN, strict=False):
            os.dup2(descriptor, place, inheritable=place <= 2)
            os.close(descriptor)
        _die_with_supervisor()
        for each in environment:
            name, _, value = each.partition("=")
            os.environ[name] = value
        if self._on_child is not None:  # it was not Python that set it
            signal.signal(signal.SIGCHLD, self._on_child)
        seed = getattr(sys.modules.get("numpy.random"), "seed", None)
        if callable(seed):
            seed()

    def _reap(self, worker: int) -> None:
        try:
            ended, status, usage = os.wait4(worker, os.WNOHANG)
        except (OSError, OverflowError, TypeError) as error:
            raise BadQuestion(f"cannot reap {worker!r}: {error}") from error
        if ended == 0:
            raise BadQuestion(f"the worker {worker} has not ended")
        self._answer(
            reaped={
                "status": status,
                "user": usage.ru_utime,
                "system": usage.ru_stime,
                "max_rss": usage.ru_maxrss,
            }
        )


def _lead_group(process: int) -> None:
    """Have a process lead a group of its own, so that it ends with its children.

    The worker and the template both do it, and neither knows who is first.
    """
    try:
        os.setpgid(process, process)
    except (ProcessLookupError, PermissionError):
        pass  # it has ended, or goes other ways already


def _die_with_supervisor() -> None:
    """Have the kernel end the group with the supervisor, as it does for spawned workers."""
    fcntl.fcntl(handshake.LIFELINE, fcntl.F_SETOWN, -os.getpid())
    fcntl.fcntl(handshake.LIFELINE, F_SETSIG, signal.SIGKILL)
    flags = fcntl.fcntl(handshake.LIFELINE, fcntl.F_GETFL)
    fcntl.fcntl(handshake.LIFELINE, fcntl.F_SETFL, flags | os.O_ASYNC)
