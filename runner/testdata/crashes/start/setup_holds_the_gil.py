"""It hangs in C while it is set up."""

import ctypes

from gophersnake import node


@node
class It:
    def setup(self) -> None:
        ctypes.PyDLL(None).sleep(3600)

    def process(self, _: object) -> int:
        return 0
