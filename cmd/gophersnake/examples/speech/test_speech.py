"""Tests of the speech nodes without a supervisor or workers."""

from __future__ import annotations

import re
import wave
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soxr  # type: ignore[import-untyped]
from gophersnake import Audio, Permanent
from speech import (
    RATE,
    WINDOW,
    Endpointer,
    Line,
    Resample,
    Samples,
    Segment,
    Span,
    Transcribe,
    VoiceActivity,
    mono,
    windows,
)

HERE = Path(__file__).parent
SPOKEN = (HERE / "sample.txt").read_text(encoding="utf-8")
LINES = len(SPOKEN.splitlines())

Hear = Callable[[Iterator[Audio]], list[Line]]


@pytest.fixture(scope="module")
def sample() -> Audio:
    """The recording as the command line passes it to the pipeline."""
    with wave.open(str(HERE / "sample.wav")) as file:
        assert file.getsampwidth() == 2
        pcm = np.frombuffer(file.readframes(file.getnframes()), "<i2")
        return Audio(
            samples=pcm.reshape(-1, file.getnchannels()).astype(np.float32) / 32768,
            rate=file.getframerate(),
        )


@pytest.fixture(scope="module")
def transcribe() -> Transcribe:
    return ready()


@pytest.fixture(scope="module")
def hear(transcribe: Transcribe) -> Hear:
    """The whole pipeline as one function."""

    return lambda chunks: [
        line for segment in segments(resample(chunks)) for line in transcribe.process(segment)
    ]


def ready(min_confidence: float = 0.0) -> Transcribe:
    """Return the node in its state before the first call."""
    node = Transcribe(min_confidence)
    node.setup()
    return node


def resample(chunks: Iterator[Audio]) -> Iterator[Audio]:
    """Run a session of Resample from its beginning to its end."""
    node = Resample()
    node.begin()
    for chunk in chunks:
        if (converted := node.process(chunk)) is not None:
            yield converted
    if (rest := node.finish()) is not None:
        yield rest


def segments(chunks: Iterator[Audio], node: VoiceActivity | None = None) -> Iterator[Segment]:
    """Run a session of VoiceActivity from its beginning to its end."""
    node = node or VoiceActivity()
    node.begin()
    for chunk in chunks:
        yield from node.process(chunk)
    yield from node.finish()


def whole(audio: Audio) -> Iterator[Audio]:
    return iter([audio])


def chunks(audio: Audio, seconds: float) -> Iterator[Audio]:
    """Yield the recording as a microphone delivers it."""
    size = round(seconds * audio.rate)
    for at in range(0, len(audio.samples), size):
        yield Audio(samples=audio.samples[at : at + size], rate=audio.rate)


def text(lines: list[Line]) -> str:
    return " ".join(line["text"] for line in lines)


def at(audio: Audio, rate: int, channels: int = 1, *, pcm: bool = True) -> Audio:
    """Return the recording at another rate, with more channels, and rounded to 16 bits if ``pcm``."""
    samples = soxr.resample(audio.samples, audio.rate, rate)
    if pcm:
        steps = np.clip(np.round(samples * 32768), -32768, 32767)
        samples = (steps / 32768).astype(np.float32)
    return Audio(samples=np.repeat(samples, channels, axis=1), rate=rate)


def tone(seconds: float, rate: int = RATE) -> Samples:
    time = np.arange(round(seconds * rate)) / rate
    return (0.3 * np.sin(2 * np.pi * 440 * time)).astype(np.float32)


def word_errors(heard: str) -> float:
    """Return the number of substitutions, insertions and deletions per spoken word."""
    spoken, words = (re.findall(r"[a-z']+", text.lower()) for text in (SPOKEN, heard))
    row = list(range(len(words) + 1))
    for i, expected in enumerate(spoken, 1):
        diagonal, row[0] = row[0], i
        for j, word in enumerate(words, 1):
            best = min(row[j] + 1, row[j - 1] + 1, diagonal + (word != expected))
            diagonal, row[j] = row[j], best
    return row[-1] / len(spoken)


def test_most_words_are_right_and_the_times_are_in_order(sample: Audio, hear: Hear) -> None:
    lines = hear(whole(sample))
    assert word_errors(text(lines)) <= 0.1, lines
    assert len(lines) == LINES
    times = [time for line in lines for time in (line["start"], line["end"])]
    assert times == sorted(times)
    assert times[0] >= 0
    assert times[-1] <= len(sample.samples) / sample.rate
    assert all(0.3 < line["confidence"] <= 1 for line in lines)


def test_chunks_give_the_same_lines_as_the_whole(sample: Audio, hear: Hear) -> None:
    assert hear(chunks(sample, 0.02)) == hear(whole(sample))


