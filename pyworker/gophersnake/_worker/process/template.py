"""The template: a process that has imported a node's module, and forks workers on request.

The supervisor sends requests, and the template answers each, as msgpack maps over a socket
that preserves message boundaries. Go's ``runner/internal/worker/template_server.go`` has
the other side. A fork request carries the descriptors of the new worker. The template forks
a reaper, and that the worker, which returns from ``run`` and starts as if it had been
spawned, beginning with ``start``.

A reaper that has ended is reaped only when the supervisor says so, so that its process id is
not reused before.
"""

from __future__ import annotations

import fcntl
import gc
import sys
import weakref
from importlib import import_module
from typing import Any, NoReturn

from gophersnake._worker import collect_again
from gophersnake._worker.memory.segments import RECEIVE_FLAGS
from gophersnake._worker.originals import os, signal, socket
from gophersnake._worker.process import (
    ending,
    exit_report,
    fork,
    handlers,
    handshake,
    reaper,
)
from gophersnake._worker.process.start import make_streams_logs
from gophersnake.nodes import Options, kind_of, options_of

CONTROL = handshake.CHANNEL
"""The descriptor of the template's socket; in a worker it is that of the channel."""

ASSIGNED = (reaper.CHANNEL, 1, 2, handshake.LIFELINE, handshake.AUTOPSY, handshake.CHANNEL)
"""The descriptors of a reaper and its worker, in the order in which they arrive; the last is
optional."""

MAX_MESSAGE = 64 << 10

GENERATORS = ("numpy.random.seed", "torch.random.seed")
"""The functions that seed the global generators of libraries, as ``random`` seeds its own in
each forked process. Without that, all workers would draw the same numbers."""


class BadRequest(Exception):
    """A request that cannot be fulfilled."""


def run() -> None:
    """Answer requests until the supervisor closes the socket. Returns in each worker."""
    for descriptor in (handshake.LIFELINE, handshake.AUTOPSY, CONTROL):
        os.set_inheritable(descriptor, False)
    make_streams_logs()
    handlers.install()
    Template(socket.socket(fileno=CONTROL)).serve()


