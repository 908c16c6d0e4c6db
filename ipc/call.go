package ipc

import (
	"sync"
	"sync/atomic"
)

// Call is one call under way.
type Call struct {
	conn    *Conn
	id      uint64
	settled chan struct{} // receives once, when answer and err are set
	answer  Payload
	err     error

	sent, cancelled, told atomic.Bool
}

// Args are the inputs of a call: at most one positional value, or one value for
// each of the node's ports.
type Args struct {
	Value *Payload
	Ports []Port
}

// Port is the input for one keyword argument.
type Port struct {
	Name  string
	Value Payload
}

// settlements are the channels of calls that have ended. Calls themselves are
// not used again: a late Cancel may still hold one.
var settlements = sync.Pool{New: func() any { return make(chan struct{}, 1) }}

// NewCall registers a call. Every call that is made must be [Call.Do]ne, once.
func (c *Conn) NewCall() *Call {
	call := &Call{conn: c, id: c.lastID.Add(1), settled: settlements.Get().(chan struct{})}
	c.calls.Lock()
	err := c.calls.err
	if err == nil {
		c.calls.open[call.id] = call
	}
	c.calls.Unlock()
	if err != nil {
		call.settle(Payload{}, err)
	}
	return call
}

// Do sends the call and waits for its answer: the encoded result, a
// *[RemoteError], a *[ValueError] where the arguments are beyond the limits, or
// an error that wraps [ErrClosed] where the connection ended first. It returns
// no sooner, so that the worker's state is known when it does; [Call.Cancel]
// and the end of the process are what make it return early.
func (call *Call) Do(args Args) (Payload, error) {
	c := call.conn
	if err := c.sendCall(call.id, args); err != nil && c.forget(call.id) {
		settlements.Put(call.settled)
		return Payload{}, err
	}
	call.sent.Store(true)
	if call.cancelled.Load() {
		call.tell()
	}
	c.waiting.Add(1)
	defer c.waiting.Add(-1)
	for {
		select {
		case <-call.settled:
			settlements.Put(call.settled)
			return call.answer, call.err
		case c.baton <- struct{}{}:
			c.readFor(call)
			<-c.baton
		}
	}
}

// Cancel asks the worker to give the call up. The call is still answered. A
// call that has not been sent yet is cancelled once it has been; one that has
// been answered is left alone.
func (call *Call) Cancel() {
	call.cancelled.Store(true)
	if call.sent.Load() {
		call.tell()
	}
}

// tell sends the cancellation. Do and Cancel may both come to it.
func (call *Call) tell() {
	if call.conn.isOpen(call.id) && call.told.CompareAndSwap(false, true) {
		// A failure to send ends the connection, and so the call.
		_ = call.conn.send(TypeCancel, call.id, nil)
	}
}

func (call *Call) settle(answer Payload, err error) {
	call.answer, call.err = answer, err
	call.settled <- struct{}{}
}

func (c *Conn) isOpen(id uint64) bool {
	c.calls.Lock()
	defer c.calls.Unlock()
	_, open := c.calls.open[id]
	return open
}

// forget takes a call back that was not sent; false means that it has been
// settled already.
func (c *Conn) forget(id uint64) bool {
	c.calls.Lock()
	defer c.calls.Unlock()
	_, open := c.calls.open[id]
	delete(c.calls.open, id)
	return open
}
