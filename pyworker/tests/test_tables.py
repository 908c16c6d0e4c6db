"""Tables of pandas, polars and pyarrow: what arrives and what is sent."""

from __future__ import annotations

import datetime
import decimal
import subprocess
import sys
from typing import Annotated, Any

import numpy as np
import pytest
from gophersnake import Table
from gophersnake._worker.types.ports import TypedDecoder
from gophersnake._worker.values import tables
from gophersnake._worker.values.decoder import Decoder
from gophersnake._worker.values.encoder import Encoder
from gophersnake._worker.values.format import ValueFault

from tests.conftest import Serve
from tests.sharing import OWN
from tests.test_sharing import idle, sharing
from tests.test_types import arrive, refused, signature, written

pa = pytest.importorskip("pyarrow")
pd = pytest.importorskip("pandas")
pl = pytest.importorskip("polars")

DAY = datetime.datetime(2024, 5, 1, 12)
MIB = 1 << 20


def many() -> Any:
    """Return a table with columns of many types, with nulls."""
    return pa.table(
        {
            "int": pa.array([1 << 60, None, 3], pa.int64()),
            "small": pa.array([1, 2, 255], pa.uint8()),
            "float": [0.5, None, -1e300],
            "flag": [True, None, False],
            "text": ["x", None, "ö" * 1000],
            "binary": pa.array([b"x", None, b""], pa.binary()),
            "category": pa.array(["a", None, "a"]).dictionary_encode(),
            "at": pa.array([DAY, None, DAY], pa.timestamp("us", "Europe/Berlin")),
            "day": pa.array([DAY.date(), None, DAY.date()], pa.date32()),
            "price": pa.array([decimal.Decimal("1.50"), None, decimal.Decimal("-2.25")]),
            "list": [[1, 2], None, []],
            "struct": [{"a": 1, "b": ["x"]}, None, {"a": None, "b": []}],
        }
    )


def test_a_table_of_pyarrow_comes_back() -> None:
    table = many()
    for value in (table, pa.Table.from_batches(table.to_batches())):
        assert written(Any, value).equals(table)
    assert written(Any, table.to_batches()[0]).equals(table)
    assert written(Any, {"tables": [table, table]})["tables"][1].equals(table)
    with_notes = table.replace_schema_metadata({"origin": "test"})
    assert written(Any, with_notes).schema.metadata == {b"origin": b"test"}


@pytest.mark.parametrize("table", [
    many().slice(0, 0),
    many().slice(1, 1),
    many().slice(2),
    pa.table({}),
    pa.table({"a": pa.array([], pa.int32())}),
    pa.concat_tables([many(), many().slice(1), many()]),
    pa.table({"a": pa.chunked_array([["x"], ["y", "x"]]).dictionary_encode()}),
    pa.table({"a": pa.chunked_array([pa.array(["x"]).dictionary_encode(), pa.array(["y"]).dictionary_encode()])}),
    pa.table([[1], ["x"]], names=["same", "same"]),
    pa.table({"a": ["x" * MIB] * 3}),
])  # fmt: skip
def test_tables_of_all_shapes_come_back(table: Any) -> None:
    found = written(Any, table)
    assert found.schema.equals(table.schema)
    assert found.to_pylist() == table.to_pylist()
    found.validate(full=True)
    assert found.num_rows == table.num_rows


def test_each_class_is_built_from_each_other() -> None:
    table = many()
    for kind in (pa.Table, pa.RecordBatch, pd.DataFrame, pl.DataFrame):
        first = arrive(kind, table)
        assert type(first) is kind
        for other in (pa.Table, pa.RecordBatch, pd.DataFrame, pl.DataFrame):
            second = arrive(other, first)
            assert type(second) is other
            back = arrive(pa.Table, second)
            for name in ("int", "small", "flag", "text", "at", "day", "price"):
                assert back[name].to_pylist() == table[name].to_pylist(), (kind, other, name)
            assert back["at"].type == table["at"].type
            assert back["int"].type == pa.int64()
            assert pa.types.is_dictionary(back["category"].type)
            assert back["category"].to_pylist() == ["a", None, "a"]


def test_the_index_of_a_pandas_frame_is_kept() -> None:
    frame = pd.DataFrame({"a": [1, 2]}, index=pd.Index(["x", "y"], name="key"))
    pd.testing.assert_frame_equal(arrive(pd.DataFrame, frame), frame)
    frame = pd.DataFrame({"a": [1.5, None], "b": pd.Categorical(["x", None])})
    pd.testing.assert_frame_equal(arrive(pd.DataFrame, frame), frame)
    assert arrive(pa.Table, frame).column_names == ["a", "b"]


def test_integers_with_nulls_keep_their_digits_in_pandas() -> None:
    table = pa.table({"a": [(1 << 60) + 1, None], "b": [True, None], "c": [1, 2]})
    frame = arrive(pd.DataFrame, table)
    assert [str(each) for each in frame.dtypes] == ["Int64", "boolean", "int64"]
    assert frame["a"][0] == (1 << 60) + 1


