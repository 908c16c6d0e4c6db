"""Peer: a bare multiprocessing.Pipe to a child process."""

from __future__ import annotations

import multiprocessing
from multiprocessing.connection import Connection
from typing import Any

import rounds


def echo(inside: Connection, outside: Connection) -> None:
    """Send back all that comes, in the child, until the other end is closed."""
    outside.close()  # where the child was forked, it has this end too
    try:
        while True:
            inside.send(rounds.again(inside.recv()))
    except EOFError:
        pass


def main() -> None:
    """Serve the benchmark's requests."""
    outside, inside = multiprocessing.Pipe()
    child = multiprocessing.Process(target=echo, args=(inside, outside), daemon=True)
    child.start()
    inside.close()

    def call(value: Any) -> Any:
        outside.send(value)
        return outside.recv()

    rounds.serve(call)
    outside.close()
    child.join()


if __name__ == "__main__":
    main()
