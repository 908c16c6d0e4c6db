"""The ``node`` decorator, which declares functions and classes as nodes."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, overload

__all__ = ["Options", "kind_of", "name_of", "node", "options_of"]

T = TypeVar("T", bound=Callable[..., Any])

_MARK = "__gophersnake_node__"

MAX_SIZE = 4096
"""The upper limit of ``batch`` and ``concurrency``."""

MAX_THREADS = 256
"""The upper limit of ``threads``."""

MAX_WAIT_MS = 60_000
"""The upper limit of ``max_wait_ms``."""

MAX_NAME = 1024
"""The most bytes of a node type or the name of a parameter, in UTF-8."""

MAX_PARAMETERS = 1024
"""The most params, and the most inputs, of a node. Go's ``ipc/message.go`` has the same limits."""


class Options(NamedTuple):
    """The options that a node was declared with; see ``node``."""

    name: str = ""
    stateful: bool = False
    concurrency: int | None = None
    batch: int | None = None
    max_wait_ms: float | None = None
    permanent: tuple[type[Exception], ...] = ()
    threads: int | None = None
    types: bool = True


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
    permanent: type[Exception] | tuple[type[Exception], ...] = (),
    threads: int | None = None,
    types: bool = True,
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
    permanent: type[Exception] | tuple[type[Exception], ...] = (),
    threads: int | None = None,
    types: bool = True,
) -> T | Callable[[T], T]:
    """Declare that a function or a class is a node, and return it unchanged.

    The first parameter of a function is the node's input. The others are set by
    ``params`` in the manifest, or by further inputs of their names. The function may
    return a value, be a generator, whose values are sent one by one, or be
    ``async def``.

    A class takes its params in ``__init__`` and its inputs in ``process``. If it has a
    method ``setup``, that is called once in each worker before the first call, and
    ``close`` when the worker shuts down.

    A *stateful* class keeps state along a stream. Each stream gets a shallow copy of the
    object that was set up, so the model is shared, and the attributes that ``process``
    assigns belong to the stream. ``process`` returns a value, or ``None`` for no output,
    or is a generator for any number of outputs. The class may have::

        def begin(self): ...           # a stream begins: create the state
        def finish(self): ...          # its input has ended: a last value, or a generator
        def snapshot(self): ...        # return the state, as a value that can be sent
        def restore(self, state): ...  # called instead of begin, in another worker

    A *batch* node takes a list of up to ``batch`` inputs, from several calls, and returns
    as many results in a list. A result that is an exception fails its call alone.

    Args:
        target: the function or class, if ``@node`` is written without parentheses.
        name: the node type, of at most 1024 bytes; the default is the name in Python.
        stateful: whether the class keeps state along a stream.
        concurrency: how many calls of an ``async def`` node, which may be a generator,
            may run at once in one worker, from 1 to 4096; the default is 64. The calls
            of one stream of a stateful node run one after another, and those of
            different streams at once. Nodes with a plain ``def`` cannot set it: they
            run one call at a time in each worker.
        batch: how many inputs a batch has at most, from 2 to 4096.
        max_wait_ms: how many milliseconds the first input of a batch waits for others,
            from 0 to 60000; by default it does not wait.
        permanent: an exception or a tuple of exceptions that are the fault of the input.
            If a call raises one, or one that inherits from it, it is treated like
            ``Permanent``: the call is not retried, and the node's circuit breaker does
            not count it.
        threads: how many calls of a plain ``def`` that returns one value may run at once
            in threads of one worker, from 1 to 256. All of them share the object that was
            set up, so the node must be safe for threads, and they run in parallel only
            while its code releases the GIL. ``workers: {threads: …}`` in the manifest
            overrides it.
        types: whether the annotations hold. If they do, inputs and params are built as
            annotated, and one that does not fit fails its call without a retry. False is
            for a node whose annotations are not what it gets: every value is left as it is.

    Returns:
        The target, or a decorator if ``target`` is not given.

    Raises:
        TypeError: the target is not a function or class, has no ``process`` method, or is
            written in C; or the options do not fit each other or the target.
    """

    def declare(target: T) -> T:
        if not callable(target):
            raise TypeError(f"@node is for functions and classes, not for {target!r}")
        if isinstance(target, type) and not callable(getattr(target, "process", None)):
            raise TypeError(f"the node class {target.__name__} needs a method process(self, input)")
        if name is not None and not (isinstance(name, str) and name):
            raise TypeError(f"name must be a string, the node type, not {name!r}")
        node_type = name or str(getattr(target, "__name__", type(target).__name__))
        if _size(node_type) > MAX_NAME:
            raise TypeError(
                f"the name of a node has at most {MAX_NAME} bytes, not {_size(node_type)}"
            )
        if not isinstance(types, bool):
            raise TypeError(f"{node_type}: types must be True or False, not {types!r}")
        options = Options(
            node_type,
            stateful,
            concurrency,
            batch,
            max_wait_ms,
            _exceptions(node_type, permanent),
            threads,
            types,
        )
        if options != Options(node_type):
            _check(target, options)
        try:
            setattr(target, _MARK, options)
        except AttributeError:
            raise TypeError(f"@node cannot mark {target!r}: wrap it in a Python function") from None
        return target

    return declare if target is None else declare(target)


