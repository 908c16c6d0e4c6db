package input

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner/media"
)

// audioReader reads a recording in chunks of the same length.
type audioReader struct {
	stream *Stream
	from   *media.AudioReader
	frames int // of each chunk
	chunks int // the number of chunks that were read
}

func newAudioReader(s *Stream, from *media.AudioReader, chunk time.Duration) *audioReader {
	frames := math.Round(chunk.Seconds() * float64(from.Rate()))
	return &audioReader{stream: s, from: from, frames: int(max(1, min(frames, math.MaxInt32)))}
}

func (a *audioReader) next() (any, error) {
	audio, err := a.from.Next(a.frames)
	switch {
	case errors.Is(err, io.EOF):
		return nil, io.EOF
	case err != nil:
		return nil, a.stream.readError(err)
	}
	a.chunks++
	return audio, nil
}

func (a *audioReader) place() string {
	at := float64((a.chunks-1)*a.frames) / float64(a.from.Rate())
	return fmt.Sprintf("%s at %.2f s", a.stream.Name, at)
}

// Pacer delays the chunks of a recording as a microphone would: each chunk is due when
// its last sample has been recorded. After a delay elsewhere, chunks that are overdue
// pass at once. The zero Pacer is ready for use.
type Pacer struct {
	start  time.Time // zero before the first chunk
	frames int
}

// Wait blocks until the chunk is due or the context ends.
func (p *Pacer) Wait(ctx context.Context, chunk *ipc.Audio) {
	if p.start.IsZero() {
		p.start = time.Now()
	}
	p.frames += chunk.Frames()
	seconds := float64(p.frames) / float64(chunk.Rate)
	due := time.NewTimer(time.Until(p.start.Add(time.Duration(seconds * float64(time.Second)))))
	defer due.Stop()
	select {
	case <-due.C:
	case <-ctx.Done():
	}
}
