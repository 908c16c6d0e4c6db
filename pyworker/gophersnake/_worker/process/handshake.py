"""The handshake: the worker announces a socket, and waits for a peer with the secret."""

from __future__ import annotations

import fcntl
import struct
import sys

from gophersnake._worker import PROTOCOL
from gophersnake._worker.originals import _thread, os, select, selectors, signal, socket

LIFELINE, AUTOPSY, CHANNEL = 3, 4, 5
"""The descriptors that a worker starts with, in addition to the standard three.

The lifeline is a pipe whose write end only the supervisor holds. The autopsy file takes
the exit report. The channel transfers shared memory; it is open only if the supervisor
shares memory, which the setup frame says.
"""

SECRET_SIZE = 32

BACKLOG = 64
"""How many connections may wait to be accepted, so that a few other processes that connect
do not block the supervisor."""

MAX_PEERS = 16
"""How many peers may be connected at a time. For a further one, the oldest is disconnected."""

_CREDENTIALS = struct.Struct("3i")
"""The process, user and group of a peer."""


class Announced:
    """A socket that was announced to the supervisor, which connects to it meanwhile.

    Attributes:
        listener: the socket, which listens.
        secret: the bytes that the supervisor sends first.
        path: the path of the socket.
    """

    def __init__(self, listener: socket.socket, secret: bytes, path: str) -> None:
        """Create it from its parts."""
        self.listener, self.secret, self.path = listener, secret, path

    def connection(self) -> socket.socket:
        """Wait for the supervisor; return its connection, and remove the socket."""
        with self.listener:
            connection = _accept(self.listener, self.secret)
        os.unlink(self.path)
        try:
            os.rmdir(os.path.dirname(self.path))
        except OSError:
            pass  # the supervisor removes it, too
        return connection


def announce() -> Announced:
    """Announce a socket on standard output. This exits if the supervisor has ended."""
    secret = _read_secret()
    _watch_lifeline()
    folder = os.environ.pop("PLUGIN_UNIX_SOCKET_DIR", "")
    if not folder:
        sys.exit("gophersnake: the supervisor names no folder for the socket")
    for name in [name for name in os.environ if name.startswith("PLUGIN_")]:
        del os.environ[name]  # a node may start go-plugin processes of its own
    path = os.path.join(folder, "worker")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(path)
    except OSError as error:
        error.filename = path  # the supervisor looks for it
        raise
    listener.listen(BACKLOG)
    print(f"1|{PROTOCOL}|unix|{path}|msgpack", flush=True)
    return Announced(listener, secret, path)


def connect() -> socket.socket:
    """Announce a socket, and return the supervisor's connection to it; see ``announce``."""
    return announce().connection()


def channel() -> socket.socket:
    """Return the socket over which descriptors of shared memory are transferred."""
    os.set_inheritable(CHANNEL, False)
    return socket.socket(fileno=CHANNEL)


def _read_secret() -> bytes:
    """Read the secret of this worker from the lifeline."""
    os.set_inheritable(LIFELINE, False)
    secret = b""
    while len(secret) < SECRET_SIZE:
        part = os.read(LIFELINE, SECRET_SIZE - len(secret))
        if not part:
            sys.exit("gophersnake: the supervisor is gone")
        secret += part
    return secret


def _watch_lifeline() -> None:
    """End this process and its children when the supervisor ends.

    On Linux the reaper does so, and has set the lifeline up so that the kernel kills the
    process group when the write end closes, even while C code holds the GIL. On other systems
    a thread waits for that.
    """
    if fcntl.fcntl(LIFELINE, fcntl.F_GETFL) & getattr(os, "O_ASYNC", 0o20000):
        # The supervisor may have ended before it did so.
        if select.select([LIFELINE], [], [], 0)[0]:
            sys.exit("gophersnake: the supervisor is gone")
        return

    def wait() -> None:
        os.read(LIFELINE, 1)
        os.killpg(os.getpgrp(), signal.SIGKILL)

    _thread.start_new_thread(wait, ())


def _accept(listener: socket.socket, secret: bytes) -> socket.socket:
    """Return the supervisor's connection; all other peers are disconnected."""
    return Peers(listener, os.geteuid(), secret).supervisor()


class Peers:
    """The peers that connect before the supervisor is identified.

    All of them are read at the same time, so that a silent peer does not block the
    supervisor.
    """

    def __init__(self, listener: socket.socket, user: int, secret: bytes) -> None:
        """Create the peers of a listening socket.

        Args:
            listener: the socket.
            user: the user id of the supervisor.
            secret: the bytes that the supervisor sends first.
        """
        self._listener = listener
        self._user = user
        self._secret = secret
        self._received: dict[socket.socket, bytes] = {}  # by peer, the oldest first
        self._ready = selectors.DefaultSelector()

    def supervisor(self) -> socket.socket:
        """Wait for the first peer that is the user and sends the secret; return its socket.

        All others are disconnected.
        """
        self._listener.setblocking(False)
        self._ready.register(self._listener, selectors.EVENT_READ)
        with self._ready:
            while True:
                for key, _ in self._ready.select():
                    if key.fileobj is self._listener:
                        self._admit()
                    elif (found := self._read(key.fileobj)) is not None:
                        for stranger in self._received:
                            stranger.close()
                        return found

    def _admit(self) -> None:
        # accept would return a socket of the class that a library has put into the module.
        descriptor, _ = self._listener._accept()  # type: ignore[attr-defined]
        peer = socket.socket(fileno=descriptor)
        if not self._is_same_user(peer):
            peer.close()
            return
        if len(self._received) == MAX_PEERS:
            self._disconnect(next(iter(self._received)))
        peer.setblocking(False)
        self._received[peer] = b""
        self._ready.register(peer, selectors.EVENT_READ)

    def _is_same_user(self, peer: socket.socket) -> bool:
        option = getattr(socket, "SO_PEERCRED", None)
        if option is None:
            return True  # only the secret decides
        credentials = peer.getsockopt(socket.SOL_SOCKET, option, _CREDENTIALS.size)
        return bool(_CREDENTIALS.unpack(credentials)[1] == self._user)

    def _read(self, peer: object) -> socket.socket | None:
        """Read from a peer, and return it if it has sent the secret."""
        if not isinstance(peer, socket.socket) or peer not in self._received:
            return None  # it has just been disconnected
        try:
            part = peer.recv(len(self._secret) - len(self._received[peer]))
        except ConnectionError:
            part = b""
        self._received[peer] += part
        if part and len(self._received[peer]) < len(self._secret):
            return None
        if not self._has_secret(peer):
            self._disconnect(peer)
            return None
        del self._received[peer]
        peer.setblocking(True)
        return peer

    def _has_secret(self, peer: socket.socket) -> bool:
        # All bytes are compared, so that the time taken reveals nothing.
        presented = self._received[peer]
        return len(presented) == len(self._secret) and not sum(
            a ^ b for a, b in zip(presented, self._secret, strict=True)
        )

    def _disconnect(self, peer: socket.socket) -> None:
        self._ready.unregister(peer)
        del self._received[peer]
        peer.close()
