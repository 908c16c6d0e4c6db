"""What annotations say: schemas, values that are built and written, and those that are not.

The table of ``runner/docs/types.md`` is that of this module. After a change, write it with
``UPDATE_DOCS=1 python -m pytest tests/test_types.py``.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import os
import uuid
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, NewType, Optional, TypedDict, Union

import attrs
import msgspec
import numpy as np
import numpy.typing as npt
import pandas as pd
import polars as pl
import pyarrow as pa
import pydantic
import pytest
from annotated_types import Ge, Len
from gophersnake import Audio, Image, Json, Shape, Table, Tensor, node
from gophersnake._worker.definition.signature import Signature
from gophersnake._worker.values.decoder import Decoder
from gophersnake._worker.values.encoder import Encoder
from gophersnake._worker.values.format import ValueFault

UTC = datetime.timezone.utc
DOCS = Path(__file__).parents[2] / "runner" / "docs" / "types.md"
NAN = float("nan")


class Color(enum.Enum):
    RED = "red"
    GREEN = "green"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Pair(enum.Enum):
    ONE = (1, 1)


@dataclasses.dataclass
class Item:
    price: float
    count: int = 1


@dataclasses.dataclass
class Tree:
    value: int
    children: list[Tree] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Checked:
    size: int

    def __post_init__(self) -> None:
        if self.size > 9:
            raise ValueError("the size is too large")


class Movie(TypedDict, total=False):
    title: str
    year: int


class Point(NamedTuple):
    x: int
    y: int = 0


@attrs.define
class Box:
    size: int
    name: str = "box"


class Model(pydantic.BaseModel):
    name: str
    age: int = pydantic.Field(default=0, ge=0)


class Struct(msgspec.Struct):
    a: int


Rate = NewType("Rate", int)
PRICES = pa.schema([("price", pa.float64())])


class Row:
    """One row: an annotation, values that arrive, and what they become or why they do not."""

    def __init__(self, name: str, hint: Any, *fits: tuple[Any, Any], wrong: Any = ()) -> None:
        self.name = name
        self.hint = hint
        self.fits = fits  # what arrives, and what the node gets; the first is written again
        self.wrong = wrong  # what arrives, and the error


def same(*values: Any) -> tuple[tuple[Any, Any], ...]:
    """Return values that arrive as they are."""
    return tuple((value, value) for value in values)


def array(values: Any, dtype: str) -> Any:
    return np.array(values, dtype)


ID = "12345678-1234-5678-1234-567812345678"
NOON = datetime.datetime(2024, 5, 1, 12, tzinfo=UTC)

ROWS = [
    Row("`Any`, or none", Any, *same(1, "x", None)),
    Row("`bool`", bool, *same(True), wrong=[(1, "input: expected true or false, got 1")]),
    Row(
        "`int`",
        int,
        *same(5, -(1 << 63)),
        (5.0, 5),
        wrong=[
            ("five", 'input: expected an integer, got "five"'),
            (1.5, "input: expected an integer, got 1.5"),
            (True, "input: expected an integer, got true"),
            (None, "input: expected an integer, got null"),
        ],
    ),
    Row("`float`", float, *same(1.5), (1, 1.0), wrong=[("1", 'input: expected a number, got "1"')]),
    Row("`str`", str, *same("x"), wrong=[(b"x", "input: expected text, got bytes")]),
    Row("`bytes`", bytes, *same(b"x"), wrong=[("x", 'input: expected bytes, got "x"')]),
    Row("`None`", None, *same(None), wrong=[(0, "input: expected null, got 0")]),
    Row("`list`", list, *same([1, "x"]), wrong=[({}, "input: expected a list, got a map")]),
    Row("`dict`", dict, *same({"a": 1}), wrong=[([], "input: expected a map, got a list of 0")]),
    Row(
        "`list[float]`, `Sequence[float]`",
        list[float],
        ([1, 2.5], [1.0, 2.5]),
        wrong=[([1, "x"], 'input[1]: expected a number, got "x"')],
    ),
    Row(
        "`tuple[int, ...]`",
        tuple[int, ...],
        ([1, 2], (1, 2)),
        wrong=[([None], "input[0]: expected an integer, got null")],
    ),
    Row(
        "`tuple[int, str]`",
        tuple[int, str],
        ([1, "x"], (1, "x")),
        wrong=[
            ([1], "input: expected a list of 2, got a list of 1"),
            ([1, 2], "input[1]: expected text, got 2"),
        ],
    ),
    Row(
        "`set[int]`",
        set[int],
        ([1, 2], {1, 2}),
        ([2, 2], {2}),
        wrong=[(["x"], 'input[0]: expected an integer, got "x"')],
    ),
    Row("`frozenset[str]`", frozenset[str], (["a"], frozenset("a")), wrong=[(1, "input: expected a list, got 1")]),
    Row(
        "`dict[str, int]`",
        dict[str, int],
        *same({"a": 1}),
        wrong=[({"a b": "x"}, 'input["a b"]: expected an integer, got "x"')],
    ),
    Row(
        "`dict[int, float]`",
        dict[int, float],
        ({"1": 2.5}, {1: 2.5}),
        wrong=[({"x": 1}, 'input.x: expected an integer as key, got "x"')],
    ),
    Row(
        "`Optional[int]`, `int | None`",
        Optional[int],  # noqa: UP045
        *same(1, None),
        wrong=[("x", 'input: expected an integer or null, got "x"')],
    ),
    Row("`int | str`", Union[int, str], *same(1, "x"), wrong=[(1.5, "input: expected an integer or text, got 1.5")]),  # noqa: UP007
    Row("`str | UUID`", str | uuid.UUID, *same(ID), wrong=[(1, "input: expected text or a UUID, got 1")]),
    Row(
        "a union of dataclasses",
        Item | Checked,
        ({"size": 1}, Checked(1)),
        ({"price": 1.5}, Item(1.5)),
        wrong=[({}, "input: expected a map (Item) or a map (Checked), got a map")],
    ),
    Row(
        "`list[int] | tuple[str, str]`",
        list[int] | tuple[str, str],
        ([1], [1]),
        (["a", "b"], ("a", "b")),
        wrong=[(1, "input: expected a list or a list of 2, got 1")],
    ),
    Row(
        '`Literal["a", 1]`',
        Literal["a", 1],
        *same("a", 1),
        wrong=[("b", 'input: expected one of "a", 1, got "b"'), (True, 'input: expected one of "a", 1, got true')],
    ),
    Row(
        "`Annotated[int, Ge(0)]`",
        Annotated[int, Ge(0)],
        *same(0),
        wrong=[(-1, "input: expected an integer >= 0, got -1")],
    ),
    Row(
        "`Annotated[str, Len(1, 3)]`",
        Annotated[str, Len(1, 3)],
        *same("abc"),
        wrong=[("", 'input: expected text of at least 1 characters and of at most 3 characters, got ""')],
    ),
    Row("`NewType`", Rate, *same(5), wrong=[("x", 'input: expected an integer, got "x"')]),
    Row(
        "`Enum`",
        Color,
        ("red", Color.RED),
        wrong=[("blue", 'input: expected one of "red", "green", got "blue"')],
    ),
    Row("`IntEnum`", Level, (1, Level.LOW), wrong=[(3, "input: expected one of 1, 2, got 3")]),
    Row(
        "`Enum` of other values, by name",
        Pair,
        ("ONE", Pair.ONE),
        wrong=[([1, 1], 'input: expected one of "ONE", got a list of 2')],
    ),
    Row(
        "a dataclass",
        Item,
        ({"price": 2, "count": 3}, Item(2.0, 3)),
        ({"price": 2.5, "other": 1}, Item(2.5)),
        wrong=[
            ({"price": "five"}, 'input.price: expected a number, got "five"'),
            ({}, "input: expected a map (Item) with the key 'price', which is missing"),
        ],
    ),
    Row(
        "a list of dataclasses",
        list[Item],
        ([{"price": 1.5, "count": 1}], [Item(1.5)]),
        wrong=[
            (
                [{"price": 1}, {"price": 1}, {"price": 1}, {"price": "five"}],
                'input[3].price: expected a number, got "five"',
            )
        ],
    ),
    Row(
        "a recursive dataclass",
        Tree,
        ({"value": 1, "children": [{"value": 2, "children": []}]}, Tree(1, [Tree(2)])),
        wrong=[({"value": 1, "children": [{"value": ""}]}, 'input.children[0].value: expected an integer, got ""')],
    ),
    Row(
        "a dataclass with `__post_init__`",
        Checked,
        ({"size": 9}, Checked(9)),
        wrong=[({"size": 10}, "input: Checked: the size is too large")],
    ),
    Row(
        "`TypedDict`",
        Movie,
        ({"title": "x"}, {"title": "x"}),
        ({"title": "x", "other": 1}, {"title": "x"}),
        wrong=[({"year": "x"}, 'input.year: expected an integer, got "x"')],
    ),
    Row("`NamedTuple`", Point, ([1, 2], Point(1, 2)), ([1], Point(1)), wrong=[({"x": 1}, "input: expected a list of 1 to 2, got a map")]),
    Row("attrs", Box, ({"size": 1, "name": "b"}, Box(1, "b")), wrong=[({"size": "x"}, 'input.size: expected an integer, got "x"')]),
    Row(
        "a model of pydantic",
        Model,
        ({"name": "x", "age": 3}, Model(name="x", age=3)),
        ({"name": "x", "age": "3"}, Model(name="x", age=3)),
        wrong=[
            ({"name": "x", "age": -1}, "input.age: input should be greater than or equal to 0, got -1"),
            ({}, "input.name: field required"),
        ],
    ),
    Row("a struct of msgspec", Struct, ({"a": 1}, Struct(1)), wrong=[({"a": "x"}, "input.a: expected `int`, got `str`")]),
    Row(
        "`datetime` with a time zone",
        datetime.datetime,
        (NOON, NOON),
        ("2024-05-01T12:00:00Z", NOON),
        wrong=[("noon", 'input: expected a date and time such as 2024-05-01T12:00:00Z, got "noon"')],
    ),
    Row(
        "`date`",
        datetime.date,
        ("2024-05-01", datetime.date(2024, 5, 1)),
        wrong=[(NOON, "input: expected a date such as 2024-05-01, got datetime")],
    ),
    Row("`time`", datetime.time, ("12:30:00", datetime.time(12, 30)), wrong=[(12, "input: expected a time such as 12:30:00, got 12")]),
    Row(
        "`timedelta`",
        datetime.timedelta,
        ("P1DT2.5S", datetime.timedelta(days=1, seconds=2.5)),
        wrong=[(5, "input: expected a duration such as PT1H30M, got 5")],
    ),
    Row("`UUID`", uuid.UUID, (ID, uuid.UUID(ID)), wrong=[("x", 'input: expected a UUID, got "x"')]),
    Row(
        "`Decimal`",
        decimal.Decimal,
        ("1.50", decimal.Decimal("1.50")),
        (1.1, decimal.Decimal("1.1")),
        wrong=[("nan", 'input: expected a decimal number, got "nan"')],
    ),
    Row("`Path`", Path, ("a/b", Path("a/b")), wrong=[(1, "input: expected a path, got 1")]),
    Row(
        "`complex`",
        complex,
        ([1.0, 2.0], 1 + 2j),
        (3, 3 + 0j),
        wrong=[(["x", 1], "input: expected a complex number, a list of two numbers, got a list of 2")],
    ),
    Row(
        "`NDArray[np.float32]`",
        npt.NDArray[np.float32],
        (array([1.5], "float32"), array([1.5], "float32")),
        ([[1, 2]], array([[1, 2]], "float32")),
        (array([1], "int64"), array([1], "float32")),
        wrong=[
            (["x"], "input: expected an array of float32, got a list of 1 with other items than numbers"),
            ([[1], [1, 2]], "input: expected an array of float32, got lists of different lengths"),
            (array([1j], "complex64"), "input: expected an array of float32, got an array of complex64 and shape [1]"),
        ],
    ),
    Row(
        "`NDArray[np.uint8]`",
        npt.NDArray[np.uint8],
        (array([255], "uint8"), array([255], "uint8")),
        ([255], array([255], "uint8")),
        wrong=[([256], "input: expected an array of uint8, got an array of int64 and shape [1]")],
    ),
    Row(
        '`Annotated[np.ndarray, Shape("n 3"), "float32"]`',
        Annotated[np.ndarray, Shape("n 3"), "float32"],
        (array([[1, 2, 3]], "float32"), array([[1, 2, 3]], "float32")),
        wrong=[
            (
                array([[1, 2]], "float32"),
                "input: expected an array of float32 and shape [n, 3], got an array of float32 and shape [1, 2]",
            )
        ],
    ),
    Row("`np.ndarray`", np.ndarray, (array([True], "bool"), array([True], "bool")), ([1], array([1], "int64")), wrong=[("x", 'input: expected an array, got "x"')]),
    Row("`Tensor`", Tensor, (array([1], "int8"), array([1], "int8")), wrong=[([1], "input: expected Tensor, got a list of 1")]),
    Row("`Audio`", Audio, wrong=[(b"OggS", "input: expected Audio, got bytes (Ogg; gophersnake decodes WAV: convert the file to WAV)")]),
    Row(
        "`Image`",
        Image,
        wrong=[
            (
                b"RIFF....WEBPVP8 ",
                "input: expected Image, got bytes (WebP; gophersnake decodes PNG and JPEG: convert the file to PNG)",
            )
        ],
    ),
    Row(
        "`pandas.DataFrame`",
        pd.DataFrame,
        (pa.table({"a": [1, 2]}), pd.DataFrame({"a": [1, 2]})),
        ([{"a": 1}, {"a": 2.5}], pd.DataFrame({"a": [1, 2.5]})),
        wrong=[
            ({"a": [1]}, "input: expected a table (pandas.DataFrame), got a map"),
            ([{"a": 1}, {"a": "x"}], 'input[1].a: expected a number, got "x"'),
        ],
    ),
    Row(
        "`polars.DataFrame`",
        pl.DataFrame,
        (pa.table({"a": [1, None]}), pl.DataFrame({"a": [1, None]})),
        ([{"a": "x"}], pl.DataFrame({"a": ["x"]})),
        wrong=[([1], "input[0]: expected a map, got 1")],
    ),
    Row("`pyarrow.Table`", pa.Table, (pa.table({"a": ["x"]}), pa.table({"a": ["x"]})), wrong=[([{"a": "x"}], "input: expected a table (pyarrow.Table), got a list of 1")]),
    Row(
        "`pyarrow.RecordBatch`",
        pa.RecordBatch,
        (pa.table({"a": [1]}), pa.RecordBatch.from_pydict({"a": [1]})),
        wrong=[(None, "input: expected a table (pyarrow.RecordBatch), got null")],
    ),
    Row(
        '`Annotated[pandas.DataFrame, pyarrow.schema([("price", pyarrow.float64())])]`',
        Annotated[pd.DataFrame, PRICES],
        (pa.table({"price": [1.5]}), pd.DataFrame({"price": [1.5]})),
        wrong=[
            (pa.table({"other": [1]}), "input: expected a table (pandas.DataFrame) with the column 'price'"),
            (pa.table({"price": ["x"]}), "input.price: expected a column of double, got one of string"),
        ],
    ),
    Row("`Table`", Table, wrong=[(1, "input: expected a table, got 1")]),
    Row("`Json`", Json, (Json('{"a":1}'), Json('{"a":1}')), ([1], Json("[1]")), wrong=[(b"x", "input: expected a JSON document: Object of type bytes is not JSON serializable")]),
]  # fmt: skip


def signature(hint: Any, **options: Any) -> Signature:
    """Return the signature of a node that takes and returns values of a type."""

    def n(value: Any) -> Any:
        return value

    n.__annotations__ = {"value": hint, "return": hint}
    return Signature(node(**options)(n) if options else n)


def arrive(hint: Any, value: Any) -> Any:
    """Return what a node with an annotation gets for a value that arrives."""
    body, buffers = Encoder().encode([[value], {}])
    decoder = signature(hint).types.decoder(0)
    return decoder.arguments(bytes(body), [bytes(each) for each in buffers])[0][0]


def refused(hint: Any, value: Any) -> str:
    """Return the error for a value that does not fit an annotation."""
    with pytest.raises(ValueFault) as caught:
        arrive(hint, value)
    return f"{caught.value.path}: {caught.value.reason}"


def written(hint: Any, value: Any) -> Any:
    """Return what arrives elsewhere, without an annotation, of a value that is returned."""
    write = signature(hint).types.writer()
    body, buffers = Encoder().encode(value if write is None else write(value))
    return Decoder().decode(bytes(body), [bytes(each) for each in buffers])


def equal(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray):
        return type(a) is type(b) and a.dtype == b.dtype and np.array_equal(a, b)
    if isinstance(a, (pd.DataFrame, pl.DataFrame)):
        return type(a) is type(b) and bool(a.equals(b))
    if isinstance(a, pa.Table):  # without the notes of pandas and polars
        return isinstance(b, pa.Table) and a.to_pylist() == b.to_pylist()
    return type(a) is type(b) and bool(a == b)


@pytest.fixture(params=["with msgspec", "without msgspec"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a test with what msgspec converts, and with what the package converts itself."""
    if request.param == "without msgspec":
        monkeypatch.setattr("gophersnake._worker.types.ports._fast", lambda of, hint: None)


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_value_is_built_and_written_as_annotated(row: Row) -> None:
    for value, wanted in row.fits:
        got = arrive(row.hint, value)
        assert equal(got, wanted), f"{got!r} instead of {wanted!r}"
    for value, _ in row.fits[:1]:
        assert equal(written(row.hint, arrive(row.hint, value)), value) or value == {
            "price": 2,
            "count": 3,
        }


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_value_of_another_type_is_refused(row: Row) -> None:
    for value, says in row.wrong:
        assert refused(row.hint, value) == says


