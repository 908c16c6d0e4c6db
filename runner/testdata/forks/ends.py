"""Nodes that leave work for the end of their worker, and note in a folder what was done."""

import asyncio
import atexit
import concurrent.futures
import logging
import multiprocessing.shared_memory
import os
import sys
import tempfile
import threading
import weakref
from pathlib import Path
from typing import Any

import gophersnake
from gophersnake import node

kept: list[Any] = []
"""What is alive at the end of the worker."""


class Finalized:
    """Notes that it is finalized, even as a part of a reference cycle."""

    def __init__(self, path: Path, cycle: bool) -> None:
        self.file = path.open("a")
        self.cycle = self if cycle else None

    def __del__(self) -> None:
        logging.getLogger("ends").info("finalized")
        self.file.write("finalized\n")
        self.file.close()


class Leaving:
    """The parts of the nodes below."""

    def __init__(self, folder: str, crash: bool = False) -> None:
        self.folder = Path(folder)

    def note(self, what: str) -> None:
        with (self.folder / what).open("a") as file:
            file.write("done\n")

    def last(self) -> None:
        logging.getLogger("ends").info("a record of an atexit callback")
        print("a line of an atexit callback")
        self.note("atexit")

    def in_thread(self) -> None:
        threading.main_thread().join()  # until the interpreter ends
        self.note("thread")

    def leave(self) -> None:
        """Leave something of every kind."""
        atexit.register(self.last)
        file = (self.folder / "unflushed").open("w")
        file.write("done\n")
        kept.append(file)
        kept.append(Finalized(self.folder / "finalizer", cycle=False))
        self.cycle = Finalized(self.folder / "finalizer of a cycle", cycle=True)
        weakref.finalize(self.cycle, self.note, "weakref")
        kept.append(tempfile.TemporaryDirectory(dir=self.folder))
        threading.Thread(target=self.in_thread).start()
        threading.Thread(target=threading.Event().wait, daemon=True).start()
        pool = concurrent.futures.ThreadPoolExecutor(1)
        pool.submit(self.note, "executor").result()
        kept.append(pool)


@node(name="Ends")
class Ends(Leaving):
    def process(self, how: str) -> int:
        self.leave()
        if how:
            exec(how, {"kept": kept, "sys": sys, "os": os, "threading": threading})
        return os.getpid()

    def close(self) -> None:
        self.note("close")


@node(name="AsyncEnds")
class AsyncEnds(Leaving):
    async def wait(self) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            self.note("task")

    async def process(self, how: str) -> int:
        self.leave()
        kept.append(asyncio.create_task(self.wait()))
        await asyncio.to_thread(self.note, "to_thread")
        return os.getpid()


@node(name="ArrayEnds")
class ArrayEnds(Leaving):
    """Keeps arrays of shared memory, and shared memory of its own."""

    def process(self, array: Any) -> Any:
        import numpy as np

        kept.append(array)
        kept.append(gophersnake.empty((1 << 20,), "uint8"))
        own = multiprocessing.shared_memory.SharedMemory(create=True, size=1 << 20)
        kept.append(own)
        atexit.register(own.unlink)
        atexit.register(own.close)
        kept.append(np.ones(1 << 20))
        self.cycle = [array, self]
        return array * 2
