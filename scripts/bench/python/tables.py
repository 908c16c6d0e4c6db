"""The nodes of tables.yaml: a table from one process to the next, as one and by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from gophersnake import node

ROWS = 1_000_000


def _table() -> pa.Table:
    """Return four columns of int64, three of float64, two of text with nulls, and a time."""
    random = np.random.default_rng(0)
    present = random.random(ROWS) < 0.95
    names = [f"name-{i % 1000}" if some else None for i, some in enumerate(present)]
    notes = [f"a note about {i}" if some else None for i, some in enumerate(present)]
    numbers = {f"int{i}": random.integers(0, 1 << 60, ROWS) for i in range(4)}
    floats = {f"float{i}": random.random(ROWS) for i in range(3)}
    times = pa.array(np.arange(ROWS), pa.timestamp("us", "UTC"))
    return pa.table({**numbers, **floats, "name": names, "note": notes, "at": times})


TABLE = _table()
FRAME = TABLE.to_pandas()


def _by_hand(table: pa.Table) -> np.ndarray:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return np.frombuffer(sink.getvalue(), np.uint8)


@node
def make(way: str) -> Any:
    """Return the table in one of the ways: as a table, or as the bytes of a stream."""
    if way == "arrow":
        return TABLE
    if way == "arrow by hand":
        return [_by_hand(TABLE)]
    if way == "pandas":
        return FRAME
    return [_by_hand(pa.Table.from_pandas(FRAME))]


@node
def read(value: Any) -> int:
    """Return the number of rows; a frame of pandas is made if one was sent."""
    if isinstance(value, list):
        [stream] = value
        value = pa.ipc.open_stream(pa.py_buffer(stream)).read_all()
    frame = b"pandas" in (value.schema.metadata or {})
    return len(value.to_pandas(split_blocks=True) if frame else value)
