"""Nodes that use libraries which log, and which run functions in threads and processes."""

from __future__ import annotations

import os
import sys
from typing import Any

from gophersnake import node


def square(x: int) -> int:
    """Return the square of a number."""
    return x * x


@node
def with_loguru(text: str) -> str:
    """Log with loguru: to its usual sink, standard error, and through a queue of its own."""
    from loguru import logger

    logger.info("usual: {}", text)
    sink = logger.add(sys.stderr, enqueue=True, format="queued: {message}")
    logger.info(text)
    logger.complete()
    logger.remove(sink)
    try:
        raise ValueError(text)
    except ValueError:
        logger.exception("caught")
    return text


@node
def with_joblib(how: dict[str, Any]) -> Any:
    """Map a function over numbers with a backend of joblib."""
    from joblib import Parallel, delayed

    jobs = (delayed(square)(i) for i in range(20))
    return Parallel(n_jobs=2, backend=how["backend"])(jobs)


@node
def recurse(how: dict[str, Any]) -> Any:
    """Recurse in Python or in C code, with the largest limit that Python takes."""
    if not how:
        return os.getpid()
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(2**31 - 1)
    try:
        return globals()[how["do"]]()
    finally:
        sys.setrecursionlimit(limit)


def in_python() -> Any:
    """Recurse without an end."""
    return in_python() + 1


class Endless:
    """Its attributes are looked up in itself."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self, name)


def in_attributes() -> Any:
    """Recurse through C code and Python code in turn."""
    return Endless().attribute


def in_repr() -> Any:
    """Recurse in C code alone."""
    nested: list[Any] = []
    for _ in range(1_000_000):
        nested = [nested]
    return len(repr(nested))
