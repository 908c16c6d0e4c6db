"""The nodes of the command line's own tests."""

import os
import sys
from array import array

from gophersnake import Audio, Image, Permanent, Tensor, node, progress


@node
def echo(value):
    """Return the input."""
    return value


@node
def made(what):
    """Return a value of the kind that is asked for."""
    return {
        "audio": Audio(array("f", [0.0, 0.5, -0.5, 0.0]), rate=8000, channels=2),
        "image": Image(b"\x00\xff", format="gray8", width=2, height=1),
        "tensor": Tensor("int16", (2, 1), array("h", [1, 2]).tobytes()),
        "bytes": b"raw",
        "text": "grüße",
        "nan": [1.5, float("nan")],
    }[what]


@node
def typed(value, suffix: str = "", times: int = 1):
    """Return the type's name of the input, and the params."""
    return f"{type(value).__name__}{suffix}" * times


@node
def picky(value):
    """Refuse what is not a number, at once."""
    if not isinstance(value, int):
        raise Permanent(f"{value!r} is not a number")
    return value + 1


@node
class Slow:
    """Speaks of its set-up, of its calls on standard output, and in the log."""

    def setup(self):
        progress("loading the model", 0.5)

    def process(self, value):
        print("printed by", value)
        print("written by", value, file=sys.stderr)
        return value


@node
def stuck(value):
    """Say where it is, and never come back."""
    print("stuck in", os.getpid(), flush=True)
    while True:
        pass


@node
def cut_off(value):
    """Lose the connection, and live on."""
    os.closerange(3, 1024)
    while True:
        pass


@node
def heard(chunk):
    """Say what a chunk of a recording is."""
    return [chunk.rate, chunk.channels, len(chunk.samples) // chunk.channels, chunk.samples[0]]


@node
def countdown(start):
    """Give many values for one."""
    yield from range(start, 0, -1)


@node(stateful=True)
class Sum:
    """Gives the sum so far for each number, and in the end how many there were."""

    def begin(self):
        self.sum = self.count = 0

    def process(self, number):
        self.sum += number
        self.count += 1
        return self.sum

    def finish(self):
        return {"count": self.count}
