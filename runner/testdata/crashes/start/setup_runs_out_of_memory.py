"""It runs out of memory while it is set up."""

from gophersnake import node


@node
class It:
    def setup(self) -> None:
        hoard = []
        while True:
            hoard.append(bytearray(16 << 20))

    def process(self, _: object) -> int:
        return 0
