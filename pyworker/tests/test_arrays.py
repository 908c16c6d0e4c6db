"""NumPy arrays, and arrays that NumPy can take, on the wire and off it."""

from __future__ import annotations

import warnings
from typing import Any

import msgpack
import pytest
from gophersnake import Audio, Image, Tensor
from gophersnake._worker.values.decoder import FORMS, Decoder
from gophersnake._worker.values.encoder import Encoder
from gophersnake._worker.values.format import TENSOR, ValueFault
from gophersnake.values import ITEM_SIZES

from tests.test_encode import carried, refused

np: Any = pytest.importorskip("numpy")


@pytest.mark.parametrize("size", [6, 120_000])
@pytest.mark.parametrize("dtype", [each for each in ITEM_SIZES if each != "bfloat16"])
def test_an_array_of_each_dtype_arrives(dtype: str, size: int) -> None:
    given = (np.arange(size) % 100).reshape(2, -1).astype(dtype)
    found = carried(given)
    assert found.dtype == given.dtype
    assert found.shape == given.shape
    assert (found == given).all()
    assert not found.flags.writeable


@pytest.mark.parametrize(
    "given",
    [
        np.array(1.5),
        np.zeros((0,)),
        np.zeros((3, 0, 2), "i2"),
        np.arange(12).reshape(3, 4).T,
        np.arange(12).reshape(3, 4)[:, ::2],
        np.arange(12)[::-1],
        np.asfortranarray(np.ones((3, 4), "f4")),
        np.broadcast_to(np.float32(2), (3, 4)),
        np.arange(5, dtype=">i4"),
        np.arange(6, dtype=">c8").reshape(2, 3).T,
        np.zeros((1,) * 32),
        np.array([True, False]),
    ],
    ids=lambda given: f"{given.dtype.str}{given.shape}",
)
def test_an_array_of_any_layout_arrives(given: Any) -> None:
    found = carried(given)
    assert found.shape == given.shape
    assert (found == given).all()
    assert found.dtype.isnative


def test_bfloat16_arrives_with_ml_dtypes_and_as_a_tensor_without() -> None:
    given = Tensor("bfloat16", (2,), b"\x80\x3f\x00\xc0")
    found = carried(given)
    try:
        import ml_dtypes
    except ImportError:
        assert type(found) is Tensor
        assert bytes(found.data) == given.data
        with pytest.raises(ImportError):
            given.numpy()
    else:
        assert found.dtype == ml_dtypes.bfloat16
        assert carried(np.array([1, -2], ml_dtypes.bfloat16)).tolist() == [1, -2]
        assert carried(ml_dtypes.bfloat16(1)) == 1


def test_scalars_of_numpy_arrive_as_plain_values() -> None:
    given = [np.float64(0.5), np.float32(0.5), np.int8(-1), np.uint64(2**64 - 1), np.bool_(True)]
    found = carried([*given, np.str_("x"), np.bytes_(b"y")])
    assert found == [0.5, 0.5, -1, 2**64 - 1, True, "x", b"y"]
    assert [type(each) for each in found] == [float, float, int, int, bool, str, bytes]
    assert carried(np.complex64(1 + 2j)) == 1 + 2j


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (np.array(["x"]), "dtype <U1"),
        (np.array([object()]), "dtype object"),
        (np.zeros(2, "i4,f4"), "has no form on the wire"),
        (np.array(["2024-01-01"], "M8[D]"), "dtype datetime64[D]"),
        (np.datetime64("2024-01-01"), "datetime64"),
        (np.longdouble(1), "float128"),
        (np.ma.masked_array([1, 2], [True, False]), "an array with masked elements"),
    ],
)
def test_arrays_of_unsupported_dtypes_are_refused(given: Any, reason: str) -> None:
    if reason == "float128" and np.dtype("longdouble").itemsize == 8:
        pytest.skip("a long double is a double here")
    path, why = refused({"x": given})
    assert path == "result.x"
    assert reason in why


def test_subclasses_of_arrays_arrive_as_arrays() -> None:
    with pytest.warns(PendingDeprecationWarning):
        matrix = np.matrix([[1, 2], [3, 4]])
    assert carried(matrix).tolist() == [[1, 2], [3, 4]]
    assert carried(np.ma.masked_array([1, 2])).tolist() == [1, 2]


