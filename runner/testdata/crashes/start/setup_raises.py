"""It cannot be set up."""

from gophersnake import node


@node
class It:
    def setup(self) -> None:
        raise RuntimeError("no weights")

    def process(self, _: object) -> int:
        return 0
