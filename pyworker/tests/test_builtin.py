"""The built-in nodes that are written in Python."""

from __future__ import annotations

import wave
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from gophersnake import Audio
from gophersnake.builtin.audio import AudioChunker, Resample, SilenceDetector, frames_of
from gophersnake.builtin.speech import SileroVAD, SpeakerSplitter, UtteranceBuffer
from gophersnake.builtin.text import Echo, TextCollector
from gophersnake.testing import NodeError, open_session

SPEECH = Path(__file__).parents[2] / "cmd" / "gophersnake" / "examples" / "speech" / "sample.wav"

Floats = npt.NDArray[np.floating[Any]]


def along(node: type, values: Iterable[Any], **params: Any) -> list[Any]:
    """Return all that a node yields along a stream."""
    out: list[Any] = []
    with open_session(node, **params) as session:
        for value in values:
            out += session.process(value)
        return out + session.finish()


def tone(hz: float, frames: int, rate: int, channels: int = 1, level: float = 0.5) -> Audio:
    """Return a sine, the same in all channels."""
    samples = level * np.sin(2 * np.pi * hz * np.arange(frames) / rate)
    return Audio(samples=np.repeat(samples[:, None], channels, axis=1).astype("f4"), rate=rate)


def joined(chunks: Iterable[Audio]) -> Floats:
    """Return the samples of some chunks, of shape (frames, channels)."""
    return np.concatenate([frames_of(chunk) for chunk in chunks])


def test_echo_counts() -> None:
    recording = tone(440, 8, 16000)
    out = along(Echo, ["a", recording, "b"])
    assert out[0] == "Echo #1: a"
    assert out[2] == "Echo #3: b"
    assert np.array_equal(frames_of(out[1]), frames_of(recording))
    with pytest.raises(NodeError, match="takes a text or a recording, not dict"):
        along(Echo, [{"a": 1}])


@pytest.mark.parametrize(
    ("params", "pieces", "want"),
    [
        ({}, ["Hello", " world", "! How are", " you? fine"], ["Hello world!", "How are you?", " fine"]),
        ({}, ["One... two!? three", "<|text_end|>", "four"], ["One...", "two!?", " three", "<|text_end|>", "four"]),
        ({}, ["a. bcd."], ["bcd."]),
        ({}, ["ä. bcd."], ["ä.", "bcd."]),
        ({"min_sentence_length": 1}, ["a. b."], ["a.", "b."]),
        ({"split_pattern": ","}, ["one, two. three"], ["one,", " two. three"]),
        ({"yield_partial_on_end": False}, ["one. two<|audio_end|>three"], ["one.", "<|audio_end|>"]),
        ({}, ["one", {"a": 1}, "."], [{"a": 1}, "one."]),
        ({}, [" \n"], []),
    ],
)  # fmt: skip
def test_text_is_collected_to_sentences(
    params: dict[str, Any], pieces: list[Any], want: list[Any]
) -> None:
    assert along(TextCollector, pieces, **params) == want


def test_a_text_collector_continues_from_its_snapshot() -> None:
    first = TextCollector()
    first.begin()
    assert list(first.process("Hello wor")) == []
    second = TextCollector()
    second.begin()
    second.restore(first.snapshot())
    assert list(second.process("ld.")) == ["Hello world."]


@pytest.mark.parametrize("pattern", ["[", ".*"])
def test_a_pattern_that_cannot_end_sentences_is_refused(pattern: str) -> None:
    with pytest.raises(NodeError, match="split_pattern"):
        along(TextCollector, [], split_pattern=pattern)


def test_chunks_have_the_same_length_and_all_samples() -> None:
    recording = tone(440, 1234, 16000, channels=2)
    parts = [
        Audio(samples=part, rate=16000)
        for part in np.array_split(frames_of(recording), [0, 7, 900])
    ]
    chunks = along(AudioChunker, parts, chunk_size=200)
    assert [len(frames_of(chunk)) for chunk in chunks] == [100] * 12 + [34]
    assert np.array_equal(joined(chunks), frames_of(recording))


