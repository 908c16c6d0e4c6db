package jobs

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/gophersnake/gophersnake/runner"
)

// Progress is how far a job is: what one of its nodes has last reported, by gophersnake.progress in
// Python, or by [runner.ReportProgress] or [Report] in Go.
type Progress struct {
	// Fraction is from 0 to 1; it is 0 if it is unknown.
	Fraction float64 `msgpack:"fraction" json:"fraction,omitempty"`
	// Message has at most 1 KiB, and any characters.
	Message string `msgpack:"message,omitempty" json:"message,omitempty"`
	// Node is the id of the node, if it is known.
	Node string `msgpack:"node,omitempty" json:"node,omitempty"`
}

// String describes the progress in one line, which is fit for a terminal.
func (p Progress) String() string {
	text := runner.PrintableLine(p.Message)
	if p.Node != "" {
		text = runner.PrintableLine(p.Node) + ": " + text
	}
	if p.Fraction > 0 {
		text = fmt.Sprintf("%.0f%% %s", 100*p.Fraction, text)
	}
	return text
}

const (
	// reportInterval is how often the progress of a job is stored at most.
	reportInterval = time.Second
	// mostMessage bounds the message of a progress that is stored.
	mostMessage = 1 << 10
)

// reported keeps a progress until it is stored.
func (r *run) reported(p runner.Progress) {
	of := Progress{Message: p.Message, Node: p.Node}
	if p.Fraction != nil {
		of.Fraction = *p.Fraction
	}
	r.keep(of)
}

func (r *run) keep(p Progress) {
	p.Message = strings.ToValidUTF8(p.Message[:min(len(p.Message), mostMessage)], "")
	r.progress.Store(&p)
}

type runKey struct{}

// Report stores the progress of the job that a node in Go, or an interceptor, works for. It does
// not block: the latest progress is stored within a second. For a run that is not a job, it does
// nothing; [runner.ReportProgress] reports in any run.
func Report(ctx context.Context, p Progress) {
	if r, ok := ctx.Value(runKey{}).(*run); ok {
		r.keep(p)
	}
}
