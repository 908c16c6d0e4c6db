"""What a worker answers: results, the items of a stream, errors."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from typing import Any

from gophersnake._worker.process import memory_limit
from gophersnake._worker.serving import failure
from gophersnake._worker.serving.interrupts import Interrupts
from gophersnake._worker.values.codec import Decoder, Encoder, TooLarge, ValueFault
from gophersnake._worker.wire import frames
from gophersnake._worker.wire.connection import Connection
from gophersnake._worker.wire.frames import Bytes, Place, ProtocolError

BROKEN = 70
"""The exit code of a worker that cannot go on; sysexits.h calls it EX_SOFTWARE."""


class End(Exception):
    """The worker has said its last word and ends with this exit code."""

    def __init__(self, code: int) -> None:
        """Take the exit code."""
        super().__init__(code)
        self.code = code


class Answers:
    """Reads what calls bring along, and answers them. Only the main thread uses it.

    Whatever a node's value raises while it is encoded comes out of ``result`` and
    ``item``, before anything was sent; the caller has it told by ``fail``. Small
    results are kept until something else is sent or ``Connection.flush`` is called:
    before the caller waits for more frames.

    Attributes:
        later: whether small items are kept, too.
    """

    def __init__(self, connection: Connection, interrupts: Interrupts) -> None:
        """Take the connection to answer on."""
        self._connection = connection
        self._interrupts = interrupts
        self._encode = Encoder().encode
        self._decoder = Decoder()
        self._decode = self._decoder.decode
        self.later = False
        self._chores: list[Callable[[], None]] = []  # to be done when the worker is idle

    def arguments(self, body: Bytes, buffers: list[Any]) -> tuple[list[Any], dict[str, Any]]:
        """Return the positional and the named inputs of a call.

        Raises:
            ProtocolError: the body is no inputs.
            ValueFault: the body is no value.
        """
        if buffers and (array := self._decoder.alone(body, buffers)) is not None:
            buffers.clear()  # what is shared goes with the node's last view of it
            return [array], {}
        value = self._decode(body, buffers)
        if type(value) is list and len(value) == 2:
            args, named = value
            if type(args) is list and type(named) is dict:
                if buffers:
                    if len(args) == 1 and not named:
                        self._decoder.keep(body, buffers, args[0])
                    buffers.clear()
                return args, named
        raise ProtocolError("a call frame whose body is not the inputs: an array and a map")

    def state(self, body: Bytes, buffers: list[Any]) -> list[Any]:
        """Return what a session begins with: one value in a list, or an empty list.

        Raises:
            ProtocolError: the body is no list, or has more in it.
            ValueFault: it is no value.
        """
        value = self._decode(body, buffers, "state")
        if type(value) is not list or len(value) > 1:
            raise ProtocolError("an open frame whose body is not an array of one state, or none")
        buffers.clear()
        return value

    def result(self, call: int, value: Any) -> None:
        """Answer a call with its result.

        Raises:
            Closed: the supervisor is gone.
            BaseException: the value cannot be carried.
        """
        body, parts = self._encode(value)
        if parts or len(body) > self._connection.small:
            self._send(frames.RESULT, call, body, parts)
        else:
            self._connection.keep(frames.RESULT, call, body)

    def snapshot(self, call: int, state: Any) -> None:
        """Answer with the state of a session, which no user sees: no limit is set to it.

        Raises:
            Closed: the supervisor is gone.
            BaseException: the value cannot be carried.
        """
        body, parts = self._encode(state)
        self._send(frames.RESULT, call, body, parts, bounded=False)

    def item(self, call: int, value: Any) -> int:
        """Send one value of a call that gives many; return the bytes that it takes.

        Raises:
            Closed: the supervisor is gone.
            BaseException: the value cannot be carried.
        """
        body, parts = self._encode(value)
        if parts or not self.later or len(body) > self._connection.small:
            return self._send(frames.ITEM, call, body, parts)
        self._connection.keep(frames.ITEM, call, body)
        return len(body)

    def _send(
        self, kind: int, call: int, body: Bytes, parts: list[Bytes], bounded: bool = True
    ) -> int:
        total = self._check(body, parts)
        largest = self._connection.largest
        if bounded and 0 < largest < total:
            raise TooLarge(total, largest)
        placed = self._place(call, parts) if parts else parts
        # The value is still there: nothing that the frame names is given back before it.
        self._connection.send(kind, call, body, placed)
        return total

    def _check(self, body: Bytes, buffers: list[Bytes]) -> int:
        """Return the bytes of a value, which are within the limits."""
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
        return len(body) + total

    def _place(self, call: int, parts: list[Bytes]) -> Sequence[Bytes | Place]:
        """Return the buffers, the large ones in shared memory."""
        shared = self._connection.shared
        if shared is None:
            return parts

        def wait(seconds: float) -> None:
            self._connection.flush()  # the supervisor may be waiting for this worker
            self._interrupts.wait(call, seconds)

        return shared.place(parts, wait)

    def fail(self, call: int, error: BaseException, stage: str) -> None:
        """Tell of a failure, and end where the interpreter is not to be trusted after it.

        Raises:
            Closed: the supervisor is gone.
            End: so is the trust in the interpreter.
        """
        self.when_idle(self._forget)
        # Not isinstance: that asks the exception, which may be a hostile one.
        if issubclass(type(error), MemoryError):
            memory_limit.make_room()
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

    def collect(self) -> None:
        """Do what was put off until the worker is idle."""
        if self._chores:
            chores, self._chores = self._chores, []
            for do in chores:
                do()

    def when_idle(self, do: Callable[[], None]) -> None:
        """Have something done, once, before the worker waits for more to do."""
        if do not in self._chores:
            self._chores.append(do)

    def _forget(self) -> None:
        """Free what failures left behind that holds itself."""
        if self._connection.shared is not None:
            self._connection.shared.collect()
