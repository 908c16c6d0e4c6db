package temporal

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/gophersnake/gophersnake/runner"
)

// Progress is the detail of a heartbeat.
type Progress struct {
	// Seconds is the time since this attempt of the activity began.
	Seconds float64 `json:"seconds"`
	// Running are the ids of the nodes that have a call under way, sorted. It is empty if
	// the runner was made without [WithProgress].
	Running []string `json:"running,omitempty"`
	// Finished is how many calls of nodes have succeeded, 0 without [WithProgress].
	Finished int `json:"finished"`
	// Reports are what the nodes have last reported of their calls, by their ids: Python nodes by
	// gophersnake.progress, Go nodes by [runner.ReportProgress].
	Reports map[string]Report `json:"reports,omitempty"`
}

// Report is what a node has last reported of a call.
type Report struct {
	Message  string   `json:"message,omitempty"`
	Fraction *float64 `json:"fraction,omitempty"` // from 0 to 1; nil if it is unknown
}

// WithProgress lets the heartbeats of the activities say which nodes work, and how many have
// ended. It is an option of the runner, because only that sees each node begin. It costs a
// lock of the activity's own for each call of a node.
func WithProgress() runner.Option { return runner.WithCallInterceptor(track) }

// track notes the beginning and the end of a node's call in the tracker of its activity.
func track(ctx context.Context, call runner.Invocation, next runner.Next) (runner.Outcome, error) {
	watched, ok := ctx.Value(trackerKey{}).(*tracker)
	if !ok { // no activity has made it
		return next(ctx, call)
	}
	watched.begin(call.Node)
	outcome, err := next(ctx, call)
	watched.end(call.Node, err == nil)
	return outcome, err
}

// trackerKey is the key of the tracker in the context of an activity.
type trackerKey struct{}

// tracker collects what one attempt of an activity does. It is safe for concurrent use.
type tracker struct {
	begun time.Time

	mu       sync.Mutex
	running  map[string]int // the calls under way, by node
	finished int
	reports  map[string]Report
}

func (t *tracker) begin(node string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.running == nil {
		t.running = make(map[string]int)
	}
	t.running[node]++
}

func (t *tracker) end(node string, succeeded bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.running[node]--; t.running[node] == 0 {
		delete(t.running, node)
	}
	if succeeded {
		t.finished++
	}
}

func (t *tracker) report(p runner.Progress) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.reports == nil {
		t.reports = make(map[string]Report)
	}
	t.reports[p.Node] = Report{p.Message, p.Fraction}
}

func (t *tracker) progress() Progress {
	t.mu.Lock()
	defer t.mu.Unlock()
	return Progress{
		Seconds: time.Since(t.begun).Seconds(), Running: slices.Sorted(maps.Keys(t.running)), Finished: t.finished,
		Reports: maps.Clone(t.reports), // Temporal encodes it later
	}
}
