package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// LineConfig configures a [Line].
type LineConfig struct {
	Places int // how many calls run at a time, at least 1
	// Queue limits the number of calls that wait for a place, and Wait how long each of them
	// waits; 0 means no limit.
	Queue int
	Wait  time.Duration
	Place string // what a place is, for errors: "a process"
}

// Line gives the calls of a node a bounded number of places, in the order of their turns. Its
// methods are safe for concurrent use.
type Line struct {
	config LineConfig

	mu      sync.Mutex // guards what follows
	used    int
	waiting []*lineCall // in the order of their turns
	turns   uint64      // so far
	closed  chan struct{}
	empty   chan struct{} // closed when the line is closed and no place is used
}

// Turn is the place in a line of an operation, whose attempts share it: a retry waits behind
// what began before its operation, and ahead of what began later. The zero value is that of an
// operation without attempts. It must not be used concurrently.
type Turn struct{ number uint64 }

// lineCall is a call that waits.
type lineCall struct {
	turn  uint64
	ready chan struct{} // closed when it has a place
}

// ErrLineClosed is returned by [Line.Enter] after [Line.Close].
var ErrLineClosed = errors.New("the line is closed")

// NewLine returns a line whose places are free.
func NewLine(config LineConfig) *Line {
	return &Line{config: config, closed: make(chan struct{}), empty: make(chan struct{})}
}

// Enter takes a place, and blocks while there is none. The caller calls Leave. The turn may be
// nil. The error is an *[Error] if a limit of the queue refuses the call, [ErrLineClosed], or the
// cause of the end of ctx.
func (l *Line) Enter(ctx context.Context, turn *Turn) error {
	l.mu.Lock()
	c, err := l.takeLocked(l.turnLocked(turn))
	l.mu.Unlock()
	if c == nil {
		return err
	}
	var late <-chan time.Time // never without a limit
	if l.config.Wait > 0 {
		timer := time.NewTimer(l.config.Wait)
		defer timer.Stop()
		late = timer.C
	}
	select {
	case <-c.ready:
		return nil
	case <-late:
		err = l.refusal("queue_wait", fmt.Sprintf("%s did not become free within %v", l.config.Place, l.config.Wait))
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-l.closed:
		err = ErrLineClosed
	}
	l.withdraw(c)
	return err
}

// turnLocked returns the turn of a call, and sets that of its operation.
func (l *Line) turnLocked(turn *Turn) uint64 {
	if turn != nil && turn.number != 0 {
		return turn.number
	}
	l.turns++
	if turn != nil {
		turn.number = l.turns
	}
	return l.turns
}

// takeLocked takes a place for a call, and otherwise returns the call that waits or why it may not.
func (l *Line) takeLocked(turn uint64) (*lineCall, error) {
	switch {
	case l.isClosed():
		return nil, ErrLineClosed
	case l.used < l.config.Places:
		l.used++
		return nil, nil
	case l.config.Queue > 0 && len(l.waiting) >= l.config.Queue:
		calls := "1 call is"
		if n := len(l.waiting); n > 1 {
			calls = fmt.Sprintf("%d calls are", n)
		}
		return nil, l.refusal("queue", fmt.Sprintf("%s already waiting for %s", calls, l.config.Place))
	}
	c := &lineCall{turn: turn, ready: make(chan struct{})}
	i := len(l.waiting)
	for i > 0 && l.waiting[i-1].turn > c.turn {
		i--
	}
	l.waiting = slices.Insert(l.waiting, i, c)
	return c, nil
}

// refusal returns the error of a call that a limit refuses.
func (l *Line) refusal(limit, reason string) error {
	return &Error{
		Fault: Busy, Limit: limit, NotBegun: true,
		Reason: fmt.Sprintf("%s: workers.max is %d, and all are busy", reason, l.config.Places),
	}
}

// withdraw takes a call out of the line that waits no longer. If it got a place at the same
// moment, the place is given back.
func (l *Line) withdraw(c *lineCall) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := slices.Index(l.waiting, c); i >= 0 {
		l.waiting = slices.Delete(l.waiting, i, i+1)
		return
	}
	l.leaveLocked()
}

// TryEnter takes a place if one is free.
func (l *Line) TryEnter() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.isClosed() || l.used == l.config.Places {
		return false
	}
	l.used++
	return true
}

// Leave gives a place back.
func (l *Line) Leave() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.leaveLocked()
}

func (l *Line) leaveLocked() {
	if len(l.waiting) > 0 && !l.isClosed() {
		close(l.waiting[0].ready)
		l.waiting = slices.Delete(l.waiting, 0, 1)
		return
	}
	l.used--
	if l.used == 0 && l.isClosed() {
		close(l.empty)
	}
}

// Used returns the number of places that are taken.
func (l *Line) Used() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.used
}

// Waiting returns the number of calls that wait.
func (l *Line) Waiting() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.waiting)
}

// Close refuses the calls that wait, and later ones. It returns a channel that is closed when no
// place is taken. It may be called several times.
func (l *Line) Close() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.isClosed() {
		close(l.closed)
		if l.used == 0 {
			close(l.empty)
		}
	}
	return l.empty
}

func (l *Line) isClosed() bool {
	select {
	case <-l.closed:
		return true
	default:
		return false
	}
}
