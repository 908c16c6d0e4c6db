"""The SDK without a supervisor."""

from __future__ import annotations

import copy
import functools
import logging
import pickle
from typing import Any

import gophersnake
import pytest
from gophersnake import Audio, Image, Json, Tensor, Transient, node, progress
from gophersnake.nodes import name_of


def test_declaring_a_node_does_not_change_it() -> None:
    @node
    def double(value: int) -> int:
        return 2 * value

    @node(name="Halver")
    class Halve:
        __slots__ = ("by",)

        def process(self, value: int) -> int:
            return value // 2

    class Other(Halve):
        __slots__ = ()

    assert double(2) == 4
    assert Halve().process(4) == 2
    assert (name_of(double), name_of(Halve), name_of(Other)) == ("double", "Halver", None)
    assert name_of(node(functools.partial(double, 1))) == "partial"
    assert name_of(5) is None


@pytest.mark.parametrize(
    ("target", "says"),
    [
        (5, "is for functions and classes"),
        (type("NoProcess", (), {}), "needs a method process"),
        (len, "wrap it in a Python function"),
    ],
)
def test_targets_that_cannot_be_nodes_are_refused(target: Any, says: str) -> None:
    with pytest.raises(TypeError, match=says):
        node(target)


@pytest.mark.parametrize("name", ["", 5])
def test_a_name_is_text(name: Any) -> None:
    with pytest.raises(TypeError, match="name must be a string"):
        node(name=name)(lambda value: value)


def test_progress_outside_of_a_worker_is_a_log_record(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "gophersnake"):
        progress("loading %s", 0.5)
    assert caplog.messages == ["loading %s"]


@pytest.mark.parametrize("delay", [-1, float("nan"), float("inf")])
def test_a_delay_is_a_number_from_0(delay: float) -> None:
    with pytest.raises(ValueError, match="from 0"):
        Transient("x", retry_after=delay)


def test_a_transient_can_be_copied_and_pickled() -> None:
    error = Transient("busy", retry_after=2)
    for again in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert (str(again), again.retry_after) == ("busy", 2.0)


def test_json_is_its_text() -> None:
    assert Json.dump({"ö": [1, None]}).text == '{"ö": [1, null]}'
    assert Json('{"a": 1}').load() == {"a": 1}
    Json("1" * 10_000).check()
    for text in ("NaN", "[1", "-Infinity"):
        with pytest.raises(ValueError, match=r"JSON|Expecting"):
            Json(text).load()
    with pytest.raises(ValueError, match="not JSON compliant"):
        Json.dump(float("nan"))


def test_sizes_are_taken_from_the_shape() -> None:
    np = pytest.importorskip("numpy")
    audio = Audio(np.zeros((800, 2), "f4"), 8000)
    assert (audio.channels, audio.frames, audio.duration) == (2, 800, 0.1)
    assert Audio([0.0] * 4, 2, channels=2).duration == 1.0
    assert Audio([0.0], 0).duration == 0.0
    image = Image(np.zeros((3, 4, 3), "u1"), "rgb8")
    assert (image.width, image.height) == (4, 3)
    assert Tensor("int16", (2,), b"\x01\x00\x02\x00").numpy().tolist() == [1, 2]


def test_public_names_have_docstrings() -> None:
    for name in gophersnake.__all__:
        assert getattr(gophersnake, name).__doc__, name
