"""Attacks by text: commands for a terminal, lines that look like another program's."""

from __future__ import annotations

import json
import logging
import os
from typing import Any

from gophersnake import Json, progress
from gophersnake._worker.wire import frames
from inside import message

EVIL = (
    "\x1b]52;c;aGk=\x07\u202e\x9b2J\rfine\n2026-01-01T00:00:00.000Z [ERROR] runner: forged\u2028end"
)
"""Text that writes the clipboard, clears the screen, and ends with a record of its own."""


def logs_commands(given: Any) -> str:
    """Write commands for a terminal wherever text goes."""
    logging.getLogger(EVIL).warning(EVIL, extra={EVIL: EVIL})
    print(EVIL, flush=True)
    os.write(1, b"raw \x9b2J\x1bc\n")
    record = {"@message": EVIL, "@level": "error", "@timestamp": "now", EVIL: EVIL}
    os.write(2, EVIL.encode() + b"\n" + json.dumps(record).encode() + b"\n")
    progress(EVIL)
    return "logged"


def raises_commands(given: Any) -> None:
    """Raise an exception of such text."""
    raise ValueError(EVIL) from RuntimeError(EVIL)


def returns_commands(given: Any) -> Any:
    """Return such text, as a value and as a JSON document."""
    return {EVIL: [EVIL], "document": Json({EVIL: EVIL})}


def logs_16_mib(given: Any) -> str:
    """Send one log record of 15 MiB, with the level of an error."""
    fields = {f"field{n}": "B" * 1000 for n in range(5000)}
    text = "A" * (8 << 20)
    message(frames.LOG, {"level": "error", "logger": "x", "message": text, "fields": fields})
    return "logged"


def prints_a_line_without_end(given: Any) -> str:
    """Write 64 MiB to standard error without a line feed."""
    for _ in range(64):
        os.write(2, b"A" * (1 << 20))
    return "printed"