@pytest.mark.parametrize("seconds", [0.003, 0.032, 1.0])
def test_the_length_of_chunks_makes_no_difference(sample: Audio, seconds: float) -> None:
    expected = segments(resample(whole(sample)))
    for segment, other in zip(segments(resample(chunks(sample, seconds))), expected, strict=True):
        assert (segment["start"], segment["end"]) == (other["start"], other["end"])
        np.testing.assert_array_equal(segment["audio"].samples, other["audio"].samples)


def test_a_segment_comes_when_its_speech_has_ended(sample: Audio) -> None:
    taken = 0

    def microphone() -> Iterator[Audio]:
        nonlocal taken
        for chunk in chunks(sample, 0.02):
            taken += 1
            yield chunk

    first = next(segments(resample(microphone())))
    assert taken * 0.02 < first["end"] + 0.3
    assert taken * 0.02 < len(sample.samples) / sample.rate / 3


def test_two_sessions_do_not_disturb_each_other(sample: Audio) -> None:
    alone = list(segments(resample(whole(sample))))
    loud = Audio(samples=np.full((512, 1), 0.5, np.float32), rate=RATE)
    other = VoiceActivity()
    other.begin()

    def meanwhile() -> Iterator[Audio]:
        for chunk in resample(chunks(sample, 0.02)):
            assert list(other.process(loud)) == []
            yield chunk

    beside = list(segments(meanwhile()))
    assert [(s["start"], s["end"]) for s in beside] == [(s["start"], s["end"]) for s in alone]


@pytest.mark.parametrize(
    ("rate", "channels", "pcm", "bound"),
    [
        (8000, 1, True, 0.25),
        (8000, 2, False, 0.25),
        (11025, 2, True, 0.15),
        (16000, 1, False, 0.1),
        (44100, 2, True, 0.1),
        (48000, 1, True, 0.1),
        (48000, 2, False, 0.1),
    ],
)
def test_common_formats_are_transcribed(
    sample: Audio,
    hear: Hear,
    rate: int,
    channels: int,
    pcm: bool,
    bound: float,
) -> None:
    heard = text(hear(whole(at(sample, rate, channels, pcm=pcm))))
    assert word_errors(heard) <= bound, heard


@pytest.mark.parametrize("gain", [0.02, 0.1, 1.9])
def test_a_faint_or_a_loud_recording_is_transcribed(sample: Audio, hear: Hear, gain: float) -> None:
    heard = text(hear(whole(Audio(samples=sample.samples * gain, rate=sample.rate))))
    assert word_errors(heard) <= 0.15, heard


def test_a_voice_on_one_channel_of_two_is_transcribed(sample: Audio, hear: Hear) -> None:
    left = np.column_stack([sample.samples, np.zeros_like(sample.samples)])
    heard = text(hear(whole(Audio(samples=left, rate=sample.rate))))
    assert word_errors(heard) <= 0.1, heard


def test_the_result_does_not_depend_on_earlier_recordings(sample: Audio, hear: Hear) -> None:
    first = hear(whole(sample))
    hear(whole(at(sample, 8000)))
    assert hear(whole(sample)) == first


def test_a_recognition_does_not_depend_on_earlier_ones(sample: Audio) -> None:
    found = [mono(segment["audio"]) for segment in segments(resample(whole(sample)))]
    noise = np.random.default_rng(1).normal(0, 0.1, RATE).astype(np.float32)
    node = ready()
    first = [node.recognize(samples) for samples in found]
    for earlier in (noise, *found):
        for samples, expected in zip(reversed(found), reversed(first), strict=True):
            node.recognize(earlier)
            assert node.recognize(samples) == expected


@pytest.mark.parametrize("frames", [0, 1, 511, 3 * 8000])
def test_silence_has_no_lines(hear: Hear, frames: int) -> None:
    assert hear(whole(Audio(samples=np.zeros((frames, 2), np.float32), rate=8000))) == []


def test_an_empty_stream_has_no_lines(hear: Hear) -> None:
    assert hear(iter([])) == []


def test_a_tone_is_not_speech() -> None:
    assert list(segments(whole(Audio(samples=tone(2)[:, np.newaxis], rate=RATE)))) == []


def test_a_segment_without_words_is_left_out(transcribe: Transcribe) -> None:
    for samples in (np.zeros(0, np.float32), np.zeros(RATE, np.float32), tone(0.02)):
        audio = Audio(samples=samples[:, np.newaxis], rate=RATE)
        assert list(transcribe.process({"start": 0.0, "end": 1.0, "audio": audio})) == []


def test_a_doubtful_segment_is_left_out(sample: Audio) -> None:
    doubtful = ready(min_confidence=0.999)
    found = list(segments(resample(whole(sample))))
    assert len(found) == LINES
    assert [line for segment in found for line in doubtful.process(segment)] == []


