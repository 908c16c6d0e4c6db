package pool

import (
	"context"
	"errors"
)

var (
	// ErrClosed is the error of a call on a pool that has been closed.
	ErrClosed = errors.New("the pool is closed")
	// ErrDraining is the error of a new call on a pool that is being drained.
	ErrDraining = errors.New("the pool is draining")
)

// Drain makes the pool refuse new calls and sessions, and returns when those under
// way and in the queue are over. The workers stay until Close. Its errors are the
// context's cause and [ErrClosed]. After an error the pool continues to drain. Drain may
// be called again, and concurrently.
func (p *Pool) Drain(ctx context.Context) error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return ErrClosed
	}
	if p.drained == nil {
		p.drained = make(chan struct{})
		p.refusal, p.dirty = ErrDraining, true
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

// checkDrainedLocked ends Drain once no call, waiter or session is left.
func (p *Pool) checkDrainedLocked() {
	if p.drained == nil || p.isDrained || len(p.queue) > 0 {
		return
	}
	for _, m := range p.members {
		if m.load > 0 || m.sessions > 0 {
			return
		}
	}
	p.isDrained = true
	close(p.drained)
}

// Close refuses the queued callers, waits for the calls under way, and shuts the
// workers down; if the context ends first, it kills them. When it returns, no process
// is left. Close may be called again, for instance with a shorter deadline.
func (p *Pool) Close(ctx context.Context) {
	p.mu.Lock()
	p.beginCloseLocked(ctx)
	p.unlock()
	p.cancel()

	ended := make(chan struct{})
	go func() {
		p.running.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-ctx.Done():
		p.killAll()
		<-ended
	}
}

// beginCloseLocked closes the workers that have no call. The others follow when
// their last call is released.
func (p *Pool) beginCloseLocked(ctx context.Context) {
	if p.closed {
		return
	}
	p.closed, p.closing = true, ctx
	p.refusal, p.dirty = ErrClosed, true
	p.timer.cancel()
	for _, w := range p.queue {
		w.resolve(nil, ErrClosed)
	}
	p.queue = nil
	for _, m := range p.members {
		if m.load == 0 {
			p.closeLocked(m)
		}
	}
	p.idle, p.spares = nil, nil
}

func (p *Pool) killAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range p.members {
		p.running.Go(m.worker.Kill)
	}
}
