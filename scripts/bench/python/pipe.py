"""Peer: a bare multiprocessing.Pipe to a child process."""

from __future__ import annotations

import multiprocessing
from multiprocessing.connection import Connection
from typing import Any

import rounds


def child(inside: Connection, outside: Connection) -> None:
    """Answer requests until the other end is closed."""
    outside.close()  # a forked process has this end too
    try:
        while True:
            inside.send(rounds.work(inside.recv()))
    except EOFError:
        pass


def main() -> None:
    """Serve the benchmark's requests."""
    outside, inside = multiprocessing.Pipe()
    process = multiprocessing.Process(target=child, args=(inside, outside), daemon=True)
    process.start()
    inside.close()

    def call(value: Any) -> Any:
        outside.send(value)
        return outside.recv()

    rounds.serve(call)
    outside.close()
    process.join()


if __name__ == "__main__":
    main()