def test_a_large_array_is_sent_from_where_it_lies() -> None:
    given = np.zeros(100_000)
    _, buffers = Encoder().encode([given])
    given[0] = 7
    assert np.frombuffer(buffers[0])[0] == 7


class Foreign:
    """An array of a library that is not NumPy."""

    def __init__(self, array: Any, device: tuple[int, int] = (1, 0)) -> None:
        self.array = array
        self.device = device

    def __dlpack__(self, **named: Any) -> Any:
        if self.device[0] != 1:
            raise BufferError("it is on a GPU")
        return self.array.__dlpack__(**named)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device


def test_an_array_with_dlpack_arrives() -> None:
    given = np.arange(6, dtype="f4").reshape(2, 3)
    assert (carried(Foreign(given)) == given).all()
    assert (carried(Foreign(given.T)) == given.T).all()


def test_an_array_without_accessible_memory_is_refused_with_a_hint() -> None:
    assert "does not export its memory" in refused(Foreign(np.zeros(2), (2, 0)))[1]

    class Half:
        def __dlpack__(self) -> Any: ...

    assert "does not export its memory" in refused(Half())[1]


def test_audio_of_arrays_arrives() -> None:
    stereo = np.array([[1, 2], [3, 4], [5, 6]], "f8")
    for samples in (stereo, stereo.astype("i2"), np.asfortranarray(stereo), stereo.astype(">f4")):
        found = carried(Audio(samples, np.int64(8000)))
        assert (found.channels, found.frames, found.samples.dtype) == (2, 3, "float32")
        assert (found.samples == stereo).all()
        assert not found.samples.flags.writeable
    assert carried(Audio([], 8000)).samples.shape == (0, 1)
    assert carried(Audio(Foreign(np.ones(3, "f4")).array, 8000)).frames == 3


@pytest.mark.parametrize(
    ("samples", "channels", "reason"),
    [
        (np.zeros((2, 2, 2)), 1, "shape (2, 2, 2)"),
        (np.array(1.0), 1, "shape ()"),
        (np.zeros((3, 2)), 3, "but 3 channels"),
        (np.array(["x"]), 1, "audio samples of <U1"),
        (np.zeros(2, bool), 1, "audio samples of bool"),
    ],
)
def test_audio_of_another_shape_is_refused(samples: Any, channels: int, reason: str) -> None:
    assert reason in refused(Audio(samples, 8000, channels))[1]


def test_images_of_arrays_arrive() -> None:
    colors = np.arange(24, dtype="u1").reshape(2, 4, 3)
    for pixels in (colors, np.asfortranarray(colors), Foreign(colors)):
        found = carried(Image(pixels, "rgb8", np.int32(4), np.int32(2)))
        assert (found.pixels == colors).all()
        assert not found.pixels.flags.writeable
    assert carried(Image(colors, "rgb8")).width == 4
    gray = carried(Image(colors[:, :, 0], "gray8"))
    assert gray.pixels.shape == (2, 4)
    assert "are uint8, not float64" in refused(Image(colors / 2, "rgb8"))[1]
    assert "are uint8, not float64" in refused(Image(Foreign(colors / 2), "rgb8", 4, 2))[1]
    assert "takes 8 bytes, but has 24" in refused(Image(colors, "gray8"))[1]


def test_tensors_of_other_memory_arrive() -> None:
    array = np.arange(6, dtype="i2").reshape(2, 3)
    assert carried(Tensor("int16", (2, 3), array)).tolist() == array.tolist()
    assert carried(Tensor("int16", (3, 2), array.T)).tolist() == [[0, 3], [1, 4], [2, 5]]
    assert carried(Tensor("int16", (6,), array.astype("<i2").data)).shape == (6,)


def test_more_dimensions_than_numpy_has_are_a_tensor() -> None:
    found = carried(Tensor("int8", (1,) * 64, b"a"))
    assert found.shape == (1,) * 64


