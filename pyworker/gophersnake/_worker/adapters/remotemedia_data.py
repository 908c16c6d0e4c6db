"""``RuntimeData`` of the stand-in for the package ``remotemedia``."""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass
from typing import Any

from gophersnake._worker.originals import time


class DataType(enum.Enum):
    """The types of ``RuntimeData``."""

    AUDIO = 1
    VIDEO = 2
    TEXT = 3
    TENSOR = 4
    CONTROL_MESSAGE = 5
    NUMPY = 6
    FILE = 7
    JSON = 9
    BINARY = 10


AudioFormat = enum.Enum("AudioFormat", "F32 I16 I24 I32 U8")
VideoFormat = enum.Enum("VideoFormat", "RGB RGBA YUV420 YUV422 YUV444 BGR")
TensorType = enum.Enum("TensorType", "F32 F64 I32 I64 U8 U16")


class ControlMessageType(enum.Enum):
    """The types of control messages."""

    CANCEL_SPECULATION = "CancelSpeculation"
    BATCH_HINT = "BatchHint"
    DEADLINE_WARNING = "DeadlineWarning"


@dataclass
class AudioMetadata:
    """What belongs to samples."""

    sample_rate: int
    channels: int
    format: Any
    duration_ms: int
    annotations: dict[str, Any] | None = None


@dataclass
class VideoMetadata:
    """What belongs to a frame of a video."""

    width: int
    height: int
    format: Any
    fps: float
    codec: int | None = None
    frame_number: int = 0
    is_keyframe: bool = False


@dataclass
class TextMetadata:
    """What belongs to a text; the channel says whether it is spoken or shown."""

    encoding: str = "utf-8"
    language: str | None = None
    channel: str = "tts"


@dataclass
class TensorMetadata:
    """What belongs to a tensor."""

    shape: tuple[int, ...]
    dtype: Any
    extras: dict[str, Any] | None = None


@dataclass
class ControlMessageMetadata:
    """The content of a control message."""

    message_type: ControlMessageType
    segment_id: str | None = None
    from_timestamp: int | None = None
    to_timestamp: int | None = None
    suggested_batch_size: int | None = None
    deadline_us: int | None = None
    extra: dict[str, Any] | None = None


@dataclass
class FileMetadata:
    """A reference to a file, or to a part of it."""

    path: str
    filename: str | None = None
    mime_type: str | None = None
    size: int | None = None
    offset: int | None = None
    length: int | None = None
    stream_id: str | None = None


NEEDED = {
    "AUDIO": AudioMetadata,
    "VIDEO": VideoMetadata,
    "TENSOR": TensorMetadata,
    "CONTROL_MESSAGE": ControlMessageMetadata,
    "FILE": FileMetadata,
}
"""The metadata that the types of ``RuntimeData`` must have."""


