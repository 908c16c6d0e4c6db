package main

import (
	"sync"
	"time"
)

// gate counts the calls in progress and can pause them: while it is paused, no new call
// begins.
type gate struct {
	mu       sync.Mutex // guards what follows
	inside   int
	reopened chan struct{} // closed at the end of the pause; nil if the gate is open
	empty    chan struct{} // closed when inside reaches 0; nil unless a pause waits for that
}

// enter registers a call. It blocks while the gate is paused.
func (g *gate) enter() {
	g.mu.Lock()
	for g.reopened != nil {
		reopened := g.reopened
		g.mu.Unlock()
		<-reopened
		g.mu.Lock()
	}
	g.inside++
	g.mu.Unlock()
}

// leave ends a call that entered.
func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inside--
	if g.inside == 0 && g.empty != nil {
		close(g.empty)
		g.empty = nil
	}
}

// pause closes the gate, waits until no call is inside, but at most for the timeout,
// calls do and opens the gate again. The timeout is for calls that hang, which would
// otherwise block all others. Only one goroutine may pause a gate.
func (g *gate) pause(timeout time.Duration, do func()) {
	empty, reopened := make(chan struct{}), make(chan struct{})
	g.mu.Lock()
	g.reopened = reopened
	if g.inside == 0 {
		close(empty)
	} else {
		g.empty = empty
	}
	g.mu.Unlock()
	select {
	case <-empty:
	case <-time.After(timeout):
	}
	do()
	g.mu.Lock()
	g.reopened, g.empty = nil, nil
	g.mu.Unlock()
	close(reopened)
}
