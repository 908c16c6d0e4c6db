"""What a node is told about a value that cannot be sent, and that the advice works.

Each row is an expression for a value, the reason and the hint of its refusal, and the
expressions that the hint recommends. The test evaluates those, and sends their values.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
from typing import Any

import gophersnake
import pytest
from gophersnake._worker.values.encoder import Encoder
from gophersnake._worker.values.format import ValueFault

Row = tuple[str, str, str, tuple[str, ...]]

SOURCE = """
import array, collections, contextlib, ctypes, dataclasses, datetime, decimal, enum, fractions
import io, ipaddress, math, pathlib, re, threading, traceback, types, typing, uuid
import gophersnake, json, os
timezone = datetime.timezone

class Color(enum.Enum): RED = 1
class Custom:
    def __init__(self): self.a = 1
class Holder:
    def __init__(self): self.a = threading.Lock()
class Slotted:
    __slots__ = ("a",)
    def __init__(self): self.a = 1
class Answering:
    def __getattr__(self, name):
        if name.startswith("__"): raise AttributeError(name)
        return lambda *_: self
class Raising:
    @property
    def to_numpy(self): raise RuntimeError("not yet")
class Loop:
    def __iter__(self): return iter([1])
class Struct(ctypes.Structure): _fields_ = [("a", ctypes.c_int)]
class Torch:
    def __init__(self): self.moved = False
    def __dlpack__(self, *_, **__): raise BufferError("it is on the device cuda:0")
    def __dlpack_device__(self): return (2, 0)
    def cpu(self): return [1.5]
    def float(self): return [1.5]
class Arrow:
    def to_pylist(self): return [1, None]
class ArrowScalar:
    def as_py(self): return 1
class Sparse:
    nnz = 1
    def toarray(self): return [[0, 1]]
class Attrs:
    __attrs_attrs__ = ()
class Msgspec:
    __struct_fields__ = ("a",)
class PydanticV1:
    __fields__ = {}
    def dict(self): return {}
    def json(self): return '{"a": 1}'
class LazyFrame:
    def collect_schema(self): ...
    def collect(self): return [1]  # as polars has it, a frame
class Series:
    def to_numpy(self): return [1]
    def to_list(self): return [1]
class TensorFlow:
    dtype = "float32"
    def numpy(self): return [1]
class ArrayLike:
    def __array__(self, dtype=None, copy=None): return numpy.zeros(2)
def function(): return 1
def generator(): yield 1
async def coroutine(): return 1
async def async_generator(): yield 1
def caught():
    try: raise ValueError("bad")
    except ValueError as error: return error
