"""Those who connect to a worker's socket before it has its supervisor."""

from __future__ import annotations

import selectors
import socket
import struct

MOST = 16
"""How many may be heard at a time; the one who has had the longest time makes room."""

_CREDENTIALS = struct.Struct("3i")
"""Of a peer: its process, user and group."""


class Callers:
    """Hears all who call at the same time: who says nothing keeps nobody out."""

    def __init__(self, listener: socket.socket, user: int, secret: bytes) -> None:
        """Take the listening socket, and the user and the secret that are the supervisor's."""
        self._listener = listener
        self._user = user
        self._secret = secret
        self._heard: dict[socket.socket, bytes] = {}  # what each has said so far
        self._ready = selectors.DefaultSelector()

    def supervisor(self) -> socket.socket:
        """Return the first connection whose peer is the user and knows the secret.

        All others are turned away.
        """
        self._listener.setblocking(False)
        self._ready.register(self._listener, selectors.EVENT_READ)
        with self._ready:
            while True:
                for key, _ in self._ready.select():
                    if key.fileobj is self._listener:
                        self._admit()
                    elif (found := self._hear(key.fileobj)) is not None:
                        for stranger in self._heard:
                            stranger.close()
                        return found

    def _admit(self) -> None:
        caller, _ = self._listener.accept()
        if not self._same_user(caller):
            caller.close()
            return
        if len(self._heard) == MOST:
            self._dismiss(next(iter(self._heard)))
        caller.setblocking(False)
        self._heard[caller] = b""
        self._ready.register(caller, selectors.EVENT_READ)

    def _same_user(self, caller: socket.socket) -> bool:
        option = getattr(socket, "SO_PEERCRED", None)
        if option is None:
            return True  # the secret alone decides
        peer = caller.getsockopt(socket.SOL_SOCKET, option, _CREDENTIALS.size)
        return bool(_CREDENTIALS.unpack(peer)[1] == self._user)

    def _hear(self, caller: object) -> socket.socket | None:
        """Take in what a caller says, and return it where that is the secret."""
        if not isinstance(caller, socket.socket) or caller not in self._heard:
            return None  # it made room for another just now
        try:
            said = caller.recv(len(self._secret) - len(self._heard[caller]))
        except ConnectionError:
            said = b""
        self._heard[caller] += said
        if said and len(self._heard[caller]) < len(self._secret):
            return None
        if not self._knows(caller):
            self._dismiss(caller)
            return None
        del self._heard[caller]
        caller.setblocking(True)
        return caller

    def _knows(self, caller: socket.socket) -> bool:
        # All of it is compared, so that the time taken tells nothing.
        presented = self._heard[caller]
        return len(presented) == len(self._secret) and not sum(
            a ^ b for a, b in zip(presented, self._secret, strict=True)
        )

    def _dismiss(self, caller: socket.socket) -> None:
        self._ready.unregister(caller)
        del self._heard[caller]
        caller.close()
