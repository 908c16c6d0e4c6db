"""Converts values between gophersnake and nodes of RemoteMedia.

Nodes that take ``RuntimeData`` get and return that. All others get plain values: a recording is
the tuple ``(array of shape (channels, frames), rate)``, with the metadata as a third element if
there are some; an image is an array of its pixels.

What has no form among gophersnake's values travels in a dict, the *envelope*, with the key
``__runtime_data__``. It is used only if the plain form would lose something: metadata, a
channel, a session id or a timestamp that the node or its caller has set. A tuple travels as
``{"__tuple__": [...]}``, so that the next node gets a tuple again.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from gophersnake._worker.originals import time
from gophersnake.errors import Permanent
from gophersnake.values import Audio, Image, Json, Table, Tensor

KIND = "__runtime_data__"
"""The key of an envelope; its value is the type, such as ``"audio"``."""

TUPLE = "__tuple__"
"""The key of a dict that stands for a tuple."""

DATA = "remotemedia.core.multiprocessing.data"
"""The module that defines ``RuntimeData``."""

PIXELS = {"rgb8": "RGB", "rgba8": "RGBA", "bgr8": "BGR"}
"""Our pixel formats that RemoteMedia has, and its names of them."""

DTYPES = {
    "float32": "F32",
    "float64": "F64",
    "int32": "I32",
    "int64": "I64",
    "uint8": "U8",
    "uint16": "U16",
}
"""The dtypes of RemoteMedia's tensors, and its names of them."""

FILE = ("path", "filename", "mime_type", "size", "offset", "length", "stream_id")
CONTROL = (
    "segment_id",
    "from_timestamp",
    "to_timestamp",
    "suggested_batch_size",
    "deadline_us",
)
FPS = 30.0
"""RemoteMedia's frame rate of a video that states none."""


class Given(float):
    """A timestamp that the caller has set, so that it is sent on with what the node makes."""


class Session:
    """What the values of one stream have in common.

    Attributes:
        id: the session id of values that do not state one.
        begun: when the session began. A later timestamp is that of the creation of a value,
            which nodes do not choose, so it is not sent.
    """

    def __init__(self, name: str) -> None:
        """Begin a session with an id."""
        self.id = name
        self.begun = time.time()

    def of_id(self, session: object) -> dict[str, Any]:
        """Return the field of an envelope for a session id: none if it is this session's."""
        return {} if not session or session == self.id else {"session_id": session}

    def of_time(self, timestamp: object) -> dict[str, Any]:
        """Return the field of an envelope for a timestamp: none if it was not chosen."""
        if timestamp is None or not isinstance(timestamp, (int, float)):
            return {}
        made = not isinstance(timestamp, Given) and self.begun <= timestamp <= time.time()
        return {} if made else {"timestamp": float(timestamp)}


def refused(what: str, hint: str = "") -> Permanent:
    """Return the error of a value that cannot be converted. It is not retried."""
    return Permanent(f"RemoteMedia: {what}" + (f"; {hint}" if hint else ""))


# Values for nodes without RuntimeData.


def frame_of(image: Image) -> Any:
    """Return an image as a writable array of its pixels that remembers format and time.

    Arrays that the node derives from it remember them, too, so that they are sent as images
    if they still have the shape of one.
    """
    frame = _frame_class()(image.pixels)
    frame.format, frame.pts = image.format, image.pts
    return frame


def _frame_class() -> Any:
    global _frames  # noqa: PLW0603 - numpy is imported by nodes with images only
    if _frames is None:
        _frames = _make_frame_class()
    return _frames


_frames: Any = None


def _make_frame_class() -> Any:
    import numpy as np

    class Frame(np.ndarray):  # type: ignore[type-arg,misc,unused-ignore]
        """The pixels of an image."""

        format: str = ""
        pts: float | None = None

        def __new__(cls, pixels: Any) -> Any:
            return np.array(pixels, copy=True).view(cls)

        def __array_finalize__(self, of: Any) -> None:
            self.format = getattr(of, "format", "")
            self.pts = getattr(of, "pts", None)

    return Frame


def for_plain(value: Any) -> Any:
    """Return a received value as nodes without ``RuntimeData`` take it.

    Raises:
        Permanent: it has no such form.
    """
    kind = type(value)
    if kind is Audio:
        return _pair(value)
    if kind is Image:
        return frame_of(value)
    if kind is Json:
        return value.load()
    if kind is dict:
        if TUPLE in value and len(value) == 1:
            return tuple(for_plain(each) for each in value[TUPLE])
        return _opened(value) if KIND in value else {k: for_plain(v) for k, v in value.items()}
    return [for_plain(each) for each in value] if kind is list and value else value


