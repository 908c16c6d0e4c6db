"""A worker from its first frame to its last."""

from __future__ import annotations

import gc
import os
import socket
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import msgpack

import gophersnake
from gophersnake.memory import allocate_with
from gophersnake.progress import report_to
from gophersnake.worker import PROTOCOL, failure, frames, handshake, invoke, logs, memory
from gophersnake.worker.codec import Decoder, Encoder, ValueFault
from gophersnake.worker.connection import Closed, Connection, NoRoom
from gophersnake.worker.frames import Bytes, Frame, Limits, Place, ProtocolError
from gophersnake.worker.interrupt import Interrupts
from gophersnake.worker.load import load
from gophersnake.worker.segments import SharedMemory
from gophersnake.worker.signature import Signature

BROKEN = 70
"""The exit code of a worker that cannot go on; sysexits.h calls it EX_SOFTWARE."""


class End(Exception):
    """The worker has said its last word and ends with this exit code."""

    def __init__(self, code: int) -> None:
        """Take the exit code."""
        super().__init__(code)
        self.code = code


class Worker:
    """One node behind one connection."""

    def __init__(self, sock: socket.socket) -> None:
        """Take the connected socket."""
        self._connection = Connection(sock)
        self._interrupts = Interrupts(self._connection)
        self._encoder = Encoder()
        self._decoder = Decoder()
        self._failed = False  # the last call did
        self._close: Callable[[], Any] | None = None
        self._call: invoke.Call

    def live(self) -> int:
        """Set the node up, serve its calls, and return the exit code."""
        try:
            self._set_up()
            gc.freeze()  # what is there now stays: do not look at it in every collection
            while self._serve(self._receive()):
                pass
            return self._shut_down()
        except End as end:
            return end.code
        except Closed:
            return 0  # the supervisor has no more use for this worker
        except ProtocolError as error:
            _say(f"gophersnake: out of protocol: {error}")
        except Exception:
            _say(traceback.format_exc())
        return BROKEN

    def _receive(self) -> Frame:
        if self._failed:
            self._failed = False
            if self._connection.shared is not None:
                self._connection.shared.collect()
        try:
            return self._connection.receive()
        except NoRoom as error:
            self._fail(error.call, error, "decode")
            raise  # it has ended the worker already

    def _set_up(self) -> None:
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
        memory.limit(limits["memory"])
        logs.install(self._connection, self._interrupts, setup["log_level"])
        report_to(self._progress)
        self._share(setup.get("shared"))
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
            self._call = invoke.invoker(
                signature.flavour, self._ready(signature, params), self._interrupts
            )
        except Closed:
            raise
        except BaseException as error:
            self._fail(0, error, stage)
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
        shared = SharedMemory(channel, setup["from"], setup["limit"], setup["wait"])
        self._connection.shared = shared

        def allocate(size: int) -> Any:
            with self._interrupts.held():
                found = shared.empty(size)
            if found is None and size >= setup["from"]:
                self._interrupts.look()  # room may have come with the mail
                with self._interrupts.held():
                    found = shared.empty(size)
            return found

        allocate_with(allocate)

    def _ready(self, signature: Signature, params: dict[str, Any]) -> Callable[..., Any]:
        """Return the node's function, its params given, its class set up."""
        if not isinstance(signature.target, type):
            return signature.call_with(signature.target, params)
        node = signature.target(**params)
        close, setup = getattr(node, "close", None), getattr(node, "setup", None)
        self._close = close if callable(close) else None
        if callable(setup):
            invoke.run(setup())
        return signature.call_with(node.process, {})

    def _serve(self, frame: Frame) -> bool:
        """Do what a frame asks for; False where that is the end."""
        kind, call, body, buffers = frame
        if kind == frames.CALL:
            self._answer(call, body, buffers)
        elif kind == frames.PING:
            self._connection.send(frames.PONG, call, b"")
        elif kind == frames.SHUTDOWN:
            return False
        elif kind != frames.CANCEL:  # one that came too late: the call has been answered
            raise ProtocolError(f"the supervisor sent a {frames.name(kind)} frame")
        return True

    def _answer(self, call: int, body: Bytes, buffers: list[Bytes]) -> None:
        stage = "decode"
        try:
            args, named = _arguments(self._decoder.decode(body, buffers))
            buffers.clear()  # what is in shared memory goes with the node's last view of it
            stage = "call"
            value = self._call(call, args, named)
            del args, named  # the node's input is not needed while its result is sent
            stage = "encode"
            result, parts = self._encoder.encode(value)
            self._check(result, parts)
            placed = self._place(call, parts) if parts else parts
        except (Closed, ProtocolError):
            raise
        except BaseException as error:
            self._failed = True
            self._fail(call, error, stage)
            return
        # The value is still there: nothing that the result names is given back before it.
        self._connection.send(frames.RESULT, call, result, placed)

    def _place(self, call: int, parts: list[Bytes]) -> Sequence[Bytes | Place]:
        """Return the buffers, the large ones in shared memory."""
        shared = self._connection.shared
        if shared is None:
            return parts

        def wait(seconds: float) -> None:
            self._connection.flush()  # the supervisor may be waiting for this worker
            self._interrupts.wait(call, seconds)

        return shared.place(parts, wait)

    def _check(self, body: Bytes, buffers: list[Bytes]) -> None:
        limits = self._connection.limits
        total = sum(map(len, buffers)) if buffers else 0
        if len(body) > limits.body:
            raise ValueFault(
                "result", f"it takes {len(body)} bytes, more than the limit of {limits.body}"
            )
        if len(buffers) > limits.buffers:
            raise ValueFault(
                "result",
                f"it holds {len(buffers)} large buffers, more than the limit of {limits.buffers}",
            )
        if total > limits.buffer_bytes:
            raise ValueFault(
                "result",
                f"its buffers take {total} bytes, more than the limit of {limits.buffer_bytes}",
            )

    def _fail(self, call: int, error: BaseException, stage: str) -> None:
        """Tell of a failure, and end where the interpreter is not to be trusted after it."""
        # Not isinstance: that asks the exception, which may be a hostile one.
        if issubclass(type(error), MemoryError):
            memory.make_room()
            traceback.clear_frames(error.__traceback__)  # what the node had gathered
        try:
            body = failure.remote_error(error, stage)
        except Exception as broken:  # an exception that cannot even be looked at
            body = {
                "kind": "execution",
                "class": type(error).__name__,
                "message": f"<it cannot be told: {type(broken).__name__}>",
                "stage": stage,
            }
        self._connection.send_message(frames.ERROR, body, call)
        if body.get("fatal"):
            raise End(body.get("exit_code", BROKEN))

    def _progress(self, message: str, fraction: float | None) -> None:
        with self._interrupts.held():
            if self._connection.open:
                self._connection.send_message(
                    frames.PROGRESS, {"message": message, "fraction": fraction}
                )

    def _shut_down(self) -> int:
        """Close the node; what it raises then is for the log alone."""
        if self._close is not None:
            try:
                invoke.run(self._close())
            except BaseException:  # sys.exit, too: the worker ends already
                _say(traceback.format_exc())
                return 1
        return 0


def _arguments(value: Any) -> tuple[list[Any], dict[str, Any]]:
    if type(value) is list and len(value) == 2:
        args, named = value
        if type(args) is list and type(named) is dict:
            return args, named
    raise ProtocolError("a call frame whose body is not the inputs: an array and a map")


def _say(text: str) -> None:
    """Write to standard error, which may be closed or gone."""
    try:
        print(text, file=sys.stderr)
    except (OSError, ValueError):
        pass