def test_resampling_keeps_the_duration_and_makes_one_channel(sample: Audio) -> None:
    result = list(resample(whole(at(sample, 44100, 2))))
    assert all(audio.rate == RATE for audio in result)
    assert all(audio.samples.dtype == np.float32 for audio in result)
    assert all(audio.samples.shape[1] == 1 for audio in result)
    duration = len(sample.samples) / sample.rate
    assert sum(len(audio.samples) for audio in result) == pytest.approx(duration * RATE, abs=2)


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 44100, 48000])
def test_resampling_in_chunks_gives_the_same_samples(sample: Audio, rate: int) -> None:
    audio = at(sample, rate)
    result = np.concatenate([part.samples for part in resample(chunks(audio, 0.02))])
    expected = soxr.resample(audio.samples, rate, RATE)
    np.testing.assert_allclose(result, expected, atol=1e-6)


def test_resampling_changes_the_rate_and_not_the_pitch() -> None:
    result = resample(whole(Audio(samples=tone(1, 48000)[:, np.newaxis], rate=48000)))
    spectrum = np.abs(np.fft.rfft(np.concatenate([audio.samples[:, 0] for audio in result])))
    assert int(spectrum.argmax()) == 440


@pytest.mark.parametrize("rate", [1, 4000, 7999, 192_001])
def test_an_unsuitable_rate_is_an_error(rate: int) -> None:
    with pytest.raises(
        Permanent,
        match=f"{rate} Hz is unsuitable for speech: record at 8000 to 192000 Hz",
    ):
        list(resample(whole(Audio(samples=np.zeros((10, 1), np.float32), rate=rate))))


def test_a_rate_that_changes_is_an_error() -> None:
    audios = [Audio(samples=np.zeros((10, 1), np.float32), rate=rate) for rate in (RATE, 8000)]
    with pytest.raises(Permanent, match="changes from 16000 Hz to 8000 Hz"):
        list(resample(iter(audios)))


def test_damaged_samples_are_an_error() -> None:
    with pytest.raises(Permanent, match="not finite"):
        list(resample(whole(Audio(samples=np.full((10, 1), np.nan, np.float32), rate=RATE))))


def test_input_that_is_not_a_recording_is_an_error() -> None:
    with pytest.raises(Permanent, match="takes a recording, such as a WAV file, not str"):
        list(resample(iter(["sample.wav"])))  # type: ignore[list-item]


def test_a_missing_resample_node_is_an_error(sample: Audio, transcribe: Transcribe) -> None:
    with pytest.raises(
        Permanent, match="must be audio at 16000 Hz, not 22050 Hz: put a Resample node before"
    ):
        list(segments(whole(sample)))
    with pytest.raises(Permanent, match="not 22050 Hz"):
        list(transcribe.process({"start": 0.0, "end": 1.0, "audio": sample}))


@pytest.mark.parametrize(
    "params",
    [
        {"threshold": 0.3},
        {"threshold": 1.0},
        {"padding": -1.0},
        {"max_speech": 0.5},
        {"max_draft": -1.0},
    ],
)
def test_a_param_out_of_range_is_refused(params: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"release|seconds"):
        VoiceActivity(**params)


def spans(endpointer: Endpointer, probabilities: list[float]) -> list[Span]:
    found = [span for p in probabilities for span in endpointer.hear(p)]
    return [*found, *endpointer.end()]


def test_speech_begins_at_the_threshold_and_ends_below_the_release() -> None:
    def endpointer() -> Endpointer:
        return Endpointer(threshold=0.5, release=0.3, shortest=2, pause=2, longest=100)

    #        0    1    2    3    4    5    6    7    8    9   10   11
    heard = [0.4, 0.6, 0.4, 0.2, 0.3, 0.2, 0.2, 0.4, 0.9, 0.1, 0.1, 0.1]
    # 0.4 does not begin speech; the dip at 3 is short; the speech at 8 is too short.
    assert spans(endpointer(), heard) == [Span(1, 5, 1)]
    assert spans(endpointer(), [0.0, 0.9, 0.9, 0.1]) == [Span(1, 3, 1)]
    assert spans(endpointer(), []) == []


def test_long_speech_is_divided_where_the_voice_is_weakest() -> None:
    probabilities = [0.9] * 100
    probabilities[25] = 0.6
    endpointer = Endpointer(threshold=0.5, release=0.3, shortest=2, pause=2, longest=31)
    parts = spans(endpointer, probabilities)
    assert parts[0] == Span(0, 25, 0)
    assert [part.start for part in parts[1:]] == [part.end for part in parts[:-1]]
    assert parts[-1].end == 100
    assert all(0 < part.end - part.start <= 31 for part in parts)


def test_long_speech_comes_before_it_ends() -> None:
    endpointer = Endpointer(threshold=0.5, release=0.3, shortest=2, pause=2, longest=31)
    assert [len(list(endpointer.hear(0.9))) for _ in range(32)] == [0] * 31 + [1]


