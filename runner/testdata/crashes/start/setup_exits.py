"""It exits while it is set up."""

import sys

from gophersnake import node


@node
class It:
    def setup(self) -> None:
        sys.exit(9)

    def process(self, _: object) -> int:
        return 0
