"""Who connects to a worker before its supervisor does."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from gophersnake._worker.process import handshake
from gophersnake._worker.process.handshake import Peers

SECRET = os.urandom(32)
WRONG = bytes(byte ^ 1 for byte in SECRET)


class Door:
    """A listening socket, and those who call at it."""

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
def door(tmp_path: Path) -> Iterator[Door]:
    door = Door(tmp_path / "door")
    yield door
    door.close()


def supervisor(door: Door, user: int | None = None) -> socket.socket:
    return Peers(door.listener, os.geteuid() if user is None else user, SECRET).supervisor()


def turned_away(client: socket.socket) -> bool:
    try:
        return client.recv(1) == b""
    except ConnectionResetError:  # it had said more than was heard
        return True


def test_who_knows_the_secret_is_let_in(door: Door) -> None:
    client = door.call(SECRET, b"and a frame")
    with supervisor(door) as connection:
        assert connection.getblocking()
        assert connection.recv(100) == b"and a frame"
        connection.sendall(b"welcome")
        assert client.recv(100) == b"welcome"


def test_strangers_before_the_supervisor_are_turned_away(door: Door) -> None:
    strangers = [door.call(*says) for says in [(), (WRONG,), (SECRET[:5],), (SECRET[:31], b"?")]]
    door.call(SECRET[:5]).close()
    door.call().close()
    door.call(SECRET)
    with supervisor(door):
        assert all(map(turned_away, strangers))


def test_a_crowd_that_says_nothing_keeps_nobody_out(door: Door) -> None:
    crowd = [door.call() for _ in range(3 * handshake.MAX_PEERS)]
    door.call(SECRET)
    with supervisor(door):
        assert all(map(turned_away, crowd))


def test_a_secret_may_come_in_pieces(door: Door) -> None:
    client = door.call(SECRET[:7])

    def go_on() -> None:
        door.call(WRONG).recv(1)  # by then the first piece has been heard
        client.sendall(SECRET[7:])

    speaking = threading.Thread(target=go_on)
    speaking.start()
    with supervisor(door) as connection:
        speaking.join()
        client.sendall(b"x")
        assert connection.recv(1) == b"x"


@pytest.mark.skipif(not hasattr(socket, "SO_PEERCRED"), reason="the secret alone decides here")
def test_another_user_is_turned_away_though_it_knows_the_secret(door: Door) -> None:
    stranger = door.call(SECRET)
    answer: list[bytes] = []

    def listen() -> None:
        answer.append(b"away" if turned_away(stranger) else b"in")
        door.listener.shutdown(socket.SHUT_RDWR)

    listening = threading.Thread(target=listen)
    listening.start()
    with pytest.raises(OSError, match="Errno"):
        supervisor(door, os.geteuid() + 1)
    listening.join()
    assert answer == [b"away"]


def test_without_peer_credentials_the_secret_alone_decides(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(socket, "SO_PEERCRED", raising=False)
    stranger = door.call(WRONG)
    door.call(SECRET)
    with supervisor(door, os.geteuid() + 1):
        assert turned_away(stranger)
