"""Sends the records of Python's logging to the supervisor, as log frames."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any

from gophersnake._worker.originals import _thread
from gophersnake._worker.process import handlers
from gophersnake._worker.serving.interrupts import Interrupts
from gophersnake._worker.wire import frames
from gophersnake._worker.wire.connection import Closed, Connection

LEVELS = {
    "trace": 5,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
    "off": logging.CRITICAL + 1,
}
"""The supervisor's level names, and the numbers of their levels."""

STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
"""The attributes of every record; all others were given by ``extra``."""

MAX_MESSAGE = 64 << 10
MAX_FIELD = 8 << 10


class SupervisorHandler(logging.Handler):
    """Sends records to the supervisor, with the fields given by ``extra``."""

    def __init__(self, connection: Connection, interrupts: Interrupts) -> None:
        """Create the handler for a connection."""
        super().__init__()
        self._connection = connection
        self._interrupts = interrupts
        self._main = _thread.get_ident()

    def _call(self) -> int:
        """Return the id of the call that logs a record, 0 if that is not known.

        A thread of the node's own may work for the call that runs, or for none.
        """
        if _current_call is not None:
            return _current_call()
        return self._interrupts.call if _thread.get_ident() == self._main else 0

    def emit(self, record: logging.LogRecord) -> None:
        """Send a record. A forked child, which has no connection, writes it to standard error."""
        try:
            message = self.format(record)  # the traceback of exc_info included
            if not self._connection.open:
                print(message, file=sys.stderr)
                return
            body = {
                "level": _level(record.levelno),
                "logger": str(record.name),
                "message": _shortened(message, MAX_MESSAGE),
                "time": record.created,
                "call": self._call(),
                "fields": _fields(record),
            }
            if _member is not None:
                body["member"] = _member()
            self._connection.send_message(frames.LOG, body)
        except Closed:
            pass
        except Exception:
            self.handleError(record)
        if handlers.pending and _thread.get_ident() == self._main and self._interrupts.call:
            handlers.handle_pending()

    def handleError(self, record: logging.LogRecord) -> None:
        """Report a record that cannot be sent, on standard error unless that is closed."""
        try:
            super().handleError(record)
        except ValueError:
            pass

    def handle(self, record: logging.LogRecord) -> bool:
        """Handle a record, while interruptions are deferred."""
        with self._interrupts.deferred():
            return bool(super().handle(record))


_current_call: Callable[[], int] | None = None
"""Returns the id of the call that runs, 0 if there is none; ``None`` asks ``Interrupts``."""


def find_call_with(function: Callable[[], int] | None) -> None:
    """Set the function that returns the id of the call that runs, for the records that it logs.

    It is to be reset to ``None`` at the end: it keeps the node.
    """
    global _current_call  # noqa: PLW0603 - one worker a process
    _current_call = function


_member: Callable[[], int] | None = None
"""Returns the index of the member of a fused chain that runs; ``None`` without one."""


def find_member_with(function: Callable[[], int] | None) -> None:
    """Set the function that returns the index of the member of a fused chain that runs."""
    global _member  # noqa: PLW0603 - one worker a process
    _member = function


_placeholder: logging.Handler | None = None
"""The handler that a template installs, until its workers have a connection."""


def install(connection: Connection, interrupts: Interrupts, level: str) -> None:
    """Send the records of the root logger, and warnings, to the supervisor.

    In a forked worker the handler replaces the template's, unless the node's module has
    removed that. All else that the module has configured remains.

    Args:
        connection: the connection to send on.
        interrupts: deferred while a record is sent.
        level: the lowest level to send, by its name in ``LEVELS``.
    """
    handler = SupervisorHandler(connection, interrupts)
    handlers = logging.getLogger().handlers
    if _placeholder is None:
        _set_up(handler, level)
    elif _placeholder in handlers:
        handlers[handlers.index(_placeholder)] = handler


def install_placeholder(level: str) -> None:
    """Send records to standard error, in a template, which has no connection."""
    global _placeholder  # noqa: PLW0603 - one worker a process
    _placeholder = logging.StreamHandler()
    _set_up(_placeholder, level)


def _set_up(handler: logging.Handler, level: str) -> None:
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(LEVELS.get(level, logging.INFO))
    logging.captureWarnings(True)


def _level(number: int) -> str:
    for name in ("error", "warn", "info", "debug"):
        if number >= LEVELS[name]:
            return name
    return "trace"


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return {str(key): _field(value) for key, value in vars(record).items() if key not in STANDARD}


def _field(value: object) -> object:
    """Return a field as a log frame can carry it: plain values as such, others as text."""
    if value is None or isinstance(value, (bool, float)):
        return value
    if isinstance(value, int) and -(1 << 63) <= value < 1 << 64:
        return value
    try:
        return _shortened(str(value), MAX_FIELD)
    except Exception as error:  # one field must not prevent the message
        return f"<a {type(value).__name__} that cannot be shown: {type(error).__name__}>"


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}… ({len(text)} characters)"
