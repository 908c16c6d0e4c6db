package retry

import "fmt"

// State is what a [Breaker] does with operations.
type State uint8

const (
	// Closed lets every operation through.
	Closed State = iota
	// Open refuses every operation until the cool-down is over.
	Open
	// HalfOpen lets a few operations through, to learn from their outcome.
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

// MarshalText writes what String returns.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// snapshot is all that a breaker's fast path needs, in one word, so that it can
// be read and replaced at once:
//
//	bits 32…63  generation: the number of state changes so far
//	bits  2…31  count: failures in a row while closed, probes out while half-open
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
