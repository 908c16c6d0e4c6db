"""Nodes are ordinary functions, and these tests call them as such."""

from hello import greet, shout


def test_greet() -> None:
    assert greet("Ada") == "Hello, Ada!"
    assert greet("Ada", greeting="Good morning") == "Good morning, Ada!"
    assert greet(None) == "Hello, world!"


def test_shout() -> None:
    assert shout("Hello, Ada!") == "HELLO, ADA!"
