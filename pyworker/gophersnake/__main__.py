"""The commands of the package: the worker, and ``describe``, which prints descriptions."""

from __future__ import annotations

import os
import sys

from gophersnake._worker import COOKIE, TEMPLATE


def main() -> None:
    """Run a worker or a template if a supervisor started this process, else a command."""
    if os.environ.pop(TEMPLATE[0], None) == TEMPLATE[1]:
        from gophersnake._worker.process.template import run as fork_workers

        fork_workers()  # returns in each forked worker
    if os.environ.pop(COOKIE[0], None) == COOKIE[1]:
        from gophersnake._worker.process.start import run  # slow to import

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
