package flow

import (
	"fmt"
	"slices"
)

// UnevenError is the error of a node with several inputs that did not produce the same
// number of items. Such a node takes one item from each of its inputs at a time.
type UnevenError struct {
	Node          string
	Fewer, More   string // ids of two nodes that it takes inputs from
	FewerN, MoreN int    // the items that they produced
	// Ended means that the input with fewer items has ended. Otherwise it has not
	// produced its next item, and the queue of the other one is full, so that the
	// stream could not continue.
	Ended bool
}

// Error says how many items each input produced.
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
		Node: st.step.first, Ended: ended,
		Fewer: fewer.producer.step.id, FewerN: fewer.produced, More: more.producer.step.id, MoreN: more.produced,
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

// stuckLocked returns the error of a stage that waits for one input while the queue of
// another one is full. It returns nil for a stage in another state,
// and for one that merges.
func (st *stage) stuckLocked() *UnevenError {
	if st.step.merges {
		return nil
	}
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
// A stream gets stuck if two branches that meet produce different numbers of items: the
// queue of one branch is full, which blocks their common source, while the stage that
// joins them waits for the other one.
func (s *Stream) stopIfStuckLocked() bool {
	if !s.plan.joins || s.busy > 0 {
		return false
	}
	if s.isBlocked && haveRoom(s.in, s.sendSize) || !s.isBlocked && !s.sendClosed {
		return false // Send can continue, or the caller may send another item
	}
	for _, q := range s.out {
		if q.n > 0 {
			return false // the caller can receive an item, which makes room
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
