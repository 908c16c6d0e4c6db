package retry

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// BreakerConfig sets a [Breaker] up. A field that is zero has its default.
type BreakerConfig struct {
	// Failures is the number of failed operations in a row that opens the
	// breaker. Default 5.
	Failures int
	// CoolDown is how long the breaker stays open. Default 30 s.
	CoolDown time.Duration
	// Probes is how many operations may be under way at once while half-open.
	// Default 1.
	Probes int
	// Clock tells the time. Default [time.Now].
	Clock func() time.Time
	// OnChange is told of each change of state, one after the other and in
	// order. No lock is held meanwhile: it may use the breaker. It runs on a
	// goroutine that uses the breaker, so it should be quick.
	OnChange func(from, to State)
}

// Validate says what is wrong with the figures: nil, or one [*FieldError] for
// each bad field, joined.
func (c BreakerConfig) Validate() error {
	var faults []error
	bad := func(field, reason string, value any) {
		faults = append(faults, &FieldError{Field: field, Value: fmt.Sprint(value), Reason: reason})
	}
	if c.Failures < 0 || c.Failures > maxCount {
		bad("Failures", fmt.Sprintf("must be between 1 and %d (0 stands for 5)", maxCount), c.Failures)
	}
	if c.CoolDown < 0 {
		bad("CoolDown", "must not be negative (0 stands for 30s)", c.CoolDown)
	}
	if c.Probes < 0 || c.Probes > maxCount {
		bad("Probes", fmt.Sprintf("must be between 1 and %d (0 stands for 1)", maxCount), c.Probes)
	}
	return errors.Join(faults...)
}