def _pair(audio: Audio, *metadata: Any) -> tuple[Any, ...]:
    import numpy as np

    samples = audio.samples
    if getattr(samples, "ndim", 0) != 2:
        samples = np.asarray(samples, np.float32).reshape(-1, audio.channels)
    return (np.array(samples.T, order="C"), audio.rate, *metadata)


def _opened(envelope: dict[str, Any]) -> Any:
    """Return the content of an envelope; what comes with it is a dict at the end of a tuple."""
    kind, data = envelope[KIND], envelope.get("data")
    if kind == "control":
        raise refused("a control message for a class without process_control_message")
    if kind == "file":
        return {name: envelope.get(name) for name in FILE}
    about = {k: v for k, v in envelope.items() if k not in (KIND, "data", "metadata")}
    about |= envelope.get("metadata") or {}
    if type(data) is Audio:
        return _pair(data, about)
    return (for_plain(data), about)


def is_recording(value: tuple[Any, ...]) -> bool:
    """Return whether a tuple is a recording that ``Audio`` holds without a loss."""
    np = sys.modules.get("numpy")
    if np is None or not 2 <= len(value) <= 3 or not isinstance(value[0], np.ndarray):
        return False
    if len(value) == 3 and not (value[2] is None or isinstance(value[2], dict)):
        return False
    whole = isinstance(value[1], (int, np.integer)) and not isinstance(value[1], bool)
    fits = value[0].dtype == np.float32 and value[0].ndim in (1, 2)
    return bool(whole and value[1] > 0 and fits and (value[0].ndim == 1 or value[0].shape[0] > 0))


# Values from nodes.


def sent(value: Any, session: Session) -> Any:
    """Return what a node has made as a value that can be sent.

    Raises:
        Permanent: it has no form among gophersnake's values.
    """
    kind = type(value)
    if kind is str or value is None or kind in (int, float, bool, bytes):
        return value
    if _is_runtime_data(value):
        return _from_runtime_data(value, session)
    if kind is tuple:
        return _sent_tuple(value, session)
    if kind is list:
        return [sent(each, session) for each in value]
    if kind is dict:
        return {key: sent(each, session) for key, each in value.items()}
    if kind is _frames:
        return _sent_frame(value)
    return value


def _sent_tuple(value: tuple[Any, ...], session: Session) -> Any:
    if not is_recording(value):
        return {TUPLE: [sent(each, session) for each in value]}
    samples = value[0].T if value[0].ndim == 2 else value[0]
    audio = Audio(samples, int(value[1]))
    if len(value) == 2 or not value[2]:
        return audio
    return {KIND: "audio", "data": audio, "metadata": sent(value[2], session)}


def _sent_frame(frame: Any) -> Any:
    plain = frame.view(_frames.__mro__[1])
    if frame.dtype != "uint8" or plain.shape[2:] != _depth(frame.format) or plain.ndim < 2:
        return plain
    return Image(plain, frame.format, pts=frame.pts)


def _depth(format: str) -> tuple[int, ...]:
    return {"gray8": (), "rgb8": (3,), "bgr8": (3,)}.get(format, (4,))


def _is_runtime_data(value: Any) -> bool:
    module = sys.modules.get(DATA)
    return module is not None and isinstance(value, module.RuntimeData)


def _from_runtime_data(value: Any, session: Session) -> Any:
    kind = value.type.name
    write = _WRITERS.get(kind)
    if write is None:
        raise refused(f"RuntimeData of type {kind} has no form among the values of gophersnake")
    about = session.of_id(value.session_id) | session.of_time(value.timestamp)
    return write(value, about, session)


def _enveloped(kind: str, data: Any, about: dict[str, Any]) -> Any:
    return {KIND: kind, "data": data, **about} if about else data


def _write_text(value: Any, about: dict[str, Any], session: Session) -> Any:
    metadata = value.metadata
    if (channel := getattr(metadata, "channel", "tts")) != "tts":
        about["channel"] = channel
    if language := getattr(metadata, "language", None):
        about["language"] = language
    encoding = getattr(metadata, "encoding", None) or "utf-8"
    return _enveloped("text", value.as_text(encoding), about)


