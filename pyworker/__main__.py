"""Runs the worker from the folder that holds the package, installed or not."""

import gc
import os
import sys

FORK = ("GOPHERSNAKE_FORK", "b3d1c2f0")
"""The environment variable with which a supervisor asks the process to become a reaper."""


def fork_worker(folder: str) -> None:
    """Fork, and return in the worker; this process becomes the worker's reaper, and exits.

    It does so before the package is imported, so that the reaper stays small. If something
    that the interpreter has imported by itself, such as a sitecustomize, has started threads,
    they would not survive the fork: the worker then begins with a new interpreter.

    Args:
        folder: the folder that holds the package.
    """
    from importlib.machinery import SourceFileLoader

    def code(name: str) -> object:
        path = f"{folder}/gophersnake/_worker/process/{name}.py"
        return SourceFileLoader(name, path).get_code(name)

    module = {"__name__": "fork"}
    exec(code("fork"), module)  # type: ignore[arg-type]
    module["REAPER"] = code("reaper")  # type: ignore[assignment]
    alone = len(os.listdir("/proc/self/task")) == 1
    module["fork_worker"]()  # type: ignore[operator]
    if not alone:
        os.execv(sys.executable, sys.orig_argv)


if __name__ == "__main__":
    folder = os.path.dirname(os.path.abspath(__file__))
    if os.environ.pop(FORK[0], None) == FORK[1]:
        fork_worker(folder)
    if folder not in sys.path:  # PYTHONSAFEPATH keeps it out
        sys.path.insert(0, folder)
    collects = gc.isenabled()
    gc.disable()  # what the imports create stays
    import gophersnake._worker
    from gophersnake.__main__ import main

    gophersnake._worker.collects = collects
    main()
