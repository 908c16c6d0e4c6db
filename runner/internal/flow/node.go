package flow

import (
	"context"
	"sync/atomic"

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
	// Open returns the session of one stream, for nodes of kind [Stateful]. It does
	// not block.
	Open() Session
	// Probing reports whether the node's circuit breaker is not closed. A stream then
	// makes one call alone, which shows whether the node works again.
	Probing() bool
}

// Session is the part of a [Stateful] node that belongs to one stream. Its methods
// are called by one goroutine at a time.
type Session interface {
	// Item gives the node an item and passes each value that it yields to emit. It
	// takes the inputs over: the session releases them.
	Item(ctx context.Context, in Inputs, emit Emit) error
	// Finish tells the node that there are no more items, and passes the values that
	// it still yields to emit.
	Finish(ctx context.Context, emit Emit) error
	// Close frees the session. It is called once, after the last call, also when
	// there was no call.
	Close()
}

// Emit takes one value that a node yields, and owns the payload from then on. It
// blocks until the stream has room for the value. Its error means that the stream
// has ended, so no further value is wanted.
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

// Inputs are the values that a node is called with, in the order of the connections
// to it. The one input of a source is the input of the run.
type Inputs struct {
	First Value
	// Rest is empty unless the node has several inputs.
	Rest []Value
}

// At returns the input with the given index.
func (in *Inputs) At(i int) Value {
	if i == 0 {
		return in.First
	}
	return in.Rest[i-1]
}

// Size returns the length of all payloads.
func (in *Inputs) Size() int64 {
	size := in.First.size()
	for i := range in.Rest {
		size += in.Rest[i].size()
	}
	return size
}

// Release gives up one reference to each value.
func (in *Inputs) Release() {
	in.First.Release()
	for i := range in.Rest {
		in.Rest[i].Release()
	}
}

// Value is what a connection carries: a Go value, its encoded form, or both. What
// one worker returns is passed on to the next one without being decoded.
type Value struct {
	Native  any
	Payload ipc.Payload
	// Encoded says that Payload is set.
	Encoded bool

	// further counts the references to the payload beyond the first one. It is nil
	// while there is only that one.
	further *atomic.Int32
}

// Encode returns a Go value with its encoded form, whose large buffers lie in the
// shared memory of arena. The caller releases it. The first name in the path of an
// encoding error is root.
func Encode(ctx context.Context, arena *ipc.Arena, root string, v any) (Value, error) {
	payload, err := ipc.Encode(root, v)
	if err != nil {
		return Value{}, err
	}
	if payload, err = arena.Share(ctx, payload); err != nil {
		return Value{}, err
	}
	return Value{Native: v, Payload: payload, Encoded: true}, nil
}

// retain adds references to the payload, each of which needs a Release. Copies of
// the value that are released must be made afterwards.
func (v *Value) retain(more int) {
	if !v.Encoded || more == 0 {
		return
	}
	if v.further == nil {
		v.further = new(atomic.Int32)
	}
	v.further.Add(int32(more))
}

// Release gives up one reference. The last one frees the payload.
func (v *Value) Release() {
	if v.further == nil || v.further.Add(-1) < 0 {
		v.Payload.Release()
	}
}

// Decode returns the Go value, which is valid after the release. The first name in
// the path of an error is root.
func (v Value) Decode(root string) (any, error) {
	if !v.Encoded || v.Native != nil {
		return v.Native, nil
	}
	return v.Payload.Decode(root, ipc.DefaultLimits())
}

// View is like Decode, but large buffers in shared memory are not copied: the
// result is valid until the release and must not be changed.
func (v Value) View(root string) (any, error) {
	if !v.Encoded || v.Native != nil {
		return v.Native, nil
	}
	return v.Payload.View(root, ipc.DefaultLimits())
}

func (v *Value) size() int64 { return int64(v.Payload.Size()) }
