package flow

import (
	"fmt"
	"slices"
)

// UnevenError is the error of a node that takes one item from each of its inputs,
// of which one gave more than another.
type UnevenError struct {
	Node          string
	Fewer, More   string // ids of two nodes that it takes inputs from
	FewerN, MoreN int    // the items that they gave
	// Ended says that the input with fewer items has ended. Otherwise it has not
	// given its next item, and the queue of the other one is full, so that the stream
	// could not continue.
	Ended bool
}

// Error says how many items each input gave.
func (e *UnevenError) Error() string {
	if e.Ended {
		return fmt.Sprintf("it takes its inputs in step, but %q ended after %d items and %q has given %d",
			e.Fewer, e.FewerN, e.More, e.MoreN)
	}
	return fmt.Sprintf("it takes its inputs in step, but %q gave %d items, of which no more may wait, when %q had given %d",
		e.More, e.MoreN, e.Fewer, e.FewerN)
}

func (st *stage) newUnevenError(fewer, more *queue, ended bool) *UnevenError {
	return &UnevenError{
		Node: st.step.id, Ended: ended,
		Fewer: fewer.producer.step.id, FewerN: fewer.given, More: more.producer.step.id, MoreN: more.given,
	}
}

// unevenLocked returns the error of inputs of which some have ended.
func (st *stage) unevenLocked() error {
	var ended, open *queue
	for _, q := range st.in {
		if q.isOver() {
			ended = q
		} else {
			open = q
		}
	}
	return st.newUnevenError(ended, open, true)
}

// stuckLocked returns the error of a stage that waits for one input while another
// one can take no more. It returns nil for a stage in another state.
func (st *stage) stuckLocked() *UnevenError {
	var empty, full *queue
	for i, q := range st.in {
		switch {
		case q.n == 0:
			empty = q
		case q.producer != nil && !haveRoom(st.in[i:i+1], q.producer.nextSizeLocked()):
			full = q
		}
	}
	if empty == nil || full == nil {
		return nil
	}
	return st.newUnevenError(empty, full, false)
}

// stopIfStuckLocked reports whether the stream is stopped, having stopped it if it
// cannot continue. Each goroutine calls it before it waits.
//
// A stream gets stuck if two branches that meet give different numbers of items: the
// queue of one branch is full, which blocks their common source, while the stage that
// joins them waits for the other one.
func (s *Stream) stopIfStuckLocked() bool {
	if !s.plan.joins || s.busy > 0 {
		return false
	}
	if s.isBlocked && haveRoom(s.in, s.sendSize) || !s.isBlocked && !s.sendClosed {
		return false // Send can continue, or it is the caller's turn to send
	}
	for _, q := range s.out {
		if q.n > 0 {
			return false // it is the caller's turn to receive
		}
	}
	if slices.ContainsFunc(s.stages, (*stage).canProceedLocked) {
		return false
	}
	for _, st := range s.stages {
		if err := st.stuckLocked(); err != nil {
			s.stopLocked(err)
		}
	}
	return s.err != nil
}
