"""A worker that waits at a gate before it announces its socket.

The test is there then, as a stranger may be: $SOCKET is the file that tells it the
path and the secret, $GATE a pipe that it closes. With $UID the worker is another user's.
"""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path

sys.path.insert(0, os.environ["PACKAGE"])
if os.environ.pop("GOPHERSNAKE_FORK", None):
    fork_worker = runpy.run_path(sys.path[0] + "/__main__.py")["fork_worker"]
    fork_worker(sys.path[0])

from gophersnake._worker.process import exit_report, handshake
from gophersnake._worker.process.worker import Worker

FILE, GATE = Path(os.environ["SOCKET"]), os.environ["GATE"]

exit_report.install(handshake.AUTOPSY)
secret = b""
read_secret = handshake._read_secret


def keep_secret() -> bytes:
    global secret
    secret = read_secret()
    if "UID" in os.environ:
        folder, uid = os.environ["PLUGIN_UNIX_SOCKET_DIR"], int(os.environ["UID"])
        for place in (folder, os.path.dirname(folder), FILE.parent):
            os.chown(place, uid, -1)
        os.setuid(uid)
    return secret


def announce(line: str, flush: bool) -> None:
    part = FILE.with_suffix(".part")
    part.write_text(f"{line.split('|')[3]}\n{secret.hex()}")
    with open(GATE) as gate:  # while the test still holds it
        part.rename(FILE)
        gate.read()
    print(line, flush=flush)


handshake._read_secret = keep_secret
handshake.print = announce
exit_report.exit_now(Worker(handshake.connect()).run())