def test_a_chunk_has_one_rate() -> None:
    chunks = along(AudioChunker, [tone(440, 300, 8000), tone(440, 300, 16000)], chunk_size=256)
    assert [(len(frames_of(c)), c.rate) for c in chunks] == [
        (256, 8000), (44, 8000), (256, 16000), (44, 16000),
    ]  # fmt: skip


def test_chunks_do_not_cut_frames() -> None:
    with pytest.raises(NodeError, match="no multiple of the recording's 3 channels"):
        along(AudioChunker, [tone(440, 9, 8000, channels=3)], chunk_size=256)


@pytest.mark.parametrize(
    ("source", "target"), [(48000, 16000), (44100, 16000), (16000, 44100), (8000, 48000)]
)
@pytest.mark.parametrize(("quality", "decibels"), [("Low", 70), ("Medium", 100), ("High", 120)])
def test_a_resampled_tone_is_that_tone(
    source: int, target: int, quality: str, decibels: float
) -> None:
    chunks = [tone(997, 0, source)] + [
        Audio(samples=part, rate=source)
        for part in np.array_split(frames_of(tone(997, source, source)), 37)
    ]
    out = joined(along(Resample, chunks, target_rate=target, quality=quality))
    assert len(out) == target
    inner = slice(target // 10, -target // 10)  # the ends ring
    want = frames_of(tone(997, target, target))[inner]
    error = np.sqrt(np.mean((out[inner].astype("f8") - want) ** 2)) / np.sqrt(np.mean(want**2))
    assert -20 * np.log10(error) > decibels


@pytest.mark.parametrize(("source", "target"), [(48000, 16000), (44100, 16000), (16000, 44100)])
def test_resampling_agrees_with_scipy(source: int, target: int) -> None:
    signal = pytest.importorskip("scipy.signal")
    random = np.random.default_rng(1)
    narrow = signal.firwin(401, 0.6 * min(source, target) / 2, fs=source)  # within both bands
    noise = np.convolve(random.standard_normal(source), narrow, mode="same")
    noise *= 0.5 / np.abs(noise).max()
    divisor = np.gcd(source, target)
    want = signal.resample_poly(
        noise, target // divisor, source // divisor, window=("kaiser", 14.0)
    )
    recording = Audio(samples=noise.astype("f4"), rate=source)
    out = joined(along(Resample, [recording], target_rate=target, quality="High"))[:, 0]
    inner = slice(target // 10, -target // 10)
    error = np.sqrt(np.mean((out[inner] - want[inner]) ** 2) / np.mean(want[inner] ** 2))
    assert -20 * np.log10(error) > 60  # scipy's own filter is no better


def test_what_the_new_rate_cannot_have_is_gone() -> None:
    out = joined(along(Resample, [tone(11000, 48000, 48000)], target_rate=16000))
    assert np.abs(out[1600:-1600]).max() < 1e-5


def test_a_recording_that_is_not_as_set_is_refused() -> None:
    for params in ({"source_rate": 44100}, {"channels": 2}):
        with pytest.raises(NodeError, match="expected a recording of"):
            along(Resample, [tone(440, 10, 48000)], target_rate=16000, **params)
    with pytest.raises(NodeError, match="got one of 8000 Hz"):
        along(Resample, [tone(440, 10, 48000), tone(440, 10, 8000)], target_rate=16000)
    assert along(Resample, ["text"], target_rate=16000, source_rate="auto") == ["text"]


def test_silence_and_dropouts_are_found() -> None:
    loud, quiet = tone(440, 1600, 16000), tone(440, 1600, 16000, level=0)
    events = along(SilenceDetector, [loud, quiet, quiet, loud, quiet, loud, quiet] + [quiet] * 4)
    assert [event["is_silent"] for event in events[:4]] == [False, True, True, False]
    assert [event["silence_duration_ms"] for event in events[:4]] == [0, 100, 200, 0]
    assert events[2]["health"] == pytest.approx(0.6)
    assert events[0]["rms_db"] == pytest.approx(-9.03, abs=0.01)
    assert events[1]["rms_db"] == -120
    assert [event["dropout_count"] for event in events[4:7]] == [2, 2, 3]
    assert events[6]["has_intermittent_dropouts"]
    assert not events[5]["has_intermittent_dropouts"]
    assert events[-1]["is_sustained_silence"]
    assert events[-1]["health"] == 0
    events = along(SilenceDetector, [quiet, loud, quiet, loud], dropout_window_ms=150)
    assert events[-1]["dropout_count"] == 1
    assert along(SilenceDetector, ["text"]) == ["text"]


def spoken() -> Audio:
    """Return the recording of the example speech."""
    with wave.open(str(SPEECH)) as file:
        pcm = np.frombuffer(file.readframes(file.getnframes()), "<i2")
        samples = pcm.reshape(-1, file.getnchannels()).astype("f4") / 32768
        return Audio(samples=samples, rate=file.getframerate())


@pytest.mark.parametrize("milliseconds", [32, 170])
def test_utterances_of_a_recording_are_collected(milliseconds: int) -> None:
    recording = spoken()
    step = recording.rate * milliseconds // 1000
    samples = frames_of(recording)
    chunks = [Audio(samples=samples[i : i + step], rate=recording.rate) for i in range(0, len(samples), step)]  # fmt: skip
    detected = along(SileroVAD, chunks, min_silence_duration_ms=300)
    assert np.array_equal(joined(each for each in detected if isinstance(each, Audio)), samples)
    events = [each for each in detected if isinstance(each, dict)]
    assert len(events) == pytest.approx(len(samples) / recording.rate / 0.032, abs=3)
    starts, ends = (sum(event[f"is_speech_{key}"] for event in events) for key in ("start", "end"))
    assert starts >= 2
    assert starts - ends in (0, 1)
    utterances = along(UtteranceBuffer, detected)
    assert 2 <= len(utterances) <= starts
    assert all(each.rate == recording.rate for each in utterances)
    assert sum(len(frames_of(each)) for each in utterances) > 0.5 * len(samples)


def test_silence_has_no_speech() -> None:
    events = along(SileroVAD, [tone(440, 44100, 44100, channels=2, level=0), {"a": 1}])
    assert [event["is_speech_start"] for event in events[:-2]] == [False] * len(events[:-2])
    assert len(events) > 25
    assert events[-1] == {"a": 1}
    assert events[0]["samples"] == 512


START, END = {"is_speech_start": True}, {"is_speech_end": True}


def test_an_utterance_has_what_precedes_it() -> None:
    chunk = tone(440, 1600, 16000)  # 100 ms
    utterances = along(UtteranceBuffer, [chunk] * 8 + [START] + [chunk] * 3 + [END, chunk])
    assert [len(frames_of(each)) for each in utterances] == [8 * 1600]
    assert along(UtteranceBuffer, [START, chunk, chunk, END, "text"]) == []  # too short
    quiet = tone(440, 16000, 16000, level=0.01)
    assert along(UtteranceBuffer, [START, quiet, END]) == []
    long = along(UtteranceBuffer, [START] + [chunk] * 10, max_utterance_duration_ms=400)
    assert [len(frames_of(each)) for each in long] == [6400, 6400]
    cut_off = along(UtteranceBuffer, [START] + [chunk] * 3)
    assert [len(frames_of(each)) for each in cut_off] == [4800]
    with pytest.raises(NodeError, match="change within an utterance"):
        along(UtteranceBuffer, [START, chunk, tone(440, 10, 8000)])


def test_speakers_are_separated() -> None:
    segments = {
        "segments": [
            {"start": 10.0, "end": 10.25, "speaker": "0"},
            {"start": 10.5, "end": 12, "speaker": "1"},
            {"start": 10.0, "end": 11, "speaker": "other"},
        ],
        "num_speakers": 3,
        "time_offset": 10.0,
    }
    ones = Audio(samples=np.ones((16000, 2), "f4"), rate=16000)
    out = along(SpeakerSplitter, [ones, segments, ones])
    assert np.array_equal(frames_of(out[0]), frames_of(ones))
    assert [each["stream_id"] for each in out[1:]] == ["speaker_0", "speaker_1"]
    assert [frames_of(each["audio"]).sum() for each in out[1:]] == [4000, 8000]
    (together,) = along(SpeakerSplitter, [segments, ones], output_mode="channels")
    assert frames_of(together).sum(axis=0).tolist() == [4000, 8000, 0]
    with pytest.raises(NodeError, match="another form"):
        along(SpeakerSplitter, [{"segments": [{"start": 1}]}])
