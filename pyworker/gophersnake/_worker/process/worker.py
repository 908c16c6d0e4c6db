"""A worker from its first frame to its last."""

from __future__ import annotations

import gc
import os
import socket
import sys
import traceback
from collections.abc import Callable
from typing import Any

import msgpack

import gophersnake
from gophersnake._worker import PROTOCOL
from gophersnake._worker.definition.lookup import load
from gophersnake._worker.definition.signature import Signature
from gophersnake._worker.memory.shared import SharedMemory
from gophersnake._worker.process import (
    descriptor_limit,
    exit_report,
    handshake,
    logs,
    memory_limit,
    sandbox,
)
from gophersnake._worker.process.heartbeat import Pulse
from gophersnake._worker.serving import invoker
from gophersnake._worker.serving.answers import BROKEN, Answers, End
from gophersnake._worker.serving.batches import Batches
from gophersnake._worker.serving.calls import Generators, Values
from gophersnake._worker.serving.frameloop import Server
from gophersnake._worker.serving.handler import Handler
from gophersnake._worker.serving.interrupts import Interrupts
from gophersnake._worker.serving.sessions import Sessions
from gophersnake._worker.wire import frames
from gophersnake._worker.wire.connection import Closed, Connection
from gophersnake._worker.wire.frames import Limits, ProtocolError
from gophersnake.allocation import allocate_with
from gophersnake.progress import report_to


