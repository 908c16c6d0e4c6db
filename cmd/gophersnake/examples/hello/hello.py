"""Two nodes: the first makes a greeting, the second turns it into capitals."""

from gophersnake import node


@node
def greet(name: str | None, greeting: str = "Hello") -> str:
    """Greet ``name``, the input of the pipeline, or the world if there is no input."""
    return f"{greeting}, {name or 'world'}!"


@node
def shout(text: str) -> str:
    """Return ``text``, the output of ``greet``, in capitals."""
    return text.upper()
