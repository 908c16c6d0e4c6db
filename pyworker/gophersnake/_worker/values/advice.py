"""Says why a value cannot be sent, and what the node can return instead.

Only mistakes need this module, so the worker imports it when it finds the first one.
In a hint, ``x`` is the value, and each expression that a hint recommends can be sent: the
tests follow all of them. Attributes are looked up in the class of the value, because a
value may have a ``__getattr__`` that answers everything, or a property that raises.
"""

from __future__ import annotations

import array
import collections.abc
import ctypes
import datetime
import io
import re
import sys
import types
from typing import Any

from gophersnake._worker.values.format import Refused

FALLBACK = "return what you need of it as strings, numbers, lists, dicts or arrays"
AS_TEXT = "str(x)"
STRING_KEYS = "{str(key): value for key, value in x.items()}"
JSON_TEXT = "gophersnake.Json.dump(x), or less nesting"
UTF8 = 'x.encode(errors="replace").decode(), or os.fsencode(x) if it is the name of a file'
PLAIN = (type(None), bool, int, float, str, bytes, list, tuple, dict)


def instead(expressions: str) -> str:
    """Return the hint that recommends expressions in which ``x`` is the refused value."""
    return f"instead of x, return {expressions}"


def refusal(value: Any) -> Refused:
    """Return the error of a value whose type cannot be sent."""
    return Refused(f"{described(value)} has no form on the wire", advice(value))


def format_refusal(value: Any, format: str) -> Refused:
    """Return the error of a buffer whose elements have no dtype."""
    return Refused(f"{described(value)} of elements {format!r} is no tensor", advice(value))


def described(value: Any) -> str:
    """Return the class of a value with an article, for messages; a class by its own name."""
    if issubclass(type(value), type):  # not isinstance, which asks a weakref.proxy's object
        return f"the class {_name(value)}"
    if isinstance(value, (types.GenericAlias, types.UnionType)):
        return f"the type {value}"
    name = _name(type(value))
    return f"{'an' if name[0] in 'aeioAEIO' else 'a'} {name}"


def _name(kind: type) -> str:
    module = kind.__module__
    return kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"


def advice(value: Any) -> str:
    """Return what to return instead of a value whose type cannot be sent."""
    for find in (_of_type, _of_library, _of_protocol, _of_attributes):
        if expressions := find(value):
            return instead(expressions)
    if "__slots__" in vars(type(value)):
        return "make its class a dataclass, or return its attributes in a dict"
    return FALLBACK


BY_TYPE: tuple[tuple[tuple[type, ...], str], ...] = (
    ((type,), "x.__name__, or an object of this class"),
    ((types.GenericAlias, types.UnionType), AS_TEXT),
    # Both are sent if the annotation of the result says so, which no expression can show.
    ((set, frozenset), "list(x), or sorted(x) if its elements have an order"),
    ((complex,), "[x.real, x.imag]"),
    ((BaseException,), "str(x), or raise x"),
    ((types.TracebackType,), "traceback.format_tb(x)"),
    ((types.ModuleType,), "x.__name__, or what you need of the module"),
    (
        (types.FunctionType, types.MethodType, types.BuiltinFunctionType),
        "what it returns when it is called, or x.__qualname__",
    ),
    ((types.CoroutineType,), "await x, in an async node"),
    ((types.AsyncGeneratorType,), "[each async for each in x], in an async node"),
    ((io.BytesIO, io.StringIO), "x.getvalue()"),
    ((re.Pattern,), "x.pattern"),
    ((re.Match,), "x.group(), x.groups() or x.groupdict()"),
    ((types.SimpleNamespace,), "vars(x)"),
    ((datetime.tzinfo,), AS_TEXT),
    ((slice,), "[x.start, x.stop, x.step]"),
    ((array.array,), "x.tolist()"),
    ((ctypes.Structure, ctypes.Union, memoryview), "bytes(x)"),
    ((ctypes._Pointer,), "x.contents"),
)


def _of_type(value: Any) -> str:
    """Return the expression for a type of the standard library."""
    if type(value).__name__ in ("NAType", "NaTType"):  # of pandas; NaT also is a datetime
        return "None"
    return next((found for kinds, found in BY_TYPE if issubclass(type(value), kinds)), "")


