"""Peer: a session of RemoteMedia's runtime, with one node in a process of its own.

Requests and answers are lines of JSON, as in rounds.py. A request has ``item``: a text, an
object, or ``{"frames": N}`` for a recording. With ``calls`` it asks for the times of calls, of
which ``flight`` are under way at once; with ``wait`` for what becomes of one item, and of the
next one.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
import traceback
from typing import Any

answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # the runtime writes its log to the standard output

import numpy as np  # noqa: E402
from remotemedia import runtime  # noqa: E402

MANIFEST = {
    "version": "v1",
    "metadata": {"name": "bench"},
    "nodes": [{"id": "work", "node_type": "Work", "params": {}}],
    "connections": [],
}


def taken(item: Any) -> Any:
    """Return an item as the runtime takes it."""
    if not isinstance(item, dict) or "frames" not in item:
        return item
    samples = (np.arange(item["frames"]) % (1 << 16)).astype("<f4") / (1 << 16)
    return {"type": "audio", "samples": samples, "sample_rate": 16000, "channels": 1}


class Peer:
    """One session. A recv_output that is canceled would lose all later results."""

    def __init__(self, session: Any) -> None:
        """Take the session."""
        self.session = session
        self.pending: asyncio.Future[Any] | None = None

    async def receive(self, wait: float) -> Any:
        """Return the next result.

        Raises:
            TimeoutError: there is none within ``wait`` seconds.
        """
        if self.pending is None:
            self.pending = asyncio.ensure_future(self.session.recv_output())
        done, _ = await asyncio.wait({self.pending}, timeout=wait)
        if not done:
            raise TimeoutError(f"nothing in {wait:g} s")
        pending, self.pending = self.pending, None
        return pending.result()

    async def calls(self, item: Any, warmup: int, calls: int, flight: int) -> list[int]:
        """Return the time of each call, or of all of them if several are under way."""
        clock = time.perf_counter_ns
        took = []
        start = clock()
        if flight == 1:
            for i in range(warmup + calls):
                start = clock()
                await self.session.send_input(item)
                await self.receive(30)
                if i >= warmup:
                    took.append(clock() - start)
            return took
        for i in range(calls + flight):
            if i < calls:
                await self.session.send_input(item)
            if i >= flight:
                await self.receive(30)
        return [clock() - start]

    async def outcome(self, item: Any, wait: float) -> str:
        """Return what becomes of an item, as text."""
        start = time.perf_counter()
        try:
            await self.session.send_input(item)
            said = f"result {(await self.receive(wait))[1]!r:.60}"
        except TimeoutError as error:
            return str(error)
        except Exception as error:
            said = f"error {error!r:.60}"
        return f"{said} after {time.perf_counter() - start:.1f} s"

    async def killed(self, wait: float) -> str:
        """Kill the worker while 100 items are under way, and return how many results arrive."""
        for _ in range(100):
            await self.session.send_input("nap")
        arrived = 0
        try:
            while arrived < 100:
                await self.receive(wait)
                arrived += 1
                if arrived == 10:
                    os.kill(children()[0], signal.SIGKILL)
        except TimeoutError:
            pass
        return f"{arrived} of 100 results"


def children() -> list[int]:
    """Return the processes of this one."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat") as file:
                state, parent = file.read().rsplit(")", 1)[1].split()[:2]
        except OSError:
            continue
        if state != "Z" and int(parent) == os.getpid():
            found.append(int(name))
    return found


async def serve() -> None:
    """Answer each request."""
    runtime.register_python_node_type("Work", "rm_nodes.Work")
    peer = Peer(await runtime.create_streaming_session(json.dumps(MANIFEST)))
    await peer.session.send_input("ready")
    await peer.receive(30)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        request = json.loads(line)
        item = taken(request["item"])
        answer: dict[str, Any]
        try:
            if "calls" in request:
                took = await peer.calls(
                    item, request["warmup"], request["calls"], request["flight"]
                )
                answer = {"ns": took}
            else:
                wait = request["wait"]
                first = await (peer.killed(wait) if item == "kill" else peer.outcome(item, wait))
                answer = {"first": first, "next": await peer.outcome("hello", wait)}
        except Exception:
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), file=answers, flush=True)
    for pid in children():
        os.kill(pid, signal.SIGKILL)
    os._exit(0)  # to close a session can take 20 s, and leaves the worker


asyncio.run(serve())