class Template:
    """The process and its socket."""

    def __init__(self, control: socket.socket) -> None:
        """Create the template on its socket."""
        import msgpack  # if it is missing, a worker reports that better

        self._control = control
        ending.release_in_children(
            handshake.LIFELINE, handshake.AUTOPSY, CONTROL, unless=lambda: not self._importing
        )
        self._pack, self._unpack = msgpack.packb, msgpack.unpackb
        self._on_child: Any = None
        self._importing = False

    def serve(self) -> None:
        """Import the module and answer requests. Returns in each worker."""
        try:
            self._prepare()
            while True:
                request, descriptors = self._receive()
                try:
                    if "fork" in request:
                        if self._fork(request["fork"], descriptors):
                            return
                    elif "reap" in request:
                        self._reap(request["reap"])
                    else:
                        raise BadRequest(f"unknown request {sorted(request)}")
                except BadRequest as error:
                    self._answer(error=str(error))
                for descriptor in descriptors:
                    os.close(descriptor)
        except ConnectionError:
            exit_report.exit_now(0)  # the supervisor has ended

    def _prepare(self) -> None:
        """Do the same as a worker, up to the import of the module."""
        template = os.getpid()
        setup = self._receive()[0].get("setup")
        if setup is None:
            self._answer_and_exit(error="the first request must be setup")
        try:
            from gophersnake._worker.definition.lookup import NodeFault, load
            from gophersnake._worker.process import limits, logs
            from gophersnake._worker.process.fork_safety import why_not
            from gophersnake._worker.process.worker import Worker  # noqa: F401 - for the workers

            limits.limit_memory(setup["memory"])
            logs.install_placeholder(setup["log_level"])
            self._importing = True
            collect_again()
            for each in (setup, *setup.get("further", ())):  # those of a fused chain
                try:
                    _import_for(load(setup["base"], each["python"], each["node_type"]))
                except NodeFault:
                    pass  # the worker of this node reports it; others may share the template
            if os.getpid() != template:
                ending.finish(0)
            unsafe = why_not({CONTROL})
            self._importing = False
        except BaseException as error:  # sys.exit, too; a worker will report it in detail
            if os.getpid() != template:  # a child that the module has forked
                ending.finish_child(error)
            self._answer_and_exit(failed=f"{type(error).__name__}: {error}")
        if unsafe:
            self._answer_and_exit(unsafe=unsafe)
        # A handler of the module must not reap the workers.
        self._on_child = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        gc.collect()
        gc.freeze()  # so that collections in the workers do not write to shared pages
        self._answer(ready=True)

    def _receive(self) -> tuple[dict[str, Any], list[int]]:
        message, descriptors, flags, _ = socket.recv_fds(
            self._control, MAX_MESSAGE, len(ASSIGNED), RECEIVE_FLAGS
        )
        if not message:
            exit_report.exit_now(0)
        cut = flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC)
        request = None if cut else self._parse(message)
        if not isinstance(request, dict):
            sys.exit("gophersnake: the supervisor's request to the template cannot be read")
        return request, descriptors

    def _parse(self, message: bytes) -> Any:
        try:
            return self._unpack(message)
        except ValueError:
            return None

    def _answer(self, **answer: Any) -> None:
        self._control.send(self._pack(answer))

    def _answer_and_exit(self, **answer: Any) -> NoReturn:
        self._answer(**answer)
        exit_report.exit_now(0)

    def _fork(self, environment: list[str], descriptors: list[int]) -> bool:
        """Fork a reaper, which forks a worker; return whether this process is the worker."""
        if len(descriptors) not in (len(ASSIGNED) - 1, len(ASSIGNED)):
            raise BadRequest(f"a worker cannot start with {len(descriptors)} descriptors")
        exit_report.flush_streams()  # otherwise both processes would write what is buffered
        try:
            child = os.fork()
        except OSError as error:
            raise BadRequest(f"cannot fork: {error}") from error
        if child == 0:
            os.setpgid(0, 0)  # the template's group may end before
            self._assign(descriptors)
            fork.fork_worker()
            self._become_worker(environment)
            return True
        self._answer(forked=child)
        return False

    def _assign(self, descriptors: list[int]) -> None:
        """Give this process the descriptors of a spawned worker and its reaper."""
        # First move them above the assigned numbers, which a module may have freed.
        moved = [fcntl.fcntl(each, fcntl.F_DUPFD_CLOEXEC, 10) for each in descriptors]
        for descriptor in (*descriptors, self._control.detach()):
            os.close(descriptor)
        for descriptor, number in zip(moved, ASSIGNED, strict=False):
            os.dup2(descriptor, number, inheritable=number <= 2)
            os.close(descriptor)

    def _become_worker(self, environment: list[str]) -> None:
        """Make this process like a spawned worker."""
        for each in environment:
            name, _, value = each.partition("=")
            os.environ[name] = value
        if self._on_child is not None:  # None if the handler was not set from Python
            signal.signal(signal.SIGCHLD, self._on_child)
        # Finalizers of the import, such as those of temporary folders, are not a worker's to run:
        # others need what they would remove.
        for finalizer in list(getattr(weakref.finalize, "_registry", ())):
            finalizer.detach()
        for name in GENERATORS:
            module, _, function = name.rpartition(".")
            seed = getattr(sys.modules.get(module), function, None)
            if callable(seed):
                seed()

    def _reap(self, child: int) -> None:
        """Reap a reaper that has ended, and has reported how its worker did."""
        try:
            ended, _ = os.waitpid(child, os.WNOHANG)
        except (OSError, OverflowError, TypeError) as error:
            raise BadRequest(f"cannot reap {child!r}: {error}") from error
        if ended == 0:
            raise BadRequest(f"the reaper {child} has not ended")
        self._answer(reaped=True)


def _import_for(target: Any) -> None:
    """Import what the worker and the reaper of a node import later, so that they need not."""
    import gophersnake._worker.types.hints
    import gophersnake._worker.types.ports

    for name in ("_ctypes", "json", "msgspec"):
        try:
            import_module(name)
        except ImportError:
            pass  # the worker does without it, too
    options = options_of(target) or Options()
    at_once = kind_of(getattr(target, "process", target)).startswith("async")
    if at_once:
        import gophersnake._worker.serving.eventloop
    if options.stateful:
        import gophersnake._worker.serving.sessions
    if options.stateful and at_once:
        import gophersnake._worker.serving.sessionloop
    if options.batch:
        import gophersnake._worker.serving.batches
    if options.threads:
        import gophersnake._worker.serving.threadloop  # noqa: F401
