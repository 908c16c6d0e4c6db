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

	mu       sync.Mutex
	idle     []*worker.Worker            // the one used last is used next: its caches are warm
	alive    map[*worker.Worker]struct{} // idle or busy
	starting int
	waiters  []*waiter // first come, first served
	deaths   int       // unexpected ones since the last call that succeeded
	closed   bool
	running  sync.WaitGroup // watchers, starters and delayed replacements
}

// waiter is a caller in line; it receives a worker or an error, once.
type waiter struct {
	worker *worker.Worker
	err    error
	ready  chan struct{}
}

// New returns a pool without workers: they are started by [Pool.Warm], or when
// they are needed.
func New(config Config) *Pool {
	config.Max = max(config.Max, config.Min, 1)
	ctx, cancel := context.WithCancel(context.Background())
	return &Pool{config: config, ctx: ctx, cancel: cancel, alive: make(map[*worker.Worker]struct{})}
}

// Warm returns once a worker is ready, having set about starting Min of them.
// Its error is that of the start that failed.
func (p *Pool) Warm(ctx context.Context) (ipc.Description, error) {
	p.mu.Lock()
	for len(p.alive)+p.starting < p.config.Min {
		p.grow()
	}
	p.mu.Unlock()
	w, err := p.acquire(ctx)
	if err != nil {
		return ipc.Description{}, err
	}
	defer p.release(w)
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
	p.release(w)
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
		if w.Exit() == nil {
			p.mu.Unlock()
			return w, nil
		} // else it died this moment, and its watcher is about to say so
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
			p.release(me.worker)
		}
	}
	return nil, context.Cause(ctx)
}

// release takes a worker back after its call.
func (p *Pool) release(w *worker.Worker) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if w.Exit() != nil {
		return // its watcher sees to the rest
	}
	p.deaths = 0
	p.put(w)
}

// put hands a worker that is ready to the first caller in line, or keeps it.
func (p *Pool) put(w *worker.Worker) {
	switch {
	case p.closed:
		go w.Close(context.Background()) // Close kills it when its own context ends
	case len(p.waiters) > 0:
		p.waiters[0].serve(w, nil)
		p.waiters = slices.Delete(p.waiters, 0, 1)
	default:
		p.idle = append(p.idle, w)
	}
}

func (w *waiter) serve(worker *worker.Worker, err error) {
	w.worker, w.err = worker, err
	close(w.ready)
}

// growForWaiters starts as many workers as callers wait for, within the limit.
func (p *Pool) growForWaiters() {
	for p.starting < len(p.waiters) && len(p.alive)+p.starting < p.config.Max {
		p.grow()
	}
}

func (p *Pool) grow() {
	p.starting++
	p.running.Add(1)
	go p.start()
}

// start starts one worker. It is nobody's call: a caller who gives up does not
// take back a start that is well under way.
func (p *Pool) start() {
	defer p.running.Done()
	begun := time.Now()
	w, err := worker.Start(p.ctx, p.config.Worker)
	if err == nil && p.config.Started != nil {
		p.config.Started(w, time.Since(begun))
	}

	p.mu.Lock()
	defer p.mu.Unlock()
	p.starting--
	if err != nil {
		p.startFailed(err)
		return
	}
	p.alive[w] = struct{}{}
	p.running.Add(1)
	go p.watch(w)
	p.put(w)
}

// startFailed tells those in line, unless other workers can still serve them.
// Nobody starts again until somebody calls: what failed to start once will most
// likely fail again.
func (p *Pool) startFailed(err error) {
	if len(p.alive)+p.starting > 0 && !p.closed {
		return
	}
	if p.closed {
		err = ErrClosed
	}
	for _, waiter := range p.waiters {
		waiter.serve(nil, err)
	}
	p.waiters = nil
}

// watch waits for the end of a worker and replaces it.
func (p *Pool) watch(w *worker.Worker) {
	defer p.running.Done()
	<-w.Done()
	if p.config.Ended != nil {
		p.config.Ended(w.Exit())
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.alive, w)
	p.idle = slices.DeleteFunc(p.idle, func(other *worker.Worker) bool { return other == w })
	if p.closed {
		return
	}
	p.deaths++
	p.growForWaiters() // who waits has waited out a retry delay already
	if len(p.alive)+p.starting < p.config.Min {
		p.replaceAfter(backoff(p.deaths))
	}
}

// replaceAfter brings the pool back to its minimum after a delay.
func (p *Pool) replaceAfter(delay time.Duration) {
	if delay == 0 {
		p.grow()
		return
	}
	p.running.Add(1)
	go func() {
		defer p.running.Done()
		timer := time.NewTimer(delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-p.ctx.Done():
			return
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		if !p.closed && len(p.alive)+p.starting < p.config.Min {
			p.grow()
		}
	}()
}

// backoff is the delay before an unasked-for replacement: none after the first
// death, then doubling, so that a node that dies when left alone does not keep
// the machine busy.
func backoff(deaths int) time.Duration {
	const base, limit = 100 * time.Millisecond, 30 * time.Second
	if deaths <= 1 {
		return 0
	}
	return min(limit, base<<min(deaths-2, 16))
}

// Close waits for the calls under way and shuts the workers down, or kills them
// when the context ends first. When it returns, no process is left.
func (p *Pool) Close(ctx context.Context) {
	p.mu.Lock()
	p.closed = true
	for _, waiter := range p.waiters {
		waiter.serve(nil, ErrClosed)
	}
	p.waiters = nil
	for _, w := range p.idle {
		go w.Close(ctx)
	}
	p.idle = nil
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

func (p *Pool) killAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for w := range p.alive {
		go w.Kill()
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
