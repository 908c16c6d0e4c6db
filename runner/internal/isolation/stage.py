"""What a process does for its isolation itself, before it becomes the program.

It runs in an interpreter without site-packages (``-I -S``), so that no code of the
node's or of its packages has come first. To start a process, the supervisor's thread
must be allowed to: that no others follow can be settled only here. The same goes for
signals. What cannot be settled ends the process.
"""

import os
import sys

try:
    import ctypes
except ImportError as error:
    sys.exit(f"gophersnake: isolation: it needs an interpreter with ctypes: {error}")

PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2
LANDLOCK_CREATE_RULESET, LANDLOCK_RESTRICT_SELF = 444, 446


class Filter(ctypes.Structure):
    """``struct sock_fprog``."""

    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p)]


class Ruleset(ctypes.Structure):
    """``struct landlock_ruleset_attr``."""

    _fields_ = [("fs", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64)]


libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long


def settled(result: int, what: str) -> int:
    """Return the result of a system call, or end the process where that failed."""
    if result < 0:
        sys.exit(f"gophersnake: isolation: {what}: {os.strerror(ctypes.get_errno())}")
    return result


def scope(what: int) -> None:
    """Have the kernel refuse signals, and abstract sockets, of other processes."""
    wanted = Ruleset(0, 0, what)
    size = ctypes.c_size_t(ctypes.sizeof(wanted))
    rules = libc.syscall(ctypes.c_long(LANDLOCK_CREATE_RULESET), ctypes.byref(wanted), size, 0)
    settled(rules, "landlock_create_ruleset")
    settled(libc.syscall(ctypes.c_long(LANDLOCK_RESTRICT_SELF), rules, 0), "landlock_restrict_self")
    os.close(rules)


def narrow(instructions: bytes) -> None:
    """Take on a filter of system calls."""
    kept = ctypes.create_string_buffer(instructions, len(instructions))
    program = Filter(len(instructions) // 8, ctypes.addressof(kept))
    narrowed = libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0)
    settled(narrowed, "seccomp")


_, scoped, filtered, *command = sys.argv
if int(scoped):
    scope(int(scoped))
narrow(bytes.fromhex(filtered))
os.execv(command[0], command[1:])
