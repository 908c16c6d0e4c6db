"""Calls of nodes that take several inputs at once."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from gophersnake._worker.serving.handler import Handler
from gophersnake._worker.wire.frames import CALL, CANCEL, Bytes, Frame
from gophersnake.errors import Cancelled


class Batch:
    """Calls that have come, in their order, with an input for each."""

    def __init__(self) -> None:
        """Begin without any."""
        self.calls: list[int] = []
        self.inputs: list[Any] = []

    def add(self, call: int, value: Any) -> None:
        """Add a call and its input."""
        self.calls.append(call)
        self.inputs.append(value)

    def remove(self, call: int) -> bool:
        """Take a call out; False where it is not here."""
        if call not in self.calls:
            return False
        at = self.calls.index(call)
        del self.calls[at], self.inputs[at]
        return True


class Batches(Handler):
    """A node that takes a list of inputs, and returns as many results."""

    def __init__(
        self,
        process: Callable[..., Any],
        name: str,
        most: int,
        max_wait: float,
        idempotent: bool,
        *parts: Any,
    ) -> None:
        """Take the node's function, and how its calls go together.

        Args:
            process: the function.
            name: the node's, for messages.
            most: the inputs that go together at most.
            max_wait: how many seconds the first one waits for others.
            idempotent: whether the inputs of a batch that failed may go in again.
            *parts: see ``Handler``.
        """
        super().__init__(*parts)
        self._process = process
        self._name = name
        self._most = most
        self._max_wait = max_wait
        self._idempotent = idempotent

    def call(self, call: int, session: int, body: Bytes, buffers: list[Any]) -> None:
        """Serve a call, with those that come soon after it; see ``Handler``."""
        batch = Batch()
        count = self._gather(batch, call, session, body, buffers)
        self._begun.count(count)
        for each in list(batch.calls):
            try:
                self._interrupts.check(each)
            except Cancelled as error:
                batch.remove(each)
                self._answers.fail(each, error, "call")
        if batch.calls:
            self._run(batch)

    def _gather(
        self, batch: Batch, call: int, session: int, body: Bytes, buffers: list[Any]
    ) -> int:
        """Fill a batch with a call and those that come in time; return how many have come.

        Some of them may be answered already: their input could not be read, or they
        were given up meanwhile.
        """
        connection = self._connection
        until = time.monotonic() + self._max_wait
        self._take(batch, call, session, body, buffers)
        count = 1
        while 0 < len(batch.calls) < self._most:
            small = connection.next_call()
            if small is not None:
                self._take(batch, *small)
                count += 1
                continue
            frame = self._next(until)
            if frame is None:
                break
            if frame.type == CALL:
                self._take(batch, frame.call, frame.session, frame.body, frame.buffers)
                count += 1
            elif frame.type == CANCEL:
                connection.cancelled.discard(frame.call)
                if batch.remove(frame.call):
                    given_up = Cancelled("the supervisor gave the call up")
                    self._answers.fail(frame.call, given_up, "call")
            else:
                connection.mailbox.appendleft(frame)
                break
        return count

    def _take(self, batch: Batch, call: int, session: int, body: Bytes, buffers: list[Any]) -> None:
        """Put a call into the batch, or answer it where its input is of no use."""
        self._stateless(session)
        with self._telling(call, "decode"):
            args, named = self._answers.arguments(body, buffers)
            if len(args) != 1 or named:
                raise TypeError(
                    f"{self._name} takes batches of one input each; "
                    f"a call came with {len(args)} and {len(named)} named ones"
                )
            batch.add(call, args[0])

    def _next(self, until: float) -> Frame | None:
        """Return the next frame; ``None`` where there is none, and it is time to begin."""
        connection = self._connection
        if not connection.ahead and not connection.wait(0):
            connection.flush()
            left = until - time.monotonic()
            if left <= 0 or not connection.wait(left):
                return None
        return connection.receive()

    def _run(self, batch: Batch) -> None:
        calls = batch.calls
        self._connection.watch()  # others of the batch may have been answered
        alone = calls[0] if len(calls) == 1 else 0  # one of several cannot be interrupted
        try:
            results = self._invoke.value(alone, self._process, (list(batch.inputs),), {})
        except BaseException as error:
            again = self._can_go_alone(batch, error)
            if not again:
                self._fail(calls, error)
        else:
            batch.inputs.clear()  # they are not needed while the results are sent
            self._answer(calls, results)
            return
        if again:
            for call, value in zip(calls, batch.inputs, strict=True):
                one = Batch()
                one.add(call, value)
                self._run(one)

    def _can_go_alone(self, batch: Batch, error: BaseException) -> bool:
        """Say whether each input may go in again, alone, so that only the culprit fails."""
        kind = type(error)
        bad_input = issubclass(kind, Exception) and not issubclass(kind, MemoryError)
        return bad_input and self._idempotent and len(batch.calls) > 1

    def _answer(self, calls: list[int], results: Any) -> None:
        if type(results) not in (list, tuple):
            name = type(results).__name__
            wrong: Exception = TypeError(
                f"{self._name} got a list of {len(calls)} inputs, and returned a {name} "
                "instead of a list of as many results"
            )
            self._fail(calls, wrong)
        elif len(results) != len(calls):
            wrong = ValueError(
                f"{self._name} got a list of {len(calls)} inputs, and returned {len(results)} results"
            )
            self._fail(calls, wrong)
        else:
            for call, value in zip(calls, results, strict=True):
                if issubclass(type(value), Exception):
                    self._answers.fail(call, value, "call")
                else:
                    with self._telling(call, "encode"):
                        self._answers.result(call, value)

    def _fail(self, calls: list[int], error: BaseException) -> None:
        for call in calls:
            self._answers.fail(call, error, "call")
