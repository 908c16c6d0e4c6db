package cluster

import (
	"slices"
	"sync"
	"time"
)

// gate decides which calls of a target a machine runs, queues and refuses. At most as many
// calls run as there are slots, and some more if they are so short that they do not wait long
// for a worker: a worker that waits for the network between two calls of 50 µs would be idle
// most of the time.
//
//	call            │ a slot is free │ none is, and it may wait │ none is, and it may not wait
//	arrives         │ runs           │ queued                   │ refused: busy
//	and the machine drains           │ refused: leaving         │
//
//	queued call     │ a call ends: runs │ withdrawn: refused │ canceled: removed │ drain: refused
type gate struct {
	changed func() // a slot is free after none was

	mu       sync.Mutex
	slots    int       // calls that workers take at once
	ahead    int       // calls beyond, while calls are short
	ready    bool      // the nodes can serve calls
	leaving  bool      // the machine drains
	active   int       // calls that run
	waiting  []*served // the oldest first
	queued   int       // bytes of the calls that wait
	idle     chan struct{}
	finished uint64 // calls that ran, and of these
	failed   uint64 // those that failed
	busy     time.Duration
}

const (
	// shortCall is the time in the runner within which calls may run ahead of free workers.
	shortCall = 2 * time.Millisecond
	// mostAhead bounds the calls ahead.
	mostAhead = 64
	// mostWaiting and mostQueued bound the queue of a target: in calls, and in bytes.
	mostWaiting = 4096
	mostQueued  = 256 << 20
)

func newGate(slots int, changed func()) *gate {
	return &gate{slots: slots, ready: true, changed: changed, idle: make(chan struct{})}
}

// enter takes a call: start is true if it runs now. If the call is refused, why is not 0.
func (g *gate) enter(call *served, mayWait bool) (start bool, why refusal) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.leaving:
		return false, refusedLeaving
	case !g.ready && !mayWait:
		return false, refusedUnready
	case g.active < g.slots+g.ahead && len(g.waiting) == 0:
		g.active++
		return true, 0
	case !mayWait:
		return false, refusedBusy
	case len(g.waiting) >= mostWaiting, g.queued+len(call.frame.rest) > mostQueued:
		return false, refusedFull
	}
	g.queued += len(call.frame.rest)
	// A call that another machine has given back keeps its place in the queue.
	at, _ := slices.BinarySearchFunc(g.waiting, call, func(a, b *served) int { return a.since.Compare(b.since) })
	g.waiting = slices.Insert(g.waiting, at, call)
	return false, 0
}

// leave ends a call that ran, and returns the queued calls that run now.
func (g *gate) leave(took time.Duration, failed bool) (next []*served) {
	g.mu.Lock()
	defer g.mu.Unlock()
	wasFull := g.active >= g.slots+g.ahead
	g.adaptLocked(took, wasFull)
	g.finished++
	g.busy += took
	if failed {
		g.failed++
	}
	g.active--
	next = g.admitLocked()
	if wasFull && g.active < g.slots+g.ahead {
		g.changed()
	}
	if g.leaving && g.active == 0 {
		close(g.idle)
	}
	return next
}

// adaptLocked changes how many calls may run ahead: more while calls are short although the
// gate is full, and fewer as soon as one was not short.
func (g *gate) adaptLocked(took time.Duration, full bool) {
	switch {
	case took > 2*shortCall:
		g.ahead /= 2
	case took > shortCall && g.ahead > 0:
		g.ahead--
	case took <= shortCall && full && g.ahead < mostAhead:
		g.ahead++
	}
}

// admitLocked takes calls out of the queue while slots are free.
func (g *gate) admitLocked() (next []*served) {
	for g.active < g.slots+g.ahead && len(g.waiting) > 0 {
		next = append(next, g.dequeueLocked(0))
		g.active++
	}
	return next
}

func (g *gate) dequeueLocked(at int) *served {
	call := g.waiting[at]
	g.waiting = slices.Delete(g.waiting, at, at+1)
	g.queued -= len(call.frame.rest)
	return call
}

// remove takes a call out of the queue, and reports whether it was there.
func (g *gate) remove(call *served) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	at := slices.Index(g.waiting, call)
	if at < 0 {
		return false
	}
	g.dequeueLocked(at)
	return true
}

// adjust sets the number of slots and whether the nodes are ready. It returns the queued calls
// that run now.
func (g *gate) adjust(slots int, ready bool) (next []*served) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.slots, g.ready = slots, ready
	return g.admitLocked()
}

// drain makes the gate refuse all further calls, and returns those that were queued. The
// channel is closed when no call runs. It must be called once.
func (g *gate) drain() (queued []*served, idle <-chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.leaving = true
	queued, g.waiting = g.waiting, nil
	if g.active == 0 {
		close(g.idle)
	}
	return queued, g.idle
}

// load returns the load for answers.
func (g *gate) load() load {
	g.mu.Lock()
	defer g.mu.Unlock()
	return load{Slots: g.slots + g.ahead, Active: g.active, Waiting: len(g.waiting)}
}

// state returns what announcements and statistics say.
func (g *gate) state() (l load, ready bool, stats targetStats) {
	g.mu.Lock()
	defer g.mu.Unlock()
	l = load{Slots: g.slots + g.ahead, Active: g.active, Waiting: len(g.waiting)}
	stats = targetStats{Slots: g.slots, Active: g.active, Waiting: len(g.waiting), Finished: g.finished, Failed: g.failed}
	if g.finished > 0 {
		stats.Average = (g.busy / time.Duration(g.finished)).Seconds()
	}
	return l, g.ready && !g.leaving, stats
}

// targetStats is what "nats micro stats" shows of a target.
type targetStats struct {
	Slots    int     `json:"slots"`
	Active   int     `json:"active"`
	Waiting  int     `json:"waiting"`
	Finished uint64  `json:"finished"`
	Failed   uint64  `json:"failed"`
	Average  float64 `json:"average_seconds"`
	Schema   string  `json:"schema,omitempty"` // the digest for the code that the workers have
}