def test_received_arrays_are_read_only() -> None:
    body, buffers = Encoder().encode(np.zeros(10_000))
    memory = bytearray(buffers[0])
    found = Decoder().decode(bytes(body), [memory])
    with pytest.raises(ValueError, match="read-only"):
        found[0] = 1


def test_without_numpy_received_memory_is_read_only(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.conftest import without_numpy

    body, buffers = Encoder().encode([np.zeros(10_000), Audio(np.ones((5000, 2)), 8000)])
    without_numpy(monkeypatch)
    tensor, audio = Decoder().decode(bytes(body), [bytearray(each) for each in buffers])
    assert type(tensor) is Tensor
    assert memoryview(tensor.data).readonly
    assert audio.samples.readonly
    assert (audio.samples.format, audio.frames, audio.samples[0]) == ("f", 5000, 1.0)


def test_a_fault_in_the_second_of_several_buffers_is_found() -> None:
    body, buffers = Encoder().encode([np.zeros(10_000), {"x": np.zeros(10_000)}])
    with pytest.raises(ValueFault, match="takes 80000 bytes, but has 5") as fault:
        Decoder().decode(bytes(body), [buffers[0], b"short"])
    assert fault.value.path == "input[1].x"


@pytest.mark.parametrize("dtype", ["uint8", "float32", "complex128", "bool"])
@pytest.mark.parametrize("shape", [(1 << 16,), (4, 1 << 14), (1 << 14, 2, 2)])
def test_an_array_is_encoded_alike_the_first_time_and_later(
    dtype: str, shape: tuple[int, ...]
) -> None:
    encoder = Encoder()
    given = np.ones(shape, dtype)
    first, later = encoder.encode(given), encoder.encode(given)
    assert later == first
    assert encoder.encode(given[::2])[0] != first[0]  # a copy, of another shape
    inline = encoder.encode(given.reshape(-1)[:4])
    assert inline[1] == []
    assert (Decoder().decode(*inline) == given.reshape(-1)[:4]).all()


def called(shape: list[int], data: Any, dtype: str = "float32") -> tuple[bytes, list[Any]]:
    """Return body and buffers of a call with one tensor."""
    tensor = msgpack.ExtType(TENSOR, msgpack.packb([dtype, shape, None]))
    return msgpack.packb([[tensor], {}]), [data]


def test_an_array_is_decoded_alike_the_first_time_and_later() -> None:
    decoder = Decoder()
    values = np.arange(1 << 16, dtype="float32")
    shared = np.frombuffer(values.tobytes(), "uint8")
    body, buffers = called([1 << 8, 1 << 8], shared)
    assert decoder._known(body, buffers) is None
    ((first,), _) = decoder.decode(body, buffers)
    decoder._remember(body, buffers, first)
    with warnings.catch_warnings():  # NumPy 2.5 would rather not have it
        warnings.simplefilter("ignore", DeprecationWarning)
        first.shape, first = (1 << 16,), None  # the node may do that to its own array
    again = decoder._known(memoryview(body), buffers)
    assert (again == values.reshape(1 << 8, 1 << 8)).all()
    assert again.dtype == "float32"
    assert again.base is shared
    assert not again.flags.writeable
    assert decoder._known(*called([1 << 8, 1 << 8], shared, "int32")) is None
    assert decoder._known(body, [shared, shared]) is None
    assert decoder._known(body, [bytearray(shared)]) is None  # which would be writable
    for wrong in (shared[:-4], shared[:-3]):
        assert decoder._known(body, [wrong]) is None
        with pytest.raises(ValueFault):
            decoder.decode(body, [wrong])


def test_no_more_forms_of_arrays_are_kept_than_a_few() -> None:
    decoder = Decoder()
    for size in range(1, 3 * FORMS):
        data = np.zeros(4 * size, "uint8")
        body, buffers = called([size], data)
        ((array,), _) = decoder.decode(body, buffers)
        decoder._remember(body, buffers, array)
        assert decoder._known(body, buffers).shape == (size,)
    assert len(decoder._forms) <= FORMS
    for other in ("text", [array], np.ma.masked_array(data)):
        decoder._remember(b"other", [data], other)
    assert decoder._known(b"other", [data]) is None