BY_METHODS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("__fields__", "json", "dict"), "json.loads(x.json())"),  # the first version of pydantic
    (
        ("to_json", "to_numpy", "iloc"),  # pandas' series
        'gophersnake.Json(x.to_json(orient="records", date_format="iso")), '
        "or x.to_numpy() if all are numbers",
    ),
    (("collect", "collect_schema"), "x.collect()"),  # polars' lazy frames
    (("to_pylist",), "x.to_pylist()"),  # Arrow
    (("as_py",), "x.as_py()"),
    (("to_list", "to_numpy"), "x.to_list(), or x.to_numpy() if all are numbers"),
    (("tolist", "to_numpy"), "x.tolist(), or x.to_numpy() if all are numbers"),
    (("getbands", "tobytes", "convert"), 'numpy.asarray(x.convert("RGB"))'),  # Pillow
    (("toarray", "nnz"), "x.toarray()"),  # SciPy's sparse matrices
    (("to_numpy",), "x.to_numpy()"),
    (("numpy", "dtype"), "x.numpy()"),  # TensorFlow
    (("__array__",), "numpy.asarray(x)"),
)


def _of_library(value: Any) -> str:
    """Return the expression for an object of a library, which its methods give away."""
    return next((found for names, found in BY_METHODS if _has(value, *names)), "")


def _has(value: Any, *names: str) -> bool:
    return all(hasattr(type(value), name) for name in names)


def _of_protocol(value: Any) -> str:
    """Return the expression for an object that supports a protocol of Python."""
    if _has(value, "read") and _has(value, "fileno"):
        return "its content, x.read(), or its path, x.name"
    if _has(value, "__fspath__") or type(value).__module__ == "ipaddress":
        return AS_TEXT
    if isinstance(value, collections.abc.Mapping):
        return "dict(x)"
    if isinstance(value, collections.abc.Iterable):
        return "list(x)"
    return "float(x), or str(x) to keep it exact" if _has(value, "as_integer_ratio") else ""


def _of_attributes(value: Any) -> str:
    """Return the expression for an object of a class of the node's own."""
    if callable(value) or type(value).__module__.partition(".")[0] in sys.stdlib_module_names:
        return ""
    attributes = getattr(value, "__dict__", None)
    if not attributes or not all(isinstance(each, PLAIN) for each in attributes.values()):
        return ""
    return "vars(x), or make its class a dataclass"


BY_DTYPE: dict[str, str] = {
    "M": 'x.astype(str).tolist(), or x.astype("int64") for numbers of its unit',
    "m": 'x.astype("int64"), which is numbers of its unit',
    "O": "x.tolist()",
    "U": "x.tolist()",
    "S": "x.tolist()",
    "T": "x.tolist()",
    "f": 'x.astype("float64")',
    "c": 'x.astype("complex128")',
}


def dtype_refusal(value: Any) -> Refused:
    """Return the error of a NumPy array or scalar whose dtype cannot be sent."""
    dtype = value.dtype
    expressions = BY_DTYPE.get(dtype.kind, 'x.astype("float32")')  # of ml_dtypes
    if dtype.names is not None:
        expressions = "{name: x[name] for name in x.dtype.names}"
    elif dtype.type.__module__ == "numpy" and dtype.kind == "V":
        expressions = "x.tobytes()"
    what = "array" if value.shape else "scalar"
    return Refused(f"a NumPy {what} of dtype {dtype} has no form on the wire", instead(expressions))


def export_refusal(value: Any, error: Exception) -> Refused:
    """Return the error of an array of another library that does not export its memory."""
    steps: tuple[tuple[str, str], ...] = (
        ("cpu", "x.cpu(), and x.float() of it if NumPy lacks its dtype"),  # PyTorch
        ("get", "x.get()"),  # CuPy
        ("to_pylist", "x.to_pylist()"),  # Arrow
        ("__array__", "numpy.asarray(x)"),
    )
    found = next((expressions for name, expressions in steps if _has(value, name)), "")
    if getattr(value, "is_sparse", False) is True:
        found = "x.to_dense()"
    hint = instead(found) if found else FALLBACK
    return Refused(f"{described(value)} does not export its memory: {error}", hint)
