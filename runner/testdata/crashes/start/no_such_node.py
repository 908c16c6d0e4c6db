"""It has no node of that name."""

from gophersnake import node


@node
def another() -> None:
    pass
