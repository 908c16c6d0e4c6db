"""It is killed while it is set up, as the kernel does when memory runs out."""

import os
import signal

from gophersnake import node


@node
class It:
    def setup(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def process(self, _: object) -> int:
        return 0
