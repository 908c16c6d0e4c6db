"""Built-in nodes for recordings."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from gophersnake import Audio, Permanent, node

Samples = npt.NDArray[np.float32]
"""Samples between -1 and 1, of shape (frames, channels)."""

SILENT_DB = -120.0
"""The level of digital silence."""


def frames_of(audio: Audio) -> Samples:
    """Return the samples of a recording as an array of shape (frames, channels)."""
    return np.asarray(audio.samples, dtype=np.float32).reshape(-1, audio.channels)


def decibel(samples: Samples) -> float:
    """Return the RMS of samples in dB of full scale."""
    power = float(np.mean(np.square(samples, dtype=np.float64))) if samples.size else 0.0
    return 10 * math.log10(power) if power > 0 else SILENT_DB


@node(name="AudioChunkerNode", stateful=True)
class AudioChunker:
    """Cut a recording into chunks of the same number of samples."""

    def __init__(self, chunk_size: int = 512) -> None:
        """Set the number of samples of a chunk, those of all channels together."""
        self.size = chunk_size

    def begin(self) -> None:
        """Begin a recording."""
        self.rest: Samples = np.zeros((0, 1), np.float32)
        self.rate = 0

    def process(self, audio: Audio) -> Iterator[Audio]:
        """Yield the chunks that are complete.

        A chunk never has samples of two rates or numbers of channels: the last one before
        such a change is shorter.

        Raises:
            Permanent: if chunks of this size would cut the frames of the recording.
        """
        if self.size % audio.channels:
            raise Permanent(
                f"chunk_size {self.size} is no multiple of the recording's {audio.channels} channels"
            )
        samples = frames_of(audio)
        if (audio.rate, audio.channels) != (self.rate, self.rest.shape[1]):
            if len(self.rest):
                yield self.chunk(self.rest)
            self.rest, self.rate = samples[:0], audio.rate
        samples = np.concatenate([self.rest, samples])
        step = self.size // audio.channels
        whole = len(samples) // step * step
        self.rest = samples[whole:]
        for start in range(0, whole, step):
            yield self.chunk(samples[start : start + step])

    def chunk(self, samples: Samples) -> Audio:
        """Return samples as a recording."""
        return Audio(samples=samples, rate=self.rate)

    def finish(self) -> Audio | None:
        """Return the rest, which is shorter than a chunk."""
        return self.chunk(self.rest) if len(self.rest) else None


@node(name="FastResampleNode", stateful=True)
class Resample:
    """Convert the sample rate of a recording, with soxr."""

    QUALITIES: ClassVar[dict[str, str]] = {"Low": "LQ", "Medium": "HQ", "High": "VHQ"}

    def __init__(
        self,
        target_rate: int,
        source_rate: int | str = "auto",
        quality: str = "Medium",
        channels: int = 0,
    ) -> None:
        """Set the rates in Hz.

        Args:
            target_rate: the new rate.
            source_rate: the rate that recordings must have; ``"auto"`` or 0 for any.
            quality: ``"Low"``, ``"Medium"`` or ``"High"``: 16, 20 or 28 bits of precision.
            channels: the number of channels that recordings must have; 0 for any.
        """
        self.rate = target_rate
        self.source = 0 if source_rate == "auto" else int(source_rate)
        self.quality = self.QUALITIES[quality]
        self.channels = channels

    def begin(self) -> None:
        """Begin a recording. Its form is that of its first chunk."""
        self.form = (self.source, self.channels)
        self.converter: Any = None

    def process(self, value: Any) -> Any:
        """Return the samples that are converted so far, or ``None`` if there are none.

        A value that is no recording is returned as it is.

        Raises:
            Permanent: if the rate or the channels are not those that were set, or change.
        """
        if not isinstance(value, Audio):
            return value
        form = (value.rate, value.channels)
        if any(set_ and set_ != has for set_, has in zip(self.form, form, strict=True)):
            raise Permanent(
                f"expected a recording of {self.form[0] or 'any'} Hz and {self.form[1] or 'any'} "
                f"channels, got one of {value.rate} Hz and {value.channels}"
            )
        if self.converter is None:
            import soxr

            self.form = form
            self.converter = soxr.ResampleStream(
                value.rate, self.rate, value.channels, dtype="float32", quality=self.quality
            )
        return self.convert(frames_of(value), last=False)

    def finish(self) -> Audio | None:
        """Return the samples that the filter has held back."""
        if self.converter is None:
            return None
        return self.convert(np.zeros((0, self.form[1]), np.float32), last=True)

    def convert(self, samples: Samples, *, last: bool) -> Audio | None:
        """Return the output of the filter, or ``None`` if it has none."""
        converted = self.converter.resample_chunk(samples, last)
        converted = converted.reshape(-1, self.form[1])
        return Audio(samples=converted, rate=self.rate) if len(converted) else None


@node(name="SilenceDetectorNode", stateful=True)
class SilenceDetector:
    """Find silence that lasts, and dropouts."""

    def __init__(
        self,
        silence_threshold_db: float = -50.0,
        sustained_silence_ms: float = 500.0,
        dropout_count_threshold: int = 3,
        dropout_window_ms: float = 5000.0,
    ) -> None:
        """Set what counts as silence.

        Args:
            silence_threshold_db: the level at which a chunk is silent.
            sustained_silence_ms: how long silence must be to be sustained.
            dropout_count_threshold: how many dropouts are a fault.
            dropout_window_ms: the part of the recording in which dropouts are counted.
        """
        self.threshold = silence_threshold_db
        self.sustained = sustained_silence_ms
        self.most = dropout_count_threshold
        self.window = dropout_window_ms

    def begin(self) -> None:
        """Begin a recording."""
        self.now = 0.0  # milliseconds of the recording
        self.silence = 0.0
        self.silent = False
        self.dropouts: deque[float] = deque()  # when they began

    def process(self, value: Any) -> Any:
        """Return the event for a chunk. A value that is no recording is returned as it is."""
        if not isinstance(value, Audio):
            return value
        samples = frames_of(value)
        level = decibel(samples)
        length = len(samples) * 1000 / value.rate
        before, self.silent = self.silent, level <= self.threshold
        self.silence = self.silence + length if self.silent else 0.0
        if self.silent and not before:
            self.dropouts.append(self.now)
        if self.silent != before:
            while self.dropouts and self.now - self.dropouts[0] >= self.window:
                self.dropouts.popleft()
        self.now += length
        return self.event(level)

    def event(self, level: float) -> dict[str, Any]:
        """Return the event for the state after a chunk of the given level."""
        sustained = self.silence >= self.sustained
        health = 1.0
        if self.silent:
            health = 0.0 if sustained else 1 - self.silence / self.sustained
        return {
            "_schema": "silence_event",
            "is_silent": self.silent,
            "rms_db": level,
            "silence_duration_ms": self.silence,
            "is_sustained_silence": sustained,
            "dropout_count": len(self.dropouts),
            "has_intermittent_dropouts": len(self.dropouts) >= self.most,
            "health": health,
            "stream_id": None,
            "timestamp_us": None,
        }
