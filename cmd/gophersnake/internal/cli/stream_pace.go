package cli

import (
	"context"
	"time"

	"github.com/gophersnake/gophersnake/ipc"
)

// pacer holds the chunks of a recording back as a microphone does: each comes when
// its last sample has been recorded. Who is behind catches up.
type pacer struct {
	start  time.Time // zero before the first chunk
	frames int
}

// wait returns when the chunk is due, or the context has ended.
func (p *pacer) wait(ctx context.Context, chunk *ipc.Audio) {
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
