"""The speech nodes in plain Python: no supervisor, no worker, only calls."""

from __future__ import annotations

import re
import wave
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
import soxr  # type: ignore[import-untyped]
from gophersnake import Audio, Permanent
from speech import RATE, Resample, Samples, Transcribe, Transcript, VoiceActivity

HERE = Path(__file__).parent
SPOKEN = (HERE / "sample.txt").read_text(encoding="utf-8")
LINES = len(SPOKEN.splitlines())

Hear = Callable[[Audio], Transcript]
Ready = TypeVar("Ready", VoiceActivity, Transcribe)


@pytest.fixture(scope="module")
def sample() -> Audio:
    """The recording as the command line hands it over."""
    with wave.open(str(HERE / "sample.wav")) as file:
        assert file.getsampwidth() == 2
        pcm = np.frombuffer(file.readframes(file.getnframes()), "<i2")
        return Audio(
            samples=pcm.reshape(-1, file.getnchannels()).astype(np.float32) / 32768,
            rate=file.getframerate(),
        )


@pytest.fixture(scope="module")
def voice_activity() -> VoiceActivity:
    return ready(VoiceActivity())


@pytest.fixture(scope="module")
def transcribe() -> Transcribe:
    return ready(Transcribe())


@pytest.fixture(scope="module")
def hear(voice_activity: VoiceActivity, transcribe: Transcribe) -> Hear:
    """The whole pipeline as one function."""
    return lambda audio: transcribe.process(voice_activity.process(Resample().process(audio)))


def ready(node: Ready) -> Ready:
    """The node as a worker has it before the first call."""
    node.setup()
    return node


def at(audio: Audio, rate: int, channels: int = 1, *, pcm: bool = True) -> Audio:
    """The same recording at another rate, with more channels, and in 16-bit steps if ``pcm``."""
    samples = soxr.resample(audio.samples, audio.rate, rate)
    if pcm:
        steps = np.clip(np.round(samples * 32768), -32768, 32767)
        samples = (steps / 32768).astype(np.float32)
    return Audio(samples=np.repeat(samples, channels, axis=1), rate=rate)


def tone(seconds: float, rate: int = RATE) -> Samples:
    time = np.arange(round(seconds * rate)) / rate
    return (0.3 * np.sin(2 * np.pi * 440 * time)).astype(np.float32)


def word_errors(heard: str) -> float:
    """Substitutions, insertions and deletions against the words spoken, per word spoken."""
    spoken, words = (re.findall(r"[a-z']+", text.lower()) for text in (SPOKEN, heard))
    row = list(range(len(words) + 1))
    for i, expected in enumerate(spoken, 1):
        diagonal, row[0] = row[0], i
        for j, word in enumerate(words, 1):
            best = min(row[j] + 1, row[j - 1] + 1, diagonal + (word != expected))
            diagonal, row[j] = row[j], best
    return row[-1] / len(spoken)


def test_most_words_are_right_and_the_times_are_in_order(sample: Audio, hear: Hear) -> None:
    result = hear(sample)
    assert word_errors(result["text"]) <= 0.1, result["text"]
    assert result["duration"] == pytest.approx(len(sample.samples) / sample.rate, abs=0.01)
    assert len(result["segments"]) == LINES
    times = [time for line in result["segments"] for time in (line["start"], line["end"])]
    assert times == sorted(times)
    assert times[0] >= 0
    assert times[-1] <= result["duration"]
    assert all(0.3 < line["confidence"] <= 1 for line in result["segments"])


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
def test_any_common_format_will_do(
    sample: Audio,
    hear: Hear,
    rate: int,
    channels: int,
    pcm: bool,
    bound: float,
) -> None:
    result = hear(at(sample, rate, channels, pcm=pcm))
    assert word_errors(result["text"]) <= bound, result["text"]


@pytest.mark.parametrize("gain", [0.02, 0.1, 1.9])
def test_a_faint_or_a_loud_recording_will_do(sample: Audio, hear: Hear, gain: float) -> None:
    result = hear(Audio(samples=sample.samples * gain, rate=sample.rate))
    assert word_errors(result["text"]) <= 0.15, result["text"]


def test_a_voice_on_one_channel_of_two_will_do(sample: Audio, hear: Hear) -> None:
    left = np.column_stack([sample.samples, np.zeros_like(sample.samples)])
    result = hear(Audio(samples=left, rate=sample.rate))
    assert word_errors(result["text"]) <= 0.1, result["text"]


def test_the_result_does_not_depend_on_what_was_heard_before(sample: Audio, hear: Hear) -> None:
    first = hear(sample)
    hear(at(sample, 8000))
    assert hear(sample) == first


@pytest.mark.parametrize("frames", [0, 1, 511, 3 * 8000])
def test_nothing_said_is_an_empty_transcript(hear: Hear, frames: int) -> None:
    silence = Audio(samples=np.zeros((frames, 2), np.float32), rate=8000)
    result = hear(silence)
    assert result == {
        "text": "",
        "duration": pytest.approx(frames / 8000, abs=0.001),
        "segments": [],
    }


