"""Nodes that pass their limits."""

import asyncio
import os
import time

from gophersnake import node


def wait_for(path):
    """Wait until a file is gone."""
    while path and os.path.exists(path):
        time.sleep(0.001)


@node
def pid(value):
    """Return the worker's process id."""
    return os.getpid()


@node
def gated(how):
    """Say that it has begun, and wait until the gate is gone."""
    if "begun" in how:
        with open(how["begun"], "w"):
            pass
    wait_for(how.get("gate"))
    if how.get("die"):
        os._exit(7)
    return os.getpid()


hoard = []


@node
def greedy(mebibytes):
    """Take so much memory and keep it."""
    hoard.append(bytearray(b"x") * (mebibytes << 20))
    return os.getpid()


@node
def patient_greedy(how):
    """Take memory, and wait to be ended for it."""
    hoard.append(bytearray(b"x") * (how << 20))
    time.sleep(600)


@node
def busy(seconds):
    """Use so much processor time."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
    return "done"


@node
def opener(count):
    """Open so many files and keep them."""
    hoard.extend(open(os.devnull) for _ in range(count))
    return os.getpid()


@node
def large(size):
    """Return so many bytes."""
    return b"x" * size


@node
class Slow:
    """Takes its time to set up, while the gate is there."""

    def __init__(self, gate: str = "", broken: str = ""):
        self.gate, self.broken = gate, broken

    def setup(self):
        wait_for(self.gate)
        if os.path.exists(self.broken):
            raise RuntimeError("the model is broken")

    def process(self, value):
        return os.getpid()


@node
class Mortal:
    """Dies when it is told to, and after that does not come up while broken is there."""

    def __init__(self, broken: str = ""):
        self.broken = broken

    def setup(self):
        if os.path.exists(self.broken):
            os._exit(9)

    def process(self, value):
        if value == "die":
            os._exit(8)
        return os.getpid()


@node(concurrency=4)
async def dawdle(value):
    """Take too long, but let others work."""
    if value:
        await asyncio.sleep(600)
    return value


@node
class GreedyStart:
    """Takes more memory than there is, before its first call."""

    def setup(self):
        hoard.append(bytearray(2000 << 20))

    def process(self, value):
        return value
