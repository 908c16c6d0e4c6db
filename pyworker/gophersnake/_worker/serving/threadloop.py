"""The loop of nodes with a plain ``def`` that run in several threads of one worker.

Such a node shares one model among its calls, and its C code releases the GIL. The main
thread reads the socket, decodes inputs and encodes results; see ``EventLoop``. A call's
function runs in one of the threads, each of which has one call at a time.

Python can raise an exception in another thread only between two of its bytecodes. So a
cancellation interrupts Python code, and C code when it returns. The supervisor kills a
worker whose call does not end within the grace time.

Code of the worker that runs in such a thread, such as the sending of a log record, defers
the interruption to its end: it holds locks that all calls need, and writes to the socket
that they share.
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
from gophersnake._worker.serving.interrupts import Interrupts
from gophersnake._worker.wire.connection import Connection
from gophersnake.errors import Cancelled

_SET = ("PyThreadState_SetAsyncExc", ctypes.pythonapi)
_raise_in_thread = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_ulong, ctypes.py_object)(_SET)
_forget_in_thread = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p)(_SET)


class _Job:
    """A function that a thread calls, with its arguments."""

    def __init__(
        self,
        interrupts: Interrupts,
        function: Callable[..., Any],
        args: list[Any],
        named: dict[str, Any],
    ) -> None:
        self._function, self._args, self._named = function, args, named
        self._interrupts = interrupts
        self._context = contextvars.copy_context()
        self._lock = _thread.allocate_lock()  # guards the five below
        self._thread = 0  # the thread that runs the function
        self._over = False  # the function has returned
        self._canceled = False
        self._deferred = 0  # the depth of nested deferrals
        self._due = False  # an interruption is raised when the deferral ends
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.value: Any = None
        self.error: BaseException | None = None

    def interrupt(self) -> None:
        """Raise ``Cancelled`` in the function, once, unless it has returned.

        A job that no thread has taken yet is over at once. The event loop calls this.
        """
        with self._lock:
            if self._canceled or self._over:
                return
            self._canceled = True
            if self._deferred:
                self._due = True
            elif self._thread:
                _raise_in_thread(self._thread, Cancelled)
            else:
                self.error = Cancelled()
                self._args, self._named = [], {}
                self.settle()

    def defer(self) -> None:
        """Begin a deferral. An interruption that was raised before comes in here, at the latest."""
        depth = self._deferred
        try:
            with self._lock:
                self._deferred = depth + 1
            _nothing()  # Python raises what is pending when a function begins
        except BaseException:
            self._deferred = depth
            raise

    def resume(self) -> None:
        """End a deferral, and raise the interruption that it has deferred."""
        with self._lock:
            self._deferred -= 1
            due = self._due and not self._deferred
            if due:
                self._due = False
        if due:
            raise Cancelled

    def run(self) -> None:
        """Call the function on this thread, and keep its value or exception.

        ``Cancelled`` may come late, in the code below, but it comes at most once.
        """
        thread = _thread.get_ident()
        self._interrupts.threads[thread] = self
        try:
            try:
                self.value = self._context.run(self._call, thread)
            except BaseException as error:
                self.error = error
        except Cancelled as error:
            if self.error is None:
                self.error = error
        while True:
            try:
                with self._lock:
                    self._thread, self._over = 0, True
                break
            except Cancelled:
                continue
        _forget_in_thread(thread, None)
        del self._interrupts.threads[thread]
        self._function, self._args, self._named = _nothing, [], {}

    def _call(self, thread: int) -> Any:
        with self._lock:
            if self._canceled:
                raise Cancelled
            self._thread = thread
        value = self._function(*self._taken(), **self._named)
        return list(value) if type(value) is GeneratorType else value

    def _taken(self) -> list[Any]:
        """Return the arguments, which only the function keeps from now on."""
        args, self._args = self._args, []
        return args

    def settle(self) -> None:
        """Wake the task that waits for the job; the event loop calls this."""
        if not self.done.done():
            self.done.set_result(None)


def _nothing() -> None:
    """Do nothing."""


class ThreadLoop(EventLoop):
    """Serves the calls of a node that is called by several threads."""

    def __init__(
        self,
        connection: Connection,
        interrupts: Interrupts,
        answers: Answers,
        process: Callable[..., Any],
        signature: Signature,
        setup: dict[str, Any],
    ) -> None:
        """Create the loop of a node that has been set up; see ``EventLoop``."""
        super().__init__(connection, answers, process, signature, setup)
        self._interrupts = interrupts
        self._queue: SimpleQueue[_Job] = SimpleQueue()
        self._most = signature.threads
        self._threads = 0
        self._jobs: dict[int, _Job] = {}  # by the id of the call

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
            job = _Job(self._interrupts, self._process, args, named)
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
            if self._threads < min(len(self._jobs), self._most):
                self._add_thread()
            self._queue.put(job)
            await job.done
        finally:
            del self._jobs[number]

    def _add_thread(self) -> None:
        """Start one more thread. If that fails, the job waits for one of the others.

        Raises:
            RuntimeError: there is no other one.
        """
        name = f"gophersnake-{self._threads + 1}"
        try:
            _thread.start_new_thread(self._work, (name,))
        except RuntimeError:
            if not self._threads:
                raise
        else:
            self._threads += 1

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
