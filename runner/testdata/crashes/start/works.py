"""A node that is well; the others of this folder take its place."""

import os

from gophersnake import node


@node
class It:
    def process(self, _: object) -> int:
        return os.getpid()
