package pool

import (
	"fmt"
	"strconv"
	"time"

	"github.com/gophersnake/gophersnake/runner/internal/worker"
)

// LimitError says that a limit of the queue refused a caller: too many callers were
// waiting, or no worker had capacity in time. The call was not made.
type LimitError struct {
	Breach worker.Breach
	// Waiting is the number of callers that stayed in the queue.
	Waiting int
	// Reason says why no worker had capacity.
	Reason string
	// Cause is the error behind Reason; nil if there is none.
	Cause error
}

func (e *LimitError) Error() string {
	var text string
	switch {
	case e.Breach.Limit != worker.LimitQueue:
		text = "no worker had capacity within " + e.Breach.Bound
	case e.Waiting == 1:
		text = "1 call is already waiting for a worker"
	default:
		text = fmt.Sprintf("%d calls are already waiting for a worker", e.Waiting)
	}
	text += ": " + e.Reason
	if e.Cause != nil {
		text += ": " + e.Cause.Error()
	}
	return text
}

// Unwrap returns the cause.
func (e *LimitError) Unwrap() error { return e.Cause }

// refuseFullLocked refuses a caller that finds the queue full.
func (p *Pool) refuseFullLocked(want request) error {
	limit := p.config.Queue
	if limit == 0 || len(p.queue) < limit || !want.limited() {
		return nil
	}
	return p.refuseLocked(worker.Breach{
		Limit: worker.LimitQueue, Value: strconv.Itoa(len(p.queue) + 1), Bound: strconv.Itoa(limit),
	})
}

// refuseOverdueLocked refuses the callers that have waited for QueueWait.
func (p *Pool) refuseOverdueLocked(now time.Time) {
	limit := p.config.QueueWait
	if limit == 0 {
		return
	}
	kept := p.queue[:0]
	var overdue []*waiter
	for _, w := range p.queue {
		switch at := w.since.Add(limit); {
		case !w.limited():
			kept = append(kept, w)
		case now.Before(at):
			p.timer.requireBy(at)
			kept = append(kept, w)
		default:
			overdue = append(overdue, w)
		}
	}
	clear(p.queue[len(kept):])
	p.queue = kept
	for _, w := range overdue {
		w.resolve(nil, p.refuseLocked(worker.Breach{
			Limit: worker.LimitQueueWait, Value: durationText(now.Sub(w.since)), Bound: durationText(limit),
		}))
	}
}

// refuseLocked counts and reports a refusal, and returns its error.
func (p *Pool) refuseLocked(b worker.Breach) *LimitError {
	e := &LimitError{Breach: b, Waiting: len(p.queue), Reason: workersText(p.serving, "is", "are") + " busy"}
	if p.serving == 0 {
		_, e.Reason, e.Cause = p.assessLocked(p.clock.now())
	}
	p.counters.Refused[b.Limit]++
	p.recordLocked(CallRefused{Breach: b, Waiting: e.Waiting})
	return e
}

// durationText formats a duration for messages.
func durationText(d time.Duration) string {
	if d >= time.Second {
		d = d.Round(time.Second / 10)
	}
	return d.String()
}

// workersText formats a number of workers, with the verb that goes with it.
func workersText(n int, one, many string) string {
	if n == 1 {
		return "1 worker " + one
	}
	return fmt.Sprintf("%d workers %s", n, many)
}
