"""Signal handlers of a node, while none of the node's code runs.

Python calls a handler between any two instructions of the main thread. In a plain
interpreter, the code that runs at that moment gets what the handler raises. In a worker that
may be the worker's own code, which waits for a call or has received half of one. So the
worker calls the node's handlers as follows:

- While node code runs, and in processes that the node has forked: as Python does.
- While worker code runs that the node has called, to log for instance: a moment later.
- While worker code runs otherwise: now, and what the handler raises is logged. ``SystemExit``
  ends the worker.

The functions of the module ``signal`` that set handlers are replaced for that.
"""

from __future__ import annotations

import functools
import logging
import os as node_os
import re
import signal as node_signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, NoReturn

from gophersnake._worker.originals import _thread, os, signal, time
from gophersnake._worker.process import exit_report

PACKAGE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))) + os.sep
"""The folder of gophersnake, whose code is the worker's own."""

STANDARD = os.path.dirname(node_os.__file__) + os.sep
"""The folder of the standard library, whose code runs for the code that has called it."""

INSTALLED = re.compile(r"/(site|dist)-packages/(?!(msgpack|numpy)/)")
"""Matches the files of packages that the node has called, not the worker."""

OUTERMOST = tuple(
    os.path.join(PACKAGE, "_worker", "process", name) for name in ("start.py", "template.py")
)
"""The files of the functions below which everything runs in a worker and in a template."""

LATER = 0.001
"""After how many seconds a signal is sent again that came at the wrong moment."""

_owners: list[int] = []
"""The process whose handlers are guarded: the worker or the template, not their children."""

_released: dict[int, Guarded] = {}
"""The handlers that are not guarded in this process because it was forked, by their signals."""

pending: list[int] = []
"""The signals that wait for the end of worker code; each is sent again after a while."""

_contained: list[int] = []
"""The signal whose handler is being called while worker code runs; others have to wait."""


class Guarded:
    """A handler of the node.

    Attributes:
        handler: the function that the node has set.
    """

    def __init__(self, handler: Callable[[int, FrameType | None], Any]) -> None:
        """Wrap a handler."""
        self.handler = handler

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal that has interrupted a frame."""
        own, node_outside = is_own(frame)
        if not own or os.getpid() not in _owners:
            self.handler(number, frame)
        elif node_outside or _contained:
            pending.append(number)
            _thread.start_new_thread(_send_later, (number, _thread.get_ident()))
        else:
            self._call_contained(number, frame)

    def _call_contained(self, number: int, frame: FrameType | None) -> None:
        """Call the handler while worker code runs, to which it must not raise."""
        _contained.append(number)
        try:
            self.handler(number, frame)
        except SystemExit as error:
            _exit(error)
        except BaseException as error:
            logging.getLogger("gophersnake").error(
                "the node's handler of %s raised %s while none of the node's code ran",
                signal.Signals(number).name,
                type(error).__name__,
                exc_info=error,
            )
        finally:
            _contained.clear()


def is_own(frame: FrameType | None) -> tuple[bool, bool]:
    """Return whether worker code runs in a frame, and whether node code has called that."""
    own = False
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith(OUTERMOST):
            return True, False
        if file.startswith(PACKAGE):
            own = True
        elif _is_node(file):
            return own, own
        frame = frame.f_back
    return own, False


def _is_node(file: str) -> bool:
    """Return whether code is the node's, and not such as it and the worker call."""
    if INSTALLED.search(file):
        return True
    # Names like <string> are those of generated code.
    return not file.startswith((STANDARD, "<")) and "-packages/" not in file


def _send_later(number: int, thread: int) -> None:
    time.sleep(LATER)
    if _take(number):
        signal.pthread_kill(thread, number)


def _take(number: int) -> bool:
    """Take a signal off those that wait; return False if another thread has done so."""
    try:
        pending.remove(number)
    except ValueError:
        return False
    return True


def handle_pending() -> None:
    """Call the handlers of the signals that wait, at the end of worker code that node code calls.

    Without this, a node that logs all the time would hardly see a signal: its main thread
    lets ``_send_later`` run only while it waits in worker code.

    Raises:
        BaseException: what a handler raises.
    """
    for number in list(pending):
        handler = signal.getsignal(number)
        if isinstance(handler, Guarded) and _take(number):
            handler.handler(number, sys._getframe(1))


def _exit(error: SystemExit) -> NoReturn:
    """End the worker, as the node's handler wants."""
    from gophersnake._worker.serving import failure

    code = failure.exit_code(error)
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    exit_report.write_end(f"sys.exit({code})", trace.tb_frame if trace else None)
    exit_report.exit_now(code)


def install() -> None:
    """Guard the handlers of this process that are set from now on, and that of SIGINT.

    A worker that was forked from a template calls it again.
    """
    real_set, real_get = signal.signal, signal.getsignal
    is_installed = bool(_owners)
    _owners[:] = [os.getpid()]
    if is_installed:
        for number, guarded in _released.items():
            if real_get(number) is guarded.handler:
                real_set(number, guarded)
        return

    def release_in_child() -> None:
        for number in signal.valid_signals():
            handler = real_get(number)
            if isinstance(handler, Guarded):
                _released[number] = handler
                real_set(number, handler.handler)

    os.register_at_fork(after_in_child=release_in_child)

    @functools.wraps(real_set)
    def set_handler(signalnum: int, handler: Any) -> Any:
        if callable(handler) and not isinstance(handler, Guarded):
            handler = Guarded(handler)
        return _unwrapped(real_set(signalnum, handler))

    @functools.wraps(real_get)
    def get_handler(signalnum: int) -> Any:
        return _unwrapped(real_get(signalnum))

    node_signal.signal, node_signal.getsignal = set_handler, get_handler
    if real_get(signal.SIGINT) is signal.default_int_handler:
        set_handler(signal.SIGINT, signal.default_int_handler)


def _unwrapped(handler: Any) -> Any:
    return handler.handler if isinstance(handler, Guarded) else handler
