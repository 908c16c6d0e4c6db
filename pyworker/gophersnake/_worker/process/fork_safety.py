"""Fork safety: whether copies of a process that has imported a module can be workers."""

from __future__ import annotations

import sys
import threading
import warnings

from gophersnake._worker.originals import os

GPUS = ("/dev/nvidia", "/dev/dri/", "/dev/kfd", "/dev/dxg")
"""How the paths of GPU devices begin. A driver's state of a process is lost in a fork."""

EPOLL = "anon_inode:[eventpoll]"
"""The target of a descriptor of epoll. Forked processes would get each other's events."""


def why_not(own: set[int]) -> str:
    """Return why this process must not be forked, or an empty string if it may be.

    Args:
        own: the descriptors that the module has not opened.
    """
    try:
        return _devices(own) or _cuda() or _threads()
    except OSError as error:
        return f"its descriptors and threads cannot be checked: {error}"


def _devices(own: set[int]) -> str:
    """Check for open descriptors that forked processes cannot share."""
    for descriptor in map(int, os.listdir("/proc/self/fd")):
        try:
            target = os.readlink(f"/proc/self/fd/{descriptor}")
        except FileNotFoundError:
            continue  # it was the one of listdir
        if target.startswith(GPUS):
            return f"the import opened a GPU ({target})"
        if target.startswith("socket:") and descriptor not in own:
            return "the import opened a socket"
        if target == EPOLL:
            return "the import created an event loop (an epoll instance)"
    return ""


def _cuda() -> str:
    initialized = getattr(getattr(sys.modules.get("torch"), "cuda", None), "is_initialized", None)
    return "the import initialized CUDA" if callable(initialized) and initialized() else ""


def _threads() -> str:
    """Check for threads, which forked processes would not have.

    Some libraries end their threads before a fork, as OpenBLAS does, which NumPy loads.
    Those do not count, so this process is forked once to find out.
    """
    names = [each.name for each in threading.enumerate() if each is not threading.current_thread()]
    if names:
        return f"the import started threads ({', '.join(sorted(names))})"
    if _count() > 1:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python 3.12 warns of a fork with threads
            child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
    others = _count() - 1
    return f"the import started threads ({others}, not of Python's)" if others else ""


def _count() -> int:
    return len(os.listdir("/proc/self/task"))