"""


def has_no_form(what: str) -> str:
    """Return the reason of most refusals."""
    return f"{what} has no form on the wire"


def instead(expressions: str) -> str:
    """Return the hint of most refusals."""
    return f"instead of x, return {expressions}"


FALLBACK = "return what you need of it as strings, numbers, lists, dicts or arrays"
CALL = instead("what it returns when it is called, or x.__qualname__")
CLASS = instead("x.__name__, or an object of this class")
KEYS = instead("{str(key): value for key, value in x.items()}")
UTF8 = instead('x.encode(errors="replace").decode(), or os.fsencode(x) if it is the name of a file')
NAIVE = instead(
    "x.replace(tzinfo=timezone.utc) if it is in UTC; datetime.now(timezone.utc) has a time zone"
)
NUMBERS = ", or x.to_numpy() if all are numbers"
TO_JSON = 'gophersnake.Json(x.to_json(orient="records", date_format="iso"))'
TO_KEYS = ("{str(key): value for key, value in x.items()}",)
TO_UTF8 = ('x.encode(errors="replace").decode()', "os.fsencode(x)")


def simple(value: str, what: str, expression: str) -> Row:
    """Return a row whose hint is a single expression."""
    return value, has_no_form(what), instead(expression), (expression,)


STANDARD: list[Row] = [
    simple("ipaddress.ip_address('10.0.0.1')", "an ipaddress.IPv4Address", "str(x)"),
    simple("ipaddress.ip_network('10.0.0.0/8')", "an ipaddress.IPv4Network", "str(x)"),
    simple("timezone.utc", "a datetime.timezone", "str(x)"),
    simple("list[int]", "the type list[int]", "str(x)"),
    simple("1j", "a complex", "[x.real, x.imag]"),
    simple("range(3)", "a range", "list(x)"),
    simple("generator()", "a generator", "list(x)"),
    simple("map(int, '1')", "a map", "list(x)"),
    simple("iter([1])", "a list_iterator", "list(x)"),
    simple("{'a': 1}.keys()", "a dict_keys", "list(x)"),
    simple("collections.deque([1])", "a collections.deque", "list(x)"),
    simple("Loop()", "a nodes.Loop", "list(x)"),
    simple("types.MappingProxyType({'a': 1})", "a mappingproxy", "dict(x)"),
    simple("collections.ChainMap({'a': 1})", "a collections.ChainMap", "dict(x)"),
    simple("types.SimpleNamespace(a=1)", "a types.SimpleNamespace", "vars(x)"),
    simple("slice(1, 2)", "a slice", "[x.start, x.stop, x.step]"),
    simple("io.BytesIO(b'a')", "a _io.BytesIO", "x.getvalue()"),
    simple("io.StringIO('a')", "a _io.StringIO", "x.getvalue()"),
    simple("re.compile('a')", "a re.Pattern", "x.pattern"),
    simple("caught().__traceback__", "a traceback", "traceback.format_tb(x)"),
    simple("Arrow()", "a nodes.Arrow", "x.to_pylist()"),
    simple("ArrowScalar()", "a nodes.ArrowScalar", "x.as_py()"),
    simple("Sparse()", "a nodes.Sparse", "x.toarray()"),
    simple("TensorFlow()", "a nodes.TensorFlow", "x.numpy()"),
    simple("PydanticV1()", "a nodes.PydanticV1", "json.loads(x.json())"),
    simple("LazyFrame()", "a nodes.LazyFrame", "x.collect()"),
    (
        "1 << 70",
        "an integer of 71 bits; integers have 64 bits at most",
        instead("str(x)"),
        ("str(x)",),
    ),
    (
        "memoryview(b'abcd')[::2]",
        "a memoryview that is not contiguous",
        instead("bytes(x)"),
        ("bytes(x)",),
    ),
    (
        "Struct()",
        "a nodes.Struct of elements 'T{<i:a:}' is no tensor",
        instead("bytes(x)"),
        ("bytes(x)",),
    ),
    (
        "ctypes.pointer(ctypes.c_int(1))",
        # Python 3.14 names another module for the class.
        f"a {'ctypes' if sys.version_info >= (3, 14) else 'nodes'}.LP_c_int of elements '&<i' is no tensor",
        instead("x.contents"),
        ("x.contents",),
    ),
    (
        "datetime.datetime(2024, 1, 1)",
        "a datetime without a time zone could be any instant",
        NAIVE,
        ("x.replace(tzinfo=timezone.utc)",),
    ),
    (
        "{1, 'a'}",
        has_no_form("a set"),
        instead("list(x), or sorted(x) if its elements have an order"),
        ("list(x)",),
    ),
    (
        "frozenset([2, 1])",
        has_no_form("a frozenset"),
        instead("list(x), or sorted(x) if its elements have an order"),
        ("list(x)", "sorted(x)"),
    ),
    (
        "fractions.Fraction(1, 2)",
        has_no_form("a fractions.Fraction"),
        instead("float(x), or str(x) to keep it exact"),
        ("float(x)", "str(x)"),
    ),
    ("ValueError('a')", has_no_form("a ValueError"), instead("str(x), or raise x"), ("str(x)",)),
    (
        "re.match('(?P<b>a)', 'a')",
        has_no_form("a re.Match"),
        instead("x.group(), x.groups() or x.groupdict()"),
        ("x.group()", "x.groups()", "x.groupdict()"),
    ),
    ("int", has_no_form("the class int"), CLASS, ("x.__name__",)),
    ("Color", has_no_form("the class nodes.Color"), CLASS, ("x.__name__",)),
    ("function", has_no_form("a function"), CALL, ("x.__qualname__", "x()")),
    ("lambda: 1", has_no_form("a function"), CALL, ("x.__qualname__", "x()")),
    ("Loop().__iter__", has_no_form("a method"), CALL, ("x.__qualname__",)),
    ("len", has_no_form("a builtin_function_or_method"), CALL, ("x.__qualname__",)),
    (
        "re",
        has_no_form("a module"),
        instead("x.__name__, or what you need of the module"),
        ("x.__name__",),
    ),
    (
        "Custom()",
        has_no_form("a nodes.Custom"),
        instead("vars(x), or make its class a dataclass"),
        ("vars(x)",),
    ),
    (
        "Slotted()",
        has_no_form("a nodes.Slotted"),
        "make its class a dataclass, or return its attributes in a dict",
        ("{name: getattr(x, name) for name in x.__slots__}",),
    ),
    (
        "Series()",
        has_no_form("a nodes.Series"),
        instead("x.to_list()" + NUMBERS),
        ("x.to_list()", "x.to_numpy()"),
    ),
    (
        "Torch()",
        "a nodes.Torch does not export its memory: it is on the device cuda:0",
        instead("x.cpu(), and x.float() of it if NumPy lacks its dtype"),
        ("x.cpu()", "x.float()"),
    ),
    ("{uuid.UUID(int=1): 1, 2: {3}}", "a map key is a uuid.UUID; keys must be strings", KEYS, ()),
    (
        "'a\\udcff'",
        "a string that is not UTF-8: surrogates not allowed at position 1",
        UTF8,
        TO_UTF8,
    ),
    ("threading.Lock()", has_no_form("a _thread.lock"), FALLBACK, ("str(x)",)),
    ("threading.current_thread()", has_no_form("a threading._MainThread"), FALLBACK, ("x.name",)),
    ("Holder()", has_no_form("a nodes.Holder"), FALLBACK, ("str(x)",)),
    ("Raising()", has_no_form("a nodes.Raising"), instead("x.to_numpy()"), ()),
    ("Answering()", has_no_form("a nodes.Answering"), FALLBACK, ()),
    ("object()", has_no_form("an object"), FALLBACK, ("str(x)",)),
    ("...", has_no_form("an ellipsis"), FALLBACK, ("str(x)",)),
]
"""Values of the standard library and of a node's own classes, and stand-ins for libraries."""

