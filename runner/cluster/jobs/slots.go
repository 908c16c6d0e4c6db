package jobs

import (
	"context"
	"errors"
	"sync"
	"time"
)

// slots are the runs that a machine makes of one pipeline at once, and the jobs before and after
// them. A job passes through these phases:
//
//	taking  │ from its fetch until it has a slot; its record is written
//	running │ it has a slot, so a worker of each node is free for it
//	storing │ its outcome is written; its workers are free for the next job
//
// If runs are short, a worker would be idle most of the time while the next job is taken. So the
// machine takes a job for a worker that is busy, if the worker will most likely be free when the
// job has been taken. If it is not, the job goes back to the queue.
type slots struct {
	total int
	taken chan struct{} // has one item for each slot in use

	mu                       sync.Mutex
	taking, running, storing int
	// takeTime is how long it takes to take a job on average, and runTime how long a run takes.
	// A slow run counts at once, and is forgotten slowly.
	takeTime, runTime time.Duration
	// isLate says that a job has waited too long for a slot since a run has ended.
	isLate bool
}

const (
	// mostAhead bounds the jobs that are taken for busy workers, and those that are stored.
	mostAhead = 64
	// earlyTime is how long a job that was taken for a busy worker is expected to wait at most.
	earlyTime = 20 * time.Millisecond
	// earlyPatience is after which time such a job goes back to the queue.
	earlyPatience = 200 * time.Millisecond
)

// errEarly is the error of a job for which no slot has become free in time.
var errEarly = errors.New("no worker has become free for the job")

func newSlots(total int) *slots { return &slots{total: total, taken: make(chan struct{}, total)} }

// room returns how many further jobs the machine may take, if workers are free for a number of
// runs.
func (s *slots) room(workers int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	room := min(s.total-s.running, workers) - s.taking + s.aheadLocked()
	return max(0, min(room, s.total+mostAhead-s.taking-s.running-s.storing))
}

// aheadLocked returns for how many busy workers jobs are taken: those that become free in the
// time that it takes to take a job.
func (s *slots) aheadLocked() int {
	if s.runTime == 0 || s.isLate {
		return 0
	}
	return min(mostAhead, int(time.Duration(s.total)*min(s.takeTime, earlyTime)/s.runTime))
}

// take counts a job that was fetched.
func (s *slots) take() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taking++
}

// enter waits for a slot, for a job that was asked for at a time, and returns when the run
// begins. Its error is errEarly, or the cause of the context.
func (s *slots) enter(ctx context.Context, fetched time.Time) (begun time.Time, err error) {
	begun = time.Now()
	took := begun.Sub(fetched)
	select {
	case s.taken <- struct{}{}:
	default:
		if err := s.await(ctx); err != nil {
			return time.Time{}, err
		}
		begun = time.Now()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taking--
	s.running++
	s.takeTime += (took - s.takeTime) / 8
	return begun, nil
}

// await waits for a slot of a job that was taken early.
func (s *slots) await(ctx context.Context) error {
	patience := time.NewTimer(earlyPatience)
	defer patience.Stop()
	select {
	case s.taken <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-patience.C:
		s.mu.Lock()
		defer s.mu.Unlock()
		s.isLate = true
		return errEarly
	}
}

// leave frees the slot of a run that has ended; its job is stored now.
func (s *slots) leave(begun time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	<-s.taken
	s.running--
	s.storing++
	s.isLate = false
	took := max(time.Since(begun), time.Microsecond)
	s.runTime = max(took, s.runTime+(took-s.runTime)/8)
}

// end forgets a job whose outcome is stored, or that has not run.
func (s *slots) end(hasRun bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if hasRun {
		s.storing--
	} else {
		s.taking--
	}
}