def test_a_draft_comes_in_the_middle_of_the_pause() -> None:
    endpointer = Endpointer(
        threshold=0.5, release=0.3, shortest=2, pause=4, longest=100, drafted=10
    )
    heard = [0.0, *[0.9] * 3, 0.1, 0.1, 0.9, *[0.1] * 4, *[0.9] * 9, *[0.1] * 4, 0.9, *[0.1] * 4]
    assert spans(endpointer, heard) == [
        Span(1, 4, 2, draft=True),  # the speaker went on
        Span(1, 7, 2, draft=True),
        Span(1, 7, 2),
        Span(11, 20, 2),  # it is too long for a draft
        # The last sound is too short for speech.
    ]


def test_the_segments_are_the_same_with_drafts(sample: Audio) -> None:
    expected = segments(resample(whole(sample)))
    found = list(segments(resample(chunks(sample, 0.02)), VoiceActivity(max_draft=6.0)))
    drafts = [segment for segment in found if "draft" in segment]
    final = [segment for segment in found if "draft" not in segment]
    for segment, other in zip(final, expected, strict=True):
        assert (segment["start"], segment["end"]) == (other["start"], other["end"])
        np.testing.assert_array_equal(segment["audio"].samples, other["audio"].samples)
    right = [d for d in drafts if any(d["end"] == segment["end"] for segment in final)]
    assert len(right) >= LINES - 1


def test_the_words_of_a_draft_are_recognized_once(sample: Audio) -> None:
    found = list(segments(resample(whole(sample)), VoiceActivity(max_draft=6.0)))
    node, recognized = ready(), []
    recognize = node.recognize
    node.recognize = lambda samples: (recognized.append(len(samples)), recognize(samples))[1]  # type: ignore[method-assign, func-returns-value]
    lines = [line for segment in found for line in node.process(segment)]
    assert [line["end"] for line in lines] == [s["end"] for s in found if "draft" not in s]
    assert len(recognized) < len(found)
    for _ in range(2 * Transcribe.DRAFTS):
        draft = Audio(
            samples=np.random.default_rng().normal(0, 0.1, (800, 1)).astype(np.float32), rate=RATE
        )
        assert list(node.process({"start": 0.0, "end": 0.05, "audio": draft, "draft": True})) == []
    assert len(node.drafts) == Transcribe.DRAFTS


class Heard(VoiceActivity):
    """VoiceActivity with a model that returns given probabilities."""

    def __init__(self, probabilities: list[float], **params: float) -> None:
        super().__init__(**params)
        self.probabilities = iter(probabilities)

    def begin(self) -> None:
        super().begin()
        self.detector = self  # type: ignore[assignment]

    def process_samples(self, samples: list[float]) -> float:
        assert len(samples) == WINDOW
        return next(self.probabilities)


def bounds(node: VoiceActivity, frames: int) -> list[tuple[float, float]]:
    """Return the beginnings and ends of the segments in windows, and check their samples."""
    ramp = np.arange(frames, dtype=np.float32)
    audio = Audio(samples=ramp[:, np.newaxis], rate=RATE)
    found = []
    for segment in segments(chunks(audio, 0.02), node):
        samples = segment["audio"].samples[:, 0]
        assert samples.tolist() == ramp[int(samples[0]) : int(samples[-1]) + 1].tolist()
        assert segment["start"] == round(float(samples[0]) / RATE, 3)
        assert segment["end"] == round((float(samples[-1]) + 1) / RATE, 3)
        found.append((float(samples[0]) / WINDOW, (float(samples[-1]) + 1) / WINDOW))
    return found


def test_padding_stops_at_the_recording_and_inside_the_pause() -> None:
    pause = windows(0.3)
    node = Heard([0, *[1] * 9, *[0] * pause, *[1] * 10, 0], padding=0.25)
    # The second half of the pause is padding for the next segment.
    frames = 20 * WINDOW + pause * WINDOW + 5
    assert bounds(node, frames) == [
        (0, 10 + pause // 2),
        (10 + pause // 2, frames / WINDOW),
    ]


def test_padding_is_no_longer_than_its_parameter() -> None:
    node = Heard([*[0] * 20, *[1] * 10, *[0] * 20], padding=2 * WINDOW / RATE)
    assert bounds(node, 50 * WINDOW) == [(18, 32)]


def test_the_parts_of_long_speech_join_without_a_gap() -> None:
    count = windows(2.5)
    node = Heard([1] * count, max_speech=1.0)
    parts = bounds(node, count * WINDOW)
    assert len(parts) > 2
    assert [start for start, _ in parts] == [0, *(end for _, end in parts[:-1])]
    assert parts[-1][1] == count
