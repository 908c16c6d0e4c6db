"""Attacks on the machine: its processes, threads, files, locks and signals."""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from inside import AUTOPSY, LIFELINE, connection, refused, wait

_libc = ctypes.CDLL(None, use_errno=True)

F_NOTIFY = 1026
"""A number of Linux that Python does not name."""

SYS_FCNTL = 72 if os.uname().machine == "x86_64" else 25
"""The number of the system call."""


def _call(function: Any, *arguments: Any) -> int:
    """Call a function of the C library, and raise the error that it sets."""
    ctypes.set_errno(0)
    result = function(*arguments)
    if result == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return int(result)


# Signals.


def signals_the_host(given: Any) -> str:
    """Send the supervisor a signal by each call that can."""
    host = given["host"]

    def kill() -> None:
        os.kill(host, 0)

    def queue() -> None:
        _call(_libc.sigqueue, host, 0, None)

    def by_descriptor() -> None:
        signal.pidfd_send_signal(os.pidfd_open(host), 0)

    def group() -> None:
        os.killpg(os.getpgid(host), 0)

    return refused(kill, queue, by_descriptor, group)


def lets_the_kernel_signal_the_host(given: Any) -> str:
    """Make the supervisor the owner of descriptors whose input sends SIGKILL."""
    read, write = os.pipe()
    near, far = socket.socketpair()
    for descriptor in (read, near.fileno(), LIFELINE):
        try:
            fcntl.fcntl(descriptor, fcntl.F_SETOWN, given["host"])
        except ProcessLookupError:  # the supervisor is in another namespace
            continue
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(descriptor, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
    os.write(write, b"x")
    far.send(b"x")
    return "the host lives"


# Files.


def leases_the_code(given: Any) -> str:
    """Take leases of files that new workers read, so that each open waits 45 seconds."""
    signal.signal(signal.SIGIO, signal.SIG_IGN)

    def lease() -> None:
        descriptor = os.open(Path(__file__), os.O_RDONLY)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)

    def lease_with_high_bits() -> None:
        descriptor = os.open(Path(__file__), os.O_RDONLY)
        command = ctypes.c_ulong(1 << 32 | fcntl.F_SETLEASE)
        _call(_libc.syscall, ctypes.c_long(SYS_FCNTL), descriptor, command, fcntl.F_WRLCK)

    def watch() -> None:
        descriptor = os.open(Path(__file__).parent, os.O_RDONLY)
        fcntl.fcntl(descriptor, F_NOTIFY, 1)

    return refused(lease, lease_with_high_bits, watch)


def digs_deep(given: Any) -> str:
    """Nest 300 folders in its temporary folder, for the one that removes it."""
    os.chdir(os.environ["TMPDIR"])
    for _ in range(300):
        os.mkdir("d")
        os.chdir("d")
    return "dug"


def hides_files(given: Any) -> str:
    """Leave a folder that cannot be listed in its temporary folder."""
    folder = Path(os.environ["TMPDIR"], "hidden")
    folder.mkdir(mode=0o300)
    (folder / "file").write_text("hidden")
    return "hidden"


def uses_what_it_inherits(given: Any) -> str:
    """Use each descriptor that the process has, beyond those of its own."""
    found = []
    for descriptor in range(6, 1024):
        try:
            kind = os.fstat(descriptor).st_mode
        except OSError:
            continue
        if kind & 0o170000 == 0o100000:  # a regular file
            found.append(os.pread(descriptor, 100, 0))
    secrets = [each for each in found if b"secret of the host" in each]
    if secrets:
        raise AssertionError(f"it reads {secrets}")
    return "it finds no descriptor of the host"


# Processes and threads.


def starts_threads(given: Any) -> str:
    """Start threads until none can be started."""
    started = 0
    threading.stack_size(64 << 10)
    try:
        while started < 20_000:
            threading.Thread(target=time.sleep, args=(3600,), daemon=True).start()
            started += 1
    except RuntimeError:  # there are no more
        pass
    return f"{started} threads"


def forks(given: Any) -> str:
    """Start processes, by each way."""

    def fork() -> None:
        if os.fork() == 0:
            time.sleep(3600)

    def spawn() -> None:
        subprocess.Popen(["/bin/sleep", "3600"], start_new_session=True)

    return refused(fork, spawn)


def outlives_its_supervisor(given: Any) -> None:
    """Drop whatever ends the process with its supervisor, and start children that do so too."""
    for descriptor in (LIFELINE, AUTOPSY):
        fcntl.fcntl(descriptor, fcntl.F_SETFL, 0)
        os.close(descriptor)
    connection()._sock.close()
    for attempt in (os.setsid, os.setpgrp):
        try:
            attempt()
        except OSError:
            pass
    try:
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                wait()
    except OSError:
        pass
    wait()


def looks_small(given: Any) -> str:
    """Give the process a name that breaks what reads /proc/PID/stat, and hide it."""
    _call(_libc.prctl, 15, b") R 1 1 1 1", 0, 0, 0)  # PR_SET_NAME
    for command in (4, 1 << 32 | 4):  # PR_SET_DUMPABLE, of which the kernel takes 32 bits
        number = ctypes.c_long(157 if os.uname().machine == "x86_64" else 167)
        try:
            _call(_libc.syscall, number, ctypes.c_ulong(command), 0, 0, 0, 0)
        except PermissionError:
            pass
    block = bytearray(400 << 20)
    for at in range(0, len(block), 4096):
        block[at] = 1
    wait()
    return str(len(block))


def keeps_its_pipe(given: Any) -> str:
    """Say that the heartbeat is the lifeline, which the supervisor would then open and write."""
    inode = os.fstat(LIFELINE).st_ino
    os.pwrite(AUTOPSY, struct.pack("<Q", inode), 8)
    wait()
    return sys.platform
