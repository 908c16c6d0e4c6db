package ipc

import (
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// readRole is the right to read the connection, which one goroutine holds at a time. No
// goroutine is dedicated to reading while calls are pending: one of the callers reads until
// its own answer has arrived, and dispatches the answers of the other callers, the waiters.
// So the answer of a lone call wakes one goroutine only, by the kernel. Only while no call is
// pending does readWhileIdle read.
//
//	state         taken  meaning                                next
//	free          false  no goroutine reads                     held, by claim or tryClaim
//	held          true   a caller or readWhileIdle reads        free, or handed over if there is
//	                                                            a waiter, by release
//	handed over   true   a waiter was sent readNow and has      held, when the waiter receives it;
//	                     not yet received it                    free or handed over, by leave
//
// A caller whose call is already settled when it receives readNow dispatches the frames that
// have been read ahead, releases the role and returns.
//
// The holder may also be interrupted, in any of these states: interrupt lets its blocked
// read fail at once, so that it checks again whether its own call is still pending.
// The next read clears this by resume, whichever goroutine makes it.
type readRole struct {
	conn  net.Conn
	calls *callTable // holds the waiters: the open calls whose waiting flag is set
	taken atomic.Bool

	mu          sync.Mutex // guards the read deadline of conn
	interrupted bool       // the deadline is in the past because of interrupt
	writeErr    error      // writing has failed, and reading ends shortly; written with Conn.writing held, too
}

// notice is what a caller receives while it waits for its answer.
type notice uint8

const (
	settled notice = iota // the call has its answer or its error; this is the last notice
	readNow               // the caller holds the read role
)

// claim acquires the role for the caller of call if it is free, and reports whether it did.
// Otherwise the call is now a waiter: its caller will receive readNow, unless the answer
// arrives before.
func (r *readRole) claim(call *Call) bool {
	call.waiting.Store(true) // before the role is checked, so that a concurrent release finds the waiter
	if r.taken.Load() || !r.taken.CompareAndSwap(false, true) {
		return false
	}
	call.waiting.Store(false)
	return true
}

// tryClaim acquires the role if it is free, and reports whether it did.
func (r *readRole) tryClaim() bool { return r.taken.CompareAndSwap(false, true) }

// maxExamined bounds how many open calls release examines to find a late one.
const maxExamined = 64

// release frees the role, and hands it over to a waiter if there is one. It chooses the
// waiter whose call is likely to be answered last: its caller reads for the others for
// longest, so the role is rarely handed over.
func (r *readRole) release() {
	r.taken.Store(false)
	r.calls.Lock()
	defer r.calls.Unlock()
	var latest *Call
	examined := 0
	for _, call := range r.calls.open {
		if call.waiting.Load() && (latest == nil || call.header.call > latest.header.call) {
			latest = call
		}
		if examined++; examined >= maxExamined && latest != nil {
			break
		}
	}
	if latest != nil && r.taken.CompareAndSwap(false, true) {
		latest.waiting.Store(false)
		latest.notices <- readNow // with the lock held, so that it precedes settled
	}
}

// hasWaiters reports whether a caller waits for the role.
func (r *readRole) hasWaiters() bool {
	r.calls.Lock()
	defer r.calls.Unlock()
	for _, call := range r.calls.open {
		if call.waiting.Load() {
			return true
		}
	}
	return false
}

// leave withdraws a call from the waiters, because its caller is about to do something else.
// If the role has already been handed over to it, leave releases the role.
func (r *readRole) leave(call *Call) {
	r.calls.Lock()
	call.waiting.Store(false)
	r.calls.Unlock()
	select {
	case n := <-call.notices:
		if n == readNow {
			r.release()
		} else {
			call.notices <- n // the caller receives it later
		}
	default:
	}
}

// interrupt makes the goroutine that reads check whether its own call is still pending. If
// no goroutine reads, it interrupts the next read, whose goroutine then reads on.
func (r *readRole) interrupt() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.writeErr == nil { // otherwise the deadline that endAfter has set ends the read
		r.interrupted = true
		_ = r.conn.SetReadDeadline(time.Unix(1, 0)) // fails only if the connection is closed
	}
}

// resume reports whether a read failed because of interrupt, and makes reading possible
// again.
func (r *readRole) resume(err error) bool {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.interrupted {
		return false
	}
	r.interrupted = false
	if r.writeErr == nil {
		_ = r.conn.SetReadDeadline(time.Time{})
	}
	return true
}

// Read reads the rest of a frame, for the frameReader. Unlike the read of a frame's first
// bytes, it goes on after an interrupt, so that a frame is never read in part.
func (r *readRole) Read(b []byte) (int, error) {
	for {
		n, err := r.conn.Read(b)
		if err == nil || n > 0 || !r.resume(err) {
			return n, err
		}
	}
}

// endAfter lets reading continue for the duration d only, because writing has failed with
// err.
func (r *readRole) endAfter(d time.Duration, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.writeErr = err
	_ = r.conn.SetReadDeadline(time.Now().Add(d)) // fails only if the connection is closed
}

// cause returns the error with which the connection ends after a read has failed with err:
// the error of writing if that has ended the reading.
func (r *readRole) cause(err error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.writeErr != nil && errors.Is(err, os.ErrDeadlineExceeded) {
		return r.writeErr
	}
	return err
}