class Worker:
    """One node behind one connection."""

    def __init__(self, sock: socket.socket) -> None:
        """Take the connected socket."""
        self._connection = Connection(sock)
        self._interrupts = Interrupts(self._connection)
        self._answers = Answers(self._connection, self._interrupts)
        self._pulse = Pulse(self._answers.when_idle)
        self._close: Callable[[], Any] | None = None
        self._end: Callable[[], None] | None = None
        self._serve: Callable[[], None]

    def live(self) -> int:
        """Set the node up, serve its calls, and return the exit code."""
        try:
            self._set_up()
            gc.freeze()  # what is there now stays: do not look at it in every collection
            self._serve()
            return self._shut_down()
        except End as end:
            return end.code
        except Closed as error:  # the supervisor has no more use for this worker, most often
            self._tell_the_end(error)
            return 0
        except ProtocolError as error:
            self._tell_the_end(error, "out of protocol: ")
            _say(f"gophersnake: out of protocol: {error}")
        except Exception:
            _say(traceback.format_exc())
        return BROKEN

    def _tell_the_end(self, error: Exception, how: str = "") -> None:
        """Leave word that it is for its connection that this process ends."""
        if self._connection.open:
            exit_report.say(handshake.AUTOPSY, f"the connection ended: {how}{error}\n")

    def _set_up(self) -> None:
        self._pulse.start(handshake.AUTOPSY)
        self._connection.send_message(
            frames.HELLO,
            {
                "protocol": PROTOCOL,
                "package": gophersnake.__version__,
                "python": sys.version.partition(" ")[0],
                "implementation": sys.implementation.name,
                "pid": os.getpid(),
            },
        )
        frame = self._connection.receive()
        if frame.type == frames.SHUTDOWN:
            raise End(0)
        if frame.type != frames.SETUP:
            raise ProtocolError(f"a {frames.name(frame.type)} frame where setup belongs")
        self._obey(msgpack.unpackb(frame.body))

    def _obey(self, setup: dict[str, Any]) -> None:
        """Do as the setup frame says, and tell the supervisor of it."""
        limits = setup["limits"]
        self._connection.limits = Limits(*(limits[name] for name in Limits._fields))
        self._connection.bound(limits.get("result", 0))
        memory_limit.limit(limits["memory"])
        sandbox.know(setup.get("isolation"))
        descriptor_limit.limit(limits.get("open_files", 0))
        logs.install(self._connection, self._interrupts, setup["log_level"])
        report_to(self._progress)
        self._share(setup.get("shared"))
        if setup.get("begun"):
            self._show_begun()
        stage = "import"
        try:
            target = load(setup["base"], setup["python"], setup["node_type"])
            stage = "params"
            params, ports = setup["params"] or {}, setup["ports"] or []
            signature = Signature(target, params, ports)
            for problem in signature.problems(params, ports):
                raise problem
            description = signature.describe()
            stage = "setup"
            self._serve = self._server(signature, self._ready(signature, params), setup)
        except Closed:
            raise
        except BaseException as error:
            self._answers.fail(0, error, stage)
            raise End(1) from error
        self._connection.send_message(frames.READY, description)

    def _share(self, setup: dict[str, Any] | None) -> None:
        """Share memory with the supervisor, if it does so."""
        if not setup or not setup["limit"]:
            return
        try:
            channel = handshake.channel()
        except OSError as error:
            raise ProtocolError(
                f"setup is about shared memory, but has no channel: {error}"
            ) from error
        start = setup["from"]
        shared = SharedMemory(channel, start, setup["limit"], setup["wait"])
        self._connection.shared = shared

        def allocate(size: int) -> Any:
            if size < start:
                return None
            with self._interrupts.held():
                found = shared.empty(size)
            if found is None:
                self._interrupts.look()  # room may have come with the mail
                with self._interrupts.held():
                    found = shared.empty(size)
            return found

        allocate_with(allocate)

    def _show_begun(self) -> None:
        try:
            self._connection.begun.show(handshake.AUTOPSY)
        except (OSError, ValueError) as error:
            raise ProtocolError(
                f"setup wants begun frames counted, but the autopsy file has no room: {error}"
            ) from error

    def _ready(self, signature: Signature, params: dict[str, Any]) -> Any:
        """Return the node: the function with its params given, or the class, set up."""
        if not isinstance(signature.target, type):
            return signature.call_with(signature.target, params)
        node = signature.target(**params)
        close, setup = getattr(node, "close", None), getattr(node, "setup", None)
        self._close = close if callable(close) else None
        if callable(setup):
            invoker.run(setup())
        return node

    def _server(self, signature: Signature, node: Any, setup: dict[str, Any]) -> Callable[[], None]:
        """Return what serves the calls of a node, to the end."""
        connection, interrupts, answers = self._connection, self._interrupts, self._answers
        parts = connection, interrupts, answers, setup
        if signature.stateful:
            sessions = Sessions(node, signature.restores, *parts)
            return Server(connection, answers, sessions).serve
        process = node.process if isinstance(signature.target, type) else node
        if signature.at_once:
            from gophersnake._worker.serving.eventloop import EventLoop  # only async nodes need it

            tasks = EventLoop(connection, answers, process, signature, setup)
            self._end = tasks.end
            return tasks.serve
        handler: Handler
        if signature.batch:
            idempotent = setup.get("idempotent", True)
            handler = Batches(
                process, signature.name, signature.batch, signature.max_wait, idempotent, *parts
            )
        elif signature.many:
            handler = Generators(process, *parts)
        else:
            handler = Values(process, *parts)
        return Server(connection, answers, handler).serve

    def _progress(self, message: str, fraction: float | None) -> None:
        with self._interrupts.held():
            if self._connection.open:
                self._connection.send_message(
                    frames.PROGRESS, {"message": message, "fraction": fraction}
                )

    def _shut_down(self) -> int:
        """Close the node; what it raises then is for the log alone."""
        try:
            try:
                if self._close is not None:
                    invoker.run(self._close())
            finally:
                if self._end is not None:
                    self._end()
        except BaseException:  # sys.exit, too: the worker ends already
            _say(traceback.format_exc())
            return 1
        return 0


def _say(text: str) -> None:
    """Write to standard error, which may be closed or gone."""
    try:
        print(text, file=sys.stderr)
    except (OSError, ValueError):
        pass