def test_a_tone_is_not_speech(voice_activity: VoiceActivity) -> None:
    audio = Audio(samples=tone(2)[:, np.newaxis], rate=RATE)
    assert voice_activity.process(audio)["segments"] == []


def test_a_segment_without_words_is_left_out(transcribe: Transcribe) -> None:
    for samples in (np.zeros(0, np.float32), np.zeros(RATE, np.float32), tone(0.02)):
        audio = Audio(samples=samples[:, np.newaxis], rate=RATE)
        result = transcribe.process(
            {"duration": 1.0, "segments": [{"start": 0.0, "end": 1.0, "audio": audio}]}
        )
        assert result == {"text": "", "duration": 1.0, "segments": []}


def test_a_doubtful_segment_is_left_out(sample: Audio, voice_activity: VoiceActivity) -> None:
    speech = voice_activity.process(Resample().process(sample))
    sure = ready(Transcribe(min_confidence=0.999)).process(speech)
    assert sure == {"text": "", "duration": speech["duration"], "segments": []}


def test_resampling_keeps_the_duration_and_makes_one_channel(sample: Audio) -> None:
    result = Resample().process(at(sample, 44100, 2))
    assert result.rate == RATE
    assert result.samples.dtype == np.float32
    assert result.samples.shape == (
        pytest.approx(len(sample.samples) / sample.rate * RATE, abs=2),
        1,
    )


def test_resampling_changes_the_rate_and_not_the_pitch() -> None:
    result = Resample().process(Audio(samples=tone(1, 48000)[:, np.newaxis], rate=48000))
    spectrum = np.abs(np.fft.rfft(result.samples[:, 0]))
    assert int(spectrum.argmax()) == 440


@pytest.mark.parametrize("rate", [1, 4000, 7999, 192_001])
def test_a_rate_that_is_not_for_speech_is_named(rate: int) -> None:
    with pytest.raises(
        Permanent,
        match=f"{rate} Hz does not do for speech: record at 8000 to 192000 Hz",
    ):
        Resample().process(Audio(samples=np.zeros((10, 1), np.float32), rate=rate))


def test_damaged_samples_are_named() -> None:
    with pytest.raises(Permanent, match="not finite"):
        Resample().process(Audio(samples=np.full((10, 1), np.nan, np.float32), rate=RATE))


def test_what_is_no_recording_is_named() -> None:
    with pytest.raises(Permanent, match="takes a recording, such as a WAV file, not str"):
        Resample().process("sample.wav")  # type: ignore[arg-type]


def test_a_missing_resample_node_is_named(
    sample: Audio, voice_activity: VoiceActivity, transcribe: Transcribe
) -> None:
    with pytest.raises(
        Permanent, match="16000 Hz is needed, not 22050 Hz: put a Resample node before"
    ):
        voice_activity.process(sample)
    with pytest.raises(Permanent, match="not 22050 Hz"):
        transcribe.process(
            {"duration": 1.0, "segments": [{"start": 0.0, "end": 1.0, "audio": sample}]}
        )


@pytest.mark.parametrize(
    "params",
    [{"threshold": 0.3}, {"threshold": 1.0}, {"padding": -1.0}, {"max_speech": 0.5}],
)
def test_a_param_out_of_range_is_refused(params: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"release|seconds"):
        VoiceActivity(**params)


def test_speech_begins_at_the_threshold_and_ends_below_the_release() -> None:
    node = ready(VoiceActivity(threshold=0.5, release=0.3, min_silence=0.064, min_speech=0.064))
    #        0    1    2    3    4    5    6    7    8    9   10   11
    heard = [0.4, 0.6, 0.4, 0.2, 0.3, 0.2, 0.2, 0.4, 0.9, 0.1, 0.1, 0.1]
    # 0.4 begins nothing; the dip at 3 is short; 8 stands alone, too short.
    assert node.speech(heard) == [(1, 5)]
    assert node.speech([0.0, 0.9, 0.9, 0.1]) == [(1, 3)]
    assert node.speech([]) == []


def test_long_speech_is_divided_where_the_voice_is_weakest() -> None:
    node = ready(VoiceActivity(max_speech=1.0))
    most = node.windows(1.0)
    probabilities = [0.9] * 100
    probabilities[25] = 0.6
    parts = node.divide((0, 100), probabilities)
    assert parts[0] == (0, 25)
    assert [start for start, _ in parts[1:]] == [end for _, end in parts[:-1]]
    assert parts[-1][1] == 100
    assert all(0 < end - start <= most for start, end in parts)


def test_padding_stops_at_the_recording_and_midway_to_the_neighbour() -> None:
    node = ready(VoiceActivity(padding=0.1))
    assert node.pad([(1, 10), (12, 20)], 20 * 512 + 5) == [
        (0, 11 * 512),
        (11 * 512, 20 * 512 + 5),
    ]
