"""Hints for the errors that an isolated node gets from its sandbox.

The kernel only says that an operation is not permitted. The setup frame says what the
supervisor has restricted, so a hint can name the restriction and how to lift it.
"""

from __future__ import annotations

import errno
import linecache
import os as node_os
import re
import stat
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gophersnake._worker.originals import os, socket
from gophersnake._worker.serving import failure

STARTS = re.compile(r"fork|spawn|popen|subprocess|multiprocessing|os\.system", re.IGNORECASE)
SIGNALS = re.compile(r"kill|signal")
NAMED_MEMORY = re.compile(r"SemLock|shm_open")
SHARED_MEMORY = "/dev/shm/"
"""The folder in which the C library keeps semaphores and named shared memory."""
CHAIN = 10
"""How many causes of an exception are examined."""


@dataclass(frozen=True, slots=True)
class Sandbox:
    """The permissions of this process, from the setup frame: Go's ipc.SetupIsolation.

    Attributes:
        write: the files and folders that it may change.
        network: whether it may open sockets.
        signals: whether it may send signals to other processes.
        processes: how many further processes and threads it may have.
    """

    write: list[str]
    network: bool
    signals: bool
    processes: int


_sandboxes: list[Sandbox] = []
"""The sandbox of this process; empty if it has none."""


def configure(isolation: dict[str, Any] | None) -> None:
    """Store the sandbox of this process; ``None`` if it has none."""
    failure.hint_with(hint)
    _sandboxes.clear()
    if isolation is None:
        return
    write = [*(isolation["write"] or []), os.environ["TMPDIR"]]  # it has its own TMPDIR
    paths = [os.path.realpath(path) for path in write]
    _sandboxes.append(
        Sandbox(paths, isolation["network"], isolation["signals"], isolation["processes"])
    )


def accept_private_modes() -> None:
    """Make ``os.chmod`` succeed, without effect, if it would only take rights from other users.

    The sandbox refuses to change modes, but multiprocessing's start method forkserver and
    joblib insist on keeping others from their files. Those lie in folders that no other user
    reaches: the worker's temporary folder and its own /dev/shm. Elsewhere, and if the mode
    would do anything else, the refusal remains.
    """
    change = node_os.chmod
    temporary = os.path.realpath(os.environ["TMPDIR"]) + os.sep

    def chmod(path: Any, mode: int, **named: Any) -> None:
        try:
            change(path, mode, **named)
        except PermissionError as error:
            if error.errno != errno.EPERM or not _is_private(path, mode, temporary):
                raise

    chmod.__module__, chmod.__qualname__ = "os", "chmod"  # it is pickled by its name
    for functions in (os.supports_fd, os.supports_dir_fd, os.supports_follow_symlinks):
        if change in functions:
            functions.add(chmod)
    node_os.chmod = chmod


def _is_private(name: object, mode: int, temporary: str) -> bool:
    """Return whether a mode only takes rights from other users, which cannot reach the file."""
    if not isinstance(name, (str, bytes, os.PathLike)):
        return False
    path = os.path.realpath(os.fsdecode(name))
    current = os.stat(path).st_mode
    owner = stat.S_IRUSR | stat.S_IWUSR if stat.S_ISSOCK(current) else stat.S_IRWXU
    if (mode ^ current) & owner or stat.S_IMODE(mode) & ~current & ~stat.S_IRWXU:
        return False
    return path.startswith(temporary) or (path.startswith(SHARED_MEMORY) and _has_own_memory())


def _has_own_memory() -> bool:
    """Return whether a /dev/shm that this process can write to is its own."""
    lists = (path for each in _sandboxes for path in each.write)
    return not any(SHARED_MEMORY.startswith(path.rstrip(os.sep) + os.sep) for path in lists)


def hint(error: BaseException) -> dict[str, str]:
    """Return the hint for an error that the sandbox caused; an empty dict for others."""
    for sandbox in _sandboxes:
        for each in _chain(error):
            refusal = _refusal(each, sandbox)
            if refusal:
                return {"hint": f"the node is isolated: {refusal}"}
    return {}


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    for _ in range(CHAIN):
        if error is None:
            return
        yield error
        error = error.__cause__ or error.__context__


def _refusal(error: BaseException, sandbox: Sandbox) -> str:
    if isinstance(error, socket.gaierror):
        return "" if sandbox.network else NO_NETWORK
    if isinstance(error, ImportError):
        denied = "ermission denied" in str(error) or "not permitted" in str(error)
        return NO_LIBRARY if denied else ""
    if isinstance(error, RuntimeError) and "start new thread" in str(error):
        return _too_many(sandbox)
    if not isinstance(error, OSError):
        return ""
    if error.errno == errno.EAGAIN and STARTS.search(_where(error)):
        return _too_many(sandbox)
    if error.errno == errno.EACCES:
        return _denied(error, sandbox)
    if error.errno == errno.ESRCH and not sandbox.signals and SIGNALS.search(_where(error)):
        return NO_PROCESS
    if error.errno == errno.EPERM:
        return _not_permitted(error, sandbox)
    return ""


