"""Whether a process that has imported a module can be forked, and its copies be workers."""

from __future__ import annotations

import os
import sys
import threading
import warnings

GPUS = ("/dev/nvidia", "/dev/dri/", "/dev/kfd", "/dev/dxg")
"""How the devices of GPUs begin. What a driver keeps for a process is not there after a fork."""


def why_not(own: set[int]) -> str:
    """Return what speaks against it, or nothing.

    Args:
        own: descriptors that are not the module's.
    """
    try:
        return _devices(own) or _cuda() or _threads()
    except OSError as error:
        return f"its descriptors and threads cannot be looked at: {error}"


def _devices(own: set[int]) -> str:
    """Tell of open descriptors that the copies cannot share."""
    for descriptor in map(int, os.listdir("/proc/self/fd")):
        try:
            target = os.readlink(f"/proc/self/fd/{descriptor}")
        except FileNotFoundError:
            continue  # it was for the listing
        if target.startswith(GPUS):
            return f"the import opened a GPU ({target})"
        if target.startswith("socket:") and descriptor not in own:
            return "the import opened a socket"
    return ""


def _cuda() -> str:
    initialized = getattr(getattr(sys.modules.get("torch"), "cuda", None), "is_initialized", None)
    return "the import initialized CUDA" if callable(initialized) and initialized() else ""


def _threads() -> str:
    """Tell of threads, which the copies would not have.

    Those of libraries that end them before a fork do not count, OpenBLAS's for one,
    which NumPy starts: it is forked once to see.
    """
    names = [each.name for each in threading.enumerate() if each is not threading.current_thread()]
    if names:
        return f"the import started threads ({', '.join(sorted(names))})"
    if _count() > 1:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python 3.12 says of forks that there are threads
            child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
    others = _count() - 1
    return f"the import started threads ({others}, not of Python's)" if others else ""


def _count() -> int:
    return len(os.listdir("/proc/self/task"))
