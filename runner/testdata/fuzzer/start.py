"""A program that stands in place of a Python worker or of a template.

It speaks the wire. Up to the point that $HOSTILE_STALL names it is honest, and stalls there;
without that variable, a seed decides what it does wrong, and when. The seed of a process is
made of $HOSTILE_SEED and of how many processes were started with it before, which a file in
$HOSTILE_FOLDER counts.
"""

from __future__ import annotations

import os
import random
import sys
import traceback


def number() -> int:
    """Return how many processes with the same seed were started before."""
    path = os.path.join(os.environ["HOSTILE_FOLDER"], "started")
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    os.write(descriptor, b".")
    count = os.lseek(descriptor, 0, os.SEEK_CUR)
    os.close(descriptor)
    return count - 1


def main() -> None:
    """Be a worker, or a template."""
    import template
    import worker

    seed = f"{os.environ.get('HOSTILE_SEED', '0')}:{number()}"
    stall = os.environ.get("HOSTILE_STALL", "")
    hostile = worker.Worker(random.Random(seed), stall)
    if os.environ.pop("GOPHERSNAKE_TEMPLATE", None):
        template.Template(hostile).run()  # returns in a worker that it has forked
        hostile.chance = random.Random(f"{seed}:{number()}")
    hostile.run()


if "HOSTILE_FOLDER" in os.environ and os.path.isdir(sys.orig_argv[-1]):
    try:
        main()
    except (ConnectionError, EOFError):
        pass  # the supervisor has ended the connection
    except BaseException:  # a fault of this program's own, such as a closed descriptor
        traceback.print_exc()
    os._exit(0)
