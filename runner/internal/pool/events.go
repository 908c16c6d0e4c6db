package pool

import (
	"time"

	"github.com/gophersnake/gophersnake/runner/internal/worker"
)

// Event is something that happened in a pool: one of [WorkerStarted],
// [WorkerFailed], [WorkerEnded], [WorkerRetired], [SparePromoted], [CallRefused],
// [StateChanged] and [Reloaded].
type Event interface{ poolEvent() }

// WorkerStarted says that a worker became ready.
type WorkerStarted struct {
	Worker *worker.Worker
	Took   time.Duration
	// Spare says that it does not serve yet.
	Spare bool
}

// WorkerFailed says that a worker could not be started. One whose start was given
// up, as by Close, is not told of.
type WorkerFailed struct {
	Err   error // a *[worker.StartError]
	Took  time.Duration
	Spare bool
}

// WorkerEnded says that a worker has ended, whoever brought it about.
type WorkerEnded struct {
	Exit *worker.Exit
	// Idle says that it had no call.
	Idle bool
}

// WorkerRetired says that a worker gets no further call because it has reached a
// limit. It ends when its calls and sessions have.
type WorkerRetired struct {
	PID    int
	Breach worker.Breach
}

// SparePromoted says that a spare worker serves from now on.
type SparePromoted struct{ PID int }

// CallRefused says that a caller was turned away by a limit of the line.
type CallRefused struct {
	Breach worker.Breach
	// Waiting is how many were left in line.
	Waiting int
}

// StateChanged says that the pool is in another state, and why.
type StateChanged struct {
	From, To State
	Reason   string
	// Cause is the error behind it, where there is one.
	Cause error
}

// Reloaded says that the workers of a new configuration have taken over.
type Reloaded struct {
	Workers int
	Took    time.Duration
}

func (WorkerStarted) poolEvent() {}
func (WorkerFailed) poolEvent()  {}
func (WorkerEnded) poolEvent()   {}
func (WorkerRetired) poolEvent() {}
func (SparePromoted) poolEvent() {}
func (CallRefused) poolEvent()   {}
func (StateChanged) poolEvent()  {}
func (Reloaded) poolEvent()      {}

// tell has an event told as soon as p.mu, which the caller holds, is free.
func (p *Pool) tell(e Event) {
	if p.config.Observe != nil {
		p.untold, p.stale = append(p.untold, e), true
	}
}

// flush tells what is untold, one event after the other, in the order in which
// they happened. It returns when all that had happened before has been told,
// whoever told it.
func (p *Pool) flush() {
	p.telling.Lock()
	defer p.telling.Unlock()
	p.mu.Lock()
	events := p.untold
	p.untold = nil
	p.mu.Unlock()
	for _, e := range events {
		p.config.Observe(e)
	}
}
