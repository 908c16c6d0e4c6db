package pool

import (
	"context"
	"errors"
)

// ErrDraining is the error of a new call on a pool that lets no more in.
var ErrDraining = errors.New("the pool is draining")

// Drain lets no new call and no new session in, and returns when those under way
// and in line are over. The workers stay until Close. Its errors are the
// context's and [ErrClosed].
func (p *Pool) Drain(ctx context.Context) error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return ErrClosed
	}
	if p.drained == nil {
		p.drained = make(chan struct{})
		p.refusal, p.stale = ErrDraining, true
	}
	drained := p.drained
	p.unlock()
	select {
	case <-drained:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-p.ctx.Done():
		return ErrClosed
	}
}

// seeDrained says so when nobody is left in a pool that drains. The caller holds
// p.mu.
func (p *Pool) seeDrained() {
	if p.drained == nil || p.isDrained || len(p.waiters) > 0 {
		return
	}
	for _, m := range p.alive {
		if m.load > 0 || m.sessions > 0 {
			return
		}
	}
	p.isDrained = true
	close(p.drained)
}
