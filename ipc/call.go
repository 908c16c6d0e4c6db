package ipc

import (
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vmihailenco/msgpack/v5/msgpcode"
)

// Call is one call of the node, or one operation on a session. A Call is created by
// [Conn.NewCall] and made once, by [Call.Do] or [Call.Items]. Its other methods may be called
// concurrently with that.
type Call struct {
	// OnCancelSent is called after the cancellation has been sent to the worker, on the
	// goroutine of [Call.Cancel] or of the caller. It may be nil. Set it before the call is
	// made.
	OnCancelSent func()
	// OnProgress receives what the node reports of the call, on the goroutine that reads the
	// connection: it must return quickly, and must not use the connection. The call may have
	// been answered meanwhile. It may be nil. Set it before the call is made.
	OnProgress func(Progress)
	// Deadline is when the caller stops waiting, which the node can read; zero for never. The
	// call itself does not end then. Set it before the call is made.
	Deadline time.Time

	conn    *Conn
	header  header
	notices chan notice // for the caller; see readRole. There is room for readNow and settled.
	answer  Payload     // valid once settled has been received, as is err
	err     error
	inbox   *inbox      // nil if the call returns one value
	worked  uint64      // see frame.worked; valid as answer is
	copies  *segment    // of the inputs; see Conn.lend. Used by the caller only
	waiting atomic.Bool // the caller waits for the read role

	order                        atomic.Uint64 // see Order
	sent, canceled, cancelIsSent atomic.Bool
	trace                        atomic.Pointer[Trace] // nil for none
}

// Args are the inputs of a call: none, one positional value, or one value for each of the
// node's ports. The argument of a [FrameOpen] call is the state to restore, if any.
type Args struct {
	// Ports are the keyword arguments.
	Ports   []Port
	value   Payload // the positional argument
	given   bool    // there is one
	attempt uint32  // see WithAttempt
	trace   *Trace  // see WithTrace
}

// OneArg returns the arguments of a call with one positional value.
func OneArg(value Payload) Args { return Args{value: value, given: true} }

// WithAttempt returns the arguments of a call that is the given attempt of an operation, from
// 1. The node can read the number.
func (args Args) WithAttempt(attempt int) Args {
	args.attempt = 0 // the first one needs no context
	if attempt > 1 {
		args.attempt = uint32(min(attempt, math.MaxInt32))
	}
	return args
}

// WithTrace returns the arguments of a call that belongs to a trace, which the node can read.
// The worker then says how long the call took, and log records of the call have the trace. A
// trace may be used by several calls, one after the other. Nil stands for none.
func (args Args) WithTrace(trace *Trace) Args {
	args.trace = trace
	return args
}

// Port is the input for one keyword argument.
type Port struct {
	// Name is the name of the argument, and Value its encoded value.
	Name  string
	Value Payload
}

// callTable holds the calls of a connection that the worker has not answered. Its lock is
// also held while the read role is handed over and while a call is taken out, so that a
// caller receives no notice after settled.
type callTable struct {
	openCount atomic.Int64 // the size of open, to be read without the lock

	sync.Mutex
	open      map[uint64]*Call // nil once the connection has ended
	abandoned map[uint64]*Call // their answers are discarded
	lastID    uint64
	err       error // why the connection ended
	// unsettled are the calls that the worker had when the connection ended: those without an
	// answer, abandoned ones included, and those that were answered with a fatal error.
	unsettled []unsettled
}

// unsettled is a call that the worker had when the connection ended.
type unsettled struct {
	order     uint64 // its Order
	abandoned bool
}

var freeCalls = sync.Pool{New: func() any { return &Call{notices: make(chan notice, 2)} }}

// NewCall returns a new call: of the node by [FrameCall], or an operation on a session by
// [FrameOpen], [FrameFinish] or [FrameSnapshot]. The session is its number, or 0 for a call
// outside of sessions. The call must be made, even if it has been canceled.
func (c *Conn) NewCall(kind FrameType, session uint32) *Call {
	call := freeCalls.Get().(*Call)
	call.conn = c
	c.calls.Lock()
	c.calls.lastID++
	call.header = header{kind: kind, call: c.calls.lastID, session: session}
	err := c.calls.err
	if err == nil {
		c.calls.open[call.header.call] = call
		c.calls.openCount.Add(1)
	}
	c.calls.Unlock()
	if err != nil {
		call.settle(Payload{}, err)
	}
	return call
}