NO_NETWORK = (
    "seccomp refuses sockets; if it may have a network, set isolation.network in the manifest"
)
CONNECTIONS = {
    "forkserver": (
        "the start method forkserver of multiprocessing connects to a Unix socket, which seccomp "
        "can allow only together with the network; use the start method fork or spawn, or set "
        "isolation.network in the manifest"
    ),
    "SocketClient": (
        "multiprocessing connects to a Unix socket here, as managers do, which seccomp can allow "
        "only together with the network; use a queue, a pipe or shared memory instead, or set "
        "isolation.network in the manifest"
    ),
}
"""Hints for refused connections, by what the place of the error contains."""

NO_SHARED_MEMORY = (
    "Landlock keeps /dev/shm from it, in which the system has semaphores (so those of "
    "multiprocessing) and named shared memory; "
)
NO_SEMAPHORES = NO_SHARED_MEMORY + (
    "set isolation.processes in the manifest, with which it gets a /dev/shm of its own if the "
    "supervisor is root, or add the machine's /dev/shm to isolation.write"
)
NO_OWN_MEMORY = NO_SHARED_MEMORY + (
    "only root can give it one of its own; if it may have the machine's, add /dev/shm to "
    "isolation.write in the manifest"
)
NO_PROCESSES = (
    "seccomp refuses further processes; if it may start some, set isolation.processes "
    "in the manifest"
)
NO_THREADS = (
    "the kernel has no room for further threads: limits.threads in the manifest bounds the "
    "node's own, and the user's limit (ulimit -u) those of all processes"
)
NO_SIGNALS = (
    "Landlock refuses signals to other processes; if it may send some, set isolation.signals "
    "in the manifest"
)
NO_PROCESS = (
    "it sees only its own processes; if it may signal others, set isolation.signals in the manifest"
)
NO_LIBRARY = (
    "Landlock lets it load no library from there; add the folder to isolation.read in the manifest"
)
NO_ATTRIBUTES = "seccomp refuses to change the modes, owners, times and attributes of files"
NO_CALL = "seccomp refuses this system call to all isolated nodes"


def _too_many(sandbox: Sandbox) -> str:
    if sandbox.processes <= 0:
        return NO_THREADS
    return (
        f"its cgroup has room for {sandbox.processes} further processes and threads; "
        "if it may have more, raise isolation.processes in the manifest"
    )


def _not_permitted(error: OSError, sandbox: Sandbox) -> str:
    where = _where(error)
    if sandbox.processes == 0 and STARTS.search(where):
        return NO_PROCESSES
    if error.filename is not None:
        return NO_ATTRIBUTES
    if not sandbox.signals and SIGNALS.search(where):
        return NO_SIGNALS
    return NO_CALL


def _denied(error: OSError, sandbox: Sandbox) -> str:
    """Return why a file or a socket was denied; an empty string if not by the sandbox."""
    where = _where(error)
    name = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else ""
    is_memory = NAMED_MEMORY.search(where) or name.startswith(SHARED_MEMORY)
    if is_memory and not _can_be_read(SHARED_MEMORY):
        return NO_OWN_MEMORY if sandbox.processes else NO_SEMAPHORES
    if name:
        return _no_file(name, sandbox)
    if sandbox.network:
        return ""
    return next((CONNECTIONS[each] for each in CONNECTIONS if each in where), NO_NETWORK)


def _no_file(name: str, sandbox: Sandbox) -> str:
    """Return why access to a file was denied; an empty string if not by Landlock."""
    path = os.path.realpath(name)
    if any(path == each or path.startswith(each.rstrip(os.sep) + os.sep) for each in sandbox.write):
        return ""  # denied by the mode of the file
    if _can_be_read(path):
        return (
            f"Landlock lets it read {path}, but not change it; if it may, add it, or its folder, "
            "to isolation.write in the manifest"
        )
    # Access to a file that does not exist is denied only when it would be created.
    lists = "isolation.read or isolation.write" if os.path.lexists(path) else "isolation.write"
    return (
        f"Landlock keeps {path} from it; if it may have it, add it, or its folder, "
        f"to {lists} in the manifest"
    )


def _can_be_read(path: str) -> bool:
    """Return whether a file, or the folder in which it would be, can be read."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return os.path.dirname(path) != path and _can_be_read(os.path.dirname(path))
    except OSError:
        return False
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        return False  # opening it may have side effects
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def _where(error: BaseException) -> str:
    """Return the file, function and source line at which an error was raised."""
    where = ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        code = frame.f_code
        file = code.co_filename
        where = f"{os.path.basename(file)} {code.co_name} {linecache.getline(file, line)}"
    return where
