"""Converts tables of pyarrow, pandas and polars to Arrow IPC streams and back.

None of these libraries is imported before a table needs it. A table is written once, into
shared memory if it is large, and read without a copy.
"""

from __future__ import annotations

import functools
import io
import sys
from types import ModuleType
from typing import Any

from gophersnake._worker.values.format import Refused
from gophersnake._worker.wire.frames import Bytes
from gophersnake.allocation import allocated
from gophersnake.values import Table


@functools.cache
def pyarrow() -> ModuleType | None:
    """Return pyarrow, imported by the first table; ``None`` if it is not installed."""
    try:
        import pyarrow  # optional, and slow to import
        import pyarrow.ipc
    except ImportError:
        return None
    module: ModuleType = pyarrow
    return module


def is_a(value: Any, library: str, *names: str) -> bool:
    """Return whether a value is of one of the classes of a library, without importing it."""
    module = sys.modules.get(library)  # if it is not imported, the value is not from it
    kinds = [getattr(module, name, None) for name in names]
    return any(isinstance(kind, type) and isinstance(value, kind) for kind in kinds)


def encode(value: Any) -> Table | None:
    """Return a table, or a record batch, as an Arrow IPC stream; ``None`` for any other value.

    Raises:
        Refused: it has a column that Arrow does not support, or pyarrow is missing.
    """
    if is_a(value, "pyarrow", "Table", "RecordBatch"):
        return Table(_written(value))
    if is_a(value, "polars", "DataFrame"):
        return Table(_of_polars(value))
    if is_a(value, "pandas", "DataFrame"):
        return Table(_written(of_pandas(value)))
    return None


def of_pandas(frame: Any) -> Any:
    """Return a pandas.DataFrame as a pyarrow.Table, with its index.

    Raises:
        Refused: it has a column that Arrow does not support, or pyarrow is missing.
    """
    pa = pyarrow()
    if pa is None:
        raise Refused(
            "a pandas.DataFrame needs pyarrow, which is not installed",
            "add pyarrow to the pipeline's requirements",
        )
    try:
        return pa.Table.from_pandas(frame)
    except (pa.ArrowException, TypeError, ValueError) as error:
        reason = "; ".join(str(each) for each in error.args)
        raise Refused(
            f"a pandas.DataFrame that Arrow cannot hold: {reason}",
            "instead of x, return x.astype(str), or give each column values of one type",
        ) from error


def _of_polars(frame: Any) -> Bytes:
    if pyarrow() is not None:
        return _written(frame.to_arrow())
    stream = io.BytesIO()
    frame.write_ipc_stream(stream)
    return stream.getbuffer()


def _written(table: Any) -> Bytes:
    """Return a table of pyarrow as a stream. Its memory is shared if it is large."""
    pa = sys.modules["pyarrow"]
    sizes = pa.MockOutputStream()
    _write(pa, sizes, table)
    size = sizes.size()
    memory = allocated(size)
    if memory is None:
        memory = bytearray(size)
    _write(pa, pa.FixedSizeBufferWriter(pa.py_buffer(memory)), table)
    return memoryview(memory)


def _write(pa: Any, sink: Any, table: Any) -> None:
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write(table)


def decode(data: Any) -> Any:
    """Return a received table as a pyarrow.Table whose columns view the data.

    Without pyarrow, it is returned as a ``Table``.

    Raises:
        ValueError: it is not a valid Arrow IPC stream.
    """
    pa = pyarrow()
    if pa is None:
        return Table(memoryview(data).toreadonly())
    try:
        table = pa.ipc.open_stream(pa.py_buffer(data)).read_all()
        # Invalid offsets or indices would make pyarrow read memory of others.
        table.validate(full=True)
    except (pa.ArrowException, OSError, ValueError, TypeError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"a table that is not a valid Arrow IPC stream: {reason}") from None
    return table


def to_pandas(table: Any) -> Any:
    """Return a pyarrow.Table as a pandas.DataFrame.

    Columns of numbers without nulls view the table, and are read-only. Integers and booleans
    with nulls get the nullable dtypes of pandas, unless the table comes from pandas: floats
    would lose digits.
    """
    pa = sys.modules["pyarrow"]
    frame = _with_signed_indices(pa, table).to_pandas(split_blocks=True)
    if table.schema.metadata is not None and b"pandas" in table.schema.metadata:
        return frame
    import pandas  # its caller's annotation names it

    for i, column in enumerate(table.columns):
        if column.null_count and (
            pa.types.is_integer(column.type) or pa.types.is_boolean(column.type)
        ):
            kind = str(column.type)
            name = "boolean" if kind == "bool" else kind.replace("i", "I", 1).replace("u", "U", 1)
            dtype = pandas.api.types.pandas_dtype(name)
            frame.isetitem(i, dtype.__from_arrow__(column))
    return frame


def _with_signed_indices(pa: Any, table: Any) -> Any:
    """Return a table whose dictionaries have signed indices, because pandas has no others."""
    for i, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type) and pa.types.is_unsigned_integer(
            field.type.index_type
        ):
            kind = pa.int64() if field.type.index_type.bit_width > 16 else pa.int32()
            made = [
                pa.DictionaryArray.from_arrays(
                    chunk.indices.cast(kind), chunk.dictionary, ordered=field.type.ordered
                )
                for chunk in table.column(i).chunks
            ]
            type = pa.dictionary(kind, field.type.value_type, field.type.ordered)
            table = table.set_column(i, field.name, pa.chunked_array(made, type))
    return table


def to_polars(table: Any) -> Any:
    """Return a pyarrow.Table, or a ``Table`` if pyarrow is missing, as a polars.DataFrame.

    Raises:
        ValueError: polars cannot read it.
    """
    import polars  # its caller's annotation names it

    try:
        if isinstance(table, Table):
            return polars.read_ipc_stream(io.BytesIO(table.stream))
        return polars.from_arrow(table)
    except polars.exceptions.PolarsError as error:
        raise ValueError(str(error).partition("\n")[0]) from None
