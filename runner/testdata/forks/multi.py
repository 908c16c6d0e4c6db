"""Nodes that use multiprocessing, with each of its start methods."""

import concurrent.futures
import multiprocessing as mp
import os
import sys
from collections.abc import Callable
from multiprocessing import shared_memory
from typing import Any

from gophersnake import node


def double(value: Any) -> Any:
    return value * 2


def put(out: Any, value: Any) -> None:
    out.put(value * 2)


def send(end: Any, value: Any) -> None:
    end.send(value * 2)
    end.close()


def hold(lock: Any, out: Any) -> None:
    with lock:
        out.value += 1


def wait_for(event: Any, barrier: Any) -> None:
    event.wait()
    barrier.wait()


def increase(name: str) -> None:
    shared = shared_memory.SharedMemory(name)
    shared.buf[0] += 1
    shared.close()


def add(entries: Any, value: Any) -> None:
    entries.append(value)


def fail() -> None:
    raise ValueError("of a child")


def run(context: Any, target: Callable[..., Any], *args: Any) -> int:
    """Run a process to its end, and return its exit code."""
    process = context.Process(target=target, args=args)
    process.start()
    process.join()
    return int(process.exitcode)


def process(context: Any) -> Any:
    return [
        run(context, double, 1),
        run(context, fail),
        run(context, os._exit, 5),
        run(context, sys.exit, 6),
    ]


def pipe(context: Any) -> Any:
    ours, theirs = context.Pipe()
    run(context, send, theirs, 4)
    return ours.recv()


def simple_queue(context: Any) -> Any:
    out = context.SimpleQueue()
    run(context, put, out, 4)
    return out.get()


def lock(context: Any) -> Any:
    out = context.Value("i", 0)
    run(context, hold, context.Lock(), out)
    run(context, hold, context.RLock(), out)
    run(context, hold, context.Semaphore(2), out)
    run(context, hold, context.Condition(), out)
    return out.value


def thread_lock(context: Any) -> Any:
    with context.Lock(), context.Semaphore(1):
        return "held"


def event(context: Any) -> Any:
    event, barrier = context.Event(), context.Barrier(2)
    process = context.Process(target=wait_for, args=(event, barrier))
    process.start()
    event.set()
    barrier.wait()
    process.join()
    return process.exitcode


def queued(context: Any) -> Any:
    out = context.Queue()
    process = context.Process(target=put, args=(out, 4))
    process.start()
    value = out.get()
    process.join()
    return value


def pool(context: Any) -> Any:
    with context.Pool(2) as workers:
        return workers.map(double, range(4))


def thread_pool(context: Any) -> Any:
    from multiprocessing.pool import ThreadPool

    with ThreadPool(2) as workers:
        return workers.map(double, range(4))


def executor(context: Any) -> Any:
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as workers:
        return list(workers.map(double, range(4)))


def shared(context: Any) -> Any:
    memory = shared_memory.SharedMemory(create=True, size=16)
    try:
        run(context, increase, memory.name)
        return memory.buf[0]
    finally:
        memory.close()
        memory.unlink()


def array(context: Any) -> Any:
    values = context.Array("d", [1.0, 2.0])
    return sum(values)


def manager(context: Any) -> Any:
    with context.Manager() as manager:
        entries = manager.list()
        run(context, add, entries, 4)
        return list(entries)


def terminated(context: Any) -> Any:
    process = context.Process(target=run, args=(context, input))
    process = context.Process(target=_sleep)
    process.start()
    process.terminate()
    process.join()
    return process.exitcode


def _sleep() -> None:
    import time

    time.sleep(3600)


constructs: dict[str, Callable[[Any], Any]] = {
    "Process": process,
    "Pipe": pipe,
    "SimpleQueue": simple_queue,
    "Lock": lock,
    "Lock of one process": thread_lock,
    "Event, Barrier": event,
    "Queue": queued,
    "Pool": pool,
    "ThreadPool": thread_pool,
    "ProcessPoolExecutor": executor,
    "SharedMemory": shared,
    "Array": array,
    "Manager": manager,
    "terminate": terminated,
}

results: dict[str, Any] = {
    "Process": [0, 1, 5, 6],
    "Pipe": 8,
    "SimpleQueue": 8,
    "Lock": 4,
    "Lock of one process": "held",
    "Event, Barrier": 0,
    "Queue": 8,
    "Pool": [0, 2, 4, 6],
    "ThreadPool": [0, 2, 4, 6],
    "ProcessPoolExecutor": [0, 2, 4, 6],
    "SharedMemory": 1,
    "Array": 3.0,
    "Manager": [4],
    "terminate": -15,
}


@node
def use(what: list[str]) -> bool:
    """Use a construct with a start method, and return whether the result is right."""
    construct, method = what
    result = constructs[construct](mp.get_context(method))
    if result != results[construct]:
        raise AssertionError(f"{result!r} instead of {results[construct]!r}")
    return True