// Do makes the call and blocks until it is answered. It returns the encoded result, which
// the caller must release. Its error is
//
//   - a *[RemoteError] if the worker reported a failure,
//   - a *[ValueError] if the arguments exceed the limits,
//   - [ErrAbandoned] if the call was abandoned, or canceled before it was sent, or
//   - an error that wraps [ErrClosed] if the connection ended before the answer.
//
// Do returns no sooner, so that the state of the worker is known when it returns. Cancel or
// abandon the call, or kill the process, to make it return early.
func (call *Call) Do(args Args) (Payload, error) {
	defer call.dropCopies()
	if err := call.send(args); err != nil {
		return Payload{}, err
	}
	c := call.conn
	for reads := c.role.claim(call); ; reads = true {
		if reads {
			c.readFor(call)
			c.role.release()
		}
		if <-call.notices == settled {
			args.trace.noteWorked(call)
			return call.answer, call.err
		}
	}
}

// dropCopies releases the copies of the inputs, if there are any, at the end of the call.
func (call *Call) dropCopies() {
	if call.copies != nil {
		call.copies.drop(1)
		call.copies = nil
	}
}

// send sends the call. An error means that it has not been sent and is no longer open. A
// failure of the connection is not returned, because it settles the call.
func (call *Call) send(args Args) error {
	c := call.conn
	if call.canceled.Load() && c.calls.remove(call.header.call) {
		return ErrAbandoned
	}
	if args.trace != nil {
		call.trace.Store(args.trace)
	}
	var room [3][]byte // so that the parts of a call with one value are not on the heap
	parts, input := args.encode(call.header.kind, room[:0])
	err := c.sendFrame("input", call.headerWith(&args), call, parts, input)
	if _, refused := errors.AsType[*ValueError](err); refused && c.calls.remove(call.header.call) {
		return err
	}
	call.sent.Store(true)
	if call.canceled.Load() {
		call.sendCancel()
	}
	return nil
}

// headerWith returns the header of the call's frame, with its context.
func (call *Call) headerWith(args *Args) header {
	h := call.header
	h.attempt, h.trace = args.attempt, args.trace
	if !call.Deadline.IsZero() {
		h.deadline = Monotonic(call.Deadline)
	}
	return h
}

// clock relates times to the system's monotonic clock, which workers read as well.
var clock = struct {
	start   time.Time
	reading int64 // of the monotonic clock at start, in nanoseconds
}{time.Now(), readMonotonic()}

// Monotonic returns the reading of the system's monotonic clock at a time, in nanoseconds, as
// time.monotonic_ns of Python returns it. It is not 0.
func Monotonic(t time.Time) int64 {
	return max(clock.reading+int64(t.Sub(clock.start)), 1)
}

// The beginnings of bodies. That of a call is an array of its positional and its named
// values; that of an open frame is an array of the state to restore, if any.
var (
	noValue  = []byte{msgpcode.FixedArrayLow | 2, msgpcode.FixedArrayLow}
	oneValue = []byte{msgpcode.FixedArrayLow | 2, msgpcode.FixedArrayLow | 1}
	noPorts  = []byte{msgpcode.FixedMapLow}
	noState  = []byte{msgpcode.FixedArrayLow}
	oneState = []byte{msgpcode.FixedArrayLow | 1}
)

// encode appends the parts of the body of a frame with these arguments. It returns them with
// the buffers of all inputs.
func (args Args) encode(kind FrameType, parts [][]byte) ([][]byte, Payload) {
	input := args.value
	switch {
	case kind == FrameOpen && args.given:
		return append(parts, oneState, input.Body), input
	case kind == FrameOpen:
		return append(parts, noState), input
	case kind != FrameCall:
		return parts, Payload{}
	case args.given:
		parts = append(parts, oneValue, input.Body)
	default:
		parts = append(parts, noValue)
	}
	if len(args.Ports) == 0 {
		return append(parts, noPorts), input
	}
	parts = append(parts, appendMapLen(nil, len(args.Ports)))
	for _, port := range args.Ports {
		parts = append(parts, appendStr(nil, port.Name), port.Value.Body)
		input = input.withBuffersOf(port.Value)
	}
	return parts, input
}