def _check(target: Callable[..., Any], options: Options) -> None:
    """Raise ``TypeError`` for options that are wrong, or do not fit together or the target."""
    name, stateful, concurrency, batch, max_wait_ms, _, threads, _ = options
    kind = kind_of(getattr(target, "process", target) if isinstance(target, type) else target)
    if stateful:
        _check_stateful(target, options)
    if batch is not None:
        if not _within(batch, 2):
            raise TypeError(f"{name}: batch must be an integer from 2 to {MAX_SIZE}, not {batch!r}")
        if kind.endswith("generator"):
            raise TypeError(f"{name}: a batch node must return a list, not yield")
        if concurrency is not None:
            raise TypeError(
                f"{name}: batches of a worker run one after another; remove concurrency, "
                "or give the node more workers"
            )
    if max_wait_ms is not None:
        if batch is None:
            raise TypeError(f"{name}: max_wait_ms is for batches; set batch as well")
        number = isinstance(max_wait_ms, (int, float)) and not isinstance(max_wait_ms, bool)
        if not number or not 0 <= max_wait_ms <= MAX_WAIT_MS:
            raise TypeError(
                f"{name}: max_wait_ms must be a number of milliseconds from 0 to {MAX_WAIT_MS}, "
                f"not {max_wait_ms!r}"
            )
    if concurrency is not None:
        if not _within(concurrency, 1):
            raise TypeError(
                f"{name}: concurrency must be an integer from 1 to {MAX_SIZE}, not {concurrency!r}"
            )
        if not kind.startswith("async"):
            raise TypeError(
                f"{name}: concurrency is for async def; other nodes, generators included, run "
                "one call at a time in each worker: make it async def, or give the node more "
                "workers (workers: {max: …} in the manifest)"
            )
    if threads is not None:
        if not _within(threads, 1, MAX_THREADS):
            raise TypeError(
                f"{name}: threads must be an integer from 1 to {MAX_THREADS}, not {threads!r}"
            )
        if why := why_no_threads(kind, stateful, batch):
            raise TypeError(f"{name}: {why}")


def why_no_threads(kind: str, stateful: bool, batch: int | None) -> str:
    """Return why a node cannot run in several threads; empty if it can."""
    if kind.startswith("async"):
        return "threads are for a plain def; an async def runs many calls at once without them"
    if kind.endswith("generator"):
        return "threads are for nodes that return one value, not for generators"
    if stateful:
        return "threads are not for stateful nodes"
    if batch:
        return "threads are not for batch nodes, which run one batch at a time"
    return ""


def _check_stateful(target: Callable[..., Any], options: Options) -> None:
    name, batch = options.name, options.batch
    if not isinstance(target, type):
        raise TypeError(
            f"{name}: a stateful node keeps its state in an object; make it a class with process"
        )
    if batch is not None:
        raise TypeError(f"{name}: a stateful node takes its inputs one by one, not as a batch")
    found = [each for each in ("snapshot", "restore") if callable(getattr(target, each, None))]
    if len(found) == 1:
        missing = "restore(self, state)" if found == ["snapshot"] else "snapshot(self)"
        raise TypeError(
            f"{name}: {found[0]} alone has no effect; the class needs {missing} as well"
        )


def _exceptions(name: str, permanent: object) -> tuple[type[Exception], ...]:
    """Return the exceptions of the option ``permanent`` as a tuple."""
    classes = permanent if isinstance(permanent, tuple) else (permanent,)
    for each in classes:
        if not (isinstance(each, type) and issubclass(each, Exception)):
            raise TypeError(
                f"{name}: permanent must be an exception or a tuple of exceptions, such as "
                f"permanent=(ValueError, KeyError), not {permanent!r}"
            )
    return classes


def _size(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def _within(value: object, least: int, most: int = MAX_SIZE) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def options_of(target: object) -> Options | None:
    """Return the options with which a target was declared, ``None`` if it is not a node.

    Classes do not inherit them: a subclass of a node must be declared itself.
    """
    try:
        found = vars(target).get(_MARK)
    except Exception:  # it has no __dict__, or is a proxy that raises
        return None
    return found if isinstance(found, Options) else None


def name_of(target: object) -> str | None:
    """Return the node type of a node, ``None`` for anything else."""
    options = options_of(target)
    return None if options is None else options.name


def kind_of(process: Callable[..., Any]) -> str:
    """Return the node kind of a function or callable object: how it returns its result.

    Returns:
        ``"value"``, ``"generator"``, ``"async"`` or ``"async generator"``.
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
