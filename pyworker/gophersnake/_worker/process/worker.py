"""The worker: sets up one node and serves it, from the first frame to the last."""

from __future__ import annotations

import gc
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

import msgpack

import gophersnake
from gophersnake._worker import PROTOCOL, collect_again
from gophersnake._worker.definition.lookup import load
from gophersnake._worker.definition.signature import Signature
from gophersnake._worker.memory.arena import MOST
from gophersnake._worker.memory.shared import SharedMemory
from gophersnake._worker.originals import socket
from gophersnake._worker.process import ending, exit_report, handshake, limits, logs
from gophersnake._worker.process.heartbeat import Heartbeat
from gophersnake._worker.serving import invoker
from gophersnake._worker.serving.answers import EXIT_SOFTWARE, Answers, WorkerExit
from gophersnake._worker.serving.calls import Generators, Handler, Values
from gophersnake._worker.serving.frameloop import FrameLoop
from gophersnake._worker.serving.interrupts import Interrupts
from gophersnake._worker.serving.reports import Reports
from gophersnake._worker.serving.running import Finder
from gophersnake._worker.wire import frames
from gophersnake._worker.wire.begun import OF_CHAIN
from gophersnake._worker.wire.connection import Closed, Connection
from gophersnake._worker.wire.frames import Limits, ProtocolError
from gophersnake._worker.wire.polling import Polling, can_pay
from gophersnake.allocation import allocate_with
from gophersnake.context import describe_with
from gophersnake.progress import report_to


