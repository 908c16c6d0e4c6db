"""The loop of nodes with a plain ``def`` that run in several threads of one worker.

Such a node shares one model among its calls, and its C code releases the GIL. The main
thread reads the socket, decodes inputs and encodes results; see ``EventLoop``. A call's
function runs in one of the threads, each of which has one call at a time.

Python can raise an exception in another thread only between two of its bytecodes. So a
cancellation interrupts Python code, and C code when it returns. The supervisor kills a
worker whose call does not end within the grace time.
"""

from __future__ import annotations

import asyncio
import contextvars
import ctypes
import threading
from _queue import SimpleQueue  # the class in queue may have been replaced; see originals
from collections.abc import Callable
from types import CoroutineType, GeneratorType
from typing import Any

from gophersnake._worker.definition.signature import Signature
from gophersnake._worker.originals import _thread
from gophersnake._worker.process import ending
from gophersnake._worker.serving.answers import Answers
from gophersnake._worker.serving.eventloop import Call, EventLoop
from gophersnake._worker.wire.connection import Connection
from gophersnake.errors import Cancelled

_SET = ("PyThreadState_SetAsyncExc", ctypes.pythonapi)
_raise_in_thread = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_ulong, ctypes.py_object)(_SET)
_forget_in_thread = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p)(_SET)


class _Job:
    """A function that a thread calls, with its arguments."""

    def __init__(
        self, function: Callable[..., Any], args: list[Any], named: dict[str, Any]
    ) -> None:
        self._function, self._args, self._named = function, args, named
        self._context = contextvars.copy_context()
        self._lock = _thread.allocate_lock()  # guards the two below
        self._thread = 0  # the thread that runs the function
        self._canceled = False
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.value: Any = None
        self.error: BaseException | None = None

    def interrupt(self) -> None:
        """Raise ``Cancelled`` in the function, once, unless it has returned."""
        with self._lock:
            if not self._canceled and self._thread:
                _raise_in_thread(self._thread, Cancelled)
            self._canceled = True

    def run(self) -> None:
        """Call the function on this thread, and keep its value or exception.

        ``Cancelled`` may come late, in the code below, but it comes at most once.
        """
        thread = _thread.get_ident()
        try:
            try:
                self.value = self._context.run(self._call, thread)
            except BaseException as error:
                self.error = error
        except Cancelled as error:
            self.error = self.error or error
        while True:
            try:
                with self._lock:
                    self._thread = 0
                break
            except Cancelled:
                continue
        _forget_in_thread(thread, None)
        self._function, self._args, self._named = _nothing, [], {}

    def _call(self, thread: int) -> Any:
        with self._lock:
            if self._canceled:
                raise Cancelled
            self._thread = thread
        value = self._function(*self._args, **self._named)
        return list(value) if type(value) is GeneratorType else value

    def is_on(self, thread: int) -> bool:
        """Report whether a thread runs the function."""
        return self._thread == thread

    def settle(self) -> None:
        """Wake the task that waits for the job; the event loop calls this."""
        if not self.done.done():
            self.done.set_result(None)


def _nothing() -> None:
    """Take the place of a function that has been called."""


class ThreadLoop(EventLoop):
    """Serves the calls of a node that is called by several threads."""

    def __init__(
        self,
        connection: Connection,
        answers: Answers,
        process: Callable[..., Any],
        signature: Signature,
        setup: dict[str, Any],
    ) -> None:
        """Create the loop of a node that has been set up; see ``EventLoop``."""
        super().__init__(connection, answers, process, signature, setup)
        self._queue: SimpleQueue[_Job] = SimpleQueue()
        self._most = signature.threads
        self._threads = 0
        self._jobs: dict[int, _Job] = {}  # by the id of the call

    def _current_call(self) -> int:
        """Return the id of the call that this thread runs, 0 if it runs none."""
        thread = threading.get_ident()
        jobs = list(self._jobs.items())  # other threads change the dict
        return next((number for number, job in jobs if job.is_on(thread)), 0)

    def _cancel(self, number: int) -> None:
        """Interrupt the function of a call. A call that has not begun is answered at once."""
        job = self._jobs.get(number)
        if job is None:
            super()._cancel(number)
        else:
            self._calls[number].canceled = True
            job.interrupt()

    async def _send_result(self, call: Call) -> None:
        """Serve a call in a thread; the body of its task."""
        if not self._enter(call):
            return
        try:
            args, named = self._decoder.arguments(call.body, call.buffers)
            call.body = b""
            call.stage = "call"
            job = _Job(self._process, args, named)
            del args, named
            await self._finish(call.id, job)
            error = job.error
            if error is None:
                value = job.value
                del job
                self._result(call, await value if type(value) is CoroutineType else value)
        except BaseException as raised:
            error = raised
        if error is not None:
            if call.canceled and type(error) is Cancelled:
                canceled = Cancelled("the supervisor canceled the call")
                error = canceled.with_traceback(error.__traceback__)
            self._failed(call, error)
        self._release()

    async def _finish(self, number: int, job: _Job) -> None:
        """Let a thread run a job, and wait for its end."""
        self._jobs[number] = job
        try:
            self._queue.put(job)
            if self._threads < min(len(self._jobs), self._most):
                self._threads += 1
                _thread.start_new_thread(self._work, (f"gophersnake-{self._threads}",))
            await job.done
        finally:
            del self._jobs[number]

    def _work(self, name: str) -> None:
        """Run jobs; the body of each thread."""
        threading.current_thread().name = name
        while True:
            job = self._queue.get()
            job.run()
            if not self._connection.open:
                ending.finish_child_of_thread(job.error)
            try:
                self._loop.call_soon_threadsafe(job.settle)
            except RuntimeError:  # the loop is closed, because the worker ends
                return
            del job
