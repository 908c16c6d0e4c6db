package input

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner/media"
)

func TestALineThatIsTooLongIsAnError(t *testing.T) {
	zeros := strings.NewReader(strings.Repeat("0", longestLine+1<<20))
	lines, err := (&Stream{Name: "zeros"}).newReader(zeros, Format{Name: "text"})
	require.NoError(t, err)
	_, err = lines.next()
	assert.EqualError(t, err, "serialization error: zeros:1: the line is longer than 64.0 MiB")
}

func TestThePlaceOfAChunkIsItsTime(t *testing.T) {
	chunk := &audioReader{stream: &Stream{Name: "a.wav"}, frames: 160, chunks: 51, from: media.NewPCMReader(nil, 8000, 1, media.Int16)}
	assert.Equal(t, "a.wav at 1.00 s", chunk.place())
}

func TestAPacerDelaysChunksAsAMicrophoneDoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		since := func() time.Duration { return time.Since(start) }
		var pacer Pacer
		chunk := &ipc.Audio{Samples: make([]float32, 160), Rate: 8000, Channels: 1}
		pacer.Wait(t.Context(), chunk)
		assert.Equal(t, 20*time.Millisecond, since(), "a chunk is due when its last sample was recorded")
		time.Sleep(5 * time.Millisecond)
		pacer.Wait(t.Context(), chunk)
		assert.Equal(t, 40*time.Millisecond, since())
		time.Sleep(45 * time.Millisecond)
		pacer.Wait(t.Context(), chunk)
		pacer.Wait(t.Context(), chunk)
		assert.Equal(t, 85*time.Millisecond, since(), "overdue chunks are not delayed")
		pacer.Wait(t.Context(), &ipc.Audio{Samples: make([]float32, 100), Rate: 8000, Channels: 2})
		assert.Equal(t, 86250*time.Microsecond, since())
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		pacer.Wait(ctx, chunk)
		assert.Equal(t, 86250*time.Microsecond, since(), "the context has ended")
	})
}