NUMPY: list[Row] = [
    (
        "numpy.datetime64('2024-01-01')",
        has_no_form("a NumPy scalar of dtype datetime64[D]"),
        instead('x.astype(str).tolist(), or x.astype("int64") for numbers of its unit'),
        ("x.astype(str).tolist()", 'x.astype("int64")'),
    ),
    (
        "numpy.array(['2024-01-01', 'NaT'], 'datetime64[s]')",
        has_no_form("a NumPy array of dtype datetime64[s]"),
        instead('x.astype(str).tolist(), or x.astype("int64") for numbers of its unit'),
        ("x.astype(str).tolist()", 'x.astype("int64")'),
    ),
    (
        "numpy.timedelta64(1, 's')",
        has_no_form("a NumPy scalar of dtype timedelta64[s]"),
        instead('x.astype("int64"), which is numbers of its unit'),
        ('x.astype("int64")',),
    ),
    simple("numpy.array([1, None], object)", "a NumPy array of dtype object", "x.tolist()"),
    simple("numpy.array(['a'])", "a NumPy array of dtype <U1", "x.tolist()"),
    simple("numpy.array([b'a'])", "a NumPy array of dtype |S1", "x.tolist()"),
    simple("numpy.array([b'ab'], 'V2')", "a NumPy array of dtype |V2", "x.tobytes()"),
    simple(
        "numpy.zeros(2, [('a', 'i4'), ('b', 'f4')])",
        "a NumPy array of dtype [('a', '<i4'), ('b', '<f4')]",
        "{name: x[name] for name in x.dtype.names}",
    ),
    simple(
        "numpy.zeros(2, [('a', 'i4')])[0]",
        "a NumPy scalar of dtype [('a', '<i4')]",
        "{name: x[name] for name in x.dtype.names}",
    ),
    (
        "numpy.ma.array([1, 2], mask=[False, True])",
        "an array with masked elements",
        instead("x.filled(0), or with another value for them"),
        ("x.filled(0)",),
    ),
    simple("ArrayLike()", "a nodes.ArrayLike", "numpy.asarray(x)"),
]

