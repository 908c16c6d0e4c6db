"""Says what refused an isolated node something, and how to have it allowed.

The kernel says no more than that an operation is not permitted. What the supervisor
has restricted is known from the setup frame, so that a hint can name it.
"""

from __future__ import annotations

import errno
import linecache
import os
import re
import socket
import stat
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

STARTS = re.compile(r"fork|spawn|popen|subprocess|multiprocessing|os\.system", re.IGNORECASE)
SIGNALS = re.compile(r"kill|signal")
CHAIN = 10
"""How many of the exceptions behind one are looked at."""


@dataclass(frozen=True, slots=True)
class Confines:
    """What this process may do, as the setup frame tells it: Go's ipc.SetupIsolation."""

    write: list[str]
    network: bool
    signals: bool
    processes: int


_known: list[Confines] = []
"""Those of this process, if it has some."""


def know(isolation: dict[str, Any] | None) -> None:
    """Take down how this process is isolated, if it is."""
    _known.clear()
    if isolation is None:
        return
    write = [*(isolation["write"] or []), os.environ["TMPDIR"]]  # which is its own
    places = [os.path.realpath(path) for path in write]
    _known.append(
        Confines(places, isolation["network"], isolation["signals"], isolation["processes"])
    )


def hint(error: BaseException) -> dict[str, str]:
    """Return the hint of an error that the isolation brought about; nothing for others."""
    for confines in _known:
        for each in _chain(error):
            refusal = _refusal(each, confines)
            if refusal:
                return {"hint": f"the node is isolated: {refusal}"}
    return {}


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    for _ in range(CHAIN):
        if error is None:
            return
        yield error
        error = error.__cause__ or error.__context__


def _refusal(error: BaseException, confines: Confines) -> str:
    if isinstance(error, socket.gaierror):
        return "" if confines.network else NO_NETWORK
    if isinstance(error, ImportError):
        denied = "ermission denied" in str(error) or "not permitted" in str(error)
        return NO_LIBRARY if denied else ""
    if isinstance(error, RuntimeError) and "start new thread" in str(error):
        return _too_many(confines)
    if not isinstance(error, OSError):
        return ""
    if error.errno == errno.EAGAIN and STARTS.search(_where(error)):
        return _too_many(confines)
    if error.errno == errno.EACCES:
        if isinstance(error.filename, (str, bytes)):
            return _no_file(os.fsdecode(error.filename), confines)
        return "" if confines.network else NO_NETWORK
    if error.errno == errno.EPERM:
        return _not_permitted(error, confines)
    return ""


NO_NETWORK = (
    "seccomp refuses sockets; if it may have a network, set isolation.network in the manifest"
)
NO_PROCESSES = (
    "seccomp refuses further processes; if it may start some, set isolation.processes "
    "in the manifest"
)
NO_SIGNALS = (
    "Landlock refuses signals to other processes; if it may send some, set isolation.signals "
    "in the manifest"
)
NO_LIBRARY = (
    "Landlock lets it load no library from there; add the folder to isolation.read in the manifest"
)
NO_ATTRIBUTES = "seccomp refuses to change the modes, owners, times and attributes of files"
NO_CALL = "seccomp refuses this system call to all isolated nodes"


def _too_many(confines: Confines) -> str:
    if confines.processes <= 0:
        return ""
    return (
        f"its cgroup has room for {confines.processes} further processes and threads; "
        "if it may have more, raise isolation.processes in the manifest"
    )


def _not_permitted(error: OSError, confines: Confines) -> str:
    where = _where(error)
    if confines.processes == 0 and STARTS.search(where):
        return NO_PROCESSES
    if error.filename is not None:
        return NO_ATTRIBUTES
    if not confines.signals and SIGNALS.search(where):
        return NO_SIGNALS
    return NO_CALL


def _no_file(name: str, confines: Confines) -> str:
    """Return what Landlock has to do with a file that was refused; nothing, perhaps."""
    path = os.path.realpath(name)
    if any(
        path == each or path.startswith(each.rstrip(os.sep) + os.sep) for each in confines.write
    ):
        return ""  # it is the file's own mode
    if _can_be_read(path):
        return (
            f"Landlock lets it read {path}, but not change it; if it may, add it, or its folder, "
            "to isolation.write in the manifest"
        )
    # What is not there is refused only to who would make it.
    lists = "isolation.read or isolation.write" if os.path.lexists(path) else "isolation.write"
    return (
        f"Landlock keeps {path} from it; if it may have it, add it, or its folder, "
        f"to {lists} in the manifest"
    )


def _can_be_read(path: str) -> bool:
    """Look whether a file, or the folder that it would be in, can be read."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return os.path.dirname(path) != path and _can_be_read(os.path.dirname(path))
    except OSError:
        return False
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        return False  # to open it may mean something
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def _where(error: BaseException) -> str:
    """Return the place at which an error was raised, with the line of the source."""
    place = ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        code = frame.f_code
        file = code.co_filename
        place = f"{os.path.basename(file)} {code.co_name} {linecache.getline(file, line)}"
    return place
