"""It aborts while it is set up."""

import os

from gophersnake import node


@node
class It:
    def setup(self) -> None:
        os.abort()

    def process(self, _: object) -> int:
        return 0
