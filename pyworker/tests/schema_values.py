"""Values for a schema of the package: those that fit it, and those that nearly do.

It knows the keywords that ``gophersnake._worker.types`` writes.

    python -m tests.schema_values > ../runner/internal/schema/testdata/pairs.json

prints pairs of schemas for the tests of package schema in Go: see ``pairs``.
"""

from __future__ import annotations

import datetime
import json
import sys
from functools import partial
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

Schema = dict[str, Any]

UTC = datetime.timezone.utc
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
scalars = st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from([0.5, 1.0, -2.0]) | texts
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3)
)

FORMATS: dict[str, st.SearchStrategy[str]] = {
    "uuid": st.uuids().map(str),
    "path": st.sampled_from(["a", "a/b.txt", "/etc"]),
    "date": st.dates().map(str),
    "time": st.times().map(str),
    "date-time": st.datetimes(timezones=st.just(UTC)).map(datetime.datetime.isoformat),
    "duration": st.sampled_from(["P1D", "PT1H30M", "PT0S", "-PT2.5S"]),
}
"""Text in the usual form of each format."""


def fitting(schema: Schema, defs: Any = None) -> st.SearchStrategy[Any]:
    """Return a strategy for values that fit a schema."""
    defs = schema.get("$defs", defs) or {}
    if "$ref" in schema:
        target = defs[schema["$ref"].removeprefix("#/$defs/")]
        return st.deferred(lambda: fitting(target, defs))
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if "anyOf" in schema:
        return st.one_of([fitting(each, defs) for each in schema["anyOf"]])
    kind = schema.get("type")
    if kind == "array":
        return _lists(schema, defs)
    if kind == "object":
        return _objects(schema, defs)
    if kind == "string":
        return _strings(schema)
    if kind in ("integer", "number"):
        return _numbers(schema)
    return {"null": st.none(), "boolean": st.booleans()}.get(str(kind), anything)


def _numbers(schema: Schema) -> st.SearchStrategy[Any]:
    least = schema.get("minimum", schema.get("exclusiveMinimum"))
    most = schema.get("maximum", schema.get("exclusiveMaximum"))
    low, high = int(-20 if least is None else least), int(20 if most is None else most)
    step = schema.get("multipleOf", 1)
    found: st.SearchStrategy[Any] = st.integers(low, max(low, high)).map(lambda n: n * step)
    if schema["type"] == "number":
        found |= st.floats(low, max(low, high)) | found.map(float)
    found |= found.map(lambda n: float(n) if n == int(n) else n)
    under, over = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    return found.filter(lambda n: (under is None or n > under) and (over is None or n < over))


def _strings(schema: Schema) -> st.SearchStrategy[str]:
    if "format" in schema:
        return FORMATS[schema["format"]]
    if "pattern" in schema:
        return st.from_regex(str(schema["pattern"]), fullmatch=True)
    least = schema.get("minLength", 0)
    return st.text("abc1é", min_size=least, max_size=schema.get("maxLength", least + 3))


def _lists(schema: Schema, defs: Any) -> st.SearchStrategy[Any]:
    first = [fitting(each, defs) for each in schema.get("prefixItems", [])]
    least, most = schema.get("minItems", 0), schema.get("maxItems", schema.get("minItems", 0) + 3)
    if first:
        sizes = st.integers(least, min(len(first), schema.get("maxItems", len(first))))
        return sizes.flatmap(lambda n: st.tuples(*first[:n]).map(list))
    items = schema.get("items")
    return st.lists(
        anything if items is None else fitting(items, defs), min_size=least, max_size=most
    )


def _objects(schema: Schema, defs: Any) -> st.SearchStrategy[Any]:
    known = {key: fitting(each, defs) for key, each in schema.get("properties", {}).items()}
    if known:
        required = {key: known.pop(key) for key in schema.get("required", [])}
        return st.fixed_dictionaries(required, optional=known)
    keys = fitting({"type": "string"} | schema.get("propertyNames", {}), defs)
    least = schema.get("minProperties", 0)
    values = fitting(schema.get("additionalProperties", {}), defs)
    return st.dictionaries(
        keys, values, min_size=least, max_size=schema.get("maxProperties", least + 2)
    )


def near(value: Any) -> st.SearchStrategy[Any]:
    """Return a strategy for values of which one part differs from a value."""
    others: list[st.SearchStrategy[Any]] = [scalars]
    if isinstance(value, list):
        others.append(st.tuples(anything).map(lambda more: [*value, *more]))
        for i, each in enumerate(value):
            others.append(st.just(value[:i] + value[i + 1 :]))
            others.append(near(each).map(partial(_replaced, value, i)))
    elif isinstance(value, dict):
        others.append(st.tuples(texts, anything).map(lambda more: value | {more[0]: more[1]}))
        for key, each in value.items():
            others.append(st.just({k: v for k, v in value.items() if k != key}))
            others.append(near(each).map(partial(_replaced, value, key)))
    elif isinstance(value, (int, float)) and abs(value) < 1 << 40:
        others.append(st.sampled_from([value + 1, value - 1, value + 0.5, str(value), [value]]))
        if value == int(value):
            others.append(st.sampled_from([float(value), int(value), bool(value)]))
    elif isinstance(value, str):
        others.append(
            st.sampled_from([value[1:], " " + value, "+" + value, value.upper(), [value]])
        )
        others.append(st.sampled_from([value + c for c in ("x", "\n", "_0", "٣", "e5", ".0", " ")]))
    return st.one_of(others)


def _replaced(value: Any, at: Any, new: Any) -> Any:
    copy = value.copy()
    copy[at] = new
    return copy


def pairs(count: int) -> list[Any]:
    """Return pairs of schemas, with what holds for values of the first.

    Each is a list: the schema of an output, that of an input, whether the input refuses a value
    of the output, and whether it accepts one. A value with an empty list or map is no example
    of one that is accepted.
    """
    import jsonschema  # only this needs it

    from tests.test_type_schemas import hints
    from tests.test_types import signature

    found: dict[tuple[str, str], list[bool]] = {}

    @seed(1)
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data(), hints, hints)
    def collect(data: st.DataObject, output: Any, input: Any) -> None:
        out = signature(output).types.output_schema()
        into = signature(input).types.input_schema("value")
        if "format" in into:
            return  # see test_type_schemas
        checker = jsonschema.Draft202012Validator(json.loads(into))
        facts = found.setdefault((out, into), [False, False])
        for value in data.draw(st.lists(fitting(json.loads(out)), min_size=8, max_size=8)):
            fits = checker.is_valid(value)
            facts[0] |= not fits
            facts[1] |= fits and not _has_empty(value)

    collect()
    return [[json.loads(out), json.loads(into), *facts] for (out, into), facts in found.items()]


def _has_empty(value: Any) -> bool:
    if not isinstance(value, (list, dict)):
        return False
    items = list(value.values()) if isinstance(value, dict) else value
    return not items or any(map(_has_empty, items))


if __name__ == "__main__":
    lines = (json.dumps(each, separators=(",", ":")) for each in pairs(1500))
    sys.stdout.write("[\n" + ",\n".join(lines) + "\n]\n")
