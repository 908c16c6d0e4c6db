"""Finds the call that node code runs for, when it asks about it or reports its progress."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING

from gophersnake._worker.originals import _thread
from gophersnake._worker.serving.interrupts import Interrupts
from gophersnake._worker.wire.frames import Context
from gophersnake.context import Running

if TYPE_CHECKING:
    from gophersnake._worker.serving.eventloop import Call

of_task: ContextVar[Call | None] = ContextVar("gophersnake_call", default=None)
"""The call of the task, in the loops that serve several calls at once.

The tasks that node code starts, and the threads of ``asyncio.to_thread``, inherit it.
"""


class Finder:
    """Finds the running call of a worker, when its code asks.

    Attributes:
        timeout: the seconds that a call may take, ``None`` for any number.
        find: returns the running call, ``None`` if there is none.
        calls: returns the ids of the calls for which code reports its progress: of one, of all
            calls of a batch, or of none.
    """

    def __init__(
        self,
        interrupts: Interrupts,
        contexts: dict[int, Context],
        timeout: float | None,
        serves_many: bool,
    ) -> None:
        """Create a finder.

        Args:
            interrupts: knows which call the main thread runs.
            contexts: the contexts of calls that the supervisor has sent, by the call id.
            timeout: the seconds that a call may take, ``None`` for any number.
            serves_many: whether several calls run at once.
        """
        self._interrupts = interrupts
        self._contexts = contexts
        self._main = _thread.get_ident()
        self.timeout = timeout
        self.find: Callable[[], Running | None] = (
            self._find_by_task if serves_many else self._find_on_main_thread
        )
        self.calls: Callable[[], Sequence[int]] = (
            self._call_of_task if serves_many else self._running_calls
        )

    def _call_of_task(self) -> Sequence[int]:
        call = of_task.get()
        return () if call is None or call.answered else (call.id,)

    def _running_calls(self) -> Sequence[int]:
        """Return the calls that run, on whatever thread this is: only they can show a report."""
        interrupts = self._interrupts
        call = interrupts.call  # read once, since the main thread may change it
        return interrupts.batch or ((call,) if call else ())

    def _find_by_task(self) -> Running | None:
        call = of_task.get()
        if call is None or call.answered:
            return None
        return self._of((call.id,), call.since)

    def _find_on_main_thread(self) -> Running | None:
        """Return the call of the main thread: other threads may work for it, or for none."""
        interrupts = self._interrupts
        calls = self._running_calls()
        if not calls or _thread.get_ident() != self._main:
            return None
        return self._of(calls, interrupts.since)

    def _of(self, calls: Iterable[int], since: float) -> Running:
        """Return what is known of calls that began at ``since``."""
        ids = list(calls)
        sent = [self._contexts[each] for each in ids if each in self._contexts]
        deadlines = [each.deadline / 1e9 for each in sent if each.deadline]
        if self.timeout is not None:
            deadlines.append(since + self.timeout)
        return Running(
            ids[0] if len(ids) == 1 else 0,
            max((each.attempt for each in sent), default=1),
            min(deadlines, default=None),
            sent[0].trace if len(ids) == 1 and sent else b"",
        )
