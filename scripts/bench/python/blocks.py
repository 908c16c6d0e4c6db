"""Peer: two blocks of multiprocessing.shared_memory, written by hand.

It is what a careful programmer would make of the standard library. One block
takes arrays to the child, one brings them back; both are used again for each
call, and the child computes straight into its one. What says that there is
something, and all that is not an array, goes through a pipe. The caller copies
the result out, for the next call overwrites the block.
"""

from __future__ import annotations

import multiprocessing
from multiprocessing.connection import Connection
from multiprocessing.shared_memory import SharedMemory
from typing import Any

import numpy as np
import rounds


def view(block: SharedMemory, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Return an array that lies at the beginning of a block."""
    return np.ndarray(shape, dtype, block.buf)


def child(inside: Connection, outside: Connection) -> None:
    """Work on all that comes, until the other end is closed."""
    outside.close()  # where this process was forked, it has that end too
    blocks: list[SharedMemory] = []
    try:
        while True:
            kind, *rest = inside.recv()
            if kind == "value":
                inside.send(rounds.work(rest[0]))
            elif kind == "array":
                rounds.work(view(blocks[0], *rest), out=view(blocks[1], *rest))
                inside.send(None)
            else:
                blocks = [SharedMemory(name) for name in rest]
                inside.send(None)
    except EOFError:
        pass


class Caller:
    """The caller's end."""

    def __init__(self, pipe: Connection) -> None:
        """Begin without blocks."""
        self._pipe = pipe
        self._blocks: list[SharedMemory] = []

    def __call__(self, value: Any) -> Any:
        """Have a value worked on."""
        if not isinstance(value, np.ndarray):
            return self._ask("value", value)
        if not self._blocks or self._blocks[0].size < value.nbytes:
            self._grow(value.nbytes)
        place = (value.shape, value.dtype.str)
        np.copyto(view(self._blocks[0], *place), value)
        self._ask("array", *place)
        return view(self._blocks[1], *place).copy()

    def _grow(self, size: int) -> None:
        self._blocks = [SharedMemory(create=True, size=size) for _ in range(2)]
        self._ask("blocks", *(block.name for block in self._blocks))
        for block in self._blocks:
            block.unlink()  # both have it; now nothing is left, however they end

    def _ask(self, *message: Any) -> Any:
        self._pipe.send(message)
        return self._pipe.recv()


def main() -> None:
    """Serve the benchmark's requests."""
    outside, inside = multiprocessing.Pipe()
    process = multiprocessing.Process(target=child, args=(inside, outside), daemon=True)
    process.start()
    inside.close()
    rounds.serve(Caller(outside))
    outside.close()
    process.join()


if __name__ == "__main__":
    main()
