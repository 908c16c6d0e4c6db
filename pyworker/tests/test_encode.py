"""The encoding of values of all kinds, and the reasons why some are refused."""

from __future__ import annotations

import array
import collections
import ctypes
import dataclasses
import datetime
import decimal
import enum
import mmap
import uuid
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from gophersnake import Audio, Image, Json, Tensor
from gophersnake._worker.values.decoder import Decoder
from gophersnake._worker.values.encoder import SEARCHES, UNCOPIED, Encoder
from gophersnake._worker.values.format import LARGE_FROM, ValueFault

UTC = datetime.timezone.utc


def carried(value: Any) -> Any:
    """Return what arrives at the other side."""
    body, buffers = Encoder().encode(value)
    return Decoder().decode(bytes(body), [bytes(buffer) for buffer in buffers])


def refused(value: Any) -> tuple[str, str]:
    """Return the path and the reason of a refusal."""
    encoder = Encoder()
    with pytest.raises(ValueFault) as fault:
        encoder.encode(value)
    body, buffers = encoder.encode([1])  # it goes on, with nothing left of the fault
    assert (bytes(body), buffers) == (b"\x91\x01", [])
    return fault.value.path, fault.value.reason


class Color(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Word(str, enum.Enum):
    YES = "yes"


class Point(NamedTuple):
    x: int
    y: int


@dataclasses.dataclass
class Box:
    inside: Any = None


@dataclasses.dataclass(slots=True, frozen=True)
class Slotted:
    a: int = 1


class Text(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "something else"


@pytest.mark.parametrize(
    ("given", "arrives"),
    [
        (Level.HIGH, 3),
        (Word.YES, "yes"),
        (Text("same"), "same"),
        (Point(1, 2), [1, 2]),
        (Color.RED, Color.RED.value),
        (decimal.Decimal("1.50"), "1.50"),
        (Path("a/b"), "a/b"),
        (uuid.UUID(int=5), "00000000-0000-0000-0000-000000000005"),
        (datetime.date(2024, 1, 1), "2024-01-01"),
        (datetime.time(12, 30), "12:30:00"),
        (datetime.timedelta(1), "P1D"),
        (datetime.timedelta(0), "PT0S"),
        (datetime.timedelta(days=-1, seconds=1, microseconds=10), "-PT86398.99999S"),
        ((1, (2,)), [1, [2]]),
        (Box(Slotted()), {"inside": {"a": 1}}),
        (collections.OrderedDict(a=1), {"a": 1}),
        (collections.Counter("aa"), {"a": 2}),
        (bytearray(b"ab"), b"ab"),
        (memoryview(b"ab"), b"ab"),
        (array.array("B", b"ab"), b"ab"),
        ((1 << 64) - 1, (1 << 64) - 1),
        (-(1 << 63), -(1 << 63)),
        ({"": {"a.b": []}}, {"": {"a.b": []}}),
    ],
)
def test_a_plain_value_arrives(given: Any, arrives: Any, numpy: Any) -> None:
    found = carried(given)
    assert found == arrives
    assert type(found) is type(arrives)


def test_a_mapped_file_arrives_as_bytes() -> None:
    with mmap.mmap(-1, 4096) as memory:
        memory[:2] = b"ab"
        assert carried(memory)[:3] == b"ab\x00"


@pytest.mark.parametrize(
    "moment",
    [
        datetime.datetime(2024, 2, 29, 12, 30, 1, 999_999, UTC),
        datetime.datetime(1969, 12, 31, 23, 59, 59, 500_000, UTC),
        datetime.datetime(1, 1, 1, tzinfo=UTC),
        datetime.datetime(9999, 12, 31, 23, 59, 59, 999_999, UTC),
        datetime.datetime(2024, 7, 1, tzinfo=datetime.timezone(datetime.timedelta(hours=-7))),
    ],
)
def test_an_instant_arrives_to_the_microsecond(moment: datetime.datetime) -> None:
    class Timestamp(datetime.datetime):
        """As pandas has it."""

    also = Timestamp.fromtimestamp(0, UTC).combine(moment.date(), moment.timetz())
    assert type(also) is Timestamp
    assert carried([moment, also]) == [moment, moment]


def test_nanoseconds_of_a_timestamp_are_kept() -> None:
    class Timestamp(datetime.datetime):
        nanosecond = 7

    body, _ = Encoder().encode(Timestamp(1970, 1, 1, 0, 0, 1, tzinfo=UTC))
    assert bytes(body).hex() == "d7ff0000001c00000001"


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({1, 2}, "a set has no form on the wire"),
        (Box, "has no form on the wire"),
        (1 << 64, "an integer of 65 bits"),
        (-(1 << 63) - 1, "an integer of 64 bits"),
        (1 << 69, "an integer of 70 bits"),
        ("\ud800", "not UTF-8: surrogates not allowed at position 0"),
        (memoryview(b"abcd")[::2], "that is not contiguous"),
        ((ctypes.c_void_p * 1)(), "of elements '<P' is no tensor"),
        (Json("{"), "not a JSON document"),
        (Json("[NaN]"), "JSON has no NaN"),
        (Json("[" * 100_000), "not a JSON document"),
        (Json(b"1"), "not a JSON document: its text is a bytes"),  # type: ignore[arg-type]
        (Json('"\ud800"'), "surrogates"),
        (Tensor("float8", (1,), b"a"), "unknown dtype 'float8'"),
        (Tensor(["x"], (1,), b"a"), "unknown dtype"),  # type: ignore[arg-type]
        (Tensor("int8", (2,), b"a"), "takes 2 bytes, but has 1"),
        (Tensor("int8", (-1,), b"a"), "negative dimension"),
        (Tensor("int8", (1.0,), b"a"), "other elements than integers"),  # type: ignore[arg-type]
        (Tensor("int8", (1,) * 65, b"a"), "65 dimensions"),
        (Tensor("int8", (1 << 32, 1 << 32), b"a"), "larger than any memory"),
        (Tensor("int8", (1,), None), "bytes-like object is required"),
        (Audio([0.0], 0), "an audio rate of 0 Hz"),
        (Audio([0.0], "8000"), "an audio rate of '8000' Hz"),  # type: ignore[arg-type]
        (Audio([0.0], 8000.0), "an audio rate of 8000.0 Hz"),  # type: ignore[arg-type]
        (Audio([0.0], 1 << 31), "an audio rate of 2147483648 Hz"),
        (Audio([0.0], 8000, -1), "audio with -1 channels"),
        (Audio([0.0], 8000, 2), "not a whole number of frames of 2 channels"),
        (Audio(b"abcd", 8000), "give floats"),
        (Image(b"", "cmyk8"), "unknown image format 'cmyk8'; known formats: gray8"),
        (Image(b"a", "gray8", 2, 1), "takes 2 bytes, but has 1"),
        (Image(b"a", "gray8", 1 << 21, 1), "an image of 2097152 × 1"),
        (Image(b"a", "gray8", 1.0, 1), "an image of 1.0 × 1"),  # type: ignore[arg-type]
        (Image(None, "gray8", 1, 1), "bytes-like object is required"),
    ],
)
def test_values_that_cannot_be_sent_are_refused_with_their_path(
    given: Any, reason: str, numpy: Any
) -> None:
    for value, path in (
        (given, "result"),
        ({"a": [0, given]}, "result.a[1]"),
        ({"a b": Box(given)}, 'result["a b"].inside'),
        ([(given,)], "result[0][0]"),
    ):
        found = refused(value)
        assert found[0] == path
        assert reason in found[1]


