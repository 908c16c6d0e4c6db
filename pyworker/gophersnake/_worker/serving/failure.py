"""Turns exceptions into the bodies of error frames, which Go reads as ipc.RemoteError."""

from __future__ import annotations

import linecache
import os
import sys
import traceback
from collections import deque
from collections.abc import Callable
from itertools import islice
from types import TracebackType
from typing import Any

from gophersnake._worker.definition import siblings
from gophersnake._worker.definition.lookup import NodeFault
from gophersnake._worker.memory.arena import Full
from gophersnake._worker.values.format import TooLarge, ValueFault
from gophersnake.errors import Cancelled, Permanent, Transient
from gophersnake.nodes import MAX_NAME


def _no_hint(_: BaseException) -> dict[str, str]:
    return {}


_more_hints: Callable[[BaseException], dict[str, str]] = _no_hint


def hint_with(function: Callable[[BaseException], dict[str, str]]) -> None:
    """Set the function that returns the hint for an error that the node's sandbox caused."""
    global _more_hints  # noqa: PLW0603 - one worker a process
    _more_hints = function


PACKAGE = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", "..")) + os.sep
"""The package's folder. Frames of its own code are left out at the top of tracebacks."""

FROZEN = "<frozen importlib"
"""The beginning of the import system's file names, whose frames are left out as well."""

ASYNCIO = os.path.join(os.path.dirname(os.__file__), "asyncio") + os.sep
"""The folder of asyncio, whose frames are left out as well."""

MAX_TEXT = 64 << 10
MAX_LINE = 500
MAX_FRAMES = 100
MAX_CHAIN = 20
MAX_NOTES = 50
MAX_BASES = 64
"""The most characters of a text and a source line, frames, causes, notes and bases in a body."""

MAX_PRINTED = 10_000
"""The most frames that a text is made of, the outermost ones. Those of a recursion, which may
be deeper, are shown once."""

DEEP = 100
"""How many nested calls are a recursion. An interpreter may end one of C code early."""

RECURSION_LIMIT = sys.getrecursionlimit()
"""How deep a recursion may be unless the node says otherwise."""

OF_INPUTS = ("call", "finish")
"""The stages in which an exception can be the fault of an input."""


def remote_error(
    error: BaseException, stage: str, permanent: tuple[type[Exception], ...] = ()
) -> dict[str, Any]:
    """Return the body of an error frame.

    Args:
        error: the exception. It may be a hostile object of the node's own.
        stage: the stage at which it was raised: import, params, setup, decode, call,
            encode, or for stateful nodes begin, restore, finish, snapshot.
        permanent: the exceptions that the node has declared to be the fault of its input.

    Raises:
        Exception: the exception cannot be read.
    """
    if isinstance(error, ValueFault):
        size = {"oversize": error.size} if isinstance(error, TooLarge) else {}
        fault = {"kind": "marshaling", "message": error.reason, "path": error.path, "stage": stage}
        return fault | {"hint": error.hint} | size
    if isinstance(error, NodeFault):
        return {"kind": "manifest", "message": str(error), "hint": error.hint, "stage": stage}
    if isinstance(error, Full):
        return {"kind": "io", "message": str(error), "hint": error.hint, "stage": stage}
    body = exception(error)
    body |= {"kind": "execution", "stage": stage, "text": text(error), "bases": _bases(error)}
    if isinstance(error, MemoryError):
        # Any code of the interpreter may have failed half way, so it is not trusted again.
        body |= {"kind": "python_vm", "class": "MemoryError", "fatal": True}
    elif isinstance(error, SystemExit):
        body |= {"kind": "python_vm", "fatal": True, "exit_code": exit_code(error)}
    elif isinstance(error, Cancelled):
        body |= {"kind": "canceled"}
    elif isinstance(error, Permanent):
        body |= {"retryable": False}
    elif isinstance(error, Transient):
        body |= {"retryable": True, "retry_after": _seconds(error.retry_after)}
    elif stage in OF_INPUTS and isinstance(error, permanent):
        body |= {"retryable": False}
    if stage == "import":
        body |= _import_hint(error)
    if found := siblings.hint(error):
        body |= {"hint": found}
    return body | _terminal_hint(error) | _recursion_hint(error) | _more_hints(error)


def body_of(
    error: BaseException, stage: str, permanent: tuple[type[Exception], ...] = ()
) -> dict[str, Any]:
    """Return the same as ``remote_error``; if the exception cannot be read, only its class."""
    try:
        return remote_error(error, stage, permanent)
    except Exception as broken:  # a hostile exception
        return {
            "kind": "execution",
            "class": type(error).__name__,
            "message": f"<the exception cannot be read: {type(broken).__name__}>",
            "stage": stage,
        }


def _terminal_hint(error: BaseException) -> dict[str, str]:
    """Return the hint for debuggers and ``input``, which find no terminal."""
    is_debugger = type(error).__name__ == "BdbQuit" and type(error).__module__ == "bdb"
    if not is_debugger and not (type(error) is EOFError and "reading a line" in _message(error)):
        return {}
    return {
        "hint": "a worker has no terminal, and its standard input is empty: log instead, or call "
        "the function in a script of your own, with the interpreter that "
        "`gophersnake env python PIPELINE` prints"
    }


