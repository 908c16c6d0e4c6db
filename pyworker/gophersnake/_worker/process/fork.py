"""Forks a worker from a process that becomes the worker's reaper.

The process is the interpreter of the worker itself, before it imports the package; the
template; or an interpreter that starts only for this, if the worker is isolated or in a
container. So this imports no module that is not built in, or small.
"""

from __future__ import annotations

import posix

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing takes long to import
    from types import CodeType

CHANNEL, LIFELINE = 0, 3

HIGHEST = 1024
"""The reaper closes its descriptors below this number, so that no pipe is held open."""

PR_SET_CHILD_SUBREAPER = 36

REAPER: str | CodeType = ""
"""The module reaper, if it cannot be imported. A text is compiled after the fork, so that the
worker does not wait for it."""


def fork_worker(confined: bool = False, held: int = CHANNEL, at_once: bool = False) -> None:
    """Fork, and return in the worker; the calling process becomes its reaper, and exits.

    Args:
        confined: whether the kernel lets this process signal only its descendants, so that
            all of them can be killed at once.
        held: a descriptor that the reaper keeps open until nothing of the worker is left,
            such as that of a lock. A program that the worker executes does not inherit it.
        at_once: whether the worker may leave orphans within milliseconds, which is how long
            an interpreter needs to start. The worker then waits for its reaper.
    """
    if at_once:
        inherit_orphans()
    if held != CHANNEL:
        posix.set_inheritable(held, False)
    worker = posix.fork()
    if worker:
        try:
            if not at_once:
                inherit_orphans()
            posix.closerange(CHANNEL + 1, held)
            posix.closerange(held + 1, HIGHEST)
            _reap(worker, confined)
        finally:
            posix._exit(1)
    posix.setpgid(0, 0)  # so that the worker ends with its children
    try:
        posix.write(CHANNEL, b"worker")
    except OSError:
        posix._exit(1)  # the supervisor no longer needs the worker, or has ended
    null = posix.open("/dev/null", posix.O_RDONLY)
    posix.dup2(null, CHANNEL)
    posix.close(null)
    _end_with_lifeline()


def inherit_orphans() -> None:
    """Make this process the parent of its descendants whose parent ends."""
    arguments = (PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        import _ctypes

        prctl = _ctypes.dlsym(_ctypes.dlopen(None, 0), "prctl")  # type: ignore[arg-type]
        _ctypes.call_function(prctl, arguments)
    except ImportError:
        return  # it still kills the worker, and the children that the worker leaves
    except AttributeError:  # what is not public may change; this takes longer to import
        import ctypes

        ctypes.CDLL(None).prctl(*arguments)


def _reap(worker: int, confined: bool) -> None:
    if REAPER:
        module: dict[str, object] = {}
        exec(REAPER, module)
        run = module["run"]
        assert callable(run)
        run(worker, confined)
    else:
        from gophersnake._worker.process import reaper

        reaper.run(worker, confined)


def _end_with_lifeline() -> None:
    """Make the kernel kill the process group when the supervisor ends.

    The worker can undo this. It helps when the reaper was killed or stopped before.
    """
    import fcntl

    fcntl.fcntl(LIFELINE, fcntl.F_SETOWN, -posix.getpid())
    fcntl.fcntl(LIFELINE, getattr(fcntl, "F_SETSIG", 10), 9)
    flags = fcntl.fcntl(LIFELINE, fcntl.F_GETFL)
    fcntl.fcntl(LIFELINE, fcntl.F_SETFL, flags | getattr(posix, "O_ASYNC", 0o20000))
