package cli

import (
	"fmt"
	"time"

	"github.com/gophersnake/gophersnake/runner"
)

// streamLine is what is known of a stream on its way.
type streamLine struct {
	sent, delivered int
	detail          string // a node's word on its set-up
}

// take takes the news of a node.
func (s *streamLine) take(e runner.Event) {
	switch e := e.(type) {
	case runner.SetupProgress:
		s.detail = e.Message
	case runner.WorkerStarted:
		s.detail = ""
	}
}

// render implements line.
func (s *streamLine) render(st style, nameWidth, width int, now time.Time, ended bool) string {
	icon, text := st.cyan(turning(now)), orDefault(s.detail, "starting")
	if s.sent > 0 || s.delivered > 0 {
		text = fmt.Sprintf("%d in, %d out", s.sent, s.delivered)
	}
	if ended {
		icon = st.dim("·")
	}
	return icon + " " + shortenLine(fmt.Sprintf("%-*s  %s", nameWidth, "stream", text), width-2)
}