LONG_DOUBLE: list[Row] = [
    simple("numpy.longdouble(1)", "a NumPy scalar of dtype float128", 'x.astype("float64")'),
    simple(
        "numpy.zeros(2, numpy.clongdouble)",
        "a NumPy array of dtype complex256",
        'x.astype("complex128")',
    ),
]
"""The rows for machines whose long double has more than 64 bits."""

TYPE = "a TYPE"
"""The class of a value of a library, whose module depends on the library's version."""

LIBRARIES: dict[str, list[Row]] = {
    "pandas": [
        (
            "pandas.Series([1])",
            has_no_form(TYPE),
            instead(TO_JSON + NUMBERS),
            (TO_JSON, "x.to_numpy()"),
        ),
        (
            "pandas.Index([1])",
            has_no_form(TYPE),
            instead("x.to_list()" + NUMBERS),
            ("x.to_list()", "x.to_numpy()"),
        ),
        (
            "pandas.array([1, 2])",
            has_no_form(TYPE),
            instead("x.tolist()" + NUMBERS),
            ("x.tolist()",),
        ),
        simple("pandas.NaT", TYPE, "None"),
        simple("pandas.NA", TYPE, "None"),
        (
            "pandas.Timestamp('2024-01-01')",
            "a datetime without a time zone could be any instant",
            NAIVE,
            ("x.replace(tzinfo=timezone.utc)",),
        ),
    ],
    "polars": [
        (
            "polars.Series([1])",
            has_no_form(TYPE),
            instead("x.to_list()" + NUMBERS),
            ("x.to_list()", "x.to_numpy()"),
        ),
        simple(
            "polars.DataFrame({'a': [1]}).lazy()",
            TYPE,
            "x.collect()",
        ),
    ],
    "pydantic": [
        (
            "pydantic.BaseModel",
            has_no_form("the class pydantic.main.BaseModel"),
            CLASS,
            ("x.__name__",),
        ),
    ],
    "PIL.Image": [
        simple("PIL.Image.new('P', (2, 2))", TYPE, 'numpy.asarray(x.convert("RGB"))'),
    ],
}
"""Values of libraries. Rows of those that are not installed are skipped."""


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    """Return the names of a node's module, in which expressions are evaluated."""
    found: dict[str, Any] = {"__name__": "nodes"}
    exec(SOURCE, found)
    return found


def refusal(value: Any) -> tuple[str, str]:
    """Return the reason and the hint of a refusal."""
    with pytest.raises(ValueFault) as fault:
        Encoder().encode([value])
    assert fault.value.path == "result[0]"
    return fault.value.reason, fault.value.hint


