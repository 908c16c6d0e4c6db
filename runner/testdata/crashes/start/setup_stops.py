"""It stops itself while it is set up."""

import os
import signal

from gophersnake import node


@node
class It:
    def setup(self) -> None:
        os.kill(os.getpid(), signal.SIGSTOP)

    def process(self, _: object) -> int:
        return 0
