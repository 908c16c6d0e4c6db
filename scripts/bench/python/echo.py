"""The node of the gophersnake peer."""

from gophersnake import node


@node
def echo(value: object) -> object:
    """Return the value as it came."""
    return value
