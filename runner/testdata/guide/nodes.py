"""The nodes of docs/go.md."""

from __future__ import annotations

from collections import Counter

from gophersnake import node


@node
def clean(text: str) -> str:
    """Remove what the model does not know."""
    return "".join(c for c in text.lower() if "a" <= c <= "d")


@node
def embed(text: str) -> dict[str, object]:
    """Count letters, in the place of a model."""
    counts = Counter(text)
    return {"model": "letters", "text": text, "vector": [counts[c] / len(text) for c in "abcd"]}
