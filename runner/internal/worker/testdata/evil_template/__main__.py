"""Templates that violate their protocol, each in the way that $EVIL names.

The workers are the real package's, found in $PACKAGE.
"""

from __future__ import annotations

import os
import runpy
import signal
import socket
import sys

sys.path.insert(0, os.environ["PACKAGE"])
if os.environ.pop("GOPHERSNAKE_FORK", None):
    fork_worker = runpy.run_path(sys.path[0] + "/__main__.py")["fork_worker"]
    fork_worker(sys.path[0])

import msgpack

WAY = os.environ["EVIL"]

if os.environ.pop("GOPHERSNAKE_TEMPLATE", None) is None:
    from gophersnake.__main__ import main

    main()

control = socket.socket(fileno=5)


def answer(**fields: object) -> None:
    control.send(msgpack.packb(fields))


control.recv(1 << 16)
if WAY == "garbage":
    control.send(b"\xc1garbage")
elif WAY == "nothing":
    answer()
elif WAY == "silence":
    signal.pause()
answer(ready=True)
fork = msgpack.unpackb(control.recv(1 << 16))["fork"]
if WAY == "garbled fork":
    control.send(b"\xc1")
elif WAY == "forks nobody":
    answer(forked=0)
elif WAY == "forks its parent":
    answer(forked=os.getppid())
elif WAY == "forks the dead":
    answer(forked=1 << 22)
elif WAY == "refuses":
    answer(error="there is no room")
elif WAY == "closes":
    control.close()
elif WAY == "takes the socket and dies":
    folder = next(each for each in fork if each.startswith("PLUGIN_UNIX_SOCKET_DIR="))
    socket.socket(socket.AF_UNIX).bind(folder.partition("=")[2] + "/worker")
    os.kill(os.getpid(), signal.SIGKILL)
elif WAY == "dies":
    os.kill(os.getpid(), signal.SIGKILL)
signal.pause()
