"""Python's logging, as log frames to the host."""

from __future__ import annotations

import logging
import sys
from typing import Any

from gophersnake.worker import frames
from gophersnake.worker.connection import Closed, Connection
from gophersnake.worker.interrupt import Interrupts

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


class HostHandler(logging.Handler):
    """Sends records to the host, with the fields given by ``extra``."""

    def __init__(self, connection: Connection, interrupts: Interrupts) -> None:
        """Take the connection."""
        super().__init__()
        self._connection = connection
        self._interrupts = interrupts

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record; a forked child, which has no connection, writes it."""
        if not self._connection.open:
            print(self.format(record), file=sys.stderr)
            return
        try:
            message = self.format(record)  # the traceback of exc_info included
            if len(message) > MAX_MESSAGE:
                message = f"{message[:MAX_MESSAGE]}… ({len(message)} characters)"
            body = {
                "level": _level(record.levelno),
                "logger": record.name,
                "message": message,
                "time": record.created,
                "fields": _fields(record),
            }
            self._connection.send_message(frames.LOG, body)
        except Closed:
            pass
        except Exception:
            self.handleError(record)

    def handle(self, record: logging.LogRecord) -> bool:
        """Do as a handler does, without being interrupted in the middle."""
        with self._interrupts.held():
            return bool(super().handle(record))


def install(connection: Connection, interrupts: Interrupts, level: str) -> None:
    """Have the root logger, and warnings, go to the host."""
    root = logging.getLogger()
    root.addHandler(HostHandler(connection, interrupts))
    root.setLevel(LEVELS.get(level, logging.INFO))
    logging.captureWarnings(True)


def _level(number: int) -> str:
    for name in ("error", "warn", "info", "debug"):
        if number >= LEVELS[name]:
            return name
    return "trace"


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return {
        str(key): value
        if isinstance(value, (bool, float, str, type(None))) or _fits(value)
        else str(value)
        for key, value in vars(record).items()
        if key not in STANDARD
    }


def _fits(value: object) -> bool:
    return isinstance(value, int) and -(1 << 63) <= value < 1 << 64
