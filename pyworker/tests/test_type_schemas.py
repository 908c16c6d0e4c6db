"""The schemas of annotations: they accept what is built, and refuse everything else."""

from __future__ import annotations

import collections.abc
import datetime
import decimal
import enum
import json
import uuid
from pathlib import Path
from typing import Annotated, Any, Literal, Optional, Union

import jsonschema
import msgspec
import pytest
from annotated_types import Ge, Gt, Le, Len, MultipleOf
from gophersnake._worker.types import ports
from gophersnake._worker.types.kinds import Mismatch
from gophersnake._worker.values.decoder import Decoder
from gophersnake._worker.values.encoder import Encoder
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.schema_values import fitting, near
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
    library,
    signature,
    written,
)

__all__ = ["library"]  # the fixture


class Strength(enum.Enum):
    """An enum of floats."""

    WEAK = 0.5
    STRONG = 1.0


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
#
# These differ on purpose, and are left out:
# - "format" is an annotation in JSON Schema: it names the usual form of a text. So text in that
#   form must convert, and what converts must be text, but other forms may convert, too.
# - what is not in the schema at all: checks of a class's own, and the lists that an array of
#   NumPy is built from.
# - models of pydantic and structs of msgspec, which their libraries build: pydantic takes "3" for
#   an integer, msgspec takes no 3.0.

LEAVES = [
    None, bool, int, float, str, Any, complex, Color, Level, Pair, Literal["a", 1], Literal[True, None],
    Annotated[int, Ge(0)], Annotated[str, Len(1, 3)], Annotated[float, Gt(0), Le(9)],
    Annotated[int, MultipleOf(2)], Annotated[str, msgspec.Meta(pattern="^a+$")],
    Item, Box, Movie, Point, Tree, list, dict, Strength,
    decimal.Decimal, uuid.UUID, Path, datetime.date, datetime.time, datetime.datetime, datetime.timedelta,
]  # fmt: skip
KEYS = [str, int, Color, Literal["a", "b"], Annotated[str, Len(1, 3)]]
hints: st.SearchStrategy[Any] = st.recursive(
    st.sampled_from(LEAVES),
    lambda inner: st.one_of(
        inner.map(lambda each: list[each]),  # type: ignore[valid-type]
        inner.map(lambda each: collections.abc.Sequence[each]),  # type: ignore[valid-type]
        inner.map(lambda each: tuple[each, ...]),  # type: ignore[valid-type]
        inner.map(lambda each: Annotated[list[each], Len(1, 2)]),  # type: ignore[valid-type]
        inner.map(lambda each: Annotated[dict[str, each], Len(1)]),  # type: ignore[valid-type]
        st.sampled_from([int, str, Color, Level]).map(lambda each: set[each]),  # type: ignore[valid-type]
        st.tuples(st.sampled_from(KEYS), inner).map(lambda each: dict[each]),  # type: ignore[misc, valid-type]
        inner.map(lambda each: Optional[each]),  # noqa: UP045
        st.tuples(inner, inner).map(lambda each: tuple[each]),  # type: ignore[valid-type]
        st.tuples(inner, inner).map(lambda each: Union[each]),  # noqa: UP007
    ),
    max_leaves=4,
)


@pytest.mark.usefixtures("library")
@given(st.data(), hints)
@settings(deadline=None, suppress_health_check=list(HealthCheck))
def test_what_the_schema_accepts_is_built_and_nothing_else(data: st.DataObject, hint: Any) -> None:
    types = signature(hint).types
    schema = json.loads(types.input_schema("value"))
    validator = jsonschema.Draft202012Validator(schema)
    convert = types.converter("value") or (lambda value: value)
    fits = data.draw(fitting(schema))
    built = convert(fits)
    assert validator.is_valid(fits), (schema, fits)
    sent = types.output.write(built)
    body, buffers = Encoder().encode(sent)
    sent = Decoder().decode(bytes(body), [bytes(each) for each in buffers])
    if is_json(sent):
        jsonschema.validate(sent, json.loads(types.output_schema()), type(validator))

    value = data.draw(near(fits) | plain.filter(is_json))
    accepted = validator.is_valid(value)
    try:
        convert(value)
    except Mismatch:
        assert not accepted or "format" in json.dumps(schema), (schema, value)
    else:
        assert accepted, (schema, value)


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": "array", "items": {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/A"}]}},
        {"required": ["a", "b"], "properties": {"a": {}}},
        {"description": 'with "quotes"'},
        {"pattern": "\\d"},
        {"description": "höhe\n"},
        {"minimum": 1, "const": None, "default": True},
    ],
)
def test_the_text_of_a_schema_is_that_of_json(schema: dict[str, Any]) -> None:
    text = json.dumps(schema, ensure_ascii=False, separators=(",", ":"))
    assert ports._plain_text(schema) in (text, None)
    simple = all(mark not in text for mark in ("\\", "ö", "null"))
    assert (ports._plain_text(schema) == text) is simple
