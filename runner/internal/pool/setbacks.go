package pool

import "time"

// setbacks are the deaths and failed starts since things last went well.
type setbacks struct {
	count int
	cause error     // of the last one
	at    time.Time // of the last one
	next  time.Time // when the next start is due that nobody waits for
}

func (s *setbacks) add(cause error, now time.Time, least time.Duration) {
	s.count++
	s.cause, s.at, s.next = cause, now, now.Add(max(least, backoff(s.count)))
}

// looping reports whether it is more than an accident.
func (s *setbacks) looping() bool { return s.count > 1 }

const (
	// firstDelay and lastDelay bound the delays of starts after setbacks.
	firstDelay = 100 * time.Millisecond
	lastDelay  = 30 * time.Second
	// calmTime without a setback makes the earlier ones forgotten.
	calmTime = time.Minute
)

// backoff is the delay before an unasked-for start: none after the first
// setback, then doubling, so that a node that dies when left alone does not keep
// the machine busy.
func backoff(setbacks int) time.Duration {
	if setbacks <= 1 {
		return 0
	}
	return min(lastDelay, firstDelay<<min(setbacks-2, 16))
}

// calm forgets the setbacks where all has been well for long enough. An answer
// does so at once.
func (p *Pool) calm(now time.Time) {
	if p.setbacks.count > 0 && p.serving >= p.least() {
		p.calmAt(&p.setbacks, p.full, now)
	}
	if n := len(p.spares); p.spareSetbacks.count > 0 && n > 0 && n >= p.config.Spare {
		p.calmAt(&p.spareSetbacks, p.spares[n-1].born, now)
	}
}

// calmAt forgets setbacks where things have been well since a time.
func (p *Pool) calmAt(s *setbacks, since, now time.Time) {
	if since.Before(s.at) {
		since = s.at
	}
	if at := since.Add(calmTime); now.Before(at) {
		p.again(at)
	} else {
		*s = setbacks{}
	}
}
