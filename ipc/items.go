package ipc

import (
	"fmt"
	"sync"

	"github.com/vmihailenco/msgpack/v5/msgpcode"
)

// inbox holds the items of a call that its caller has not taken yet.
type inbox struct {
	window  Window
	arrived chan struct{} // receives when there are items; one token is enough

	mu    sync.Mutex
	items []Payload

	// What the caller has taken and not credited.
	count, bytes int
}

// put adds an item; false means that there are more of them than were credited.
func (in *inbox) put(item Payload) bool {
	in.mu.Lock()
	fits := len(in.items) < in.window.Items
	if fits {
		in.items = append(in.items, item)
	}
	in.mu.Unlock()
	select {
	case in.arrived <- struct{}{}:
	default:
	}
	return fits
}

// take returns the items that are there, in place of whose memory the given one
// is used.
func (in *inbox) take(spare []Payload) []Payload {
	in.mu.Lock()
	defer in.mu.Unlock()
	items := in.items
	in.items = spare[:0]
	return items
}

func (in *inbox) isEmpty() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return len(in.items) == 0
}

// Items sends a call that gives any number of values, and hands each to emit, in
// order and on this goroutine, which then owes it a release. As long as emit takes
// its time the worker sends no more than the window. Items returns as [Call.Do]
// does, without a result.
func (call *Call) Items(args Args, emit func(Payload)) error {
	c := call.conn
	in := &inbox{window: c.window, arrived: make(chan struct{}, 1)}
	c.calls.Lock()
	call.inbox = in
	c.calls.Unlock()
	if err := call.send(args); err != nil {
		return err
	}
	var items []Payload
	deliver := func() {
		items = in.take(items)
		for _, item := range items {
			size := item.Size() // before emit lets go of it
			emit(item)
			call.credit(size)
		}
		clear(items)
	}
	reads := c.claim(call)
	for {
		if reads {
			c.readFor(call)
			c.endTurn()
		}
		select {
		case told := <-call.notes:
			if told == over {
				deliver() // an answer comes behind the items
				call.answer.Release()
				return call.err
			}
			reads = true
		case <-in.arrived:
			c.leaveLine(call)
			deliver()
			reads = c.claim(call)
		}
	}
}

// isNil reports whether a payload is the result of a call that gives many values.
func isNil(p Payload) bool {
	return len(p.Body) == 1 && p.Body[0] == msgpcode.Nil && len(p.Buffers) == 0
}

// credit counts an item that the caller is done with. The worker is told when half
// of the window is, so that it need not wait, and is not told of each.
func (call *Call) credit(size int) {
	in := call.inbox
	in.count++
	in.bytes += size
	if 2*in.count < in.window.Items && 2*in.bytes < in.window.Bytes {
		return
	}
	body := []byte{msgpcode.Uint32, byte(in.count >> 24), byte(in.count >> 16), byte(in.count >> 8), byte(in.count)}
	in.count, in.bytes = 0, 0
	if call.conn.isOpen(call.head.call) {
		// A failure to send ends the connection, and so the call.
		_ = call.conn.send(head{kind: TypeCredit, call: call.head.call}, body)
	}
}

// item takes an item in.
func (c *Conn) item(f Frame) error {
	c.calls.Lock()
	call, abandoned := c.calls.open[f.Call], c.calls.abandoned[f.Call]
	var in *inbox
	if call != nil {
		in = call.inbox
	}
	c.calls.Unlock()
	switch {
	case in != nil:
		if in.put(f.Payload) {
			return nil
		}
		f.Release()
		return &ProtocolError{Reason: fmt.Sprintf("call %d gives more than the %d items that it had credit for", f.Call, c.window.Items)}
	case abandoned != nil:
		f.Release()
		return nil
	}
	f.Release()
	return &ProtocolError{Reason: fmt.Sprintf("an item frame for call %d, which is not under way or gives one value", f.Call)}
}
