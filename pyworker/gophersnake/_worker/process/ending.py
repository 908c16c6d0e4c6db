"""How a worker that was not killed ends, and how the children end that its node has forked.

A worker that is shut down, or whose node calls ``sys.exit``, ends as a script does: its
threads are joined, ``atexit`` callbacks run, and the interpreter is finalized, which flushes
files and finalizes objects. The supervisor kills a worker that takes longer than its grace
period. A worker that cannot be trusted, or that has lost its supervisor, ends at once.

A child that node code makes by ``os.fork`` is no worker. It gives up what belongs to its
parent: ``release_in_children`` closes the descriptors that are known by number, and the
connection, the shared memory and the heartbeat close their own. When its node code returns
or raises, it ends like a script at its last line.
"""

from __future__ import annotations

import atexit
import gc
import sys
import threading
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import NoReturn

from gophersnake._worker.originals import os, signal
from gophersnake._worker.process import exit_report

PACKAGE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))) + os.sep
"""The package's folder."""

OUTER = (PACKAGE, "<frozen runpy>", os.path.join(os.path.dirname(os.__file__), "runpy.py"))
"""How the file names of the frames begin that call the worker."""


class ForkedChildError(Exception):
    """Node code has raised in a forked child, which has no call to answer.

    Attributes:
        error: what it has raised.
    """

    def __init__(self, error: BaseException) -> None:
        """Wrap what node code has raised."""
        super().__init__(error)
        self.error = error


def release_in_children(*descriptors: int, unless: Callable[[], bool] = lambda: False) -> None:
    """Close descriptors in the children that this process forks from now on.

    A descriptor that refers to another file by then is left open.

    Args:
        descriptors: the descriptors, which must be open.
        unless: called in a child; if it returns True, nothing is closed.
    """
    known = {descriptor: _identity(descriptor) for descriptor in descriptors}

    def close() -> None:
        if not unless():
            for descriptor, identity in known.items():
                if identity is not None and _identity(descriptor) == identity:
                    os.close(descriptor)

    os.register_at_fork(after_in_child=close)


def _identity(descriptor: int) -> tuple[int, int] | None:
    """Return what distinguishes the file of a descriptor from others; None if it is closed."""
    try:
        found = os.fstat(descriptor)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def finish(code: int) -> NoReturn:
    """End the process as a script does that exits with this code.

    Call it when no reference to the node is left, so that the node's finalizer still finds
    all modules.
    """
    gc.unfreeze()  # objects in reference cycles are finalized, too
    sys.exit(code)


def drop_broken_streams() -> None:
    """Drop the standard streams that cannot be flushed; they would change the exit code."""
    for name in ("stdout", "stderr"):
        try:
            getattr(sys, name).flush()
        except Exception:
            setattr(sys, name, None)


def finish_child(error: BaseException) -> NoReturn:
    """End a forked child as a script does that raises an exception.

    Raises:
        BaseException: the exception, for the interpreter to end with. It is printed without
            the worker's own frames.
    """
    _hide_outer_frames()
    gc.unfreeze()
    raise error


def finish_child_of_thread(error: BaseException | None) -> NoReturn:
    """End a forked child whose only thread was not the first one of its parent.

    Such a thread cannot return to the interpreter. So no objects are finalized, as in the
    processes that multiprocessing forks.

    Args:
        error: the exception with which the child ends, if any.
    """
    code = 0
    if isinstance(error, SystemExit):
        code = _exit_code(error)
    elif error is not None:
        code = 1
        _hide_outer_frames()
        sys.excepthook(type(error), error, error.__traceback__)
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()
    atexit._run_exitfuncs()
    if isinstance(error, KeyboardInterrupt):
        exit_report.flush_streams()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    exit_report.exit_now(code)


def _exit_code(error: SystemExit) -> int:
    """Return the exit code of an exception, and print its text, as the interpreter does."""
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return error.code & 0xFF
    print(error.code, file=sys.stderr)
    return 1


def keep_for_ever(objects: Iterable[object]) -> None:
    """Keep objects from being finalized, even at the end of the interpreter."""
    try:
        import ctypes
    except ImportError:
        return
    for each in objects:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(each))


def _hide_outer_frames() -> None:
    """Make ``sys.excepthook`` leave out the frames that call the node."""
    hook = sys.excepthook

    def shorter(
        kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        begin = trace
        while begin is not None and begin.tb_frame.f_code.co_filename.startswith(OUTER):
            begin = begin.tb_next
        hook(kind, error, begin or trace)

    sys.excepthook = shorter
