"""A module that wants something of the machine as it is imported."""

import os
from pathlib import Path

from gophersnake import node

TOKEN = os.environ["GOPHERSNAKE_TEST_TOKEN"]
SHADOW = Path(os.environ["GOPHERSNAKE_TEST_FILE"]).read_text()


@node
def imported(_: None) -> str:
    return SHADOW
