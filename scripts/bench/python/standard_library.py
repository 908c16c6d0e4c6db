"""Peers: multiprocessing.Pipe, shared memory and ProcessPoolExecutor.

    python standard_library.py pipe|blocks|executor

The peer ``pipe`` is a bare ``multiprocessing.Pipe`` to a child process.

The peer ``blocks`` is what a careful programmer would write with the standard library
alone. One block of shared memory carries arrays to the child, another one carries them
back. All calls use the same two blocks, and the child computes directly into its own. A
pipe carries the signals, and all values that are not arrays. The caller copies the result,
since the next call overwrites the block.

The peer ``executor`` is a ``ProcessPoolExecutor`` with one worker.
"""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.connection import Connection
from multiprocessing.shared_memory import SharedMemory
from typing import Any

import numpy as np
import rounds


def serve_with_child(
    child: Callable[[Connection, Connection], None],
    caller: Callable[[Connection], rounds.Call],
) -> None:
    """Serve the benchmark's requests with a child process at the other end of a pipe."""
    outside, inside = multiprocessing.Pipe()
    process = multiprocessing.Process(target=child, args=(inside, outside), daemon=True)
    process.start()
    inside.close()
    rounds.serve(caller(outside))
    outside.close()
    process.join()


def pipe_child(inside: Connection, outside: Connection) -> None:
    """Answer requests until the other end is closed."""
    outside.close()  # a forked process has this end too
    try:
        while True:
            inside.send(rounds.work(inside.recv()))
    except EOFError:
        pass


def pipe_caller(outside: Connection) -> rounds.Call:
    """Return the function that makes a call through a bare pipe."""

    def call(value: Any) -> Any:
        outside.send(value)
        return outside.recv()

    return call


def view(block: SharedMemory, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Return an array at the start of a block."""
    return np.ndarray(shape, dtype, block.buf)


def blocks_child(inside: Connection, outside: Connection) -> None:
    """Answer requests until the other end is closed."""
    outside.close()  # a forked process has this end too
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


class BlocksCaller:
    """Makes calls through two blocks of shared memory and a pipe."""

    def __init__(self, pipe: Connection) -> None:
        """Start without blocks."""
        self._pipe = pipe
        self._blocks: list[SharedMemory] = []

    def __call__(self, value: Any) -> Any:
        """Return the child's result for a value."""
        if not isinstance(value, np.ndarray):
            return self._ask("value", value)
        if not self._blocks or self._blocks[0].size < value.nbytes:
            self._grow(value.nbytes)
        form = (value.shape, value.dtype.str)
        np.copyto(view(self._blocks[0], *form), value)
        self._ask("array", *form)
        return view(self._blocks[1], *form).copy()

    def _grow(self, size: int) -> None:
        self._blocks = [SharedMemory(create=True, size=size) for _ in range(2)]
        self._ask("blocks", *(block.name for block in self._blocks))
        for block in self._blocks:
            block.unlink()  # both processes have it open; it is freed when they end

    def _ask(self, *message: Any) -> Any:
        self._pipe.send(message)
        return self._pipe.recv()


def serve_executor() -> None:
    """Serve the benchmark's requests with a ProcessPoolExecutor."""
    with ProcessPoolExecutor(max_workers=1) as executor:
        rounds.serve(lambda value: executor.submit(rounds.work, value).result())


def main(peer: str) -> None:
    """Serve the benchmark's requests as one of the peers."""
    if peer == "pipe":
        serve_with_child(pipe_child, pipe_caller)
    elif peer == "blocks":
        serve_with_child(blocks_child, BlocksCaller)
    else:
        serve_executor()


if __name__ == "__main__":
    main(sys.argv[1])
