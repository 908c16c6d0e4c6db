"""Python's logging, as log frames to the host."""

from __future__ import annotations

import logging
import sys
from typing import Any

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
"""The host's levels."""

STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
"""What every record has; all else was given by ``extra``."""

MAX_MESSAGE = 64 << 10
MAX_FIELD = 8 << 10


class HostHandler(logging.Handler):
    """Sends records to the host, with the fields given by ``extra``."""

    def __init__(self, connection: Connection, interrupts: Interrupts) -> None:
        """Take the connection."""
        super().__init__()
        self._connection = connection
        self._interrupts = interrupts

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record; a forked child, which has no connection, writes it."""
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
                "fields": _fields(record),
            }
            self._connection.send_message(frames.LOG, body)
        except Closed:
            pass
        except Exception:
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:
        """Tell of a record that cannot be sent, on standard error if that is open."""
        try:
            super().handleError(record)
        except ValueError:
            pass

    def handle(self, record: logging.LogRecord) -> bool:
        """Do as a handler does, without being interrupted in the middle."""
        with self._interrupts.held():
            return bool(super().handle(record))


_stand_in: logging.Handler | None = None
"""The handler of a template, in the worker's place while the node is imported."""


def install(connection: Connection, interrupts: Interrupts, level: str) -> None:
    """Have the root logger, and warnings, go to the host.

    In a worker that was forked it takes the place of what the template installed, and
    leaves alone what the node's module has changed since.
    """
    handler = HostHandler(connection, interrupts)
    handlers = logging.getLogger().handlers
    if _stand_in is None:
        _set_up(handler, level)
    elif _stand_in in handlers:
        handlers[handlers.index(_stand_in)] = handler


def prepare(level: str) -> None:
    """Do as ``install`` does where there is no host yet: records go to standard error."""
    global _stand_in  # noqa: PLW0603 - one worker a process
    _stand_in = logging.StreamHandler()
    _set_up(_stand_in, level)


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
    """Return what a log frame can carry: plain values, and text for all others."""
    if value is None or isinstance(value, (bool, float)):
        return value
    if isinstance(value, int) and -(1 << 63) <= value < 1 << 64:
        return value
    try:
        return _shortened(str(value), MAX_FIELD)
    except Exception as error:  # a message is not to be lost for one of its fields
        return f"<a {type(value).__name__} whose text cannot be had: {type(error).__name__}>"


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}… ({len(text)} characters)"
