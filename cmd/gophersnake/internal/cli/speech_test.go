package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/cmd/gophersnake/examples"
	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/media"
)

// The environment of speech is built in the user's cache folder: the first run of these
// tests uses the network, later ones do not.

func TestTheDemoRecognizesMostWords(t *testing.T) {
	got := command(t, "demo")
	require.Zero(t, got.code, got.err)
	assert.Contains(t, got.out, "welcome to the library")
	var right, of int
	_, line, _ := strings.Cut(got.out, "end of the month.\n\n")
	_, err := fmt.Sscanf(line, "%d of %d words are right.", &right, &of)
	require.NoError(t, err, got.out)
	assert.Equal(t, len(wordsOf(sampleText())), of)
	assert.GreaterOrEqual(t, right, of*9/10, got.out)
}

func TestRecordingsOfAllCommonFormatsAreTranscribed(t *testing.T) {
	dir := t.TempDir()
	for i, rate := range []int{8000, 11025, 16000, 22050, 44100, 48000} {
		mono := sampleAt(t, rate)
		stereo := &ipc.Audio{Rate: rate, Channels: 2, Samples: slices.Concat(mono.Samples, mono.Samples)}
		for i, sample := range mono.Samples {
			stereo.Samples[2*i], stereo.Samples[2*i+1] = sample, sample
		}
		formats := []media.SampleFormat{media.Int16, media.Float32}
		writeWAV(t, dir, mono, formats[i%2])
		writeWAV(t, dir, stereo, formats[1-i%2])
	}
	got := succeed(t, "run", "speech", "--input", filepath.Join(dir, "*.wav"), "--output", "json")
	var records []struct {
		Input  string
		Result []transcribed
	}
	require.NoError(t, json.Unmarshal([]byte(got), &records))
	require.Len(t, records, 12)
	said := wordsOf(sampleText())
	for _, r := range records {
		name := filepath.Base(r.Input)
		least := len(said) * 9 / 10
		if strings.HasPrefix(name, "8000-") {
			least = len(said) * 3 / 4 // half of the spectrum is missing
		}
		assert.GreaterOrEqual(t, commonWords(said, wordsOf(textOf(r.Result))), least, "%s: %s", name, textOf(r.Result))
	}
}

func TestOneRecordingIsOneDocument(t *testing.T) {
	file := filepath.Join(t.TempDir(), "sample.wav")
	require.NoError(t, os.WriteFile(file, examples.Files("speech")["sample.wav"], 0o600))
	var lines []transcribed
	require.NoError(t, json.Unmarshal([]byte(succeed(t, "run", "speech", "--input", file, "--output", "json")), &lines))
	assert.Len(t, lines, 3)
	for _, line := range lines {
		assert.Less(t, line.Start, line.End)
	}
	assert.Equal(t, "[]\n", succeed(t, "run", "speech", "--input", file, "--param", "transcribe.min_confidence=2"), "no segment has so much confidence")
}

// transcribed is one line of a transcript.
type transcribed struct {
	Start, End float64
	Text       string
}

func textOf(lines []transcribed) string {
	var text []string
	for _, line := range lines {
		text = append(text, line.Text)
	}
	return strings.Join(text, " ")
}

func sampleText() string { return string(examples.Files("speech")["sample.txt"]) }

// sampleAt returns the sample in mono at another rate, converted by the Resample node of
// the example.
func sampleAt(t *testing.T, rate int) *ipc.Audio {
	t.Helper()
	sample, err := media.DecodeWAV(examples.Files("speech")["sample.wav"])
	require.NoError(t, err)
	p, err := runner.Load("../../examples/speech")
	require.NoError(t, err)
	p.Nodes, p.Connections = p.Nodes[:1], nil
	p.Nodes[0].Params = map[string]any{"rate": rate}
	r, err := runner.New(p)
	require.NoError(t, err)
	defer func() { assert.NoError(t, r.Close(t.Context())) }()
	resampled, err := r.Run(t.Context(), sample)
	require.NoError(t, err)
	whole := &ipc.Audio{Rate: rate, Channels: 1}
	for _, chunk := range resampled.([]any) {
		whole.Samples = append(whole.Samples, chunk.(*ipc.Audio).Samples...)
	}
	return whole
}

func writeWAV(t *testing.T, dir string, audio *ipc.Audio, format media.SampleFormat) {
	t.Helper()
	var file bytes.Buffer
	require.NoError(t, media.EncodeWAV(&file, audio, format))
	name := fmt.Sprintf("%d-%d-%d.wav", audio.Rate, audio.Channels, format)
	require.NoError(t, os.WriteFile(filepath.Join(dir, name), file.Bytes(), 0o600))
}
