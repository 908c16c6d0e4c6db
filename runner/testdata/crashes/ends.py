"""Ways for an interpreter to end in the middle of a call."""

from __future__ import annotations

import ctypes
import mmap
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import NoReturn

# It exits.


def sys_exit_0() -> None:
    sys.exit(0)


def sys_exit_3() -> None:
    sys.exit(3)


def sys_exit_text() -> None:
    sys.exit("no more of this")


def exit_now_0() -> None:
    os._exit(0)


def exit_now_7() -> None:
    os._exit(7)


def exit_in_c() -> None:
    print("the library gives up", file=sys.stderr, flush=True)
    ctypes.CDLL(None)._exit(5)


def exit_now_in_a_thread() -> None:
    thread = threading.Thread(target=exit_now_7)
    thread.start()
    thread.join()


def become_another_program() -> None:
    os.execv("/bin/true", ["true"])


def become_a_program_that_stays() -> None:
    os.execv("/bin/sleep", ["sleep", "3600"])


# A fault ends it.


def write_to_null() -> None:
    ctypes.memset(0, 0, 1)


def crash_in_a_thread() -> None:
    thread = threading.Thread(target=write_to_null)
    thread.start()
    thread.join()


def recurse_in_c() -> None:
    # The C library's parser goes down a level for each bracket; Python, which
    # counts its own levels, knows nothing of it.
    depth = 1 << 20
    pattern = b"(" * depth + b")" * depth
    ctypes.CDLL(None).regcomp(ctypes.create_string_buffer(1024), pattern, 1)


def read_a_file_that_shrank() -> None:
    with tempfile.TemporaryFile() as file:
        file.truncate(mmap.PAGESIZE)
        view = mmap.mmap(file.fileno(), mmap.PAGESIZE)
        file.truncate(0)
        ctypes.string_at(ctypes.addressof(ctypes.c_char.from_buffer(view)), 1)


def abort() -> None:
    os.abort()


def fatal_error_of_python() -> None:
    ctypes.pythonapi.Py_FatalError(b"the interpreter is beside itself")


def free_twice() -> None:
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    block = ctypes.c_void_p(libc.malloc(24))
    libc.free(block)
    libc.free(block)


# A signal ends it.


def signal_segv() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def signal_fpe() -> None:
    signal.raise_signal(signal.SIGFPE)


def signal_ill() -> None:
    signal.raise_signal(signal.SIGILL)


def signal_term() -> None:
    signal.raise_signal(signal.SIGTERM)


def signal_hup() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it is ignored
    signal.raise_signal(signal.SIGHUP)


def signal_int() -> None:
    signal.raise_signal(signal.SIGINT)


def signal_real_time() -> None:
    signal.raise_signal(signal.SIGRTMIN)


def signal_kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def killed_by_a_child() -> None:
    subprocess.run(["kill", "-9", str(os.getpid())], check=True)
    time.sleep(3600)


def wait_to_be_killed(file: Path) -> None:
    name(file)
    time.sleep(3600)


def name(file: Path) -> None:
    """Tell the process id, all of it at once."""
    part = file.with_suffix(".part")
    part.write_text(str(os.getpid()))
    part.rename(file)


def use_up_the_cpu_time() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (1, 2))
    while True:
        pass


# Memory runs out.


def eat_memory() -> None:
    hoard = []
    while True:
        hoard.append(bytearray(16 << 20))


def take_resident_memory() -> None:
    # In one line: it is ended in the middle of it, or behind it.
    _hoard = b"x" * (300 << 20), time.sleep(3600)


# Something of it lives on.


def leave_a_child_that_holds_the_pipes(file: Path) -> NoReturn:
    child = subprocess.Popen(["sleep", "3600"], start_new_session=True)
    with file.open("a") as children:
        children.write(f"{child.pid}\n")
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def leave_a_child_that_holds_everything(file: Path) -> NoReturn:
    child = subprocess.Popen(
        ["sleep", "3600"],
        start_new_session=True,
        pass_fds=[int(n) for n in os.listdir("/proc/self/fd") if os.path.exists(f"/dev/fd/{n}")],
    )
    with file.open("a") as children:
        children.write(f"{child.pid}\n")
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError
