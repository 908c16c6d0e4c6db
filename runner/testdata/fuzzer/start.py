"""A program that stands in place of a Python worker or of a template.

It speaks the wire. Up to the point that $HOSTILE_STALL names it is honest, and stalls there;
without that variable, a seed decides what it does wrong, and when. The seed of a process is
made of $HOSTILE_SEED and of how many processes were started with it before, which the file
started in $HOSTILE_FOLDER counts. The file served there counts the calls that forked workers
have answered without having done anything wrong.
"""

from __future__ import annotations

import os
import runpy
import sys
import traceback


def main() -> None:
    """Be a worker, or a template. Their reaper is the real one."""
    program = sys.orig_argv[-1]
    if os.environ.pop("GOPHERSNAKE_FORK", None):
        runpy.run_path(program)["fork_worker"](os.path.dirname(program))
    import template
    import worker

    hostile = worker.Worker(os.environ.get("HOSTILE_STALL", ""))
    before = worker.count("started") - 1
    hostile.become(f"{os.environ.get('HOSTILE_SEED', '0')}:{before}")
    if os.environ.pop("GOPHERSNAKE_TEMPLATE", None):
        template.Template(hostile).run()  # returns in a worker that it has forked
    hostile.run()


if "HOSTILE_FOLDER" in os.environ and os.path.basename(sys.orig_argv[-1]) == "__main__.py":
    try:
        main()
    except (ConnectionError, EOFError):
        pass  # the supervisor has ended the connection
    except BaseException:  # a fault of this program's own, such as a closed descriptor
        traceback.print_exc()
    os._exit(0)
