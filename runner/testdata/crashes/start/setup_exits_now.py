"""It exits at once while it is set up."""

import os

from gophersnake import node


@node
class It:
    def setup(self) -> None:
        os._exit(0)

    def process(self, _: object) -> int:
        return 0
