"""Tables: the classes of pandas, polars and pyarrow, each built from whatever table arrives."""

from __future__ import annotations

import datetime
import sys
from collections.abc import Sequence
from typing import Any

from gophersnake._worker.types.kinds import KIND, Document, Mismatch, Schema, Type, shown
from gophersnake._worker.values import tables
from gophersnake._worker.values.format import step
from gophersnake.values import Table

CLASSES = (
    ("pandas", "DataFrame"),
    ("polars", "DataFrame"),
    ("pyarrow", "Table"),
    ("pyarrow", "RecordBatch"),
)

CELLS: tuple[tuple[tuple[type, ...], str], ...] = (
    ((bool,), "true or false"),
    ((int, float), "a number"),
    ((str,), "text"),
    ((bytes,), "bytes"),
    ((datetime.datetime,), "a date and time"),
    ((list,), "a list"),
    ((dict,), "a map"),
)
"""The types of the cells of one column, if a table is built from a list of maps."""


class Frame(Type):
    """A class for tables. A list of maps becomes a DataFrame, too: each map is a row.

    Attributes:
        columns: the columns that a table must have, as a pyarrow.Schema; ``None`` for any.
    """

    native = False

    def __init__(self, library: str, kind: type, columns: Any = None) -> None:
        """Create the type for a class of one of the libraries."""
        self.library_name = library
        self.kind = kind
        self.columns = columns
        self.name = f"a table ({library}.{kind.__name__})"

    def build(self, value: Any) -> Any:
        """Return the table; see ``Type``."""
        if self.kind.__name__ == "DataFrame" and type(value) is list:
            value = self._from_rows(value)
        elif isinstance(value, self.kind) and self.columns is None:
            return value
        if not (isinstance(value, Table) or tables.is_a(value, "pyarrow", "Table")):
            raise Mismatch(f"expected {self.name}, got {shown(value)}")
        if isinstance(value, Table) and self.library_name != "polars":
            raise Mismatch(f"{self.name[8:-1]} needs pyarrow, which is not installed")
        self._check_columns(value)
        try:
            return self._converted(value)
        except (ValueError, TypeError, NotImplementedError) as error:
            raise Mismatch(f"expected {self.name}: {error}") from error

    def _converted(self, table: Any) -> Any:
        if self.library_name == "pandas":
            return tables.to_pandas(table)
        if self.library_name == "polars":
            return tables.to_polars(table)
        return table if self.kind.__name__ == "Table" else _batch(table)

    def _from_rows(self, rows: list[Any]) -> Any:
        """Return the table of some maps, whose columns are those of the first map that has them."""
        columns: dict[str, str] = {}
        for i, row in enumerate(rows):
            if type(row) is not dict:
                raise _at(i, None, f"expected a map, got {shown(row)}")
            for name, cell in row.items():
                have = _kind_of(cell)
                if have and columns.setdefault(name, have) != have:
                    raise _at(i, name, f"expected {columns[name]}, got {shown(cell)}")
        names: dict[str, None] = {name: None for row in rows for name in row}
        pa = tables.pyarrow()
        if pa is not None:
            try:
                return pa.table({name: [row.get(name) for row in rows] for name in names})
            except (pa.ArrowException, OverflowError) as error:
                raise Mismatch(f"expected {self.name}: {error}") from None
        raise Mismatch(f"{self.name[8:-1]} of a list needs pyarrow, which is not installed")

    def _check_columns(self, table: Any) -> None:
        """Refuse a table that lacks a column, or has one of another type."""
        if self.columns is None or isinstance(table, Table):
            return
        for field in self.columns:
            found = table.schema.get_all_field_indices(field.name)
            if not found:
                raise Mismatch(f"expected {self.name} with the column {field.name!r}")
            have = table.schema.field(found[0]).type
            if have != field.type:
                fault = Mismatch(f"expected a column of {field.type}, got one of {have}")
                fault.steps.append(step(field.name))
                raise fault

    def schema(self, document: Document) -> Schema:
        """Return the schema; see ``Type``. Lists are for inputs alone."""
        table: Schema = {KIND: "table"}
        if self.columns is not None:
            table["x-columns"] = [
                {"name": each.name, "type": str(each.type)} for each in self.columns
            ]
        if document.output or self.kind.__name__ != "DataFrame":
            return table
        return {"anyOf": [table, {"type": "array", "items": {"type": "object"}}]}


def _at(row: int, column: str | None, reason: str) -> Mismatch:
    fault = Mismatch(reason)
    fault.steps = [f"[{row}]"] if column is None else [step(column), f"[{row}]"]
    return fault


def _kind_of(cell: Any) -> str:
    """Return the name of a cell's type; empty for null and for what is not compared."""
    return next((name for kinds, name in CELLS if isinstance(cell, kinds)), "")


def _batch(table: Any) -> Any:
    """Return all rows of a pyarrow.Table as one record batch."""
    pa = sys.modules["pyarrow"]
    batches = table.to_batches()
    if len(batches) > 1:
        batches = table.combine_chunks().to_batches()
    if batches:
        return batches[0]
    return pa.RecordBatch.from_arrays(
        [pa.array([], field.type) for field in table.schema], schema=table.schema
    )


class RawTable(Type):
    """``gophersnake.Table``: the Arrow IPC stream itself."""

    name = "a table"
    native = False

    def build(self, value: Any) -> Any:
        """Return a ``Table``; see ``Type``."""
        found = value if isinstance(value, Table) else tables.encode(value)
        if found is None:
            raise Mismatch(f"expected {self.name}, got {shown(value)}")
        return found

    def schema(self, document: Document) -> Schema:
        """Return the schema; see ``Type``."""
        return {KIND: "table"}


def table_type(hint: Any, metadata: Sequence[Any]) -> Type | None:
    """Return the type of an annotation with a class for tables; ``None`` for any other.

    Args:
        hint: the class.
        metadata: the metadata of ``Annotated``, which may hold a pyarrow.Schema.
    """
    if hint is Table:
        return RawTable()
    for library, name in CLASSES:
        kind = getattr(sys.modules.get(library), name, None)  # else it is not from there
        if kind is not None and hint is kind:
            found = [each for each in metadata if tables.is_a(each, "pyarrow", "Schema")]
            return Frame(library, kind, found[-1] if found else None)
    return None