def test_a_cycle_is_refused_where_it_closes() -> None:
    cycle: list[Any] = [1]
    cycle.append({"again": cycle})
    assert refused(cycle) == ("result[1].again", "a cycle: the value holds itself")
    box = Box()
    box.inside = [box]
    assert refused(box) == ("result.inside[0]", "a cycle: the value holds itself")


def test_a_value_contained_twice_is_not_a_cycle() -> None:
    shared = [1]
    assert carried([shared, shared]) == [[1], [1]]


def test_a_fault_deep_inside_is_found_and_depth_is_left_to_the_supervisor() -> None:
    deep: Any = {1, 2}
    for _ in range(100):
        deep = [deep]
    assert refused(deep)[0] == "result" + "[0]" * 100
    fine: Any = 1
    for _ in range(100):
        fine = [fine]
    assert Encoder().encode(fine)
    endless: Any = 1
    for _ in range(100_000):
        endless = [endless]
    assert "nested too deep" in refused(endless)[1]
    while isinstance(endless, list):  # so that no destructor has to go that deep
        endless = endless.pop()


def test_keys_are_strings_where_something_else_is_wrong_too() -> None:
    assert refused({1: {2}}) == ("result", "a map key is an int; keys must be strings")
    assert "a map key: a string that is not UTF-8" in refused({"\udcff": 1})[1]


def test_an_object_that_cannot_be_read_is_named() -> None:
    class Broken(Box):
        @property
        def inside(self) -> Any:
            raise OSError("gone")

        @inside.setter
        def inside(self, value: Any) -> None: ...

    assert refused([Broken()])[0] == "result[0]"
    assert "gone" in refused([Broken()])[1]


def test_a_subclass_of_our_own_values_is_its_base() -> None:
    class Speech(Audio):
        pass

    assert carried(Speech([0.5], 8000)).rate == 8000
    assert refused([Speech([0.5], 0)])[0] == "result[0]"


def test_a_large_body_is_not_overwritten_by_the_next_one() -> None:
    encoder = Encoder()
    first, _ = encoder.encode([1] * UNCOPIED)
    second, _ = encoder.encode([2] * UNCOPIED)
    third, _ = encoder.encode("small")
    assert bytes(first)[-3:] == b"\x01\x01\x01"
    assert bytes(second)[-3:] == b"\x02\x02\x02"
    assert third == b"\xa5small"


@dataclasses.dataclass
class Record:
    name: str
    content: bytes