class Worker:
    """One node behind one connection.

    Attributes:
        end_process: ends the process with the exit code that ``run`` has returned.
    """

    def __init__(self, sock: socket.socket) -> None:
        """Create the worker on a connected socket."""
        self._connection = Connection(sock)
        self._interrupts = Interrupts(self._connection)
        self._answers = Answers(self._connection, self._interrupts)
        self._heartbeat = Heartbeat(self._answers.when_idle)
        self._close: Callable[[], Any] | None = None  # the node's close method
        self._end: Callable[[], None] | None = None  # ends the tasks of an async node
        self._serve: Callable[[], None]
        self._reports = Reports(self._connection, self._interrupts)
        self.end_process: Callable[[int], NoReturn] = exit_report.exit_now

    def run(self) -> int:
        """Set the node up, serve its calls, and return the exit code of the process.

        Raises:
            BaseException: node code has raised it in a forked child, which ends with it.
        """
        try:
            self._set_up()
            gc.freeze()  # these objects stay, so collections need not examine them
            self._serve()
            return self._shut_down()
        except WorkerExit as end:
            if end.asked:
                self._connection.close()  # the supervisor must send no further calls
                self._finish_later()
            return end.code
        except ending.ForkedChildError as failed:
            error = failed.error
        except Closed as closed:  # most often the supervisor no longer needs this worker
            if self._connection.open:
                self._report_end(closed)
            else:  # node code has returned in a forked child
                self._finish_later()
            return 0
        except ProtocolError as wrong:
            self._report_end(wrong, "out of protocol: ")
            _write_error(f"gophersnake: out of protocol: {wrong}")
            return EXIT_SOFTWARE
        except Exception:
            _write_error(traceback.format_exc())
            return EXIT_SOFTWARE
        ending.finish_child(error)

    def _finish_later(self) -> None:
        """Let the process end as a script does, with no reference to the node left."""
        allocate_with(None)
        report_to(None)
        self.end_process = ending.finish

    def _report_end(self, error: Exception, how: str = "") -> None:
        """Write an exit report that says how the connection ended."""
        exit_report.write(handshake.AUTOPSY, f"the connection ended: {how}{error}\n")

    def _set_up(self) -> None:
        """Send the hello frame, and set the node up as the setup frame says."""
        self._heartbeat.start(handshake.AUTOPSY)
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
            raise WorkerExit(0)
        if frame.type != frames.SETUP:
            raise ProtocolError(f"a {frames.name(frame.type)} frame instead of setup")
        setup = msgpack.unpackb(frame.body)
        self._set_up_process(setup)
        description = self._set_up_node(setup)
        self._connection.send_message(frames.READY, description)

    def _set_up_process(self, setup: dict[str, Any]) -> None:
        """Apply what the setup frame says about the process: limits, logs, memory."""
        allowed = setup["limits"]
        self._connection.limit_frames(Limits(*(allowed[name] for name in Limits._fields)))
        self._connection.limit_results(allowed.get("result", 0))
        self._connection.largest_inline = allowed.get("inline", 0)
        limits.limit_memory(allowed["memory"])
        isolation = setup.get("isolation")
        if isolation is not None:
            from gophersnake._worker.process import sandbox

            sandbox.configure(isolation)
            sandbox.accept_private_modes()
        limits.limit_descriptors(allowed.get("open_files", 0))
        limits.reserve_threads()
        logs.install(self._connection, self._interrupts, setup["log_level"])
        report_to(self._reports.send)
        describe_with(setup.get("node"), None)
        self._share_memory(setup.get("shared"))
        numbers = OF_CHAIN if setup.get("members") else 1
        if setup.get("begun"):
            self._map_begun_count(numbers)
        elif numbers > 1:
            self._connection.begun.keep_private(numbers)

    def _set_up_node(self, setup: dict[str, Any]) -> dict[str, Any]:
        """Load, check and set up the node; return its description.

        Raises:
            Closed: the connection has ended.
            WorkerExit: one of the steps failed. The error frame has been sent.
        """
        if setup.get("members"):
            return self._set_up_chain(setup)
        stage = "import"
        collect_again()
        try:
            target = load(setup["base"], setup["python"], setup["node_type"])
            stage = "params"
            params, ports = setup["params"] or {}, setup["ports"] or []
            signature = Signature(target, params, ports, setup.get("threads") or 0)
            for problem in signature.problems(params, ports):
                raise problem
            self._answers.permanent = signature.options.permanent
            description = signature.describe()
            stage = "setup"
            self._answers.write_with(signature.types.writer())
            node = self._make_node(signature, signature.types.built(params))
            timeout = setup.get("timeout") or None
            finder = Finder(
                self._interrupts, self._connection.contexts, timeout, signature.serves_many
            )
            describe_with(setup.get("node"), finder.find)
            self._reports.find_calls = finder.calls
            self._serve = self._make_loop(signature, node, setup)
        except Closed:
            raise
        except BaseException as error:
            self._answers.fail(0, error, stage)
            raise WorkerExit(1) from error
        return description

    def _set_up_chain(self, setup: dict[str, Any]) -> dict[str, Any]:
        """Do the same as ``_set_up_node`` for the members of a fused chain."""
        # few need these
        from gophersnake._worker.serving.fused import Chain, ChainFinder, Fused
        from gophersnake._worker.values.decoder import Decoder

        collect_again()
        connection, answers = self._connection, self._answers
        chain = Chain(connection.begun, setup["members"])
        answers.member = chain.index
        logs.find_member_with(chain.index)
        finder = ChainFinder(chain, self._interrupts, connection.contexts)
        describe_with(chain.node, finder.find)
        self._reports.find_calls, self._reports.member = finder.calls, chain.index
        try:
            chain.load(setup["base"])
            for signature, params in chain.unfinished():
                node = self._make_node(signature, params)
                chain.add(node, connection.limits.decoded, self._close)
                self._close = None
            self._close = chain.close
            handler = Fused(chain, connection, self._interrupts, answers, Decoder(0), setup)
            self._serve = self._frame_loop(handler, setup)
        except Closed:
            raise
        except BaseException as error:
            answers.fail(0, error, chain.stage)
            raise WorkerExit(1) from error
        return chain.describe()

    def _share_memory(self, setup: dict[str, Any] | None) -> None:
        """Share memory with the supervisor, if the setup frame asks for it."""
        if not setup or not setup["limit"]:
            return
        try:
            channel = handshake.channel()
        except OSError as error:
            raise ProtocolError(
                f"setup is about shared memory, but has no channel: {error}"
            ) from error
        start = setup["from"]
        most = setup.get("segments", MOST)
        shared = SharedMemory(channel, start, setup["limit"], setup["wait"], most)
        self._connection.share(shared)

        deferring = self._interrupts.deferring

        def allocate(size: int) -> Any:
            if size < start:
                return None
            found = deferring(shared.allocate, size)
            if found is None:
                self._interrupts.read_now()  # a release frame may have arrived
                found = deferring(shared.allocate, size)
            return found

        allocate_with(allocate)

    def _map_begun_count(self, numbers: int) -> None:
        """Count begun calls in the autopsy file, so that the supervisor can read the count.

        The file has so many numbers; see ``wire.begun``.
        """
        try:
            self._connection.begun.map_to(handshake.AUTOPSY, numbers)
        except (OSError, ValueError) as error:
            raise ProtocolError(
                f"setup wants begun frames counted, but the autopsy file has no room: {error}"
            ) from error

    def _make_node(self, signature: Signature, params: dict[str, Any]) -> Any:
        """Return the node: a function with its params bound, or an object that is set up."""
        if not isinstance(signature.target, type):
            return signature.call_with(signature.target, params)
        node = signature.target(**params)
        close, setup = getattr(node, "close", None), getattr(node, "setup", None)
        self._close = close if callable(close) else None
        if callable(setup):
            invoker.run(setup())
        return node

    def _make_loop(
        self, signature: Signature, node: Any, setup: dict[str, Any]
    ) -> Callable[[], None]:
        """Return the function that serves the node until the shutdown frame."""
        connection, interrupts, answers = self._connection, self._interrupts, self._answers
        decoder = signature.types.decoder(connection.limits.decoded)
        parts = connection, interrupts, answers, decoder, setup
        process = node.process if isinstance(signature.target, type) else node
        # Modules that only some nodes need are imported here, and never while a call runs.
        if signature.stateful:
            from gophersnake._worker.serving.sessions import Sessions, SessionTable

            table = SessionTable(node, signature.restores)
        if signature.at_once:  # the modules of the loops import asyncio
            from gophersnake._worker.serving.eventloop import EventLoop

            if signature.stateful:
                from gophersnake._worker.serving.sessionloop import SessionLoop

                loop: EventLoop = SessionLoop(connection, answers, table, signature, setup)
            else:
                loop = EventLoop(connection, answers, process, signature, setup)
            self._end = loop.end
            return loop.serve
        if signature.serves_many:
            from gophersnake._worker.serving.threadloop import ThreadLoop

            loop = ThreadLoop(connection, interrupts, answers, process, signature, setup)
            self._end = loop.end
            return loop.serve
        handler: Handler
        if signature.stateful:
            handler = Sessions(table, *parts)
        elif signature.batch:
            from gophersnake._worker.serving.batches import Batches

            idempotent = setup.get("idempotent", True)
            handler = Batches(
                process, signature.name, signature.batch, signature.max_wait, idempotent, *parts
            )
        elif signature.many:
            handler = Generators(process, *parts)
        else:
            handler = Values(process, *parts)
        return self._frame_loop(handler, setup)

    def _frame_loop(self, handler: Handler, setup: dict[str, Any]) -> Callable[[], None]:
        """Return the function that serves calls one after the other until the shutdown frame."""
        connection, polling = self._connection, None
        if setup.get("polls") and connection.open and can_pay():  # a forked child closes it
            polling = Polling(connection.fileno(), self._own_threads)
        return FrameLoop(connection, self._answers, handler, self._interrupts, polling).serve

    def _own_threads(self) -> int:
        """Return how many threads besides the main one serve the worker itself.

        That one which watches the lifeline, if there is no reaper, is not counted: such a
        worker does not poll.
        """
        return self._heartbeat.running + self._connection.flusher_started

    def _shut_down(self) -> int:
        """Close the node, and return the exit code. Its exceptions are only logged."""
        try:
            try:
                if self._close is not None:
                    invoker.run(self._close())
            finally:
                if self._connection.open:
                    if self._end is not None:
                        self._end()
                    invoker.close_loop()
        except BaseException as error:  # sys.exit, too: the worker is ending anyway
            if not self._connection.open:
                raise ending.ForkedChildError(error) from error
            _write_error(traceback.format_exc())
            return 1
        finally:
            if self._connection.open:
                ending.drop_broken_streams()
            self._finish_later()
        return 0


def _write_error(text: str) -> None:
    """Write to standard error, unless it is closed."""
    try:
        print(text, file=sys.stderr)
    except (OSError, ValueError):
        pass
