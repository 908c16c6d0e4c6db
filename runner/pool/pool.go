// Package pool keeps the workers of one node: it starts them, hands them to
// callers one call at a time, and replaces those that die.
package pool

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner/worker"
)

// ErrClosed is the error of a call on a pool that has been closed.
var ErrClosed = errors.New("the pool is closed")

// Config says how many workers a pool keeps, and of what.
type Config struct {
	Worker worker.Config
	// Min is how many workers are kept ready; Max is how many there may be, the
	// further ones being started when callers wait. Max is at least 1.
	Min, Max int
	// Started and Ended are told of each worker that became ready, and of its
	// end; they may be nil. They must not call into the pool.
	Started func(w *worker.Worker, took time.Duration)
	Ended   func(exit *worker.Exit)
}

// Pool is the workers of one node. It is safe for concurrent use.
//
// A worker is idle, busy or being started. Callers who find no idle one wait in
// line, and get whichever worker is released or started first.
type Pool struct {
	config Config
	ctx    context.Context // ends the starts under way when the pool closes
	cancel context.CancelFunc
	after  func(time.Duration) <-chan time.Time // time.After, but in tests

	mu        sync.Mutex
	idle      []*worker.Worker            // the one used last is used next: its caches are warm
	alive     map[*worker.Worker]struct{} // idle or busy, until its watcher has seen its end
	starting  int
	waiters   []*waiter // first come, first served
	setbacks  int       // deaths and failed starts since the last answer
	proven    bool      // a worker has come up once
	refilling bool      // a delayed refill is under way
	closed    bool
	closing   context.Context // bounds the shutting down of a closed pool
	running   sync.WaitGroup  // watchers, starters, delayed refills, and shutting down
}

// waiter is a caller in line; it receives a worker or an error, once.
type waiter struct {
	worker *worker.Worker
	err    error
	ready  chan struct{}
}

func (w *waiter) serve(worker *worker.Worker, err error) {
	w.worker, w.err = worker, err
	close(w.ready)
}

// New returns a pool without workers: they are started by [Pool.Warm], or when
// they are needed.
func New(config Config) *Pool {
	config.Max = max(config.Max, config.Min, 1)
	ctx, cancel := context.WithCancel(context.Background())
	return &Pool{
		config: config, ctx: ctx, cancel: cancel, after: time.After,
		alive: make(map[*worker.Worker]struct{}),
	}
}

// Warm returns once a worker is ready, having set about starting Min of them.
// Its errors are those of [worker.Start], [ErrClosed], and the context's.
func (p *Pool) Warm(ctx context.Context) (ipc.Description, error) {
	p.mu.Lock()
	p.growToMin()
	p.mu.Unlock()
	w, err := p.acquire(ctx)
	if err != nil {
		return ipc.Description{}, err
	}
	defer p.release(w, false)
	return w.Description(), nil
}

// Call runs one call on a worker of the pool, waiting for one to be free. Its
// errors are those of [worker.Start] and [worker.Worker.Call], [ErrClosed], and
// the context's where it ended in line.
func (p *Pool) Call(ctx context.Context, args ipc.Args) (ipc.Payload, error) {
	w, err := p.acquire(ctx)
	if err != nil {
		return ipc.Payload{}, err
	}
	result, err := w.Call(ctx, args)
	p.release(w, true)
	return result, err
}

func (p *Pool) acquire(ctx context.Context) (*worker.Worker, error) {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil, ErrClosed
	}
	for n := len(p.idle); n > 0; n = len(p.idle) {
		w := p.idle[n-1]
		p.idle = p.idle[:n-1]
		if w.Alive() {
			p.mu.Unlock()
			return w, nil
		} // else its watcher is about to say so
	}
	me := &waiter{ready: make(chan struct{})}
	p.waiters = append(p.waiters, me)
	p.growForWaiters()
	p.mu.Unlock()

	select {
	case <-me.ready:
		return me.worker, me.err
	case <-ctx.Done():
	}
	p.mu.Lock()
	i := slices.Index(p.waiters, me)
	if i >= 0 {
		p.waiters = slices.Delete(p.waiters, i, i+1)
	}
	p.mu.Unlock()
	if i < 0 { // served at the same moment
		<-me.ready
		if me.err == nil {
			p.release(me.worker, false)
		}
	}
	return nil, context.Cause(ctx)
}

// release takes a worker back, after a call or without one.
func (p *Pool) release(w *worker.Worker, called bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, here := p.alive[w]; !here || !w.Alive() {
		return // its watcher sees to the rest
	}
	if called {
		p.setbacks = 0 // it has answered
	}
	p.put(w)
}

// put hands a worker that is ready to the first caller in line, or keeps it.
func (p *Pool) put(w *worker.Worker) {
	switch {
	case p.closed:
		p.shutDown(w)
	case len(p.waiters) > 0:
		p.waiters[0].serve(w, nil)
		p.waiters = slices.Delete(p.waiters, 0, 1)
	default:
		p.idle = append(p.idle, w)
	}
}

// Close waits for the calls under way and shuts the workers down, or kills them
// when the context ends first. When it returns, no process is left.
func (p *Pool) Close(ctx context.Context) {
	p.mu.Lock()
	if !p.closed {
		p.closed, p.closing = true, ctx
		p.failWaiters(ErrClosed)
		for _, w := range p.idle {
			p.shutDown(w)
		}
		p.idle = nil
	}
	p.mu.Unlock()
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

// shutDown ends a worker of a closed pool, the caller holding p.mu. Its watcher
// is still running, so the pool is being waited for.
func (p *Pool) shutDown(w *worker.Worker) {
	p.running.Go(func() { w.Close(p.closing) })
}

func (p *Pool) failWaiters(err error) {
	for _, waiter := range p.waiters {
		waiter.serve(nil, err)
	}
	p.waiters = nil
}

func (p *Pool) killAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for w := range p.alive {
		p.running.Go(w.Kill)
	}
}

// Stats are the figures of a pool at one moment.
type Stats struct {
	Idle, Busy, Starting, Waiting int
}

// Stats returns the pool's figures.
func (p *Pool) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return Stats{Idle: len(p.idle), Busy: len(p.alive) - len(p.idle), Starting: p.starting, Waiting: len(p.waiters)}
}