def test_a_list_of_maps_becomes_a_frame() -> None:
    rows = [{"a": 1, "b": "x"}, {"a": 2.5}, {"b": None, "c": True}]
    frame = arrive(pd.DataFrame, rows)
    assert list(frame.columns) == ["a", "b", "c"]
    assert len(arrive(pl.DataFrame, rows)) == 3
    assert len(arrive(pd.DataFrame, [])) == 0
    assert refused(pd.DataFrame, [{"a": 1}, 5]) == "input[1]: expected a map, got 5"
    assert refused(pl.DataFrame, [{"a": 1}, {"a b": 1}, {"a b": "x"}]) == (
        'input[2]["a b"]: expected a number, got "x"'
    )
    assert refused(pa.Table, rows).startswith("input: expected a table (pyarrow.Table), got a list")
    assert refused(list.__class_getitem__(pd.DataFrame), [[], 1]) == (
        "input[1]: expected a table (pandas.DataFrame), got 1"
    )


def test_the_columns_of_an_annotation_hold() -> None:
    hint: Any = Annotated[pd.DataFrame, pa.schema([("price", pa.float64())])]
    assert len(arrive(hint, pa.table({"price": [1.5], "other": [1]}))) == 1
    assert refused(hint, pa.table({"other": [1]})) == (
        "input: expected a table (pandas.DataFrame) with the column 'price'"
    )
    assert refused(hint, pa.table({"price": ["x"]})) == (
        "input.price: expected a column of double, got one of string"
    )
    assert signature(hint).types.output_schema() == (
        '{"x-gophersnake":"table","x-columns":[{"name":"price","type":"double"}]}'
    )


def test_what_arrow_cannot_hold_is_refused_with_a_hint() -> None:
    frame = pd.DataFrame({"a": [1, "x"]}, dtype=object)
    with pytest.raises(ValueFault) as caught:
        Encoder().encode([frame])
    assert caught.value.path == "result[0]"
    assert "a pandas.DataFrame that Arrow cannot hold" in caught.value.reason
    assert "column a" in caught.value.reason
    assert caught.value.hint.startswith("instead of x, return x.astype(str)")
    assert written(Any, frame.astype(str)).num_rows == 2


def damaged(table: Any, change: Any) -> bytes:
    """Return the stream of a table with a change to one of its buffers."""
    encoded = tables.encode(table)
    assert encoded is not None
    stream = bytearray(encoded.stream)
    change(stream)
    return bytes(stream)


def test_a_damaged_stream_is_refused() -> None:
    def offsets(stream: bytearray) -> None:
        at = stream.index(np.array([0, 3, 6], "<i4").tobytes())
        stream[at + 4 : at + 8] = np.array([1 << 20], "<i4").tobytes()

    for data in (
        b"",
        b"not a table",
        damaged(pa.table({"a": ["abc", "def"]}), offsets),
        damaged(pa.table({"a": [1]}), lambda stream: stream.__delitem__(slice(-40, None))),
    ):
        body, buffers = Encoder().encode([Table(data)])
        with pytest.raises(ValueFault, match="not a valid Arrow IPC stream"):
            Decoder().decode(body, [bytes(each) for each in buffers])


def test_a_node_without_pyarrow_gets_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    table = many().select(["int", "text"])
    stream = tables.encode(table)
    body, buffers = Encoder().encode([[stream], {}])
    monkeypatch.setattr(tables, "pyarrow", lambda: None)
    [found] = Decoder().arguments(body, list(buffers))[0]
    assert type(found) is Table
    with pytest.raises(AttributeError, match="add it to the pipeline's requirements"):
        _ = found.num_rows
    with pytest.raises(ValueFault, match=r"pandas\.DataFrame needs pyarrow"):
        signature(pd.DataFrame).types.decoder(0).arguments(body, list(buffers))
    decoder = signature(pl.DataFrame).types.decoder(0)
    assert type(decoder) is TypedDecoder
    [frame] = decoder.arguments(body, list(buffers))[0]
    assert frame["int"].to_list() == table["int"].to_pylist()
    again = Encoder().encode(frame)
    assert type(Decoder().decode(again[0], list(again[1]))) is Table


def test_the_stream_itself_is_an_annotation() -> None:
    found = arrive(Table, many())
    assert type(found) is Table
    assert written(Table, found).equals(many())
    assert refused(Table, 5) == "input: expected a table, got 5"


def test_no_library_is_imported_before_a_table_needs_it() -> None:
    code = (
        "import sys\n"
        "from gophersnake._worker.values.encoder import Encoder\n"
        "from gophersnake._worker.types.hints import read\n"
        "read(dict[str, int]); Encoder().encode({'a': 1})\n"
        "print([m for m in ('numpy', 'pandas', 'polars', 'pyarrow') if m in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_large_table_is_written_into_shared_memory_and_read_there(serve: Serve) -> None:
    worker, host = sharing(
        serve,
        """
        import pyarrow

        places = []

        def n(table):
            places.append(table["a"].chunk(0).buffers()[1])
            assert not places[-1].is_mutable
            return table.slice(1)
        """,
    )
    table = pa.table({"a": np.arange(MIB), "b": ["x"] * MIB})
    for _ in range(3):
        assert worker.call(table).equals(table.slice(1))
        [(number, _, size)] = host.places
        assert number & OWN
        assert size < table.nbytes + 4096


def test_the_memory_of_a_table_is_released_with_its_last_column(serve: Serve) -> None:
    worker, host = sharing(
        serve,
        """
        kept = []

        def n(table):
            kept.append(table["a"].slice(1, 2))
            return [each.to_pylist() for each in kept]

        def drop(x): kept.clear()
        """,
    )
    table = pa.table({"a": np.arange(MIB), "b": np.arange(MIB)})
    for count in (1, 2):
        assert worker.call(table) == [[1, 2]] * count
    idle(worker)
    assert host.outstanding == 2
