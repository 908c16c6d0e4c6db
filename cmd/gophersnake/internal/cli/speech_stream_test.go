package cli

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/cmd/gophersnake/examples"
	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/fixtures"
	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner/media"
)

func TestASentenceIsTranscribedBeforeTheNextIsSpoken(t *testing.T) {
	sample := string(examples.Files("speech")["sample.wav"])
	var once []transcribed
	require.NoError(t, json.Unmarshal([]byte(commandWithInput(t, sample, "run", "speech", "--input", "-").out), &once))

	l := stream(t, "speech")
	third := len(sample) / 3
	l.send(sample[:third]) // and the microphone waits
	lines := []string{l.receive()}
	assert.Contains(t, lines[0], "welcome to the library")
	l.send(sample[third:])
	got := l.end()
	require.Zero(t, got.code, got.err)
	lines = append(lines, strings.Split(strings.TrimSpace(got.out), "\n")...)
	var live []transcribed
	for _, line := range lines {
		var one transcribed
		require.NoError(t, json.Unmarshal([]byte(line), &one), line)
		live = append(live, one)
	}
	assert.Equal(t, once, live, "in chunks of 20 ms as in one")
	assert.Len(t, wordsOf(sampleText()), commonWords(wordsOf(sampleText()), wordsOf(textOf(live))), textOf(live))
}

func TestSpeechWithoutAHeader(t *testing.T) {
	sample, err := media.DecodeWAV(examples.Files("speech")["sample.wav"])
	require.NoError(t, err)
	sentence := &ipc.Audio{Samples: sample.Samples[:sample.Rate*9/4], Rate: sample.Rate, Channels: 1}
	file := fixtures.WAV(t, sentence)
	pcm := file[len(file)-4*len(sentence.Samples):]
	got := commandWithInput(t, pcm, "stream", "speech", "--output", "pretty",
		"--input-format", "pcm", "--rate", "22050", "--sample-format", "f32le")
	require.Zero(t, got.code, got.err)
	assert.Regexp(t, `^- start: .*\n  end: .*\n  text: welcome to the library\n  confidence: .*\n$`, got.out)
}

func TestSilenceHasNoTranscript(t *testing.T) {
	l := stream(t, "speech", "--input-format", "pcm", "--rate", "16000")
	l.send(strings.Repeat("\x00", 4*16000))
	got := l.end()
	require.Zero(t, got.code, got.err)
	assert.Empty(t, got.out)
}
