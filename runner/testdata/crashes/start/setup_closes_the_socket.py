"""It closes the connection while it is set up."""

import os
import time

from gophersnake import node


@node
class It:
    def setup(self) -> None:
        os.closerange(3, 1 << 16)
        time.sleep(3600)

    def process(self, _: object) -> int:
        return 0
