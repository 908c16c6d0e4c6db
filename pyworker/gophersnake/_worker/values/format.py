"""The form of values on the wire, as Go's package ipc describes it, and its errors."""

from __future__ import annotations

TENSOR, AUDIO, IMAGE, JSON, TABLE, LARGE = 1, 2, 3, 4, 5, 6
"""The msgpack extension types of gophersnake."""

NAMES = {
    TENSOR: "a tensor",
    AUDIO: "audio",
    IMAGE: "an image",
    JSON: "a JSON document",
    TABLE: "a table",
    LARGE: "a large value",
}
PARTS = {TENSOR: 3, AUDIO: 3, IMAGE: 5, TABLE: 1, LARGE: 2}
"""How many parts the payloads of extensions have."""

OUT_OF_BAND = 16 << 10
"""Data of at least this many bytes travels in a buffer beside the body."""


LARGE_FROM = 32 << 10
"""Bytes, text and JSON documents of at least this many bytes travel in buffers, too."""

BYTES_FORM, TEXT_FORM, JSON_FORM = "bin", "str", "json"
"""The forms of the data of a large value."""


def step(key: str) -> str:
    """Return a map key as a step of a path, in the same form as in Go."""
    if not key or len(key) > 64 or any(c in '.[] \n"' for c in key):
        quoted = key[:80].replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return f'["{quoted}"]'
    return f".{key}"


class ValueFault(Exception):
    """A value cannot be carried over the wire.

    Attributes:
        path: the location inside the value, for instance ``"result.items[3].handle"``.
        reason: what is wrong there.
        hint: what to do instead; empty if nothing can be recommended.
    """

    def __init__(self, path: str, reason: str, hint: str = "") -> None:
        """Create the error for a location, a reason and a hint."""
        super().__init__(path, reason, hint)
        self.path = path
        self.reason = reason
        self.hint = hint

    def __str__(self) -> str:
        """Return the path and the reason."""
        return f"cannot carry {self.path}: {self.reason}"


class Refused(TypeError):
    """A part of a value cannot be sent. ``ValueFault`` adds the path to it.

    Attributes:
        hint: what to return instead; empty if nothing can be recommended.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        """Create the error with a message and a hint."""
        super().__init__(message)
        self.hint = hint


class TooLarge(ValueFault):
    """A result exceeds the limit that the manifest sets for its node.

    Attributes:
        size: the size of the result in bytes.
    """

    def __init__(self, size: int, limit: int) -> None:
        """Create the error for a size and a limit, both in bytes."""
        super().__init__(
            "result", f"it takes {size} bytes, more than the {limit} that limits.result allows"
        )
        self.size = size


class TooMuchInline(ValueFault):
    """The buffers of a value that do not fit into shared memory are too large together."""

    def __init__(self, size: int, limit: int) -> None:
        """Create the error for a size and a limit, both in bytes."""
        super().__init__(
            "result",
            f"its buffers outside of shared memory take {size} bytes, more than the limit of {limit}",
            "return fewer values at once, or yield them one by one; or raise the limit of shared "
            "memory, which also bounds what goes through the socket",
        )
