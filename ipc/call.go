package ipc

import (
	"errors"
	"sync"
	"sync/atomic"
)

// Call is one call under way: of the node, or of what goes with a session.
type Call struct {
	// Told is called once the worker has been told that the call is cancelled, by
	// who cancels or who calls. It is set before the call is done, and may be nil.
	Told func()

	conn   *Conn
	head   head
	notes  chan note // for who waits: yourTurn at most, and over
	answer Payload
	err    error
	inbox  *inbox      // nil where the call gives one value
	inLine atomic.Bool // its caller waits for his turn to read

	// order counts the calls of the connection in the order in which they are on
	// the wire, from 1; 0 until the call is.
	order                 atomic.Uint64
	sent, cancelled, told atomic.Bool
}

// Args are the inputs of a call: at most one positional value, or one value for
// each of the node's ports. Those of an open call are the state to restore, if any.
type Args struct {
	Ports []Port
	value Payload
	given bool
}

// One is the arguments of a call with one input.
func One(value Payload) Args { return Args{value: value, given: true} }

// Port is the input for one keyword argument.
type Port struct {
	Name  string
	Value Payload
}

// ErrAbandoned is the error of a call that was given up before its answer.
var ErrAbandoned = errors.New("the call was given up before its answer")

// freed are calls that can be used again.
var freed = sync.Pool{New: func() any { return &Call{notes: make(chan note, 2)} }}

// NewCall registers a call of the node. Every call that is made must be
// [Call.Do]ne, or have its [Call.Items] taken, once.
func (c *Conn) NewCall() *Call { return c.NewSessionCall(TypeCall, 0) }

// NewSessionCall registers what goes with a session, by its number: [TypeOpen],
// [TypeCall], [TypeSnapshot] or [TypeFinish].
func (c *Conn) NewSessionCall(kind Type, session uint32) *Call {
	call := freed.Get().(*Call)
	call.conn = c
	c.calls.Lock()
	c.calls.lastID++
	call.head = head{kind: kind, call: c.calls.lastID, session: session}
	err := c.calls.err
	if err == nil {
		c.calls.open[call.head.call] = call
	}
	c.calls.Unlock()
	if err != nil {
		call.settle(Payload{}, err)
	}
	return call
}

// Drop tells the worker that a session is over, whatever its node would still do.
func (c *Conn) Drop(session uint32) error {
	return c.send(head{kind: TypeDrop, session: session}, nil)
}

// Do sends the call and waits for its answer: the encoded result, a
// *[RemoteError], a *[ValueError] where the arguments are beyond the limits,
// [ErrAbandoned], or an error that wraps [ErrClosed] where the connection ended
// first. It returns no sooner, so that the worker's state is known when it does;
// [Call.Cancel], [Call.Abandon] and the end of the process are what make it return
// early.
func (call *Call) Do(args Args) (Payload, error) {
	if err := call.send(args); err != nil {
		return Payload{}, err
	}
	c := call.conn
	for reads := c.claim(call); ; reads = true {
		if reads {
			c.readFor(call)
			c.endTurn()
		}
		if <-call.notes == over {
			return call.answer, call.err
		}
	}
}

// send sends the call. Where it fails, and nothing else settles the call, it has
// settled it.
func (call *Call) send(args Args) error {
	c := call.conn
	if call.cancelled.Load() && c.forget(call.head.call) {
		return ErrAbandoned
	}
	if err := c.sendCall(call, args); err != nil && c.forget(call.head.call) {
		return err
	}
	call.sent.Store(true)
	if call.cancelled.Load() {
		call.tell()
	}
	return nil
}

// Cancel asks the worker to give the call up. The call is still answered. A
// call that has not been sent yet is not sent any more, and its error is
// [ErrAbandoned]; one that has been answered is left alone. Cancel returns false
// where it is still being sent: then the worker is told behind it.
func (call *Call) Cancel() bool {
	call.cancelled.Store(true)
	sent := call.sent.Load()
	if sent {
		call.tell()
	}
	return sent
}

// tell sends the cancellation. Do and Cancel may both come to it.
func (call *Call) tell() {
	c := call.conn
	if !c.isOpen(call.head.call) || !call.told.CompareAndSwap(false, true) {
		return
	}
	// A failure to send ends the connection, and so the call.
	_ = c.sendAtOnce(head{kind: TypeCancel, call: call.head.call})
	if call.Told != nil {
		call.Told()
	}
}

// Abandon settles a cancelled call with [ErrAbandoned]. The worker's answer, which
// is to come, is nobody's.
func (call *Call) Abandon() {
	c := call.conn
	c.calls.Lock()
	_, open := c.calls.open[call.head.call]
	if open {
		delete(c.calls.open, call.head.call)
		c.calls.abandoned[call.head.call] = call
	}
	c.calls.Unlock()
	if open {
		call.settle(Payload{}, ErrAbandoned)
		c.wake() // its caller may be the one who reads
	}
}

// IsBehindOthers reports whether the worker has calls to answer that came before
// this one.
func (call *Call) IsBehindOthers() bool {
	calls := &call.conn.calls
	calls.Lock()
	defer calls.Unlock()
	order := call.order.Load()
	return anyBefore(order, calls.open) || anyBefore(order, calls.abandoned)
}

// IsBehindWaiting is IsBehindOthers that leaves out the calls that were given up.
func (call *Call) IsBehindWaiting() bool {
	calls := &call.conn.calls
	calls.Lock()
	defer calls.Unlock()
	return anyBefore(call.order.Load(), calls.open)
}

// Abandoned returns how many calls the worker has yet to answer that were given up.
func (c *Conn) Abandoned() int {
	c.calls.Lock()
	defer c.calls.Unlock()
	return len(c.calls.abandoned)
}

// IsForsaken reports whether the worker, which has begun so many calls, works on some,
// and nobody waits for any of them.
func (c *Conn) IsForsaken(begun uint64) bool {
	c.calls.Lock()
	defer c.calls.Unlock()
	return anyBefore(begun+1, c.calls.abandoned) && !anyBefore(begun+1, c.calls.open)
}

// anyBefore reports whether there is a call that went out before the place given.
func anyBefore(order uint64, calls map[uint64]*Call) bool {
	for _, call := range calls {
		if at := call.order.Load(); at != 0 && at < order {
			return true
		}
	}
	return false
}

// Free gives the memory of a call back that has been done. Nobody may hold it any
// more: a late Cancel would meet another call. It need not be called.
func (call *Call) Free() {
	*call = Call{notes: call.notes}
	freed.Put(call)
}

// Order is the place of the call among those that the worker begins, from 1, and
// 0 where it was never sent. A worker that counts what it begins tells by it how
// far it came.
func (call *Call) Order() uint64 { return call.order.Load() }

func (call *Call) settle(answer Payload, err error) {
	call.answer, call.err = answer, err
	call.notes <- over
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