def _write_audio(value: Any, about: dict[str, Any], session: Session) -> Any:
    import numpy as np

    metadata = value.metadata
    samples = np.asarray(value.as_numpy(), np.float32).reshape(-1)
    if annotations := getattr(metadata, "annotations", None):
        about["metadata"] = sent(annotations, session)
    channels = int(metadata.channels)
    if channels < 1 or samples.size % channels:
        raise refused(f"{samples.size} samples are not frames of {channels} channels")
    data = Audio(samples.reshape(-1, channels), int(metadata.sample_rate))
    return _enveloped("audio", data, about)


def _write_video(value: Any, about: dict[str, Any], session: Session) -> Any:
    metadata, payload = value.metadata, value.payload
    if hasattr(payload, "tobytes"):
        payload = payload.tobytes()
    name = getattr(metadata.format, "name", str(metadata.format))
    ours = {theirs: our for our, theirs in PIXELS.items()}.get(name)
    raw = ours is not None and not metadata.codec
    data: Any = payload
    if raw:
        pts = about.pop("timestamp", None)
        data = Image(payload, str(ours), int(metadata.width), int(metadata.height), pts)
    else:
        about |= {"format": name, "width": int(metadata.width), "height": int(metadata.height)}
    if metadata.codec:
        about["codec"] = int(metadata.codec)
    if metadata.fps != FPS:
        about["fps"] = float(metadata.fps)
    for field in ("frame_number", "is_keyframe"):
        if each := getattr(metadata, field, None):
            about[field] = each
    return _enveloped("video", data, about)


def _write_tensor(value: Any, about: dict[str, Any], session: Session) -> Any:
    import numpy as np

    array = np.asarray(value.payload)
    declared = getattr(getattr(value.metadata, "dtype", None), "name", None)
    dtype = next((ours for ours, theirs in DTYPES.items() if theirs == declared), None)
    if dtype is not None:
        array = array.astype(dtype, copy=False)  # as RemoteMedia does before it sends one
    if extras := getattr(value.metadata, "extras", None):
        about["metadata"] = sent(extras, session)
    return _enveloped("tensor", array, about)


def _write_payload(kind: str) -> Any:
    def write(value: Any, about: dict[str, Any], session: Session) -> Any:
        return _enveloped(kind, sent(value.payload, session), about)

    return write


def _write_file(value: Any, about: dict[str, Any], session: Session) -> Any:
    fields = {name: getattr(value.metadata, name, None) for name in FILE}
    return {KIND: "file"} | {k: v for k, v in fields.items() if v is not None} | about


def _write_control(value: Any, about: dict[str, Any], session: Session) -> Any:
    metadata = value.metadata
    fields = {name: getattr(metadata, name, None) for name in CONTROL}
    fields["metadata"] = getattr(metadata, "extra", None)
    made = {KIND: "control", "message_type": metadata.message_type.value}
    return made | {k: v for k, v in fields.items() if v is not None} | about


_WRITERS = {
    "TEXT": _write_text,
    "AUDIO": _write_audio,
    "VIDEO": _write_video,
    "TENSOR": _write_tensor,
    "NUMPY": _write_payload("numpy"),
    "JSON": _write_payload("json"),
    "BINARY": _write_payload("binary"),
    "FILE": _write_file,
    "CONTROL_MESSAGE": _write_control,
}
"""What makes a value of ours from each type of ``RuntimeData``."""


# RuntimeData for nodes.


def for_runtime(value: Any, session: Session) -> Any:
    """Return a received value as ``RuntimeData``.

    Raises:
        Permanent: it has no such form.
    """
    import importlib

    data = importlib.import_module(DATA)
    kind, about = "", dict[str, Any]()
    if type(value) is dict and isinstance(value.get(KIND), str):
        kind, about = value[KIND], value
        value = value.get("data")
    made = _make(data, kind, value, about)
    made.session_id = about.get("session_id") or session.id
    given = about.get("timestamp")
    if given is None and type(value) is Image:
        given = value.pts
    if given is not None:
        made.timestamp = Given(given)
    return made


