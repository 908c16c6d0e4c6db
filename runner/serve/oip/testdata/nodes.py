"""Nodes for the tests of package oip."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from gophersnake import Audio, Permanent, Shape, node


@node
def echo(value: Any) -> Any:
    """Give back what was given."""
    return value


@node
def double(
    x: Annotated[np.ndarray, Shape("n 2"), "float32"],
) -> Annotated[np.ndarray, Shape("n 2"), "float32"]:
    return x * np.float32(2)


@dataclass
class Query:
    """What the node search takes."""

    vector: Annotated[np.ndarray, Shape("*"), "float32"]
    text: str
    k: int = 3
    weights: list[float] | None = None


@dataclass
class Found:
    """What the node search returns."""

    titles: list[str]
    scores: Annotated[np.ndarray, Shape("*"), "float64"]
    total: int
    best: str | None = None


@node
def search(query: Query) -> Found:
    scores = np.sort(query.vector.astype("float64"))[::-1][: query.k]
    titles = [f"{query.text} {i}" for i in range(len(scores))]
    return Found(titles, scores, int(query.vector.size), titles[0] if titles else None)


@node
def shout(text: str) -> str:
    return text.upper()


@node
def size(data: bytes) -> int:
    return len(data)


@node
def half(x: float) -> float:
    return x / 2


@node
def results(which: str) -> Any:
    """Return a value of each form."""
    return {
        "float16": np.array([[1.5, -2]], dtype="float16"),
        "bool": np.array([True, False]),
        "int": -(2**60),
        "uint": 2**64 - 1,
        "float": 0.5,
        "text": "höhe",
        "bytes": b"\xff\x00",
        "none": None,
        "matrix": [[1, 2], [3, 4]],
        "arrays": [np.zeros((2, 3), "int8"), np.ones((2, 3), "int8")],
        "mixed": [1, "a", None],
        "dict": {"a": [1, {"b": 2.5}]},
        "empty": [],
    }


@node
def kinds(value: Any) -> str:
    """Name the types of the values of a map."""

    def name(v: Any) -> str:
        return (
            f"{v.dtype}{list(v.shape)}"
            if isinstance(v, np.ndarray)
            else f"{type(v).__name__} {v!r}"
        )

    return (
        " ".join(f"{key}={name(v)}" for key, v in value.items())
        if isinstance(value, dict)
        else name(value)
    )


@node
def fail(how: str) -> str:
    if how == "permanent":
        raise Permanent("this input is wrong")
    if how == "raise":
        raise ValueError("cannot open '/srv/secret models/weights.bin'")
    if how == "hang":
        time.sleep(600)
    return how


@node
def count(n: int) -> Iterator[np.ndarray]:
    """Yield arrays; a negative number fails after the first."""
    if n < 0:
        yield np.array([0], dtype="int32")
        raise Permanent("too few")
    for i in range(n):
        yield np.array([i], dtype="int32")


def note(folder: str, what: str) -> None:
    """Write what happened to a file of that name."""
    (Path(folder) / what).write_text("")


@node
def wait(value: Any, folder: str) -> Any:
    """Wait for the file "go"; a cancellation is noted."""
    try:
        note(folder, "began")
        while not (Path(folder) / "go").exists():
            time.sleep(0.01)
    except BaseException:
        note(folder, "canceled")
        raise
    return value


@node
def ticks(value: Any, folder: str) -> Iterator[int]:
    """Yield numbers without end; the end of the generator is noted."""
    try:
        note(folder, "began")
        number = 0
        while True:
            yield number
            number += 1
            time.sleep(0.01)
    finally:
        note(folder, "canceled")


@node
def flood(value: Any, folder: str) -> Iterator[np.ndarray]:
    """Yield large arrays without end; the end of the generator is noted."""
    try:
        while True:
            yield np.zeros(100_000)
    finally:
        note(folder, "canceled")


@node
def louder(audio: Audio) -> Audio:
    return Audio(audio.samples * np.float32(2), audio.rate)
