"""Two nodes: one greets, the next says it louder."""

from gophersnake import node


@node
def greet(name: str | None, greeting: str = "Hello") -> str:
    """Greet ``name``: the pipeline's input, or the world where there is none."""
    return f"{greeting}, {name or 'world'}!"


@node
def shout(text: str) -> str:
    """Say ``text``, the output of ``greet``, in capitals."""
    return text.upper()
