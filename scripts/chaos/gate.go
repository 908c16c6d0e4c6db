package main

import (
	"sync"
	"time"
)

// gate is what calls go through, so that there can be a lull.
type gate struct {
	mu     sync.Mutex
	inside int
	shut   chan struct{} // closed when the lull is over; nil where there is none
	quiet  chan struct{} // closed when nobody is inside any more; nil where nobody asks
}

// enter waits for the end of a lull.
func (g *gate) enter() {
	g.mu.Lock()
	for g.shut != nil {
		shut := g.shut
		g.mu.Unlock()
		<-shut
		g.mu.Lock()
	}
	g.inside++
	g.mu.Unlock()
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inside--
	if g.inside == 0 && g.quiet != nil {
		close(g.quiet)
		g.quiet = nil
	}
}

// lull lets nobody in while it does something, and begins when nobody is inside, or
// after the patience: those who hang would keep all others waiting.
func (g *gate) lull(patience time.Duration, do func()) {
	quiet, shut := make(chan struct{}), make(chan struct{})
	g.mu.Lock()
	g.shut = shut
	if g.inside == 0 {
		close(quiet)
	} else {
		g.quiet = quiet
	}
	g.mu.Unlock()
	select {
	case <-quiet:
	case <-time.After(patience):
	}
	do()
	g.mu.Lock()
	g.shut, g.quiet = nil, nil
	g.mu.Unlock()
	close(shut)
}
