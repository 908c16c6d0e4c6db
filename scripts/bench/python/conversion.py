"""Prints what the conversion of an input costs, beside bare msgspec and pydantic.

Run it with the package, msgspec and pydantic installed::

    PYTHONPATH=pyworker python scripts/bench/python/conversion.py
"""

from __future__ import annotations

import dataclasses
import timeit
from collections.abc import Callable
from typing import Any

import msgspec
import pydantic
from gophersnake._worker.definition.signature import Signature
from gophersnake._worker.values.decoder import Decoder
from gophersnake._worker.values.encoder import Encoder

ROUNDS = 30


@dataclasses.dataclass
class Item:
    """One item of a request."""

    name: str
    price: float
    count: int = 1


def best(call: Callable[[], object]) -> float:
    """Return the microseconds of a call: those of the fastest round."""
    number = max(1, int(0.02 / max(timeit.timeit(call, number=1), 1e-7)))
    return min(timeit.repeat(call, number=number, repeat=ROUNDS)) / number * 1e6


def decoded(hint: Any, value: Any, fast: bool = True) -> Callable[[], object]:
    """Return a function that decodes the arguments of a call of an annotated node."""

    def node(value: Any) -> None: ...

    node.__annotations__ = {} if hint is None else {"value": hint}
    types = Signature(node).types
    if not fast:
        types._hints.clear()  # then msgspec is not used
    decoder: Decoder = types.decoder(0)
    body = bytes(Encoder().encode([[value], {}])[0])
    return lambda: decoder.arguments(body, [])


def main() -> None:
    """Print the table."""
    item = {"name": "apple", "price": 1.5, "count": 3}
    rows = [
        ("an int", 5, int),
        ("text", "five", str),
        ("a dict to a dataclass", item, Item),
        ("100 dicts to a list of dataclasses", [item] * 100, list[Item]),
    ]
    print("| µs | decoded | and converted | without msgspec | bare msgspec | pydantic |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for name, value, hint in rows:
        adapter = pydantic.TypeAdapter(hint)
        costs = [
            best(decoded(None, value)),
            best(decoded(hint, value)),
            best(decoded(hint, value, fast=False)),
            best(lambda value=value, hint=hint: msgspec.convert(value, hint)),
            best(lambda value=value, adapter=adapter: adapter.validate_python(value)),
        ]
        print(f"| {name} | " + " | ".join(f"{cost:.2f}" for cost in costs) + " |")


if __name__ == "__main__":
    main()
