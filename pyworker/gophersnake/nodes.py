"""The ``node`` decorator: it says which functions and classes of a module are nodes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, overload

__all__ = ["name_of", "node"]

T = TypeVar("T", bound=Callable[..., Any])

_MARK = "__gophersnake_node__"


@overload
def node(target: T, /) -> T: ...
@overload
def node(*, name: str) -> Callable[[T], T]: ...
def node(target: T | None = None, /, *, name: str | None = None) -> T | Callable[[T], T]:
    """Declare that a function or a class is a node, and return it as it is.

    A function's first parameter is the node's input; the other ones come from
    ``params`` in the manifest, or from further inputs, by name. It may return a
    value, be a generator (its values are gathered in a list), or be ``async def``.

    A class takes its params in ``__init__`` and its inputs in ``process``. Where it
    has ``setup``, that is called once in each worker before the first call, and
    ``close`` when the worker shuts down.

    Args:
        target: the function or class; given by Python where ``@node`` has no brackets.
        name: the node type, where it is not to be the name in Python.

    Raises:
        TypeError: the target is no function or class, or is a class without a
            ``process`` method, or takes no attributes, as what is written in C.
    """

    def declare(target: T) -> T:
        if not callable(target):
            raise TypeError(f"@node goes on a function or a class, not on {target!r}")
        if isinstance(target, type) and not callable(getattr(target, "process", None)):
            raise TypeError(f"the node class {target.__name__} needs a method process(self, input)")
        if name is not None and not (isinstance(name, str) and name):
            raise TypeError(f"name is the node's type, a string, not {name!r}")
        try:
            setattr(target, _MARK, name or getattr(target, "__name__", type(target).__name__))
        except AttributeError:
            raise TypeError(
                f"@node cannot mark {target!r}: wrap it in a function of your own"
            ) from None
        return target

    return declare if target is None else declare(target)


def name_of(target: object) -> str | None:
    """Return the node type of what ``node`` was put on, ``None`` for anything else.

    A class does not inherit it: a subclass of a node is a node where it says so.
    """
    try:
        found = vars(target).get(_MARK)
    except Exception:  # it has no attributes, or is a proxy that raises
        return None
    return found if isinstance(found, str) else None