def test_a_node_without_annotations_has_the_plain_decoder_and_encoder() -> None:
    for hint in (Any, object, Odd, "NotThere"):
        types = signature(hint).types
        assert type(types.decoder(0)) is Decoder
        assert types.writer() is None
    assert type(signature(int, types=False).types.decoder(0)) is Decoder
    assert signature(int).types.writer() is None, "no scalar is written by a function"
    assert signature(list[Item]).types.writer() is None


class Odd:
    """A class that gophersnake does not know."""


def test_a_pydantic_model_is_written_by_pydantic() -> None:
    class Inner(pydantic.BaseModel):
        at: datetime.date = pydantic.Field(alias="on")
        secret: str = pydantic.Field(default="x", exclude=True)

    roots = pydantic.RootModel[list[Inner]]
    value = Inner(on=datetime.date(2024, 5, 1))
    assert written(Any, [value]) == [{"on": "2024-05-01"}]
    assert written(Any, roots([value])) == [{"on": "2024-05-01"}]


def table() -> str:
    """Return the table of the docs."""
    lines = [
        "| annotation | arrives | the node gets | sent when returned | refused | error |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in ROWS:
        gets = [f"{shown(value)} | {shown(built)}" for value, built in row.fits] or [" | "]
        sent = [shown(written(row.hint, arrive(row.hint, value))) for value, _ in row.fits]
        wrong = [f"{shown(value)} | {cell(says)}" for value, says in row.wrong] or [" | "]
        for i in range(max(len(gets), len(wrong))):
            middle = f"{gets[i]} | {sent[i] if sent else ''}" if i < len(gets) else " | | "
            last = wrong[i] if i < len(wrong) else " | "
            lines.append(f"| {cell(row.name) if i == 0 else ''} | {middle} | {last} |")
    return "\n".join(" ".join(line.split()) for line in lines)


def shown(value: Any) -> str:
    if isinstance(value, (pd.DataFrame, pl.DataFrame, pa.Table, pa.RecordBatch)):
        library = type(value).__module__.partition(".")[0]
        cells = arrive(pa.Table, value).to_pydict()
        name = "table" if isinstance(value, pa.Table) else type(value).__name__
        return f"`{library}.{name}({cell(repr(cells))})`"
    text = repr(value).replace("tests.test_types.", "").replace("datetime.datetime", "datetime")
    text = text.replace("datetime.timezone.utc", "UTC").replace("datetime.", "")
    return f"`{cell(' '.join(text.split()))}`"


def cell(text: str) -> str:
    return text.replace("|", "\\|")


def test_the_docs_have_this_table() -> None:
    old = DOCS.read_text(encoding="utf-8")
    begin, end = "<!-- table 1 -->\n", "\n<!-- end of table 1 -->"
    before, rest = old.split(begin)
    after = rest.split(end)[1]
    new = f"{before}{begin}\n{table()}\n{end}{after}"
    if os.environ.get("UPDATE_DOCS"):
        DOCS.write_text(new, encoding="utf-8")
    else:
        assert old == new, "UPDATE_DOCS=1 python -m pytest tests/test_types.py"
