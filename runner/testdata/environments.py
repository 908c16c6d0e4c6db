"""A node that says which version of a package it has."""

from __future__ import annotations

from gophersnake import node


@node
def version(_: object) -> str:
    """Return the version of six."""
    import six

    return six.__version__
