"""Apply the restrictions that a process must apply to itself, then become the command.

The supervisor's thread needs the right to start a process, so the process itself has to
give up that right, and likewise the right to send signals. Before that, it forks: the
parent becomes the reaper of the process, if the profile names one. This program does so in an
interpreter without site-packages (``-I -S``): no code of the node or of its packages
has run before. If a restriction cannot be applied, the process exits.
"""

import os
import sys

try:
    import ctypes
except ImportError as error:
    sys.exit(f"gophersnake: isolation: it needs an interpreter with ctypes: {error}")

# The text of a reaper precedes this one if the profile names one.
fork_worker = globals().get("fork_worker")

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


def check(result: int, name: str) -> None:
    """Exit if a system call failed."""
    if result < 0:
        sys.exit(f"gophersnake: isolation: {name}: {os.strerror(ctypes.get_errno())}")


def restrict_scope(flags: int) -> None:
    """Make the kernel refuse signals and abstract sockets to other processes."""
    ruleset = Ruleset(0, 0, flags)
    size = ctypes.c_size_t(ctypes.sizeof(ruleset))
    rules = libc.syscall(ctypes.c_long(LANDLOCK_CREATE_RULESET), ctypes.byref(ruleset), size, 0)
    check(rules, "landlock_create_ruleset")
    check(libc.syscall(ctypes.c_long(LANDLOCK_RESTRICT_SELF), rules, 0), "landlock_restrict_self")
    os.close(rules)


def filter_calls(instructions: bytes) -> None:
    """Apply a filter of system calls."""
    buffer = ctypes.create_string_buffer(instructions, len(instructions))
    program = Filter(len(instructions) // 8, ctypes.addressof(buffer))
    result = libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0)
    check(result, "seccomp")


_, scope_flags, call_filter, inherited, *command = sys.argv
os.closerange(int(inherited), os.sysconf("SC_OPEN_MAX"))  # what the host has left open
if fork_worker:
    alone = os.getpid() == 1  # in a namespace of process ids, which ends with this process
    if int(scope_flags) and not alone:
        restrict_scope(int(scope_flags))  # the worker's own scope below is narrower
    fork_worker(confined=alone or bool(int(scope_flags)))
if int(scope_flags):
    restrict_scope(int(scope_flags))
filter_calls(bytes.fromhex(call_filter))
os.execv(command[0], command[1:])