func appendMapLen(dst []byte, n int) []byte {
	switch {
	case n < 16:
		return append(dst, msgpcode.FixedMapLow|byte(n))
	case n <= math.MaxUint16:
		return append(dst, msgpcode.Map16, byte(n>>8), byte(n))
	default:
		return append(dst, msgpcode.Map32, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	}
}

func appendStr(dst []byte, s string) []byte {
	switch n := len(s); {
	case n < 32:
		dst = append(dst, msgpcode.FixedStrLow|byte(n))
	case n <= math.MaxUint8:
		dst = append(dst, msgpcode.Str8, byte(n))
	case n <= math.MaxUint16:
		dst = append(dst, msgpcode.Str16, byte(n>>8), byte(n))
	default:
		dst = append(dst, msgpcode.Str32, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	}
	return append(dst, s...)
}

// settle stores the answer of the call and notifies its caller. It is called once for each
// call, which has been taken out of the table, or was never in it.
func (call *Call) settle(answer Payload, err error) {
	call.answer, call.err = answer, err
	call.notices <- settled
}

// Cancel asks the worker to cancel the call, which is still answered. A call that has not
// been sent is not sent any more, and its error is [ErrAbandoned]. A call that has been
// answered is not affected. Cancel blocks while the worker does not read. It returns false if
// the call is still being sent; the cancellation is then sent right after it.
func (call *Call) Cancel() bool {
	call.canceled.Store(true)
	sent := call.sent.Load()
	if sent {
		call.sendCancel()
	}
	return sent
}

// sendCancel sends the cancellation of a call that has been sent. Both send and Cancel may call
// it.
func (call *Call) sendCancel() {
	c := call.conn
	if !c.calls.isOpen(call.header.call) || !call.cancelIsSent.CompareAndSwap(false, true) {
		return
	}
	// It is not queued, because it must have been written when OnCancelSent is called. A
	// failure to send ends the connection, and thereby the call.
	_ = c.writeThrough(header{kind: frameCancel, call: call.header.call}, nil, 0, nil, nil, Payload{})
	if call.OnCancelSent != nil {
		call.OnCancelSent()
	}
}

// Abandon settles the call with [ErrAbandoned] without waiting for the worker's answer, which
// is discarded when it arrives. The call must have been canceled. Abandon has no effect on a
// call that has been answered. It returns false, and does nothing, if the call is still being
// sent: its caller cannot return before the worker reads, or the connection ends.
func (call *Call) Abandon() bool {
	if !call.sent.Load() {
		return false
	}
	c := call.conn
	c.calls.Lock()
	_, open := c.calls.open[call.header.call]
	if open {
		delete(c.calls.open, call.header.call)
		c.calls.openCount.Add(-1)
		c.calls.abandoned[call.header.call] = call
	}
	c.calls.Unlock()
	if open {
		call.settle(Payload{}, ErrAbandoned)
		c.role.interrupt() // its caller may be the one that reads
	}
	return true
}

// Free makes the memory of a finished call available to new calls. No reference to the call
// may be used afterwards: a late [Call.Cancel] would cancel another call. Calling Free is
// optional.
func (call *Call) Free() {
	*call = Call{notices: call.notices}
	freeCalls.Put(call)
}

// Order returns the position of the call among all calls that the worker was sent, from 1, or
// 0 if it was not sent. The worker begins the calls in this order, so Order compares with the
// begun count.
func (call *Call) Order() uint64 { return call.order.Load() }

// NeverWritten reports whether the supervisor itself has evidence that no byte of the call was
// written to the worker. It does not rely on anything that the worker says. The connection must
// have ended.
func (call *Call) NeverWritten() bool {
	order, unwritten := call.order.Load(), call.conn.unwritten.Load()
	return order == 0 || unwritten != 0 && order >= unwritten
}

// Company returns how many other calls the worker had begun and not answered when the
// connection ended, abandoned ones included: those that were sent before this call, and after
// it. First means that no call was sent before this one and still has its caller. begun is the
// number of calls that the worker had begun. An answer with a fatal error does not count as one.
func (call *Call) Company(begun uint64) (before, after int, first bool) {
	calls := &call.conn.calls
	calls.Lock()
	defer calls.Unlock()
	order := call.order.Load()
	first = true
	for _, other := range calls.unsettled {
		switch {
		case other.order < order:
			before++
			first = first && other.abandoned
		case other.order > order && other.order <= begun:
			after++
		}
	}
	return before, after, first
}

// HasEarlierCalls reports whether the worker has yet to answer calls that were sent before
// this one, including abandoned ones.
func (call *Call) HasEarlierCalls() bool {
	calls := &call.conn.calls
	calls.Lock()
	defer calls.Unlock()
	order := call.order.Load()
	return hasEarlier(calls.open, order) || hasEarlier(calls.abandoned, order)
}

// HasEarlierPending is [Call.HasEarlierCalls] without the abandoned calls.
func (call *Call) HasEarlierPending() bool {
	calls := &call.conn.calls
	calls.Lock()
	defer calls.Unlock()
	return hasEarlier(calls.open, call.order.Load())
}

// Abandoned returns how many abandoned calls the worker has yet to answer.
func (c *Conn) Abandoned() int {
	c.calls.Lock()
	defer c.calls.Unlock()
	return len(c.calls.abandoned)
}

// WorksOnlyOnAbandoned reports whether the worker works on abandoned calls and on no others.
// begun is the number of calls that it has begun.
func (c *Conn) WorksOnlyOnAbandoned(begun uint64) bool {
	c.calls.Lock()
	defer c.calls.Unlock()
	return hasEarlier(c.calls.abandoned, begun+1) && !hasEarlier(c.calls.open, begun+1)
}

// noteUnsettledLocked adds those of the calls that were sent.
func (t *callTable) noteUnsettledLocked(calls map[uint64]*Call, abandoned bool) {
	for _, call := range calls {
		if order := call.order.Load(); order != 0 {
			t.unsettled = append(t.unsettled, unsettled{order, abandoned})
		}
	}
}

// hasEarlier reports whether one of the calls was sent before the one with the given order.
func hasEarlier(calls map[uint64]*Call, order uint64) bool {
	for _, call := range calls {
		if at := call.order.Load(); at != 0 && at < order {
			return true
		}
	}
	return false
}

// kindOf returns the type of the frame with which an open call was made, 0 if it is not open.
func (t *callTable) kindOf(id uint64) FrameType {
	t.Lock()
	defer t.Unlock()
	if call := t.open[id]; call != nil {
		return call.header.kind
	}
	return 0
}

// report passes a report of progress on to the calls that it is about. Those that have ended,
// or are abandoned, have no use for it: a thread of the node may still have worked for them. The
// error is a *[ProtocolError] if the worker cannot know one of the calls.
func (t *callTable) report(p Progress) error {
	hooks, err := t.progressHooks(p.Calls)
	for _, hook := range hooks {
		hook(p)
	}
	return err
}

// progressHooks returns the functions that receive the reports of calls.
func (t *callTable) progressHooks(calls []uint64) (hooks []func(Progress), err error) {
	if len(calls) > MaxAtOnce {
		return nil, &ProtocolError{Reason: fmt.Sprintf("a progress frame is about %d calls, more than %d", len(calls), MaxAtOnce)}
	}
	t.Lock()
	defer t.Unlock()
	for _, id := range calls {
		call := t.open[id]
		// The field may be read only if the call was sent: its caller may still set it.
		if id == 0 || id > t.lastID || call != nil && call.order.Load() == 0 {
			return nil, &ProtocolError{Reason: fmt.Sprintf("a progress frame is about call %d, which the worker was not sent", id)}
		}
		if call != nil && call.OnProgress != nil {
			hooks = append(hooks, call.OnProgress)
		}
	}
	return hooks, nil
}

// traceOf returns the trace of an open call, nil if it has none or is not open.
func (t *callTable) traceOf(id uint64) *Trace {
	t.Lock()
	defer t.Unlock()
	if call := t.open[id]; call != nil {
		return call.trace.Load()
	}
	return nil
}

// isOpen reports whether a call has been neither settled nor removed.
func (t *callTable) isOpen(id uint64) bool {
	t.Lock()
	defer t.Unlock()
	_, open := t.open[id]
	return open
}

// remove removes a call that was not sent. It returns false if the call has already been
// settled.
func (t *callTable) remove(id uint64) bool {
	t.Lock()
	defer t.Unlock()
	_, open := t.open[id]
	if open {
		delete(t.open, id)
		t.openCount.Add(-1)
	}
	return open
}
