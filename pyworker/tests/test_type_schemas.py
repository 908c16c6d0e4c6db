"""The schemas of annotations: they accept what is built, and refuse everything else."""

from __future__ import annotations

import collections.abc
import json
from typing import Annotated, Any, Literal, Optional, Union

import jsonschema
import pytest
from annotated_types import Ge, Len
from gophersnake._worker.types.kinds import Mismatch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis_jsonschema import from_schema

from tests.test_properties import plain
from tests.test_types import (
    ROWS,
    Box,
    Color,
    Item,
    Level,
    Movie,
    Pair,
    Point,
    Row,
    Tree,
    arrive,
    signature,
    written,
)

PLAIN = (int, float, str, bool, type(None), list, dict)


def is_json(value: Any) -> bool:
    if isinstance(value, (list, dict)):
        items = value.values() if isinstance(value, dict) else value
        return all(map(is_json, items))
    return type(value) in PLAIN


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_the_schema_says_what_is_built(row: Row) -> None:
    schema = json.loads(signature(row.hint).types.input_schema("value"))
    jsonschema.Draft202012Validator.check_schema(schema)
    if "format" in json.dumps(schema) or "x-gophersnake" in json.dumps(schema):
        return  # jsonschema does not know these
    validator = jsonschema.Draft202012Validator(schema)
    for value, _ in row.fits:
        assert validator.is_valid(value) or row.name == "a model of pydantic"
    for value, says in row.wrong:
        if is_json(value) and ": Checked: " not in says:
            assert not validator.is_valid(value), value


def test_what_is_written_fits_the_schema_of_the_output() -> None:
    for row in ROWS:
        schema = json.loads(signature(row.hint).types.output_schema())
        for value, _ in row.fits:
            sent = written(row.hint, arrive(row.hint, value))
            if is_json(sent):
                jsonschema.validate(sent, schema, jsonschema.Draft202012Validator)


# A value that the schema accepts converts, and one that it refuses does not.

LEAVES = [
    None, bool, int, float, str, Any, complex, Color, Level, Pair, Literal["a", 1],
    Annotated[int, Ge(0)], Annotated[str, Len(1, 3)], Item, Box, Movie, Point, Tree,
]  # fmt: skip
hints: st.SearchStrategy[Any] = st.recursive(
    st.sampled_from(LEAVES),
    lambda inner: st.one_of(
        inner.map(lambda each: list[each]),  # type: ignore[valid-type]
        inner.map(lambda each: collections.abc.Sequence[each]),  # type: ignore[valid-type]
        inner.map(lambda each: dict[str, each]),  # type: ignore[valid-type]
        inner.map(lambda each: Optional[each]),  # noqa: UP045
        st.tuples(inner, inner).map(lambda each: tuple[each]),  # type: ignore[valid-type]
        st.tuples(inner, inner).map(lambda each: Union[each]),  # noqa: UP007
    ),
    max_leaves=4,
)


@given(st.data(), hints)
@settings(deadline=None, suppress_health_check=list(HealthCheck))
def test_what_the_schema_accepts_is_built_and_nothing_else(data: st.DataObject, hint: Any) -> None:
    types = signature(hint).types
    schema = json.loads(types.input_schema("value"))
    value = data.draw(from_schema(resolved(schema)) | plain.filter(is_json))
    convert = types._converter("value") or (lambda value: value)
    accepted = jsonschema.Draft202012Validator(schema).is_valid(value)
    try:
        convert(value)
        built = True
    except Mismatch:
        built = False
    assert built == accepted, (schema, value)


def resolved(schema: Any, defs: Any = None, depth: int = 0) -> Any:
    """Return a schema without references, which hypothesis-jsonschema cannot follow all."""
    if isinstance(schema, list):
        return [resolved(each, defs, depth) for each in schema]
    if not isinstance(schema, dict):
        return schema
    defs = schema.get("$defs", defs)
    if "$ref" in schema:
        name = schema["$ref"].removeprefix("#/$defs/")
        return resolved(defs[name], defs, depth + 1) if depth < 3 else False
    return {key: resolved(each, defs, depth) for key, each in schema.items() if key != "$defs"}
