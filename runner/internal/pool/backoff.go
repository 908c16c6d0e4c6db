package pool

import (
	"errors"
	"time"

	"github.com/gophersnake/gophersnake/runner/internal/worker"
)

// backoff counts the deaths and failed starts since workers last did well, and delays
// the next start accordingly. The pool has one for serving workers and one for spares,
// so that spares which fail do not delay the others. An answer, or calmTime without a
// failure, resets it.
type backoff struct {
	count int
	cause error     // of the last failure
	at    time.Time // of the last failure
	next  time.Time // the earliest next start for which no caller waits
}

const (
	// firstDelay and lastDelay bound the delays.
	firstDelay = 100 * time.Millisecond
	lastDelay  = 30 * time.Second
	// calmTime without a failure resets a backoff.
	calmTime = time.Minute
)

// add counts a failure. The next start is delayed by at least least.
func (b *backoff) add(cause error, now time.Time, least time.Duration) {
	b.count++
	b.cause, b.at, b.next = cause, now, now.Add(max(least, delayAfter(b.count)))
}

// isLoop reports whether there was more than one failure in a row.
func (b *backoff) isLoop() bool { return b.count > 1 }

// isDeath reports whether the last failure was the death of a worker that had been ready,
// and not a failed start.
func (b *backoff) isDeath() bool {
	_, died := errors.AsType[*worker.Exit](b.cause)
	_, unstarted := errors.AsType[*worker.StartError](b.cause)
	return died && !unstarted
}

// delayAfter returns the delay of a start for which no caller waits, after a number
// of failures in a row: none after the first, then it doubles. So a node that dies
// even without calls does not keep the machine busy.
func delayAfter(failures int) time.Duration {
	if failures <= 1 {
		return 0
	}
	return min(lastDelay, firstDelay<<min(failures-2, 16))
}

// forgetFailuresLocked resets the backoffs of which calmTime has passed with enough
// workers ready.
func (p *Pool) forgetFailuresLocked(now time.Time) {
	if p.failures.count > 0 && p.serving >= p.minServing() {
		p.failures.resetWhenCalm(p.lastReady, now, &p.timer)
	}
	if n := len(p.spares); p.spareFailures.count > 0 && n > 0 && n >= p.config.Spare {
		p.spareFailures.resetWhenCalm(p.spares[n-1].readyAt, now, &p.timer)
	}
}

// resetWhenCalm resets the backoff if calmTime has passed since the last failure and
// since the given time. Otherwise it requires a reconcile when it will have passed.
func (b *backoff) resetWhenCalm(since, now time.Time, t *timer) {
	if since.Before(b.at) {
		since = b.at
	}
	if at := since.Add(calmTime); now.Before(at) {
		t.requireBy(at)
	} else {
		*b = backoff{}
	}
}
