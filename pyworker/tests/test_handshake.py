"""Peers that connect to a worker before its supervisor does."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from gophersnake._worker import originals
from gophersnake._worker.process import handshake
from gophersnake._worker.process.handshake import Peers

SECRET = os.urandom(32)
WRONG = bytes(byte ^ 1 for byte in SECRET)


class Listener:
    """A listening socket, and the clients that connect to it."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen(64)
        self.clients: list[socket.socket] = []

    def call(self, *says: bytes) -> socket.socket:
        client = socket.socket(socket.AF_UNIX)
        client.connect(self.path)
        for part in says:
            client.sendall(part)
        self.clients.append(client)
        return client

    def close(self) -> None:
        for each in (self.listener, *self.clients):
            each.close()


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Listener]:
    listener = Listener(tmp_path / "listener")
    yield listener
    listener.close()


def supervisor(listener: Listener, user: int | None = None) -> socket.socket:
    return Peers(listener.listener, os.geteuid() if user is None else user, SECRET).supervisor()


def turned_away(client: socket.socket) -> bool:
    try:
        return client.recv(1) == b""
    except ConnectionResetError:  # it had said more than was heard
        return True


def test_a_peer_with_the_secret_is_accepted(listener: Listener) -> None:
    client = listener.call(SECRET, b"and a frame")
    with supervisor(listener) as connection:
        assert connection.getblocking()
        assert connection.recv(100) == b"and a frame"
        connection.sendall(b"welcome")
        assert client.recv(100) == b"welcome"


def test_strangers_before_the_supervisor_are_turned_away(listener: Listener) -> None:
    strangers = [
        listener.call(*says) for says in [(), (WRONG,), (SECRET[:5],), (SECRET[:31], b"?")]
    ]
    listener.call(SECRET[:5]).close()
    listener.call().close()
    listener.call(SECRET)
    with supervisor(listener):
        assert all(map(turned_away, strangers))


def test_silent_peers_do_not_keep_the_supervisor_out(listener: Listener) -> None:
    crowd = [listener.call() for _ in range(3 * handshake.MAX_PEERS)]
    listener.call(SECRET)
    with supervisor(listener):
        assert all(map(turned_away, crowd))


def test_a_secret_may_come_in_pieces(listener: Listener) -> None:
    client = listener.call(SECRET[:7])

    def go_on() -> None:
        listener.call(WRONG).recv(1)  # by then the first piece has been heard
        client.sendall(SECRET[7:])

    speaking = threading.Thread(target=go_on)
    speaking.start()
    with supervisor(listener) as connection:
        speaking.join()
        client.sendall(b"x")
        assert connection.recv(1) == b"x"


@pytest.mark.skipif(not hasattr(socket, "SO_PEERCRED"), reason="the secret alone decides here")
def test_another_user_is_turned_away_though_it_knows_the_secret(listener: Listener) -> None:
    stranger = listener.call(SECRET)
    answer: list[bytes] = []

    def listen() -> None:
        answer.append(b"away" if turned_away(stranger) else b"in")
        listener.listener.shutdown(socket.SHUT_RDWR)

    listening = threading.Thread(target=listen)
    listening.start()
    with pytest.raises(OSError, match="Errno"):
        supervisor(listener, os.geteuid() + 1)
    listening.join()
    assert answer == [b"away"]


def test_without_peer_credentials_the_secret_alone_decides(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(originals.socket, "SO_PEERCRED", raising=False)
    stranger = listener.call(WRONG)
    listener.call(SECRET)
    with supervisor(listener, os.geteuid() + 1):
        assert turned_away(stranger)
