"""The ``node`` decorator: it says which functions and classes of a module are nodes."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, overload

__all__ = ["Options", "kind_of", "name_of", "node", "options_of"]

T = TypeVar("T", bound=Callable[..., Any])

_MARK = "__gophersnake_node__"

MOST = 4096
"""The largest batch, and the most calls at once."""

LONGEST_WAIT = 60_000
"""The most milliseconds that an input may wait for others."""


class Options(NamedTuple):
    """What ``node`` was told of a node; see there."""

    name: str = ""
    stateful: bool = False
    concurrency: int | None = None
    batch: int | None = None
    max_wait_ms: float | None = None


@overload
def node(target: T, /) -> T: ...
@overload
def node(
    *,
    name: str | None = None,
    stateful: bool = False,
    concurrency: int | None = None,
    batch: int | None = None,
    max_wait_ms: float | None = None,
) -> Callable[[T], T]: ...
def node(
    target: T | None = None,
    /,
    *,
    name: str | None = None,
    stateful: bool = False,
    concurrency: int | None = None,
    batch: int | None = None,
    max_wait_ms: float | None = None,
) -> T | Callable[[T], T]:
    """Declare that a function or a class is a node, and return it as it is.

    A function's first parameter is the node's input; the other ones come from
    ``params`` in the manifest, or from further inputs, by name. It may return a
    value, be a generator, whose values go on one by one, or be ``async def``.

    A class takes its params in ``__init__`` and its inputs in ``process``. Where it
    has ``setup``, that is called once in each worker before the first call, and
    ``close`` when the worker shuts down.

    A *stateful* class keeps state along a stream. Each stream gets a shallow copy of
    the object that was set up: the model is shared, and what is assigned is the
    stream's own. ``process`` returns a value, ``None`` for no output, or is a
    generator, for any number of them. The class may have::

        def begin(self): ...           # a stream begins: make the state
        def finish(self): ...          # its input is over: a last value, or a generator
        def snapshot(self): ...        # return the state, as a value that can be carried
        def restore(self, state): ...  # called instead of begin

    With the last two, a stream outlives the worker that it runs on.

    A *batch* node gets a list of 1 to ``batch`` inputs, of several calls, and returns a
    list of as many results. One that is an exception is raised for its input alone.

    Args:
        target: the function or class; given by Python where ``@node`` has no brackets.
        name: the node type, where it is not to be the name in Python.
        stateful: whether the class keeps state along a stream.
        concurrency: how many calls of an ``async def`` node may run at once in one
            worker; 64 where it is not given.
        batch: how many inputs go together at most.
        max_wait_ms: how many milliseconds the first input of a batch waits for others.
            Where it is not given, those go together that are there already.

    Raises:
        TypeError: the target is no function or class, or is a class without a
            ``process`` method, or takes no attributes, as what is written in C;
            or the options do not go together, or not with this target.
    """

    def declare(target: T) -> T:
        if not callable(target):
            raise TypeError(f"@node goes on a function or a class, not on {target!r}")
        if isinstance(target, type) and not callable(getattr(target, "process", None)):
            raise TypeError(f"the node class {target.__name__} needs a method process(self, input)")
        if name is not None and not (isinstance(name, str) and name):
            raise TypeError(f"name is the node's type, a string, not {name!r}")
        known = name or str(getattr(target, "__name__", type(target).__name__))
        options = Options(known, stateful, concurrency, batch, max_wait_ms)
        if options != Options(known):
            _check(target, options)
        try:
            setattr(target, _MARK, options)
        except AttributeError:
            raise TypeError(
                f"@node cannot mark {target!r}: wrap it in a function of your own"
            ) from None
        return target

    return declare if target is None else declare(target)


def _check(target: Callable[..., Any], options: Options) -> None:
    """Raise ``TypeError`` for options that are wrong, or do not fit together or the target."""
    name, stateful, concurrency, batch, max_wait_ms = options
    how = kind_of(getattr(target, "process", target) if isinstance(target, type) else target)
    if stateful:
        _check_stateful(target, options)
    if batch is not None:
        if not _within(batch, 2):
            raise TypeError(f"{name}: batch is a whole number from 2 to {MOST}, not {batch!r}")
        if how.endswith("generator"):
            raise TypeError(f"{name}: a batch node returns a list, it does not yield")
        if concurrency is not None:
            raise TypeError(
                f"{name}: batches of a worker run one after the other; leave concurrency out, "
                "or give the node more workers"
            )
    if max_wait_ms is not None:
        if batch is None:
            raise TypeError(f"{name}: max_wait_ms is how long a batch waits; give it a batch, too")
        number = isinstance(max_wait_ms, (int, float)) and not isinstance(max_wait_ms, bool)
        if not number or not 0 <= max_wait_ms <= LONGEST_WAIT:
            raise TypeError(
                f"{name}: max_wait_ms is a number of milliseconds from 0 to {LONGEST_WAIT}, "
                f"not {max_wait_ms!r}"
            )
    if concurrency is not None:
        if not _within(concurrency, 1):
            raise TypeError(
                f"{name}: concurrency is a whole number from 1 to {MOST}, not {concurrency!r}"
            )
        if not how.startswith("async"):
            raise TypeError(
                f"{name}: concurrency is for async def; a node that is not has one call at a "
                "time on each worker, so give it more workers"
            )


def _check_stateful(target: Callable[..., Any], options: Options) -> None:
    name, _, concurrency, batch, _ = options
    if not isinstance(target, type):
        raise TypeError(
            f"{name}: a stateful node needs a place for its state; make it a class with process"
        )
    if batch is not None:
        raise TypeError(f"{name}: a stateful node has its inputs one by one, not as a batch")
    if concurrency is not None:
        raise TypeError(
            f"{name}: a stateful node has one call at a time, so that its state is its own; "
            "leave concurrency out"
        )
    found = [each for each in ("snapshot", "restore") if callable(getattr(target, each, None))]
    if len(found) == 1:
        missing = "restore(self, state)" if found == ["snapshot"] else "snapshot(self)"
        raise TypeError(f"{name}: {found[0]} is of no use alone; the class needs {missing}, too")


def _within(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= MOST


def options_of(target: object) -> Options | None:
    """Return what ``node`` was told of a target, ``None`` where it was not put on it.

    A class does not inherit it: a subclass of a node is a node where it says so.
    """
    try:
        found = vars(target).get(_MARK)
    except Exception:  # it has no attributes, or is a proxy that raises
        return None
    return found if isinstance(found, Options) else None


def name_of(target: object) -> str | None:
    """Return the node type of what ``node`` was put on, ``None`` for anything else."""
    options = options_of(target)
    return None if options is None else options.name


def kind_of(process: Callable[..., Any]) -> str:
    """Return how a function, or an object that is called like one, gives its result.

    It is ``value``, ``generator``, ``async`` or ``async generator``.
    """
    while isinstance(process, functools.partial):
        process = process.func
    if not inspect.isroutine(process) and not isinstance(process, type):
        process = type(process).__call__
    if inspect.isasyncgenfunction(process):
        return "async generator"
    if inspect.iscoroutinefunction(process):
        return "async"
    return "generator" if inspect.isgeneratorfunction(process) else "value"
