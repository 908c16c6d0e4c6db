package runner

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gophersnake/gophersnake/runner/internal/worker"
)

// counts is what is counted of a node.
type counts struct {
	calls   atomic.Uint64 // operations that were asked for
	retries atomic.Uint64
	failed  [len(kindNames)]atomic.Uint64 // operations, by kind

	deaths   tally // of workers, by cause
	breaches tally // by limit
}

// tally counts what is rare, by name.
type tally struct {
	mu sync.Mutex
	by map[string]uint64
}

func (t *tally) add(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.by == nil {
		t.by = make(map[string]uint64)
	}
	t.by[name]++
}

func (t *tally) all() map[string]uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return maps.Clone(t.by)
}

// fail counts a failed operation.
func (c *counts) fail(failure *Error) *Error {
	c.failed[failure.Kind].Add(1)
	return failure
}

func (c *counts) failures() map[Kind]uint64 {
	var by map[Kind]uint64
	for kind := range c.failed {
		if n := c.failed[kind].Load(); n > 0 {
			if by == nil {
				by = make(map[Kind]uint64)
			}
			by[Kind(kind)] = n
		}
	}
	return by
}

// reportBreach counts and tells of a limit that a call has passed by itself, without
// its worker's end: that tells of the others.
func (e *entry) reportBreach(failure *Error) {
	b := failure.breach
	if b == nil {
		return
	}
	e.counts.breaches.add(string(b.Limit))
	if b.Limit == worker.LimitResult {
		e.emit(CallRefused{Node: e.node, Time: time.Now(), Limit: string(b.Limit), Value: b.Value, Bound: b.Bound})
	}
}
