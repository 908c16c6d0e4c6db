package pool

import (
	"context"
	"time"
)

// Report is what a pool measures of a call, or of an operation on a session. The caller
// owns it, and reads it when the call has returned.
type Report struct {
	// PID is that of the last worker that the call was assigned to, 0 if there was none.
	PID int
	// Queued is how long the call has waited for workers, and Served how long workers had it.
	Queued, Served time.Duration
	// Moves are the ends of the workers after which the call was made again on another one.
	Moves []error
	// Err is the error of the last worker, nil if it has answered without one.
	Err error

	assigned time.Time // to the last worker
}

// served notes that a worker has answered the call, or ended. It does nothing if r is nil.
func (r *Report) served(err error) {
	if r != nil {
		r.Served += time.Since(r.assigned)
		r.Err = err
	}
}

// moved notes that the call is made again on another worker. It does nothing if r is nil.
func (r *Report) moved(end error) {
	if r != nil {
		r.Moves = append(r.Moves, end)
	}
}

// acquire is obtain, measured if the request has a report.
func (p *Pool) acquire(ctx context.Context, want *request) (*member, error) {
	r := want.report
	if r == nil {
		return p.obtain(ctx, want)
	}
	since := time.Now()
	m, err := p.obtain(ctx, want)
	r.assigned = time.Now()
	r.Queued += r.assigned.Sub(since)
	if m != nil {
		r.PID = m.worker.PID()
	}
	return m, err
}
