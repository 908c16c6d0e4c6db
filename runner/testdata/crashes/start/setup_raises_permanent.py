"""It says that it will never be set up."""

from gophersnake import Permanent, node


@node
class It:
    def setup(self) -> None:
        raise Permanent("no license")

    def process(self, _: object) -> int:
        return 0
