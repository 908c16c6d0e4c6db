// Package pool keeps the workers of one node: it starts them, hands calls and
// sessions out to them, and replaces those that die or have served long enough.
//
// A worker of an ordinary node has one call at a time. More are given to those that
// take them: an async node's as many as it works on at once, a batch's two batches,
// and the only worker of a node whose calls are quick a few ahead, so that it need
// not wait for the next one.
//
// Beside those that serve there may be spares: ready, and at work as soon as one
// of the others goes. What a pool does by itself it tells of as [Event], and how it
// is doing is its [Health].
package pool

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner/internal/worker"
)

// ErrClosed is the error of a call on a pool that has been closed.
var ErrClosed = errors.New("the pool is closed")

// Config says how many workers a pool keeps, of what, and for how long. A time or
// number that is 0 is no limit, unless it says otherwise.
type Config struct {
	Worker worker.Config
	// Min is how many workers are kept ready; Max is how many may serve, the
	// further ones being started when callers wait. Max is at least 1.
	Min, Max int
	// Spare is how many are kept ready besides, for when one of the others goes.
	// The first is started SpareAfter after Min were up.
	Spare      int
	SpareAfter time.Duration
	// ScaleAfter is how long a caller waits before a worker beyond Min is started
	// for it; at 0 it is at once, and so it is while there is no worker.
	ScaleAfter time.Duration
	// IdleTimeout is how long a worker beyond Min may have nothing to do.
	IdleTimeout time.Duration
	// MaxAge and MaxCalls are how long a worker serves, and how many calls it may
	// be given.
	MaxAge   time.Duration
	MaxCalls uint64
	// Queue is how many callers may wait for a worker, and QueueWait how long. The
	// calls of an open session are not bound by them: it has its worker.
	Queue     int
	QueueWait time.Duration
	// ForkServer has workers forked from a template, see [worker.Template].
	ForkServer bool
	// Observe is told what happens, one event after the other; it may be nil. It
	// must not make a call, and holds up what it is told of.
	Observe func(Event)
}

// Pool is the workers of one node. It is safe for concurrent use.
//
// A worker has room for calls, is full, or is being started. Callers who find no
// room wait in line, and get whichever worker has room or is started first.
type Pool struct {
	config    Config
	ctx       context.Context // ends the starts under way when the pool closes
	cancel    context.CancelFunc
	clock     clock
	available func() int64 // memory of the machine

	telling   sync.Mutex // held while events are told; before mu
	reloading sync.Mutex // held while a new generation comes up; before mu

	mu          sync.Mutex
	generation  *generation
	description ipc.Description // of the node, once a worker has come up
	alive       []*member       // until its watcher has seen its end
	idle        []*member       // the one used last is used next: its caches are warm
	spares      []*member
	serving     int       // workers that take calls
	starting    int       // starts under way of workers that are to serve
	arriving    int       // those of them that are up and about to serve
	sparing     int       // starts under way of spares
	waiters     []*waiter // first come, first served
	pace        pace

	asked  bool      // somebody has wanted a worker since there was hope of one
	proven bool      // a worker has come up once
	ready  time.Time // when enough were up for the first time
	full   time.Time // when enough were up the last time

	setbacks      setbacks
	spareSetbacks setbacks
	spareNote     string    // why there is no spare although nothing is wrong
	spareLater    time.Time // when the next one is thought of

	stale     bool      // attend is to look after the pool before mu is free
	hurry     bool      // somebody has just lost a worker or joined the line
	next      time.Time // when attend wants to look again
	wakes     time.Time // when the timer goes off; zero where it is not set
	stopTimer func() bool
	untold    []Event

	state     State
	since     time.Time // when it became that
	counters  Counters
	lastDeath *Death

	refusal   error         // of new calls; nil where they are welcome
	drained   chan struct{} // set by Drain, closed when there is nothing left to do
	isDrained bool
	closed    bool
	closing   context.Context // bounds the shutting down of a closed pool
	running   sync.WaitGroup  // watchers, starters, and shutting down
}

// New returns a pool without workers: they are started by [Pool.Warm], or when
// they are needed.
func New(config Config) *Pool {
	config.Max = max(config.Max, config.Min, 1)
	ctx, cancel := context.WithCancel(context.Background())
	p := &Pool{
		config: config, ctx: ctx, cancel: cancel, clock: realClock(), available: availableMemory,
		pace: newPace(), stopTimer: func() bool { return false }, counters: newCounters(), state: StateNew, since: time.Now(),
	}
	p.generation = p.newGeneration(1, config.Worker)
	return p
}

// Warm returns once a worker is ready, having set about starting Min of them.
// Its errors are those of [worker.Start], [ErrClosed], [ErrDraining], and the
// context's.
func (p *Pool) Warm(ctx context.Context) (ipc.Description, error) {
	p.mu.Lock()
	p.asked, p.stale = true, true
	p.unlock()
	m, err := p.acquire(ctx, request{look: true})
	if err != nil {
		return ipc.Description{}, err
	}
	return m.worker.Description(), nil
}

// Description returns what the worker that came up last said of the node.
func (p *Pool) Description() ipc.Description {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.description
}

// Call runs one call on a worker of the pool, waiting for one to have room. Its
// errors are those of [worker.Start] and [worker.Worker.Call], a *[LimitError],
// [ErrClosed], [ErrDraining], and the context's where it ended in line.
func (p *Pool) Call(ctx context.Context, args ipc.Args) (result ipc.Payload, err error) {
	err = p.onAny(ctx, request{}, func(m *member) error {
		result, err = m.worker.Call(ctx, worker.Op{Kind: ipc.FrameCall}, args)
		return err
	})
	return result, err
}

// Items is Call for a node that gives many values; see [worker.Worker.Items].
func (p *Pool) Items(ctx context.Context, args ipc.Args, emit func(ipc.Payload) error) error {
	return p.onAny(ctx, request{}, func(m *member) error { return m.worker.Items(ctx, worker.Op{Kind: ipc.FrameCall}, args, emit) })
}

// maxMoves bounds how often a call goes on to another worker because its worker
// ended before it came to the call. That costs the caller no attempt: it is the
// call before it that did it, most likely.
const maxMoves = 16

// onAny has any worker do something, and another one where that one did not come to it.
func (p *Pool) onAny(ctx context.Context, want request, do func(*member) error) (err error) {
	for moves := 0; ; moves++ {
		m, failed := p.acquire(ctx, want)
		if failed != nil {
			return whyNone(failed, err)
		}
		err = do(m)
		p.release(m, true)
		if err == nil || moves >= maxMoves || !unbegun(err) {
			return err
		}
		want.admitted = true
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
		p.refusal, p.stale = ErrClosed, true
		p.stopTimer()
		p.fail(ErrClosed, func(*waiter) bool { return true })
		for _, m := range p.alive {
			if m.load == 0 {
				p.end(m)
			}
		}
		p.idle, p.spares = nil, nil
	}
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

func (p *Pool) killAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range p.alive {
		p.running.Go(m.worker.Kill)
	}
}
