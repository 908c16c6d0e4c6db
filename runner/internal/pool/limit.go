package pool

import (
	"fmt"
	"strconv"
	"time"

	"github.com/gophersnake/gophersnake/runner/internal/worker"
)

// LimitError says that a caller was turned away: too many were in line, or no
// worker had room for it in time. The call was not made.
type LimitError struct {
	Breach worker.Breach
	// Waiting is how many were left in line.
	Waiting int
	// Reason says why there was no worker.
	Reason string
	// Cause is the error behind it, where there is one.
	Cause error
}

func (e *LimitError) Error() string {
	var text string
	if e.Breach.Limit == worker.LimitQueue {
		text = fmt.Sprintf("%d calls wait for a worker already", e.Waiting)
	} else {
		text = "no worker had room within " + e.Breach.Bound
	}
	text += ": " + e.Reason
	if e.Cause != nil {
		text += ": " + e.Cause.Error()
	}
	return text
}

// Unwrap returns the cause.
func (e *LimitError) Unwrap() error { return e.Cause }

// bounds reports whether the limits of the line hold for a caller.
func (p *Pool) bounds(want request) bool { return !want.admitted && !want.look }

// tooMany refuses a caller for whom the line is too long.
func (p *Pool) tooMany(want request) error {
	limit := p.config.Queue
	if limit == 0 || len(p.waiters) < limit || !p.bounds(want) {
		return nil
	}
	return p.refuse(worker.Breach{
		Limit: worker.LimitQueue, Value: strconv.Itoa(len(p.waiters) + 1), Bound: strconv.Itoa(limit),
	})
}

// refuseOverdue turns those away who have waited for too long.
func (p *Pool) refuseOverdue(now time.Time) {
	limit := p.config.QueueWait
	if limit == 0 {
		return
	}
	kept := p.waiters[:0]
	var overdue []*waiter
	for _, w := range p.waiters {
		switch at := w.since.Add(limit); {
		case !p.bounds(w.request):
			kept = append(kept, w)
		case now.Before(at):
			p.again(at)
			kept = append(kept, w)
		default:
			overdue = append(overdue, w)
		}
	}
	clear(p.waiters[len(kept):])
	p.waiters = kept
	for _, w := range overdue {
		w.serve(nil, p.refuse(worker.Breach{
			Limit: worker.LimitQueueWait, Value: shown(now.Sub(w.since)), Bound: shown(limit),
		}))
	}
}

func (p *Pool) refuse(b worker.Breach) error {
	e := &LimitError{Breach: b, Waiting: len(p.waiters)}
	e.Reason, e.Cause = p.whyNoRoom()
	p.counters.Refused[b.Limit]++
	p.tell(CallRefused{Breach: b, Waiting: e.Waiting})
	return e
}

// whyNoRoom says why a caller finds no worker.
func (p *Pool) whyNoRoom() (string, error) {
	if p.serving == 0 {
		_, reason, cause := p.judge(p.clock.now())
		return reason, cause
	}
	return workers(p.serving, "is", "are") + " busy", nil
}

// shown is a time as people read it.
func shown(d time.Duration) string {
	if d >= time.Second {
		d = d.Round(time.Second / 10)
	}
	return d.String()
}

// workers is a number of them as people read it.
func workers(n int, one, many string) string {
	if n == 1 {
		return "1 worker " + one
	}
	return fmt.Sprintf("%d workers %s", n, many)
}
