package speech

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/media"
)

func TestTheClientCallsPython(t *testing.T) {
	const example = "../../../../examples/speech"
	pipeline, err := runner.Load(example)
	require.NoError(t, err)
	r, err := runner.New(pipeline)
	require.NoError(t, err)
	defer r.Close(context.Background())
	c, err := New(t.Context(), r)
	require.NoError(t, err)

	sample, err := media.ReadFile(example + "/sample.wav")
	require.NoError(t, err)
	lines, err := c.Run(t.Context(), sample.(*ipc.Audio))
	require.NoError(t, err)
	require.NotEmpty(t, lines)
	assert.Contains(t, lines[0].Text, "welcome")
	assert.Positive(t, lines[0].Confidence)

	s, err := c.Stream(t.Context())
	require.NoError(t, err)
	require.NoError(t, s.Send(sample.(*ipc.Audio)))
	s.CloseSend()
	var streamed []Line
	for line, err := range s.All() {
		require.NoError(t, err)
		streamed = append(streamed, line)
	}
	assert.Equal(t, lines, streamed)

	// The nodes one by one.
	resampled, err := c.Resample(t.Context(), sample.(*ipc.Audio))
	require.NoError(t, err)
	require.NotEmpty(t, resampled)
	segments, err := c.VoiceActivity(t.Context(), resampled[0])
	require.NoError(t, err)
	require.NotEmpty(t, segments)
	isDraft := func(s Segment) bool { return s.Draft != nil && *s.Draft }
	final := slices.DeleteFunc(segments, isDraft) // the words of a draft come with its segment
	require.NotEmpty(t, final)
	heard, err := c.Transcribe(t.Context(), final[0])
	require.NoError(t, err)
	require.NotEmpty(t, heard)
	assert.Contains(t, strings.ToLower(heard[0].Text), "library")
}