func (c BreakerConfig) withDefaults() BreakerConfig {
	if c.Failures == 0 {
		c.Failures = 5
	}
	if c.CoolDown == 0 {
		c.CoolDown = 30 * time.Second
	}
	if c.Probes == 0 {
		c.Probes = 1
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.OnChange == nil {
		c.OnChange = func(State, State) {}
	}
	return c
}

// Breaker is a circuit breaker: it refuses operations for a while after too
// many of them failed in a row. It is safe for concurrent use. A nil *Breaker
// never opens.
//
// While it is closed nothing is locked, and a success after a success writes
// nothing at all, so that parallel callers do not slow each other down.
type Breaker struct {
	config BreakerConfig

	// now is read freely. While closed, its count is changed by compare-and-swap;
	// all else is changed under the lock.
	now atomic.Uint64

	lock     sync.Mutex
	opened   time.Time // when it last opened
	failures int       // how many failures opened it
	changes  changes
}

// NewBreaker returns a closed breaker.
func NewBreaker(config BreakerConfig) (*Breaker, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	return &Breaker{config: config.withDefaults()}, nil
}

func (b *Breaker) load() snapshot { return snapshot(b.now.Load()) }

func (b *Breaker) swap(from, to snapshot) bool {
	return b.now.CompareAndSwap(uint64(from), uint64(to))
}

// Allow asks to begin an operation. The error is an [*OpenError]; without one,
// settle the permit with the operation's outcome.
func (b *Breaker) Allow() (Permit, error) {
	if b == nil {
		return Permit{}, nil
	}
	if now := b.load(); now.state() == Closed {
		return Permit{breaker: b, generation: now.generation()}, nil
	}
	return b.allowProbe()
}

func (b *Breaker) allowProbe() (Permit, error) {
	b.lock.Lock()
	defer b.unlock()
	now := b.ripen()
	switch {
	case now.state() == Open:
		return Permit{}, &OpenError{State: Open, Since: b.opened, Failures: b.failures,
			Wait: b.config.CoolDown - b.config.Clock().Sub(b.opened)}
	case now.state() == HalfOpen && now.count() >= b.config.Probes:
		return Permit{}, &OpenError{State: HalfOpen, Since: b.opened, Failures: b.failures}
	case now.state() == HalfOpen:
		b.now.Store(uint64(now.with(now.count() + 1)))
	}
	return Permit{breaker: b, generation: now.generation()}, nil
}

// RecordSuccess counts an operation that succeeded just now without a permit:
// while closed it resets the count, while half-open it closes the breaker. It
// has no effect while open. Where an operation takes time, use [Breaker.Allow]:
// only a permit knows a late outcome from a fresh one.
func (b *Breaker) RecordSuccess() {
	if b != nil {
		b.succeed(b.fresh().generation())
	}
}

// RecordFailure counts an operation that failed just now without a permit:
// while closed it may open the breaker, while half-open it opens it again. It
// has no effect while open. See [Breaker.RecordSuccess] on permits.
func (b *Breaker) RecordFailure() {
	if b != nil {
		b.fail(b.fresh().generation())
	}
}

// succeed counts a success of the given generation; one of another is too late.
func (b *Breaker) succeed(generation uint32) {
	for {
		now := b.load()
		switch {
		case now.generation() != generation, now.state() == Open:
			return
		case now.state() == HalfOpen:
			b.leave(generation, HalfOpen, Closed)
			return
		case now.count() == 0, b.swap(now, now.with(0)):
			return
		}
	}
}

// fail counts a failure of the given generation; one of another is too late.
func (b *Breaker) fail(generation uint32) {
	for {
		now := b.load()
		switch {
		case now.generation() != generation, now.state() == Open:
			return
		case now.state() == HalfOpen:
			b.leave(generation, HalfOpen, Open)
			return
		case now.count()+1 >= b.config.Failures:
			if b.trip(now) {
				return
			}
		case b.swap(now, now.with(now.count()+1)):
			return
		}
	}
}

// trip opens a closed breaker, unless it is no longer as the caller saw it.
func (b *Breaker) trip(seen snapshot) bool {
	b.lock.Lock()
	defer b.unlock()
	if !b.swap(seen, seen.next(Open)) {
		return false
	}
	b.opened, b.failures = b.config.Clock(), seen.count()+1
	b.changes.add(Closed, Open)
	return true
}

// leave goes from a state of the given generation to another, unless somebody
// left it before.
func (b *Breaker) leave(generation uint32, from, to State) {
	b.lock.Lock()
	defer b.unlock()
	now := b.load()
	if now.generation() != generation || now.state() != from {
		return
	}
	if to == Open {
		b.opened = b.config.Clock()
		b.failures++
	}
	b.now.Store(uint64(now.next(to)))
	b.changes.add(from, to)
}

// release gives a probe's slot back without an outcome.
func (b *Breaker) release(generation uint32) {
	if b.load().state() != HalfOpen {
		return
	}
	b.lock.Lock()
	defer b.unlock()
	if now := b.load(); now.generation() == generation && now.state() == HalfOpen && now.count() > 0 {
		b.now.Store(uint64(now.with(now.count() - 1)))
	}
}

// ripen makes an open breaker half-open once it has cooled down. The lock is held.
func (b *Breaker) ripen() snapshot {
	now := b.load()
	if now.state() == Open && b.config.Clock().Sub(b.opened) >= b.config.CoolDown {
		now = now.next(HalfOpen)
		b.now.Store(uint64(now))
		b.changes.add(Open, HalfOpen)
	}
	return now
}

// fresh returns the present snapshot, with the cool-down taken into account.
func (b *Breaker) fresh() snapshot {
	if now := b.load(); now.state() != Open {
		return now
	}
	b.lock.Lock()
	defer b.unlock()
	return b.ripen()
}

// State returns the state now. An open breaker is half-open as soon as its
// cool-down is over, whether or not anybody asked to begin an operation.
func (b *Breaker) State() State {
	if b == nil {
		return Closed
	}
	return b.fresh().state()
}

// IsOpen reports whether the state is [Open].
func (b *Breaker) IsOpen() bool { return b.State() == Open }

// Failures returns the number of failed operations in a row.
func (b *Breaker) Failures() int {
	if b == nil {
		return 0
	}
	if now := b.load(); now.state() == Closed {
		return now.count()
	}
	b.lock.Lock()
	defer b.lock.Unlock()
	if now := b.load(); now.state() == Closed {
		return now.count()
	}
	return b.failures
}

// Reset closes the breaker and forgets all failures. Outcomes of operations
// that began before are ignored.
func (b *Breaker) Reset() {
	if b == nil {
		return
	}
	b.lock.Lock()
	defer b.unlock()
	for {
		now := b.load()
		if b.swap(now, now.next(Closed)) {
			if now.state() != Closed {
				b.changes.add(now.state(), Closed)
			}
			return
		}
	}
}

// unlock releases the lock, and then tells of the changes made under it.
func (b *Breaker) unlock() {
	b.lock.Unlock()
	b.changes.tell(b.config.OnChange)
}
