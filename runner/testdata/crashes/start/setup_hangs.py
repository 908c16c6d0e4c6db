"""It hangs while it is set up."""

import time

from gophersnake import node


@node
class It:
    def setup(self) -> None:
        time.sleep(3600)

    def process(self, _: object) -> int:
        return 0
