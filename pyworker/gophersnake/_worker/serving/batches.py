"""The handler of batch nodes, which take the inputs of several calls at once."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from gophersnake._worker.definition.signature import batch_fault
from gophersnake._worker.serving.calls import Handler, Reporting
from gophersnake._worker.wire.frames import CALL, CANCEL, Bytes, Frame
from gophersnake.errors import Cancelled


class Batch:
    """Calls that have arrived, in order, with the input of each."""

    def __init__(self) -> None:
        """Begin without calls."""
        self.calls: list[int] = []
        self.inputs: list[Any] = []

    def add(self, call: int, value: Any) -> None:
        """Add a call and its input."""
        self.calls.append(call)
        self.inputs.append(value)

    def remove(self, call: int) -> bool:
        """Remove a call; return False if it is not in the batch."""
        if call not in self.calls:
            return False
        at = self.calls.index(call)
        del self.calls[at], self.inputs[at]
        return True


class Batches(Handler):
    """Serves a node that takes a list of inputs and returns as many results."""

    def __init__(
        self,
        process: Callable[..., Any],
        name: str,
        most: int,
        max_wait: float,
        idempotent: bool,
        *parts: Any,
    ) -> None:
        """Create the handler.

        Args:
            process: the node's function.
            name: the node's name, for messages.
            most: the largest number of inputs in a batch.
            max_wait: how many seconds the first input waits for others.
            idempotent: whether the inputs of a failed batch may be processed again.
            *parts: the arguments of ``Handler``.
        """
        super().__init__(*parts)
        self._process = process
        self._name = name
        self._most = most
        self._max_wait = max_wait
        self._idempotent = idempotent

    def call(self, call: int, session: int, body: Bytes, buffers: list[Any]) -> None:
        """Serve a call, and those that arrive soon after it; see ``Handler``."""
        batch = Batch()
        count = self._gather(batch, call, session, body, buffers)
        self._begun.add(count)
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
        """Fill a batch with a call and those that arrive in time; return their number.

        That counts calls which have been answered already, because their input was invalid
        or they were canceled.
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
                connection.canceled.discard(frame.call)
                if batch.remove(frame.call):
                    canceled = Cancelled("the supervisor canceled the call")
                    self._answers.fail(frame.call, canceled, "call")
            else:
                connection.mailbox.appendleft(frame)
                break
        return count

    def _take(self, batch: Batch, call: int, session: int, body: Bytes, buffers: list[Any]) -> None:
        """Add a call to the batch, or answer it if its input is invalid."""
        self._refuse_session(session)
        with Reporting(self._answers, call, "decode"):
            args, named = self._decoder.arguments(body, buffers)
            if len(args) != 1 or named:
                raise TypeError(
                    f"{self._name} takes batches of one input each; "
                    f"a call came with {len(args)} and {len(named)} named ones"
                )
            batch.add(call, args[0])

    def _next(self, until: float) -> Frame | None:
        """Return the next frame; ``None`` if there is none and the batch must begin."""
        connection = self._connection
        if not connection.has_arrived and not connection.wait(0):
            connection.flush()
            left = until - time.monotonic()
            if left <= 0 or not connection.wait(left):
                return None
        return connection.receive()

    def _run(self, batch: Batch) -> None:
        """Run the node, and answer the calls. If it fails, each input may run alone."""
        calls = batch.calls
        self._connection.flush_soon()  # some of the calls may have been answered
        alone = calls[0] if len(calls) == 1 else 0  # one of several cannot be interrupted
        try:
            self._interrupts.batch = () if alone else calls
            try:
                results = self._invoker.value(alone, self._process, (list(batch.inputs),), {})
            finally:
                self._interrupts.batch = ()
            self._check(results, len(calls))
        except BaseException as error:
            again = self._can_run_alone(batch, error)
            if not again:
                self._fail(calls, error)
        else:
            batch.inputs.clear()  # shared memory need not wait until the results are sent
            self._answer(calls, results)
            return
        if again:
            for call, value in zip(calls, batch.inputs, strict=True):
                one = Batch()
                one.add(call, value)
                self._run(one)

    def _can_run_alone(self, batch: Batch, error: BaseException) -> bool:
        """Return whether each input may run again alone, so that only the faulty one fails."""
        kind = type(error)
        bad_input = issubclass(kind, Exception) and not issubclass(kind, MemoryError)
        return bad_input and self._idempotent and len(batch.calls) > 1

    def _check(self, results: Any, count: int) -> None:
        """Raise an error if the node has not returned a list of as many results as inputs."""
        wrong = batch_fault(self._name, results, count)
        if wrong is None:
            return
        if self._idempotent and count > 1:
            # Alone, each may succeed, and then no error would say what is wrong.
            logging.getLogger("gophersnake").warning("%s; each input runs again alone", wrong)
        raise wrong

    def _answer(self, calls: list[int], results: Any) -> None:
        for call, value in zip(calls, results, strict=True):
            if issubclass(type(value), Exception):
                self._answers.fail(call, value, "call")
            else:
                with Reporting(self._answers, call, "encode"):
                    self._answers.result(call, value)

    def _fail(self, calls: list[int], error: BaseException) -> None:
        for call in calls:
            self._answers.fail(call, error, "call")
