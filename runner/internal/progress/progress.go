// Package progress passes what nodes report of their calls on to a function of the caller, also from
// other machines. Reports come from workers and from other machines at any
// rate, and on goroutines that must not wait. A [Sink] keeps the latest report of each node, and
// calls the function on a goroutine of its own, at a bounded rate.
package progress

import (
	"context"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gophersnake/gophersnake/ipc"
)

const (
	// Interval is the shortest time between two reports of a node to a function.
	Interval = 100 * time.Millisecond
	// mostNodes bounds the nodes that have a report waiting. Another machine names them.
	mostNodes = 1024
)

// Report is what a node reports of a call.
type Report struct {
	Node, Message string
	Fraction      *float64 // from 0 to 1; nil if it is unknown
}

// bound brings a report of a node in Go, or from another machine, within the bounds of package ipc.
func (r *Report) bound() {
	r.Node = strings.ToValidUTF8(r.Node[:min(len(r.Node), ipc.MaxName)], "")
	r.Message = strings.ToValidUTF8(r.Message[:min(len(r.Message), ipc.MaxText)], "")
	switch {
	case r.Fraction == nil:
	case math.IsNaN(*r.Fraction):
		r.Fraction = nil
	default:
		r.Fraction = new(min(max(*r.Fraction, 0), 1)) // its node may change the variable
	}
}

// Sink passes reports to a function. Its methods are safe for concurrent use.
type Sink struct {
	fn     func(Report)
	outer  *Sink // gets the same reports; may be nil
	ended  chan struct{}
	passes sync.WaitGroup

	mu      sync.Mutex
	latest  []Report // those that wait, at most one for each node
	passing bool     // a goroutine passes reports
	stopped bool
	next    time.Time // when the next reports may be passed
}

type (
	sinkKey struct{}
	nodeKey struct{}
)

// With returns a context whose reports go to a function, and to that of an outer context as
// well. Stop passes what waits, and returns when the function has returned. Later reports are
// dropped.
func With(ctx context.Context, fn func(Report)) (_ context.Context, stop func()) {
	s := &Sink{fn: fn, outer: Of(ctx), ended: make(chan struct{})}
	return context.WithValue(ctx, sinkKey{}, s), s.stop
}

// Of returns the sink of a context, nil if it has none.
func Of(ctx context.Context) *Sink {
	s, _ := ctx.Value(sinkKey{}).(*Sink)
	return s
}

// Hook returns the function that takes the reports of a call of the worker with a setup, nil if
// the context has no sink.
func Hook(ctx context.Context, setup *ipc.Setup) func(ipc.Progress) {
	s := Of(ctx)
	if s == nil {
		return nil
	}
	return func(p ipc.Progress) {
		node := setup.Node
		if p.Member > 0 && p.Member < len(setup.Members) { // the number is the worker's word
			node = setup.Members[p.Member].Node
		}
		s.Add(Report{node, p.Message, p.Fraction})
	}
}

// Within returns a context for the code of a node in Go. It is the same one if the context has no
// sink.
func Within(ctx context.Context, node string) context.Context {
	if Of(ctx) == nil {
		return ctx
	}
	return context.WithValue(ctx, nodeKey{}, node)
}

// Node returns the node of [Within], or an empty string.
func Node(ctx context.Context) string {
	node, _ := ctx.Value(nodeKey{}).(string)
	return node
}

// Add passes a report on soon. It replaces one of the same node that waits. It does not block.
// A nil sink drops it.
func (s *Sink) Add(r Report) {
	if s == nil {
		return
	}
	r.bound()
	s.outer.Add(r)
	s.mu.Lock()
	defer s.mu.Unlock()
	at := slices.IndexFunc(s.latest, func(waiting Report) bool { return waiting.Node == r.Node })
	switch {
	case s.stopped, at < 0 && len(s.latest) >= mostNodes:
		return
	case at < 0:
		s.latest = append(s.latest, r)
	default:
		s.latest[at] = r
	}
	if !s.passing {
		s.passing = true
		s.passes.Go(s.pass)
	}
}

// pass calls the function until no report waits.
func (s *Sink) pass() {
	for {
		s.awaitTurn()
		s.mu.Lock()
		due := s.latest
		s.latest, s.passing = nil, len(due) > 0
		s.mu.Unlock()
		if len(due) == 0 {
			return
		}
		for _, r := range due {
			s.fn(r)
		}
		s.mu.Lock()
		s.next = time.Now().Add(Interval)
		s.mu.Unlock()
	}
}

// awaitTurn waits until the next reports may be passed, or the sink is stopped.
func (s *Sink) awaitTurn() {
	s.mu.Lock()
	wait := time.Until(s.next)
	s.mu.Unlock()
	if wait <= 0 {
		return
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-s.ended:
	}
}

// stop ends the sink; see [With].
func (s *Sink) stop() {
	s.mu.Lock()
	if !s.stopped {
		s.stopped = true
		close(s.ended)
	}
	s.mu.Unlock()
	s.passes.Wait()
}