def _recursion_hint(error: BaseException) -> dict[str, str]:
    """Return the hint for a recursion that is deeper than Python's usual limit."""
    if not isinstance(error, (RecursionError, MemoryError, SystemError)):
        return {}
    depth = sum(1 for _ in islice(traceback.walk_tb(error.__traceback__), MAX_PRINTED))
    is_raised = sys.getrecursionlimit() > RECURSION_LIMIT  # the node may have reset it
    if depth <= (DEEP if is_raised else RECURSION_LIMIT):
        return {}
    least = f"at least {depth}" if depth == MAX_PRINTED else depth
    return {
        "hint": f"the calls were nested {least} deep: sys.setrecursionlimit allows that, but "
        "provides no memory and no stack for it; leave the limit as it is, or replace the "
        "recursion by a loop"
    }


def _import_hint(error: BaseException) -> dict[str, str]:
    if isinstance(error, ModuleNotFoundError) and error.name:
        package = error.name.partition(".")[0]
        return {"hint": f"add the package that provides {package!r} to the pipeline's requirements"}
    if isinstance(error, ImportError) and "no known parent package" in _message(error):
        return {
            "hint": "a file is not part of a package: import the modules beside it without the dot, "
            "or name the node as package.module:Object"
        }
    return {}


def _seconds(retry_after: object) -> float | None:
    """Return a delay in seconds that Go can read; a node may have set it to anything."""
    if isinstance(retry_after, (int, float)) and 0 <= retry_after < float("inf"):
        return float(retry_after)
    return None


def exit_code(error: SystemExit) -> int:
    """Return the exit code that the interpreter would use for this error."""
    if error.code is None:
        return 0
    if not isinstance(error.code, int):
        return 1
    return error.code & 0xFF if -(1 << 63) <= error.code < 1 << 63 else 0xFF


def exception(error: BaseException) -> dict[str, Any]:
    """Return an exception and its chain of causes and contexts."""
    body = _single(error)
    inner = body
    seen = {id(error)}
    for _ in range(MAX_CHAIN):
        if error.__cause__ is not None:
            relation, error = "cause", error.__cause__
        elif error.__context__ is not None and not error.__suppress_context__:
            relation, error = "context", error.__context__
        else:
            break
        if id(error) in seen:
            break
        seen.add(id(error))
        inner["cause"] = _single(error) | {"relation": relation}
        inner = inner["cause"]
    return body


def _single(error: BaseException) -> dict[str, Any]:
    return {
        "class": _class_name(type(error)),
        "message": _message(error),
        "notes": _notes(error),
        "frames": _frames(error),
    }


def _class_name(kind: type) -> str:
    name = kind.__qualname__
    return name if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}.{name}"


def _bases(error: BaseException) -> list[str]:
    """Return the names of the classes that the exception's class inherits from, nearest first."""
    try:
        bases = type(error).__mro__[1 : MAX_BASES + 1]
        return [_class_name(base)[:MAX_NAME] for base in bases if base is not object]
    except Exception:  # from a metaclass of the node's own
        return []


def _notes(error: BaseException) -> list[str]:
    try:
        notes = error.__notes__ if hasattr(error, "__notes__") else []
        return [_shortened(str(note)) for note in list(notes)[:MAX_NOTES]]
    except Exception:  # __notes__ can be any object
        return []


def _message(error: BaseException) -> str:
    try:
        if isinstance(error, SyntaxError) and error.msg:
            return str(error.msg)
        message = str(error)
    except Exception as broken:
        message = f"<the message cannot be read: {type(broken).__name__} in __str__>"
    return _shortened(message)


def _shortened(message: str) -> str:
    if len(message) <= MAX_TEXT:
        return message
    return f"{message[:MAX_TEXT]}… ({len(message)} characters)"


def _frames(error: BaseException) -> list[dict[str, Any]]:
    walked = traceback.walk_tb(own(error.__traceback__))
    # The first and the last ones are the most useful. There may be millions.
    kept = [*islice(walked, MAX_FRAMES // 4), *deque(walked, MAX_FRAMES * 3 // 4)]
    frames = [
        (frame.f_code.co_filename, line or 0, frame.f_code.co_name)  # some code has no lines
        for frame, line in kept
    ]
    if isinstance(error, SyntaxError) and isinstance(error.filename, str):
        line = error.lineno if isinstance(error.lineno, int) else 0
        frames.append((error.filename, line, "<module>"))
    return [
        {"file": file, "line": line, "function": function, "source": _source(file, line)}
        for file, line, function in frames
    ]


def _source(file: str, line: int) -> str:
    try:
        return linecache.getline(file, line).strip()[:MAX_LINE]
    except Exception:  # from a module loader of the node's own
        return ""


def own(trace: TracebackType | None) -> TracebackType | None:
    """Return a traceback from the node's first frame on."""
    begin = trace
    while begin is not None and begin.tb_frame.f_code.co_filename.startswith(
        (PACKAGE, FROZEN, ASYNCIO)
    ):
        begin = begin.tb_next
    return begin


def text(error: BaseException) -> str:
    """Return the text that Python would print, without the worker's own frames."""
    try:
        trace = own(error.__traceback__)
        lines = traceback.format_exception(type(error), error, trace, limit=MAX_PRINTED)
    except Exception:  # from a __str__ or __repr__ of the node's own
        return ""
    whole = "".join(lines)
    return (
        whole
        if len(whole) <= MAX_TEXT
        else whole[: MAX_TEXT // 4] + "\n…\n" + whole[-MAX_TEXT // 2 :]
    )
