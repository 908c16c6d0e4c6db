"""Nodes are ordinary functions; call_node calls one as a worker does."""

from gophersnake.testing import call_node
from hello import greet, shout


def test_greet() -> None:
    assert greet("Ada") == "Hello, Ada!"
    assert greet("Ada", greeting="Good morning") == "Good morning, Ada!"
    assert greet(None) == "Hello, world!"


def test_shout() -> None:
    assert call_node(shout, "Hello, Ada!") == "HELLO, ADA!"
