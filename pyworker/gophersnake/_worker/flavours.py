"""How functions give their results."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any


def flavour(process: Callable[..., Any]) -> str:
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
