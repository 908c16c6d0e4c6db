// Package pool keeps the workers of one node. It starts them, assigns calls and sessions
// to them, and replaces those that die or have served long enough.
//
// A worker usually has one call at a time. It gets more in three cases: an async
// node's worker gets as many calls as it runs concurrently, a batch node's worker
// gets two batches, and the only worker of a node with short calls that may run twice
// gets a few calls ahead, so that it need not wait for the next one.
//
// Besides the workers that serve calls, a pool can keep spares: workers that are
// ready and replace a serving worker as soon as it ends or retires. The pool reports
// its own actions as an [Event], and its condition as [Health].
package pool

import (
	"context"
	"sync"
	"time"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner/internal/worker"
)

// Config says how many workers a pool keeps, what they run, and for how long. A
// duration or number of 0 means no limit, unless its comment says otherwise.
type Config struct {
	Worker worker.Config
	// Min is the number of workers that are kept ready. Max is the number that may
	// serve; those beyond Min are started when callers wait. Max is at least 1.
	Min, Max int
	// Spare is the number of further workers that are kept ready as replacements.
	// The first is started SpareAfter after Min workers were ready.
	Spare      int
	SpareAfter time.Duration
	// ScaleAfter is how long a caller waits before a worker beyond Min is started
	// for it. If it is 0, or if no worker serves, the start is immediate.
	ScaleAfter time.Duration
	// IdleTimeout is how long a worker beyond Min may be idle.
	IdleTimeout time.Duration
	// MaxAge is how long a worker serves, and MaxCalls how many calls it is given.
	MaxAge   time.Duration
	MaxCalls uint64
	// Queue is how many callers may wait for a worker, and QueueWait how long. Neither
	// applies to the calls of an open session, which already has its worker.
	Queue     int
	QueueWait time.Duration
	// MayRepeat reports whether a call of the node may run twice. If it may not, a call
	// that was sent to a worker is never sent to another one, and workers get no calls
	// ahead. It is called with the pool's lock held. If it is nil, no call may run twice.
	MayRepeat func() bool
	// ForkServer makes the pool fork workers from a template; see [worker.Template].
	ForkServer bool
	// Observe receives the pool's events, one at a time and in order. It may be nil.
	// It must not make a call, and the pool waits for it to return.
	Observe func(Event)
}

// Pool is the set of workers of one node. It is safe for concurrent use.
//
// A caller gets a worker that has capacity for another call (queue.go); if none has,
// it queues and gets the first worker that has capacity or becomes ready. The pool
// has no goroutine of its own for maintenance (reconcile.go).
type Pool struct {
	// Configuration. New sets it, and it does not change afterwards.
	config    Config
	clock     clock
	available func() int64 // the memory, in bytes, that new processes may take

	// Lifetime. Close cancels ctx, which ends the starts under way, and waits for running.
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup // starts, watchers, and workers that are being closed

	// Locks that are taken before mu, never while mu is held.
	reloading  sync.Mutex // held by Reload, so that only one runs at a time
	delivering sync.Mutex // held while events are delivered

	mu sync.Mutex // guards all fields below

	// The workers. The table in member.go lists the states of one.
	generation     *generation     // the current one
	description    ipc.Description // of the node; from the worker that became ready last
	members        []*member       // all workers, each until watch has recorded its end
	idle           []*member       // serving without a call; the last is used next, since its caches are warm
	spares         []*member
	serving        int        // members whose role is RoleServing
	starting       int        // starts under way of workers that will serve
	announced      int        // starts among these whose worker is ready and whose event is being delivered
	startingSpares int        // starts under way of spares
	quarantine     quarantine // the worker for suspects

	// The waiting callers in the order of their turns: first come, first served. See queue.go.
	queue   []*waiter
	turns   uint64  // of operations so far
	latency latency // of the node's calls

	// Growth and its backoff. See growth.go and backoff.go.
	wanted     bool      // a caller has needed a worker, and a first start has not failed since
	proven     bool      // a worker has become ready at least once
	firstReady time.Time // when the minimum was first reached
	lastReady  time.Time // when the minimum was last reached
	failures   backoff   // of serving workers

	// The spares' backoff. See spare.go.
	spareFailures backoff
	spareNote     string    // why there is no spare although nothing is wrong
	spareRetry    time.Time // when a spare is next considered after a lack of memory

	// The reconciler. See reconcile.go.
	dirty  bool // reconcile must run before mu is released
	urgent bool // a serving worker has just been lost, or a caller has just queued
	timer  timer

	// Health and events. See health.go and events.go.
	state       State
	since       time.Time // when state was entered
	counters    Counters
	lastDeath   *Death
	undelivered []Event

	// Drain and Close. See close.go.
	refusal   error         // of new calls; nil while they are accepted
	drained   chan struct{} // made by Drain; closed when no call and no session is left
	isDrained bool          // drained is closed
	closed    bool
	closing   context.Context // bounds the shutdown of the workers of a closed pool
}

// New returns a pool without workers. [Pool.Warm] starts them, or the first call.
func New(config Config) *Pool {
	config.Max = max(config.Max, config.Min, 1)
	ctx, cancel := context.WithCancel(context.Background())
	p := &Pool{
		config: config, ctx: ctx, cancel: cancel, clock: realClock(), available: availableMemory,
		latency: newLatency(), counters: newCounters(), state: StateNew, since: time.Now(),
	}
	p.generation = p.newGeneration(1, config.Worker)
	return p
}

// Warm starts Min workers, at least one, and returns the node's description as soon
// as one of them is ready. Its errors are those of [worker.Start], [ErrClosed],
// [ErrDraining], and the context's cause.
func (p *Pool) Warm(ctx context.Context) (ipc.Description, error) {
	p.mu.Lock()
	p.wanted, p.dirty = true, true
	p.unlock()
	m, err := p.acquire(ctx, &request{warm: true})
	if err != nil {
		return ipc.Description{}, err
	}
	return m.worker.Description(), nil
}

// Description returns the node's description, as reported by the worker that became
// ready last. It is empty before the first one.
func (p *Pool) Description() ipc.Description {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.description
}
