package retry

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// BreakerConfig configures a [Breaker]. A zero field has its default.
type BreakerConfig struct {
	// Failures is the number of failed operations in a row that opens the
	// breaker. The default is [DefaultFailures].
	Failures int
	// CoolDown is how long the breaker stays open before it admits probes. The
	// default is 30 s.
	CoolDown time.Duration
	// Probes is how many operations may run at once while the breaker is
	// half-open. The default is 1.
	Probes int
	// Clock returns the current time. The default is [time.Now].
	Clock func() time.Time
	// OnChange is called after each change of state, for one change at a time and
	// in order. It runs on a goroutine that uses the breaker, so it should return
	// quickly. No lock is held while it runs, so it may use the breaker.
	OnChange func(from, to State)
}

// DefaultFailures is the default of [BreakerConfig].Failures.
const DefaultFailures = 5

// Validate checks the fields. It returns nil, or one [*FieldError] for each
// invalid field, joined.
func (c BreakerConfig) Validate() error {
	var faults []error
	bad := func(field, reason string, value any) {
		faults = append(faults, &FieldError{Field: field, Value: fmt.Sprint(value), Reason: reason})
	}
	if c.Failures < 0 || c.Failures > maxCount {
		bad("Failures", fmt.Sprintf("must be between 1 and %d (0 means 5)", maxCount), c.Failures)
	}
	if c.CoolDown < 0 {
		bad("CoolDown", "must not be negative (0 means 30s)", c.CoolDown)
	}
	if c.Probes < 0 || c.Probes > maxCount {
		bad("Probes", fmt.Sprintf("must be between 1 and %d (0 means 1)", maxCount), c.Probes)
	}
	return errors.Join(faults...)
}

