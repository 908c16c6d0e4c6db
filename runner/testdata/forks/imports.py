"""A module that leaves something for later while it is imported, and forks a child."""

import atexit
import os
import tempfile
from pathlib import Path
from typing import Any

from gophersnake import node
from nodes import fork, report

FOLDER = Path(os.environ["FOLDER"])


@atexit.register
def last() -> None:
    with (FOLDER / "atexit").open("a") as file:
        file.write("done\n")


child = fork(os.environ["CODE"])
report_of_child = report(child) if child else None
temporary = tempfile.TemporaryDirectory(dir=FOLDER)  # in no child, which would remove it


@node
def imported(_: Any) -> Any:
    """Return how the child ended, and whether the temporary folder exists."""
    return report_of_child | {"exists": os.path.isdir(temporary.name)}
