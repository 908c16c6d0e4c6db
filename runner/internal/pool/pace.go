package pool

import "time"

// pace is how long the calls of a node take, and by that how many of them its
// worker is given ahead. A quick node gains most of its speed by it: the next call
// is there when an answer goes out, and several go through the socket together. A
// slow one would gain nothing, and its callers had better wait where they can
// leave the line at no cost.
type pace struct {
	mean time.Duration // a moving one
}

const (
	// workAhead is how much work may lie before a worker.
	workAhead = 2 * time.Millisecond
	// mostAhead bounds the calls in it, by what both sockets' buffers take.
	mostAhead = 64
)

// newPace returns a pace by which nothing is given ahead, until calls turn out to
// be quick.
func newPace() pace { return pace{mean: workAhead} }

// add takes in how long a call took, or what it took longer than the one before it.
func (p *pace) add(took time.Duration) { p.mean += (took - p.mean) / 16 }

// ahead is how many calls a worker may have.
func (p *pace) ahead() int {
	return int(min(mostAhead, max(1, workAhead/max(p.mean, 1))))
}
