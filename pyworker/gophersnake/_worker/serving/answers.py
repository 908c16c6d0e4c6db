"""The worker's answers: results, items and errors."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from typing import Any

from gophersnake._worker.originals import time
from gophersnake._worker.process import limits
from gophersnake._worker.process.ending import ForkedChildError
from gophersnake._worker.serving import failure
from gophersnake._worker.serving.interrupts import Interrupts
from gophersnake._worker.values.encoder import Encoder
from gophersnake._worker.values.format import TooLarge, TooMuchInline, ValueFault
from gophersnake._worker.wire import frames
from gophersnake._worker.wire.connection import Connection
from gophersnake._worker.wire.frames import Bytes, Location

EXIT_SOFTWARE = 70
"""The exit code of a worker that cannot continue; sysexits.h calls it EX_SOFTWARE."""


class WorkerExit(Exception):
    """The worker has sent its last frame and must end with this exit code.

    Attributes:
        code: the exit code.
        asked: whether node code has asked for it, by ``sys.exit``.
    """

    def __init__(self, code: int, asked: bool = False) -> None:
        """Create the error for an exit code."""
        super().__init__(code)
        self.code = code
        self.asked = asked


class Answers:
    """Encodes and sends answers. Only the main thread uses it.

    If a value cannot be encoded, ``result`` and ``item`` raise before they send anything,
    and the caller passes the exception to ``fail``. Small results are kept back until
    something else is sent or the caller flushes the connection, as it must do before it
    waits for frames.

    Attributes:
        keep_items: whether small items are kept back, too.
        permanent: the exceptions that the node has declared to be the fault of its input.
        idle_tasks: functions that ``run_idle_tasks`` calls once the worker is idle.
        member: returns the index of the member of a fused chain that runs; ``None`` without one.
    """

    def __init__(self, connection: Connection, interrupts: Interrupts) -> None:
        """Create the answers of a connection."""
        self._connection = connection
        self._interrupts = interrupts
        self._contexts = connection.contexts
        self._encode: Callable[[Any], tuple[Bytes, list[Bytes]]] = Encoder().encode
        self._encode_state = self._encode
        self.keep_items = False
        self.permanent: tuple[type[Exception], ...] = ()
        self.idle_tasks: list[Callable[[], None]] = []
        self.member: Callable[[], int] | None = None

    def write_with(self, write: Callable[[Any], Any] | None) -> None:
        """Pass results and items through a function before they are encoded, unless it is None."""
        if write is not None:
            encode = self._encode

            def written(value: Any) -> tuple[Bytes, list[Bytes]]:
                return encode(write(value))

            self._encode = written

    def result(self, call: int, value: Any) -> None:
        """Answer a call with its result.

        Raises:
            Closed: the connection has ended.
            BaseException: the value cannot be encoded.
        """
        body, buffers = self._encode(value)
        taken = self._forget(call) if self._contexts else None
        if not buffers and len(body) <= self._connection.small:
            self._connection.keep(frames.RESULT, call, body, taken)
        elif taken is not None or not self._send_lent(call, body, buffers):
            self._send(frames.RESULT, call, body, buffers, taken=taken)

    def _forget(self, call: int) -> int | None:
        """Drop the context of a call that is answered.

        Returns:
            The nanoseconds since the call was read, ``None`` if it belongs to no trace.
        """
        sent = self._contexts.pop(call, None)
        return time.monotonic_ns() - sent.read if sent is not None and sent.trace else None

    def snapshot(self, call: int, state: Any) -> None:
        """Answer with the state of a session, to which the limit of results does not apply.

        Raises:
            Closed: the connection has ended.
            BaseException: the state cannot be encoded.
        """
        try:
            body, buffers = self._encode_state(state)
            taken = self._forget(call)
            self._send(frames.RESULT, call, body, buffers, limited=False, taken=taken)
        except ValueFault as fault:
            fault.path = "snapshot" + fault.path.removeprefix("result")
            raise

    def item(self, call: int, value: Any) -> int:
        """Send one item of a call, and return its size in bytes.

        Raises:
            Closed: the connection has ended.
            BaseException: the value cannot be encoded.
        """
        body, buffers = self._encode(value)
        connection = self._connection
        if buffers or len(body) > connection.small:
            return self._send(frames.ITEM, call, body, buffers)
        connection.keep(frames.ITEM, call, body)
        if not self.keep_items:
            connection.flush()
        return len(body)

    def _send(
        self,
        kind: int,
        call: int,
        body: Bytes,
        buffers: list[Bytes],
        limited: bool = True,
        taken: int | None = None,
    ) -> int:
        total = self._checked_size(body, buffers)
        largest = self._connection.largest
        if limited and 0 < largest < total:
            raise TooLarge(total, largest)
        lent = self._lend(call, buffers) if buffers else buffers
        if 0 < self._connection.largest_inline < total:
            self._check_inline(lent)
        # The caller holds the value, so no segment that the frame names is released before.
        self._connection.send(kind, call, body, lent, taken)
        return total

    def _send_lent(self, call: int, body: Bytes, buffers: list[Bytes]) -> bool:
        """Send a result that is one array or large bytes through shared memory.

        Returns False if that takes more than one step, or a limit is exceeded: ``_send``
        sends or refuses the result then.
        """
        connection = self._connection
        shared = connection.shared
        if shared is None or len(buffers) != 1:
            return False
        buffer = buffers[0]
        size = len(body)
        total = size + len(buffer)
        largest = connection.largest
        if (
            size > connection.small
            or total > connection.limits.buffer_bytes
            or (largest and total > largest)
            or (lent := shared.lend_only(buffer)) is None
        ):
            return False
        # The caller holds the value, so no segment that the frame names is released before.
        connection.send_lent(frames.RESULT, call, body, lent)
        return True

    def _checked_size(self, body: Bytes, buffers: list[Bytes]) -> int:
        """Return the size of a value in bytes, or raise if it exceeds a limit of frames."""
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

    def _lend(self, call: int, buffers: list[Bytes]) -> Sequence[Bytes | Location]:
        """Return the buffers, with the large ones in shared memory."""
        shared = self._connection.shared
        if shared is None:
            return buffers

        def wait(seconds: float) -> None:
            self._connection.flush()  # the supervisor may be waiting for releases
            self._interrupts.wait(call, seconds)

        lent = shared.lend(buffers, wait)
        if shared.discarded:
            # The supervisor must not count them any more when it reads the new frame.
            self._connection.flush()
        return lent

    def _check_inline(self, buffers: Sequence[Bytes | Location]) -> None:
        """Take the loans of a frame back and raise if its inline buffers are too large."""
        connection = self._connection
        inline = sum(len(each) for each in buffers if not isinstance(each, Location))
        if inline > connection.largest_inline:
            if connection.shared is not None:
                connection.shared.take_back(buffers)
            raise TooMuchInline(inline, connection.largest_inline)

    def fail(self, call: int, error: BaseException, stage: str) -> None:
        """Answer a call with an exception.

        Args:
            call: the call's id; 0 for a failure of the setup.
            error: the exception.
            stage: the stage in which it was raised; see ``failure.remote_error``.

        Raises:
            Closed: the connection has ended.
            ForkedChildError: this is a forked child, which has no calls to answer.
            WorkerExit: the interpreter can no longer be trusted after this exception.
        """
        if not self._connection.open:
            raise ForkedChildError(error)
        taken = self._forget(call)
        self.when_idle(self._collect_memory)
        # issubclass, because isinstance asks the exception, whose class may be hostile.
        if issubclass(type(error), MemoryError):
            limits.make_room()
            traceback.clear_frames(error.__traceback__)  # releases the node's local variables
        body = failure.body_of(error, stage, self.permanent)
        if self.member is not None:
            body["member"] = self.member()
        self._connection.send_message(frames.ERROR, body, call, taken)
        if body.get("fatal"):
            code = body.get("exit_code")
            raise WorkerExit(EXIT_SOFTWARE if code is None else code, asked=code is not None)

    def when_idle(self, task: Callable[[], None]) -> None:
        """Call a function once, before the worker next waits for frames."""
        if task not in self.idle_tasks:
            self.idle_tasks.append(task)

    def run_idle_tasks(self) -> None:
        """Call the functions that were postponed until the worker is idle."""
        idle_tasks, self.idle_tasks = self.idle_tasks, []
        for task in idle_tasks:
            task()

    def _collect_memory(self) -> None:
        """Free the shared memory that exceptions keep in reference cycles."""
        if self._connection.shared is not None:
            self._connection.shared.collect()
