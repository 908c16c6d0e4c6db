// Package pool keeps the workers of one node: it starts them, hands calls and
// sessions out to them, and replaces those that die.
//
// A worker of an ordinary node has one call at a time. More are given to those that
// take them: an async node's as many as it works on at once, a batch's two batches,
// and the only worker of a node whose calls are quick a few ahead, so that it need
// not wait for the next one.
package pool

import (
	"context"
	"errors"
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
// A worker has room for calls, is full, or is being started. Callers who find no
// room wait in line, and get whichever worker has room or is started first.
type Pool struct {
	config Config
	ctx    context.Context // ends the starts under way when the pool closes
	cancel context.CancelFunc
	after  func(time.Duration) <-chan time.Time // time.After, but in tests

	mu          sync.Mutex
	description ipc.Description      // of the node, once a worker has come up
	alive       map[*member]struct{} // until its watcher has seen its end
	idle        []*member            // the one used last is used next: its caches are warm
	starting    int
	waiters     []*waiter // first come, first served
	pace        pace
	setbacks    int  // deaths and failed starts since the last answer
	proven      bool // a worker has come up once
	refilling   bool // a delayed refill is under way
	closed      bool
	closing     context.Context // bounds the shutting down of a closed pool
	running     sync.WaitGroup  // watchers, starters, delayed refills, and shutting down
}

// New returns a pool without workers: they are started by [Pool.Warm], or when
// they are needed.
func New(config Config) *Pool {
	config.Max = max(config.Max, config.Min, 1)
	ctx, cancel := context.WithCancel(context.Background())
	return &Pool{
		config: config, ctx: ctx, cancel: cancel, after: time.After,
		alive: make(map[*member]struct{}), pace: newPace(),
	}
}

// Warm returns once a worker is ready, having set about starting Min of them.
// Its errors are those of [worker.Start], [ErrClosed], and the context's.
func (p *Pool) Warm(ctx context.Context) (ipc.Description, error) {
	p.mu.Lock()
	p.growToMin()
	p.mu.Unlock()
	m, err := p.acquire(ctx, nil)
	if err != nil {
		return ipc.Description{}, err
	}
	defer p.release(m, false)
	return m.worker.Description(), nil
}

// Description returns what the first worker that came up said of the node.
func (p *Pool) Description() ipc.Description {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.description
}

// Call runs one call on a worker of the pool, waiting for one to have room. Its
// errors are those of [worker.Start] and [worker.Worker.Call], [ErrClosed], and
// the context's where it ended in line.
func (p *Pool) Call(ctx context.Context, args ipc.Args) (result ipc.Payload, err error) {
	err = p.onAny(ctx, func(m *member) error {
		result, err = m.worker.Call(ctx, args)
		return err
	})
	return result, err
}

// Items is Call for a node that gives many values; see [worker.Worker.Items].
func (p *Pool) Items(ctx context.Context, args ipc.Args, emit func(ipc.Payload) error) error {
	return p.onAny(ctx, func(m *member) error { return m.worker.Items(ctx, args, emit) })
}

// maxMoves bounds how often a call goes on to another worker because its worker
// ended before it came to the call. That costs the caller no attempt: it is the
// call before it that did it, most likely.
const maxMoves = 16

// onAny has any worker do something, and another one where that one did not come to it.
func (p *Pool) onAny(ctx context.Context, do func(*member) error) (err error) {
	for moves := 0; ; moves++ {
		m, failed := p.acquire(ctx, nil)
		if failed != nil {
			return whyNone(failed, err)
		}
		err = do(m)
		p.release(m, true)
		if err == nil || moves >= maxMoves || !unbegun(err) {
			return err
		}
	}
}

// whyNone says why there is no worker for a call: where the pool was closed after
// one had ended under the call, how that one ended tells more.
func whyNone(failed, before error) error {
	if failed == ErrClosed && before != nil {
		return before
	}
	return failed
}

func unbegun(err error) bool {
	_, ok := err.(*worker.UnbegunError)
	return ok
}

// Close waits for the calls under way and shuts the workers down, or kills them
// when the context ends first. When it returns, no process is left.
func (p *Pool) Close(ctx context.Context) {
	p.mu.Lock()
	if !p.closed {
		p.closed, p.closing = true, ctx
		p.failWaiters(ErrClosed)
		for _, m := range p.idle {
			p.shutDown(m)
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
func (p *Pool) shutDown(m *member) {
	p.running.Go(func() { m.worker.Close(p.closing) })
}

func (p *Pool) killAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for m := range p.alive {
		p.running.Go(m.worker.Kill)
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
