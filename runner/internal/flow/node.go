package flow

import (
	"context"

	"github.com/gophersnake/gophersnake/ipc"
)

// Node is one node of a pipeline as runs and streams call it. An implementation
// applies the node's retry policy and circuit breaker itself: an error that it
// returns is final. Its methods are safe for concurrent use.
type Node interface {
	// Kind returns how the node takes the items of a stream. It stays the same once
	// the node is ready.
	Kind() Kind
	// Call runs the node once and returns its value. The caller releases the inputs
	// and the value.
	Call(ctx context.Context, in Inputs) (Value, error)
	// Generate runs the node once and passes each value that it yields to emit. It is
	// for nodes of kind [Generator]. The caller releases the inputs.
	Generate(ctx context.Context, in Inputs, emit Emit) error
	// Open returns the session of one stream, for nodes of kind [Stateful]. It begins with
	// a state that [Session.Save] has returned, or with the initial one if that is nil. It
	// does not block.
	Open(state []byte) Session
	// Probing reports whether the node's circuit breaker is open or half-open. A stream
	// then makes a single call first, which shows whether the node works again.
	Probing() bool
}

// Session is the part of a [Stateful] node that belongs to one stream. Its methods
// are called by one goroutine at a time.
type Session interface {
	// Item calls the node with an item and passes each value that it yields to emit.
	// The session owns the inputs from then on, and releases them.
	Item(ctx context.Context, in Inputs, emit Emit) error
	// Finish signals the end of the items to the node, and passes the values that it
	// still yields to emit.
	Finish(ctx context.Context, emit Emit) error
	// Save returns the state between two items, from which a session of another process
	// can continue; nil is the initial state. The node must be able to restore its state.
	Save(ctx context.Context) ([]byte, error)
	// Close frees the session. It is called once, after the last call, also when
	// there was no call.
	Close()
}

// Emit takes one value that a node yields, and owns the payload from then on. It
// blocks until the stream has room for the value. Its error means that the stream
// has been stopped, so the node should yield no further value.
type Emit func(ipc.Payload) error

// Kind says how a node takes the items of a stream.
type Kind int

const (
	// Single nodes return one value for each item. Several calls may run at once.
	Single Kind = iota
	// Generator nodes yield any number of values for each item, one item at a time.
	Generator
	// Stateful nodes keep a state between the items of a stream, which they take one
	// at a time, and yield any number of values for each.
	Stateful
)
