"""The commands of the package: the worker, and ``describe``, which looks at nodes."""

from __future__ import annotations

import os
import sys

from gophersnake._worker import COOKIE, TEMPLATE


def main() -> None:
    """Serve a node where a supervisor started this process, or do as the arguments say."""
    if os.environ.pop(TEMPLATE[0], None) == TEMPLATE[1]:
        from gophersnake._worker.process.template import run as fork_workers

        fork_workers()  # this returns in them
    if os.environ.pop(COOKIE[0], None) == COOKIE[1]:
        from gophersnake._worker.process.start import run  # fast --help

        run()
    elif sys.argv[1:] == ["describe"]:
        from gophersnake._worker.definition.describe import run as describe

        describe()
    else:
        sys.exit(
            "This is gophersnake's Python worker, which the supervisor starts by itself.\n"
            "Run a pipeline with: gophersnake run PIPELINE --input INPUT"
        )


if __name__ == "__main__":
    main()