@dataclass
class RuntimeData:
    """A value with its type, session, time and metadata."""

    type: DataType
    payload: Any
    session_id: str
    timestamp: float
    metadata: Any = None

    def __post_init__(self) -> None:
        """Check the metadata, and encode a text."""
        if self.timestamp is None:
            self.timestamp = time.time()
        needed = NEEDED.get(self.type.name)
        if needed is not None and not isinstance(self.metadata, needed):
            raise ValueError(f"RuntimeData of type {self.type.name} needs {needed.__name__}")
        if self.type is DataType.TEXT:
            if isinstance(self.payload, str):
                self.payload = self.payload.encode("utf-8")
            self.metadata = self.metadata or TextMetadata()

    @property
    def size(self) -> int:
        """The bytes of the payload."""
        if hasattr(self.payload, "nbytes"):
            return int(self.payload.nbytes)
        if isinstance(self.payload, dict):
            return len(json.dumps(self.payload))
        return len(self.payload) if isinstance(self.payload, (bytes, str)) else 0

    def as_numpy(self) -> Any:
        """Return the payload as an array."""
        import numpy as np

        if isinstance(self.payload, np.ndarray):
            return self.payload
        if isinstance(self.payload, bytes):
            return np.frombuffer(self.payload, np.uint8)
        raise ValueError(f"a {type(self.payload).__name__} is no array")

    def as_text(self, encoding: str = "utf-8") -> str:
        """Return the payload as a text."""
        if self.type is not DataType.TEXT:
            raise ValueError(f"RuntimeData of type {self.type.name} is no text")
        return self.payload.decode(encoding) if isinstance(self.payload, bytes) else self.payload

    @classmethod
    def audio(
        cls,
        samples: Any,
        sample_rate: int,
        channels: int = 1,
        session_id: str = "",
        format: Any = AudioFormat.F32,
    ) -> RuntimeData:
        """Return samples, those of the channels by turns."""
        import numpy as np

        if not isinstance(samples, np.ndarray):
            samples = np.array(samples, np.float32)
        duration = int(len(samples) / channels / sample_rate * 1000)
        metadata = AudioMetadata(sample_rate, channels, format, duration)
        return cls(DataType.AUDIO, samples, session_id, time.time(), metadata)

    @classmethod
    def video(
        cls,
        frame: Any,
        width: int,
        height: int,
        format: Any = VideoFormat.RGB,
        fps: float = 30.0,
        session_id: str = "",
        codec: int | None = None,
        frame_number: int = 0,
        is_keyframe: bool = False,
    ) -> RuntimeData:
        """Return a frame: its pixels, or the bytes that a codec has made of them."""
        if not isinstance(frame, bytes) and not hasattr(frame, "tobytes"):
            raise ValueError("a frame is an array or bytes")
        metadata = VideoMetadata(width, height, format, fps, codec, frame_number, is_keyframe)
        return cls(DataType.VIDEO, frame, session_id, time.time(), metadata)

    @classmethod
    def text(
        cls, text: str, session_id: str = "", language: str | None = None, channel: str = "tts"
    ) -> RuntimeData:
        """Return a text."""
        metadata = TextMetadata(language=language, channel=channel)
        return cls(DataType.TEXT, text, session_id, time.time(), metadata)

    @classmethod
    def tensor(
        cls,
        data: Any,
        session_id: str = "",
        dtype: Any = TensorType.F32,
        extras: dict[str, Any] | None = None,
    ) -> RuntimeData:
        """Return a tensor, whose dtype is that of the metadata once it is sent."""
        import numpy as np

        array = data if isinstance(data, np.ndarray) else np.array(data)
        metadata = TensorMetadata(array.shape, dtype, extras)
        return cls(DataType.TENSOR, array, session_id, time.time(), metadata)

    @classmethod
    def json(cls, data: Any, session_id: str = "", **kwargs: Any) -> RuntimeData:
        """Return a JSON value."""
        return cls(DataType.JSON, data, session_id, time.time())

    @classmethod
    def binary(cls, data: bytes, session_id: str = "") -> RuntimeData:
        """Return bytes."""
        return cls(DataType.BINARY, data, session_id, time.time())

    @classmethod
    def file(cls, path: str, session_id: str = "", **fields: Any) -> RuntimeData:
        """Return a reference to a file."""
        metadata = FileMetadata(path, **fields)
        return cls(DataType.FILE, dict(vars(metadata)), session_id, time.time(), metadata)

    @classmethod
    def control_message(
        cls,
        message_type: ControlMessageType,
        segment_id: str | None = None,
        session_id: str = "",
        **fields: Any,
    ) -> RuntimeData:
        """Return a control message."""
        payload = {"message_type": message_type.value, "segment_id": segment_id, **fields}
        extra = fields.pop("metadata", None)
        metadata = ControlMessageMetadata(message_type, segment_id, extra=extra, **fields)
        return cls(DataType.CONTROL_MESSAGE, payload, session_id, time.time(), metadata)

    def data_type(self) -> str:
        """Return the name of the type in lower case."""
        return self.type.name.lower()

    def is_text(self) -> bool:
        """Return whether it is a text."""
        return self.type is DataType.TEXT

    def is_audio(self) -> bool:
        """Return whether it is samples."""
        return self.type is DataType.AUDIO

    def is_video(self) -> bool:
        """Return whether it is a frame of a video."""
        return self.type is DataType.VIDEO

    def is_tensor(self) -> bool:
        """Return whether it is a tensor."""
        return self.type is DataType.TENSOR

    def is_file(self) -> bool:
        """Return whether it is a reference to a file."""
        return self.type is DataType.FILE

    def is_json(self) -> bool:
        """Return whether it is a JSON value."""
        return self.type is DataType.JSON

    def is_control_message(self) -> bool:
        """Return whether it is a control message."""
        return self.type is DataType.CONTROL_MESSAGE

    def is_cancellation(self) -> bool:
        """Return whether it cancels speculative work."""
        cancel = ControlMessageType.CANCEL_SPECULATION
        return self.is_control_message() and self.metadata.message_type is cancel

    def get_file_path(self) -> str:
        """Return the path of a reference to a file."""
        if not self.is_file():
            raise ValueError("only RuntimeData of type FILE has a path")
        return str(self.metadata.path)