def follow(row: Row, names: dict[str, Any]) -> None:
    """Check that a value is refused as its row says, and that what the hint says works."""
    source, reason, hint, expressions = row
    value = eval(source, names)
    kind = type(value)
    reason = reason.replace(TYPE, f"a {kind.__module__}.{kind.__qualname__}")
    assert refusal(value) == (reason, hint)
    assert reason not in hint
    for expression in expressions:
        if hint.startswith("instead"):
            assert expression in hint or expression == "x()"
        Encoder().encode([eval(expression, names | {"x": eval(source, names)})])


@pytest.mark.parametrize("row", STANDARD, ids=[row[0] for row in STANDARD])
def test_each_hint_can_be_followed(row: Row, names: dict[str, Any]) -> None:
    if row[0] == "Torch()":
        pytest.importorskip("numpy")
    follow(row, names)


def test_the_array_of_wide_characters_has_a_hint(names: dict[str, Any]) -> None:
    code = "w" if sys.version_info >= (3, 13) else "u"
    value = eval(f"array.array({code!r}, 'ab')", names)
    reason, hint = refusal(value)
    assert reason == "an array.array of elements 'w' is no tensor"
    assert hint == instead("x.tolist()")
    Encoder().encode(value.tolist())


@pytest.mark.parametrize("row", NUMPY, ids=[row[0] for row in NUMPY])
def test_each_hint_about_numpy_can_be_followed(row: Row, names: dict[str, Any]) -> None:
    follow(row, names | {"numpy": with_numpy(names)})


def with_numpy(names: dict[str, Any]) -> Any:
    """Return NumPy, which the classes of the names can use, too."""
    names["numpy"] = pytest.importorskip("numpy")
    return names["numpy"]


@pytest.mark.parametrize("row", LONG_DOUBLE, ids=[row[0] for row in LONG_DOUBLE])
def test_each_hint_about_long_doubles_can_be_followed(row: Row, names: dict[str, Any]) -> None:
    if not hasattr(with_numpy(names), "float128"):
        pytest.skip("a long double has no more than 64 bits here")
    follow(row, names)


@pytest.mark.parametrize(
    ("library", "row"),
    [(library, row) for library, rows in LIBRARIES.items() for row in rows],
    ids=[row[0] for rows in LIBRARIES.values() for row in rows],
)
def test_each_hint_about_a_library_can_be_followed(
    library: str, row: Row, names: dict[str, Any]
) -> None:
    pytest.importorskip(library)
    root = library.partition(".")[0]
    with_numpy(names)
    follow(row, names | {root: importlib.import_module(root)})


@pytest.mark.parametrize(
    ("source", "kind", "expression"),
    [
        ("coroutine()", "a coroutine", "await x"),
        ("async_generator()", "an async_generator", "[each async for each in x]"),
    ],
)
def test_the_hints_for_async_values_can_be_followed(
    source: str, kind: str, expression: str, names: dict[str, Any]
) -> None:
    value = eval(source, names)
    assert refusal(value) == (has_no_form(kind), instead(f"{expression}, in an async node"))
    node: dict[str, Any] = {}
    exec(f"async def node(x): return {expression}", node)
    Encoder().encode(asyncio.run(node["node"](value)))


def test_an_open_file_is_refused_with_a_hint(tmp_path: Any) -> None:
    with open(tmp_path / "file", "w+", encoding="utf-8") as x:
        assert refusal(x) == (
            has_no_form("a _io.TextIOWrapper"),
            instead("its content, x.read(), or its path, x.name"),
        )
        Encoder().encode([x.read(), str(x.name)])


def test_a_deep_value_can_be_sent_as_a_document() -> None:
    x: Any = {1}
    for _ in range(500):
        x = [x]
    with pytest.raises(ValueFault) as fault:
        Encoder().encode(x)
    assert (fault.value.reason, fault.value.hint) == (
        "nested too deep",
        instead("gophersnake.Json.dump(x), or less nesting"),
    )
    fine: Any = 1
    for _ in range(500):
        fine = [fine]
    Encoder().encode(gophersnake.Json.dump(fine))