def _make(data: Any, kind: str, value: Any, about: dict[str, Any]) -> Any:
    if kind == "file":
        return data.RuntimeData.file(**{k: about[k] for k in FILE if k in about})
    if kind == "control":
        return _control(data, about)
    of = type(value)
    if of is str:
        options = {k: about[k] for k in ("channel", "language") if k in about}
        return data.RuntimeData.text(value, **options)
    if of is Audio:
        return _audio(data, value, about)
    if of is Image or kind == "video":
        return _video(data, value, about)
    if of is Tensor or hasattr(value, "__array_interface__"):
        return _tensor(data, kind, value, about)
    if of is bytes:
        binary = getattr(data.DataType, "BINARY", None)
        if binary is None:
            raise refused(
                "the RuntimeData of the installed remotemedia has no type for bytes",
                "send an array of uint8, or a string",
            )
        return data.RuntimeData(binary, value, "", time.time())
    if of is Table or (of is not Json and _is_foreign(value)):
        raise refused(
            f"a {of.__name__} has no form as RuntimeData", "send an array, a list or a dict"
        )
    if of is dict and TUPLE in value:
        raise refused("a tuple has no form as RuntimeData", "return RuntimeData in its place")
    return _json(data, value.load() if of is Json else value)


def _is_foreign(value: Any) -> bool:
    return not isinstance(value, (dict, list, int, float, type(None))) and not hasattr(
        value, "isoformat"
    )


def _json(data: Any, value: Any) -> Any:
    """Return a JSON value, which answers to the methods of a text as well.

    RemoteMedia's runtime sends JSON to its workers as text, so their nodes expect that; nodes
    that run elsewhere expect JSON.
    """
    kind = getattr(data.RuntimeData, "__gophersnake_json__", None)
    if kind is None:

        def as_text(self: Any, encoding: str = "utf-8") -> str:
            return json.dumps(self.payload, ensure_ascii=False)

        methods = {
            "is_text": lambda self: True,
            "is_json": lambda self: True,
            "as_text": as_text,
            "as_json": lambda self: self.payload,
        }
        kind = type("RuntimeData", (data.RuntimeData,), {"__module__": DATA, **methods})
        data.RuntimeData.__gophersnake_json__ = kind
    return kind(data.DataType.JSON, value, "", time.time(), None)


def _audio(data: Any, audio: Audio, about: dict[str, Any]) -> Any:
    import numpy as np

    samples = np.asarray(audio.samples, np.float32).reshape(-1)
    made = data.RuntimeData.audio(samples, audio.rate, channels=audio.channels)
    if about.get("metadata"):
        made.metadata.annotations = about["metadata"]
    return made


def _video(data: Any, value: Any, about: dict[str, Any]) -> Any:
    if type(value) is Image:
        name = PIXELS.get(value.format)
        if name is None:
            known = ", ".join(PIXELS)
            raise refused(f"VideoFormat has no {value.format}", f"send one of {known}")
        pixels = value.pixels.tobytes() if hasattr(value.pixels, "tobytes") else value.pixels
        width, height = int(value.width), int(value.height)
    else:
        name, pixels = about.get("format"), value
        width, height = int(about.get("width") or 0), int(about.get("height") or 0)
    if name not in data.VideoFormat.__members__ or not isinstance(pixels, bytes):
        raise refused(
            "a video needs data as bytes or an image, width, height, and one of the formats "
            + ", ".join(data.VideoFormat.__members__)
        )
    fields = {k: about[k] for k in ("fps", "codec", "frame_number", "is_keyframe") if k in about}
    return data.RuntimeData.video(pixels, width, height, data.VideoFormat[name], **fields)


def _tensor(data: Any, kind: str, value: Any, about: dict[str, Any]) -> Any:
    if type(value) is Tensor:
        raise refused(f"a tensor of {value.dtype} has no form as a NumPy array")
    name = DTYPES.get(value.dtype.name)
    if kind == "numpy" or name is None:
        return data.RuntimeData(data.DataType.NUMPY, value, "", time.time())
    return data.RuntimeData.tensor(
        value, dtype=data.TensorType[name], extras=about.get("metadata") or None
    )


def _control(data: Any, about: dict[str, Any]) -> Any:
    try:
        kind = data.ControlMessageType(about.get("message_type"))
    except ValueError:
        known = ", ".join(each.value for each in data.ControlMessageType)
        raise refused(
            f"there is no control message {about.get('message_type')!r}", f"there are {known}"
        ) from None
    fields: dict[str, Any] = {name: about[name] for name in CONTROL if name in about}
    if about.get("metadata"):
        fields["metadata"] = about["metadata"]
    return data.RuntimeData.control_message(kind, fields.pop("segment_id", None), **fields)