func (c BreakerConfig) withDefaults() BreakerConfig {
	if c.Failures == 0 {
		c.Failures = DefaultFailures
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

// State is the state of a [Breaker].
type State uint8

const (
	// Closed admits every operation.
	Closed State = iota
	// Open refuses every operation until the cool-down is over.
	Open
	// HalfOpen admits a few operations as probes. Their outcome decides whether
	// the breaker closes or opens again.
	HalfOpen
)

// String returns "closed", "open" or "half-open".
func (s State) String() string {
	switch s {
	case Closed:
		return "closed"
	case Open:
		return "open"
	case HalfOpen:
		return "half-open"
	}
	return fmt.Sprintf("State(%d)", uint8(s))
}

// MarshalText returns the text that String returns. It never fails.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// snapshot holds all that the closed breaker's path needs in one word, so that it
// is read and replaced atomically:
//
//	bits 32…63  generation: the number of changes of state so far
//	bits  2…31  count: failures in a row while closed, probes running while half-open
//	bits  0…1   state
type snapshot uint64

const maxCount = 1<<30 - 1

func (s snapshot) state() State       { return State(s & 3) }
func (s snapshot) count() int         { return int(s >> 2 & maxCount) }
func (s snapshot) generation() uint32 { return uint32(s >> 32) }

// with returns the snapshot with another count.
func (s snapshot) with(count int) snapshot {
	return s&^(maxCount<<2) | snapshot(count)<<2
}

// next returns the first snapshot of the generation after s.
func (s snapshot) next(state State) snapshot {
	return snapshot(s.generation()+1)<<32 | snapshot(state)
}

// Breaker is a circuit breaker: it refuses operations for a while after too many
// of them failed in a row. Its states are
//
//	state      operations            next state
//	closed     all are admitted      open, after Failures failures in a row
//	open       all are refused       half-open, when CoolDown has passed;
//	                                 closed, by RecordSuccess or Reset
//	half-open  Probes are admitted   closed, by a success or by Reset;
//	                                 open, by a failure
//
// Report the outcome of an operation through the [Permit] that [Breaker.Allow]
// gave it. Each change of state begins a new generation, and a permit belongs to
// the generation in which it was given. An outcome of an earlier generation is
// ignored: an operation that began before the breaker opened neither closes it nor
// keeps it open. RecordSuccess and RecordFailure are for outcomes without a permit
// and count as outcomes of the present generation.
//
// A Breaker is safe for concurrent use, and its methods do not block. While it is
// closed they take no lock, and a success after a success writes nothing, so that
// parallel callers do not slow each other down. A nil *Breaker is valid and never
// opens.
type Breaker struct {
	config BreakerConfig

	// current is read without the lock. While the breaker is closed, its count is
	// changed by compare-and-swap. Every other change is made under the lock.
	current atomic.Uint64

	lock     sync.Mutex
	opened   time.Time // when the breaker last opened
	failures int       // how many failures opened it
	changes  notifier
	freed    chan struct{} // closed when the state changes or a probe's slot is free; nil if no caller waits
}

// NewBreaker returns a closed breaker. The error is that of
// [BreakerConfig.Validate].
func NewBreaker(config BreakerConfig) (*Breaker, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	return &Breaker{config: config.withDefaults()}, nil
}

func (b *Breaker) load() snapshot { return snapshot(b.current.Load()) }

func (b *Breaker) store(s snapshot) { b.current.Store(uint64(s)) }

func (b *Breaker) swap(from, to snapshot) bool {
	return b.current.CompareAndSwap(uint64(from), uint64(to))
}

// Allow admits an operation or refuses it. A refusal is an [*OpenError]. Otherwise
// the caller runs the operation and settles the permit with its outcome.
func (b *Breaker) Allow() (Permit, error) {
	if b == nil {
		return Permit{}, nil
	}
	if s := b.load(); s.state() == Closed {
		return Permit{breaker: b, generation: s.generation()}, nil
	}
	return b.allowProbe()
}

// allowProbe is Allow for a breaker that was not closed a moment ago.
func (b *Breaker) allowProbe() (Permit, error) {
	b.lock.Lock()
	defer b.unlock()
	s := b.coolDownLocked()
	switch {
	case s.state() == Open:
		return Permit{}, &OpenError{State: Open, Since: b.opened, Failures: b.failures,
			Wait: b.config.CoolDown - b.config.Clock().Sub(b.opened)}
	case s.state() == HalfOpen && s.count() >= b.config.Probes:
		return Permit{}, &OpenError{State: HalfOpen, Since: b.opened, Failures: b.failures}
	case s.state() == HalfOpen:
		b.store(s.with(s.count() + 1))
	}
	return Permit{breaker: b, generation: s.generation()}, nil
}

// Await blocks until [Breaker.Allow] may admit an operation that it has refused: the
// cool-down is over, the state has changed, or a probe has ended without an outcome. Other
// callers may be admitted first, so call Allow again, and Await again if it refuses. Await
// returns the cause of ctx if that ends before. It measures the cool-down with package
// time, whatever the clock of the breaker is.
func (b *Breaker) Await(ctx context.Context) error {
	freed, wait := b.watch()
	if freed == nil {
		return nil
	}
	var cooledDown <-chan time.Time
	if wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		cooledDown = timer.C
	}
	select {
	case <-freed:
	case <-cooledDown:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return nil
}

// watch returns a channel that is closed when the breaker may admit an operation again,
// and the rest of the cool-down, 0 if that is over. It returns nil if the breaker admits
// one now.
func (b *Breaker) watch() (<-chan struct{}, time.Duration) {
	if b == nil {
		return nil, 0
	}
	b.lock.Lock()
	defer b.unlock()
	s := b.coolDownLocked()
	if s.state() == Closed || s.state() == HalfOpen && s.count() < b.config.Probes {
		return nil, 0
	}
	if b.freed == nil {
		b.freed = make(chan struct{})
	}
	if s.state() == HalfOpen {
		return b.freed, 0
	}
	return b.freed, b.config.CoolDown - b.config.Clock().Sub(b.opened)
}

// freeLocked wakes the callers that wait for the breaker to admit an operation.
func (b *Breaker) freeLocked() {
	if b.freed != nil {
		close(b.freed)
		b.freed = nil
	}
}

// RecordSuccess counts an operation without a permit that has just succeeded. It
// resets the count of failures and closes the breaker from any state. An operation
// that takes time should use [Breaker.Allow] instead: its permit records whether the
// operation began before the breaker opened.
func (b *Breaker) RecordSuccess() {
	if b != nil {
		b.succeed(b.present().generation())
	}
}

// RecordFailure counts an operation without a permit that has just failed. While
// the breaker is closed, the failure may open it; while it is half-open, the
// failure opens it again; while it is open, the failure has no effect.
func (b *Breaker) RecordFailure() {
	if b != nil {
		b.fail(b.present().generation())
	}
}

// succeed counts a success of the given generation. An outcome of another
// generation is too late and has no effect.
func (b *Breaker) succeed(generation uint32) {
	for {
		s := b.load()
		switch {
		case s.generation() != generation:
			return
		case s.state() != Closed:
			// No permit is of an open generation, so only RecordSuccess closes an
			// open breaker.
			b.leave(s, Closed)
			return
		case s.count() == 0, b.swap(s, s.with(0)):
			return
		}
	}
}

// fail counts a failure of the given generation. An outcome of another generation
// is too late and has no effect.
func (b *Breaker) fail(generation uint32) {
	for {
		s := b.load()
		switch {
		case s.generation() != generation, s.state() == Open:
			return
		case s.state() == HalfOpen:
			b.leave(s, Open)
			return
		case s.count()+1 >= b.config.Failures:
			if b.trip(s) {
				return
			}
		case b.swap(s, s.with(s.count()+1)):
			return
		}
	}
}

// trip opens a closed breaker, unless it has changed since the caller read it.
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

// leave moves an open or half-open breaker to another state, unless it has left
// the state in which the caller saw it.
func (b *Breaker) leave(seen snapshot, to State) {
	b.lock.Lock()
	defer b.unlock()
	s := b.load()
	if s.generation() != seen.generation() {
		return
	}
	if to == Open {
		b.opened = b.config.Clock()
		b.failures++
	}
	b.store(s.next(to))
	b.freeLocked()
	b.changes.add(s.state(), to)
}

// release frees a probe's slot without an outcome.
func (b *Breaker) release(generation uint32) {
	if b.load().state() != HalfOpen {
		return
	}
	b.lock.Lock()
	defer b.unlock()
	if s := b.load(); s.generation() == generation && s.state() == HalfOpen && s.count() > 0 {
		b.store(s.with(s.count() - 1))
		b.freeLocked()
	}
}

// coolDownLocked makes an open breaker half-open if its cool-down is over, and
// returns the snapshot.
func (b *Breaker) coolDownLocked() snapshot {
	s := b.load()
	if s.state() == Open && b.config.Clock().Sub(b.opened) >= b.config.CoolDown {
		s = s.next(HalfOpen)
		b.store(s)
		b.freeLocked()
		b.changes.add(Open, HalfOpen)
	}
	return s
}

// present returns the current snapshot with the cool-down taken into account.
func (b *Breaker) present() snapshot {
	if s := b.load(); s.state() != Open {
		return s
	}
	b.lock.Lock()
	defer b.unlock()
	return b.coolDownLocked()
}

// State returns the current state. An open breaker is half-open as soon as its
// cool-down is over, even if no operation asks to begin.
func (b *Breaker) State() State {
	if b == nil {
		return Closed
	}
	return b.present().state()
}

// IsOpen reports whether the state is [Open].
func (b *Breaker) IsOpen() bool { return b.State() == Open }

// Failures returns the number of failed operations in a row. While the breaker is
// not closed, these are the failures that opened it.
func (b *Breaker) Failures() int {
	if b == nil {
		return 0
	}
	if s := b.load(); s.state() == Closed {
		return s.count()
	}
	b.lock.Lock()
	defer b.lock.Unlock()
	if s := b.load(); s.state() == Closed {
		return s.count()
	}
	return b.failures
}

// Reset closes the breaker and forgets all failures. It begins a new generation
// even if the breaker is closed already, so the outcomes of operations that began
// before do not count.
func (b *Breaker) Reset() {
	if b == nil {
		return
	}
	b.lock.Lock()
	defer b.unlock()
	for {
		s := b.load()
		if b.swap(s, s.next(Closed)) {
			if s.state() != Closed {
				b.freeLocked()
				b.changes.add(s.state(), Closed)
			}
			return
		}
	}
}

// unlock releases the lock and then reports the changes made under it.
func (b *Breaker) unlock() {
	b.lock.Unlock()
	b.changes.notify(b.config.OnChange)
}

// Permit admits one operation. [Breaker.Allow] returns it. Settle it once, with
// Success or Failure, and defer Release for every other way out, a panic included:
// after the first of the three calls the others do nothing. A permit belongs to
// one goroutine and must not be copied.
//
// The outcome counts only if the state of the breaker has not changed since it gave
// the permit.
type Permit struct {
	breaker    *Breaker // nil once the permit is settled
	generation uint32
}

// Success reports that the operation succeeded.
func (p *Permit) Success() {
	if b := p.settle(); b != nil {
		b.succeed(p.generation)
	}
}

// Failure reports that the operation failed through the fault of the resource that
// the breaker protects.
func (p *Permit) Failure() {
	if b := p.settle(); b != nil {
		b.fail(p.generation)
	}
}

// Release returns the permit without an outcome: the caller canceled the
// operation, or the failure was the caller's own fault.
func (p *Permit) Release() {
	if b := p.settle(); b != nil {
		b.release(p.generation)
	}
}

func (p *Permit) settle() *Breaker {
	b := p.breaker
	p.breaker = nil
	return b
}
