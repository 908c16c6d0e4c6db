"""Workers that violate the protocol, each in the way that $EVIL names.

They are real processes with the real package's handshake, found in $PACKAGE.
"""

from __future__ import annotations

import fcntl
import os
import runpy
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, os.environ["PACKAGE"])
if os.environ.pop("GOPHERSNAKE_FORK", None):
    fork_worker = runpy.run_path(sys.path[0] + "/__main__.py")["fork_worker"]
    fork_worker(sys.path[0])

from gophersnake._worker.process import exit_report, handshake
from gophersnake._worker.wire import frames
from gophersnake._worker.wire.connection import Connection

WAY = os.environ["EVIL"]
FILE = os.environ.get("EVIL_FILE", os.devnull)
FOLDER = os.environ.get("PLUGIN_UNIX_SOCKET_DIR", "")

exit_report.install(handshake.AUTOPSY)


def stay() -> None:
    """Live on, whatever happens to the connection."""
    while True:
        time.sleep(3600)


def announce(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
    stay()


# Before the connection.

if WAY == "silent":
    stay()
elif WAY == "garbled":
    announce("1|nonsense")
elif WAY == "wrong version":
    announce("1|9|unix|/nowhere|msgpack")
elif WAY == "huge":
    announce("1|1|unix|/" + "x" * (1 << 20) + "|msgpack")
elif WAY == "no socket":
    announce("1|1|unix|/nowhere/worker|msgpack")
elif WAY == "grpc":
    announce("1|1|unix|/nowhere/worker|grpc")
elif WAY == "flood":
    while True:
        os.write(1, b"x" * (1 << 16))
elif WAY == "closes stdout":
    os.close(1)
    stay()
elif WAY == "another's socket":
    path = os.path.join(FOLDER, "worker")
    listening, told = os.pipe()
    if os.fork() == 0:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen(1)
        os.write(told, b".")
        stay()
    os.read(listening, 1)
    announce(f"1|1|unix|{path}|msgpack")
elif WAY == "killed when it listens":
    handshake._accept = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
elif WAY == "killed when connected":
    real_accept = handshake._accept
    handshake._accept = lambda *args: (real_accept(*args), os.kill(os.getpid(), signal.SIGKILL))
elif WAY == "stranger first":
    # Before the socket is announced to the host, a process without the secret connects.
    stranger_says = """
import os, socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
s.sendall(b"?" * 32)
print("connected", flush=True)
refused = s.recv(1) == b""
mode = oct(os.stat(os.path.dirname(sys.argv[1])).st_mode & 0o777)
open(sys.argv[2], "w").write(f"refused {refused} {mode}")
"""
    real_accept = handshake._accept

    def announced(line: str, flush: bool) -> None:
        command = [sys.executable, "-c", stranger_says, line.split("|")[3], FILE]
        # It is queued: the worker does not accept connections yet.
        global stranger
        stranger = subprocess.Popen(command, stdout=subprocess.PIPE)
        stranger.stdout.readline()
        print(line, flush=True)

    def accept(*args: object) -> socket.socket:
        connection = real_accept(*args)
        stranger.wait()
        return connection

    handshake.print = announced
    handshake._accept = accept
    del sys.argv[1:]
    from gophersnake._worker.process.worker import Worker

    exit_report.exit_now(Worker(handshake.connect()).run())

sock = handshake.connect()
connection = Connection(sock)

# While it is set up.

if WAY == "hello in garbage":
    sock.sendall(b"\xff" * 1000)
    stay()
elif WAY == "hello of another version":
    connection.send_message(frames.HELLO, {"protocol": 99})
    stay()

connection.send_message(frames.HELLO, {"protocol": 1, "pid": os.getpid()})
connection.receive()
if WAY == "closes when set up":
    sock.close()
    stay()
elif WAY == "escapes when set up":
    child = subprocess.Popen(["sleep", "3600"], start_new_session=True, pass_fds=[sock.fileno()])
    Path(FILE).write_text(str(child.pid))
    os.kill(os.getpid(), signal.SIGKILL)
connection.send_message(frames.READY, {"name": "evil"})

# While it serves.

if WAY == "closes when idle":
    sock.close()
    stay()
elif WAY == "garbage when idle":
    sock.sendall(b"garbage" * 100)
    stay()
elif WAY == "never reads":
    sock.recv(1, socket.MSG_PEEK)
    if "EVIL_IGNORES" in os.environ:
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    Path(FILE).write_text("the host is writing")
    stay()

call = connection.receive()
if call.type == frames.SHUTDOWN:
    stay()
if WAY == "closes":
    sock.close()
elif WAY == "garbage":
    sock.sendall(b"garbage" * 100)
elif WAY == "half a frame":
    sock.sendall(frames.head(frames.RESULT, call.call, b"\xc0", [])[:10])
elif WAY == "half a body":
    sock.sendall(frames.head(frames.RESULT, call.call, b"x" * 100, []) + b"x")
elif WAY == "answers twice":
    connection.send(frames.RESULT, call.call, b"\xc0")
    connection.send(frames.RESULT, call.call, b"\xc0")
elif WAY == "answers another":
    connection.send(frames.RESULT, call.call + 1, b"\xc0")
elif WAY == "answers nonsense":
    connection.send(frames.RESULT, call.call, b"\xc1")
elif WAY == "answers at length":
    connection.send(frames.RESULT, call.call, b"\xc5" + (5000).to_bytes(2, "big") + b"x" * 5000)
elif WAY == "releases what it was not lent":
    connection.send(frames.RELEASE, 0, b"\x91\x92\x01\x00")
elif WAY == "never transfers":
    connection.send(frames.RESULT, call.call, b"\xc0", [frames.Location(1 << 31 | 1, 0, 8)])
elif WAY == "shares 1 GiB":
    memory = os.memfd_create("sparse", os.MFD_ALLOW_SEALING)
    os.ftruncate(memory, 1 << 30)
    fcntl.fcntl(memory, 1033, 2 | 4)  # F_ADD_SEALS: F_SEAL_SHRINK, F_SEAL_GROW
    message = struct.pack("<IQ", 1 << 31 | 1, 1 << 30)
    socket.send_fds(handshake.channel(), [message], [memory])
    connection.send(frames.RESULT, call.call, b"\xc0", [frames.Location(1 << 31 | 1, 0, 8)])
elif WAY == "logs 16 MiB of empty arrays":
    body = b"\x81\xa6fields\x81\xa0\xdd\x00\xff\xff\x00" + b"\x90" * 0xFFFF00
    connection.send(frames.LOG, 0, body)
elif WAY == "answers 32 MiB of empty arrays":
    body = b"\xdd\x02\x00\x00\x00" + b"\x90" * (32 << 20)
    connection.send(frames.RESULT, call.call, body)
elif WAY == "fatal and lives":
    message = {"kind": "python_vm", "class": "MemoryError", "message": "", "fatal": True}
    connection.send_message(frames.ERROR, message, call.call)
elif WAY == "escapes":
    child = subprocess.Popen(["sleep", "3600"], start_new_session=True, pass_fds=[sock.fileno()])
    Path(FILE).write_text(str(child.pid))
    os.kill(os.getpid(), signal.SIGKILL)
elif WAY == "fatal error and dies":
    log = {"level": "info", "logger": "", "message": "", "time": 0.0, "fields": {}}
    connection.send_message(frames.LOG, log)
    message = {"kind": "python_vm", "class": "MemoryError", "message": "", "fatal": True}
    connection.send_message(frames.ERROR, message, call.call)
    os.kill(os.getpid(), signal.SIGKILL)
stay()