BIG = b"x" * LARGE_FROM
DEEP: list[Any] = [[[[[[[[[BIG]]]]]]]]]


@pytest.mark.parametrize(
    ("value", "buffers"),
    [
        (BIG, 1),
        (BIG[1:], 0),
        (BIG.decode(), 1),
        (bytearray(BIG), 1),
        (Text(BIG.decode()), 1),
        (Json(f'["{BIG.decode()}"]'), 1),
        ([BIG, 1, {"text": BIG.decode(), "same": (BIG, None)}], 3),
        (Record("name", BIG), 1),
        ({"records": [Record("a", BIG), Record("b", b"small")]}, 1),
        ([*range(255), BIG], 1),
        ([*range(256), BIG], 0),
        (DEEP[0], 1),
        (DEEP, 0),
    ],
)
def test_large_parts_are_in_buffers(value: Any, buffers: int) -> None:
    for encoder in (Encoder(), Encoder()):
        if encoder._searches == 0:
            encoder.encode([BIG])  # the next values are searched before they are packed
        for given in (value, 1, value, *range(2 * SEARCHES), value):
            body, found = encoder.encode(given)
            assert len(found) == (buffers if given is value else 0)
            assert all(len(buffer) >= LARGE_FROM for buffer in found)
            again = Decoder().decode(body, list(found))
            assert again == carried(given)


def test_a_large_text_that_cannot_be_sent_has_a_path() -> None:
    bad = "x" * LARGE_FROM + "\ud800"
    encoder = Encoder()
    for _ in range(2):
        with pytest.raises(ValueFault, match=r"result.a\[1\].*surrogates"):
            encoder.encode({"a": [BIG, bad]})
        body, buffers = encoder.encode([BIG])
        assert len(buffers) == 1
        assert Decoder().decode(body, buffers) == [BIG]


def test_a_memory_error_is_not_a_fault_of_the_value() -> None:
    class Greedy:
        def __fspath__(self) -> str:
            return ""

        @property
        def __dlpack__(self) -> Any:
            raise MemoryError

    encoder = Encoder()
    with pytest.raises(MemoryError):
        encoder.encode([Greedy()])
    assert encoder.encode(1) == (b"\x01", [])


@pytest.mark.parametrize("samples", [[0.5, -1.0], (0.5, -1), array.array("f", [0.5, -1])])
def test_audio_of_any_sequence_arrives(samples: Any, numpy: Any) -> None:
    found = carried(Audio(samples, 8000))
    assert list(memoryview(found.samples.tobytes()).cast("f")) == [0.5, -1.0]
    assert (found.rate, found.channels, found.frames, found.duration) == (8000, 1, 2, 2 / 8000)


def test_audio_of_a_memoryview_arrives(numpy: Any) -> None:
    floats = memoryview(array.array("f", [1, 2, 3, 4]))
    for samples, want in (
        (floats, [1, 2, 3, 4]),
        (floats[::2], [1, 3]),
        (floats.cast("B").cast("f", (2, 2)), [1, 2, 3, 4]),
        (memoryview(array.array("d", [1, 2])), [1, 2]),
    ):
        found = carried(Audio(samples, 8000, 2))
        assert list(memoryview(found.samples.tobytes()).cast("f")) == want


def test_an_image_of_bytes_arrives(numpy: Any) -> None:
    found = carried(Image(bytearray(b"abcdef"), "rgb8", 1, 2, pts=3))
    assert (found.width, found.height, found.pts) == (1, 2, 3.0)
    assert memoryview(found.pixels).tobytes() == b"abcdef"


@pytest.mark.parametrize(
    ("typecode", "dtype"), [("b", "int8"), ("H", "uint16"), ("f", "float32"), ("d", "float64")]
)
def test_an_array_of_the_standard_library_is_a_tensor(typecode: str, dtype: str) -> None:
    given = array.array(typecode, [1, 2])
    body, _ = Encoder().encode(given)
    want, _ = Encoder().encode(Tensor(dtype, (2,), given.tobytes()))
    assert body == want


def test_the_class_of_a_record_is_refused_with_a_hint() -> None:
    class Struct(pytest.importorskip("msgspec").Struct):  # type: ignore[misc]
        a: int

    with pytest.raises(ValueFault) as fault:
        Encoder().encode(Struct)
    assert fault.value.hint.endswith("x.__name__, or an object of this class")


def test_a_duration_of_pandas_keeps_its_nanoseconds() -> None:
    pandas = pytest.importorskip("pandas")
    assert carried(pandas.Timedelta(days=1, nanoseconds=5)) == "P1DT0.000000005S"


def test_dlpack_without_numpy_is_refused_with_a_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.conftest import without_numpy

    without_numpy(monkeypatch)

    class Foreign:
        def __dlpack__(self) -> Any: ...

    with pytest.raises(ValueFault) as fault:
        Encoder().encode(Foreign())
    assert fault.value.reason == "an array of another library (Foreign) needs NumPy"
    assert fault.value.hint == "add numpy to the pipeline's requirements"
