package pool

import "time"

// clock is the time, which tests have in their hand.
type clock struct {
	now       func() time.Time
	afterFunc func(time.Duration, func()) (stop func() bool)
}

func realClock() clock {
	return clock{time.Now, func(d time.Duration, f func()) func() bool { return time.AfterFunc(d, f).Stop }}
}
