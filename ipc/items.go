package ipc

import (
	"fmt"
	"sync"

	"github.com/vmihailenco/msgpack/v5/msgpcode"
)

// inbox holds the items of a call that have arrived and that its caller has not yet taken.
type inbox struct {
	window  Window
	arrived chan struct{} // receives when there are items; it holds at most one token

	// The items that the caller has taken and not yet credited. Only the caller uses them.
	count, bytes int

	mu    sync.Mutex
	items []Payload
	size  int // of items, in bytes
}

// put adds an item. It returns false if the worker had no credit for it. Items that the
// caller has taken do not count, so the supervisor holds at most twice the window.
func (in *inbox) put(item Payload) bool {
	in.mu.Lock()
	fits := len(in.items) < in.window.Items && in.size <= in.window.Bytes
	if fits {
		in.items = append(in.items, item)
		in.size += item.Size()
	}
	in.mu.Unlock()
	select {
	case in.arrived <- struct{}{}:
	default:
	}
	return fits
}

// take returns the items that have arrived. It reuses the memory of spare for later ones.
func (in *inbox) take(spare []Payload) []Payload {
	in.mu.Lock()
	defer in.mu.Unlock()
	items := in.items
	in.items, in.size = spare[:0], 0
	return items
}

func (in *inbox) isEmpty() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return len(in.items) == 0
}

// Items makes the call of a node that returns many values, and passes each value to emit, in
// order and on the calling goroutine. Emit must release the values. While emit blocks, the
// worker sends no more than the window. Items blocks and fails as [Call.Do] does.
func (call *Call) Items(args Args, emit func(Payload)) error {
	c := call.conn
	in := &inbox{window: c.window, arrived: make(chan struct{}, 1)}
	c.calls.Lock()
	call.inbox = in
	c.calls.Unlock()
	defer call.dropCopies()
	if err := call.send(args); err != nil {
		return err
	}
	var items []Payload
	reads := c.role.claim(call)
	for {
		if reads {
			c.readFor(call)
			c.role.release()
		}
		select {
		case n := <-call.notices:
			if n == settled {
				call.emitItems(items, emit) // the items arrived before the answer
				call.answer.Release()
				args.trace.noteWorked(call)
				return call.err
			}
			reads = true
		case <-in.arrived:
			c.role.leave(call)
			items = call.emitItems(items, emit)
			reads = c.role.claim(call)
		}
	}
}

// emitItems passes the items that have arrived to emit, and credits them. It returns memory
// that can be reused.
func (call *Call) emitItems(spare []Payload, emit func(Payload)) []Payload {
	items := call.inbox.take(spare)
	for _, item := range items {
		size := item.Size() // before emit releases it
		emit(item)
		call.credit(size)
	}
	clear(items)
	return items
}

// credit counts an item that the caller has finished with. The worker is sent credit each
// time that half of the window has been used, so that it neither waits nor receives a frame
// for each item.
func (call *Call) credit(size int) {
	in := call.inbox
	in.count++
	in.bytes += size
	if 2*in.count < in.window.Items && 2*in.bytes < in.window.Bytes {
		return
	}
	body := []byte{msgpcode.Uint32, byte(in.count >> 24), byte(in.count >> 16), byte(in.count >> 8), byte(in.count)}
	in.count, in.bytes = 0, 0
	if call.conn.calls.isOpen(call.header.call) {
		// A failure to send ends the connection, and thereby the call.
		_ = call.conn.send(header{kind: frameCredit, call: call.header.call}, body)
	}
}

// item adds the value of an item frame to the inbox of its call.
func (c *Conn) item(f frame) error {
	c.calls.Lock()
	call, abandoned := c.calls.open[f.call], c.calls.abandoned[f.call]
	var in *inbox
	if call != nil && call.order.Load() > 0 {
		in = call.inbox
	}
	c.calls.Unlock()
	if in != nil && in.put(f.Payload) {
		return nil
	}
	f.Release()
	switch {
	case in != nil:
		return &ProtocolError{Reason: fmt.Sprintf("call %d returns more than the %d items or %d bytes for which it had credit", f.call, c.window.Items, c.window.Bytes)}
	case abandoned != nil:
		return nil
	}
	return &ProtocolError{Reason: fmt.Sprintf("an item frame for call %d, which is not under way, was not sent, or returns one value", f.call)}
}

// isNil reports whether a payload is nil, which is the result of a call that returns many
// values.
func (p Payload) isNil() bool {
	return len(p.Body) == 1 && p.Body[0] == msgpcode.Nil && len(p.Buffers) == 0
}
