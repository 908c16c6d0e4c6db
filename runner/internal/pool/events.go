package pool

import (
	"time"

	"github.com/gophersnake/gophersnake/runner/internal/worker"
)

// Event is something that happened in a pool: one of [WorkerStarted],
// [WorkerStartFailed], [WorkerEnded], [WorkerRetired], [SparePromoted], [CallRefused],
// [StateChanged] and [Reloaded].
type Event interface{ poolEvent() }

// WorkerStarted says that a worker became ready.
type WorkerStarted struct {
	Worker *worker.Worker
	Took   time.Duration
	// Spare says that the worker does not serve yet.
	Spare bool
}

// WorkerStartFailed says that a worker could not be started. There is none for a start
// that the pool itself ended, as Close does.
type WorkerStartFailed struct {
	Err   error // a *[worker.StartError]
	Took  time.Duration
	Spare bool
}

// WorkerEnded says that a worker has ended, for any reason.
type WorkerEnded struct {
	Exit *worker.Exit
	// Idle says that the worker had no call.
	Idle bool
}

// WorkerRetired says that a worker has reached a limit. It gets no further call, and
// ends when its calls and sessions have ended.
type WorkerRetired struct {
	PID    int
	Breach worker.Breach
}

// SparePromoted says that a spare serves from now on.
type SparePromoted struct{ PID int }

// CallRefused says that a limit of the queue refused a caller.
type CallRefused struct {
	Breach worker.Breach
	// Waiting is the number of callers that stayed in the queue.
	Waiting int
}

// StateChanged says that the pool has changed its state, and why.
type StateChanged struct {
	From, To State
	Reason   string
	// Cause is the error behind the change; nil if there is none.
	Cause error
}

// Reloaded says that the workers of a new configuration have taken over.
type Reloaded struct {
	Workers int
	Took    time.Duration
}

func (WorkerStarted) poolEvent()     {}
func (WorkerStartFailed) poolEvent() {}
func (WorkerEnded) poolEvent()       {}
func (WorkerRetired) poolEvent()     {}
func (SparePromoted) poolEvent()     {}
func (CallRefused) poolEvent()       {}
func (StateChanged) poolEvent()      {}
func (Reloaded) poolEvent()          {}

// recordLocked keeps an event until unlock has released p.mu and delivers it.
func (p *Pool) recordLocked(e Event) {
	if p.config.Observe != nil {
		p.undelivered, p.dirty = append(p.undelivered, e), true
	}
}

// deliver passes the recorded events to Observe, one at a time and in order. When it
// returns, all events recorded before the call have been delivered, by this goroutine
// or another one.
func (p *Pool) deliver() {
	p.delivering.Lock()
	defer p.delivering.Unlock()
	p.mu.Lock()
	events := p.undelivered
	p.undelivered = nil
	p.mu.Unlock()
	for _, e := range events {
		p.config.Observe(e)
	}
}
