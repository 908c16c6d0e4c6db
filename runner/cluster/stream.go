package cluster

import (
	"context"
	"fmt"
	"io"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/cluster/internal/wire"
	"github.com/gophersnake/gophersnake/runner/internal/progress"
)

// Stream is a stream of items through a pipeline on one of the machines, as
// [runner.Stream] is one here: items are put in by [Stream.Send] and taken out by
// [Stream.Recv], in order. A stream occupies a slot of its machine until it ends. A consumer
// that is slow stops the nodes, and these stop Send: at most a window of items waits at each
// end of the connection, besides those in the pipeline.
//
// A stream that is not received to its end must be closed. Its methods are safe for concurrent
// use.
//
// If the machine dies, and all nodes of the pipeline are idempotent and can restore their
// state (see [runner.Runner.Resumes]), the stream continues on another machine: no value is
// lost, and none is returned twice. For that the client keeps the items whose values it has not
// received, or for pipelines with generators and stateful nodes the last checkpoint and the
// items since then. Otherwise the stream fails.
type Stream struct {
	client *Client
	call   *pending
	window int
	caller context.Context // that of Client.Stream
	ctx    context.Context // ends with the stream
	cancel context.CancelCauseFunc
	done   chan struct{} // closed when nothing of the stream is running here

	sending sync.Mutex // held by Send, so that there is one at a time

	mu       sync.Mutex
	sender   *sync.Cond // Send waits for credit, or for room in the log
	receiver *sync.Cond // Recv waits for a value
	log      inputLog
	attempt  *attempt       // the current one
	lane     *lane          // that of the attempt; nil between two machines
	skip     map[string]int // how many values of each sink the attempt repeats
	counts   map[string]int // how many values of each sink have arrived
	queue    []received
	returned int       // values
	err      error     // why the stream has ended, io.EOF if it has not failed
	stale    []arrival // contents in the value store that nothing takes

	base   map[string]int // how many values of each sink there were before the attempt
	over   *arrival       // the last frame of the attempt
	states chan arrival   // the checkpoint that the attempt has sent
}

// received is a value that Recv has not returned yet.
type received struct {
	arrival
	lane *lane
}

// StreamOption changes how [Client.Stream] sets a stream up.
type StreamOption func(*streamOptions)

type streamOptions struct{ window int }

// WithWindow sets the number of items that may be between two nodes, as [runner.WithWindow]
// does, and that may wait at each end of the connection. The default is 16.
func WithWindow(items int) StreamOption { return func(o *streamOptions) { o.window = items } }

const defaultWindow = 16

// Stream opens a stream through the pipeline on one of the machines. It does not wait for the
// machine: if none takes the stream, Recv and Send return the error. When ctx ends, the stream
// is stopped here and on its machine.
func (c *Client) Stream(ctx context.Context, opts ...StreamOption) (*Stream, error) {
	o := streamOptions{window: defaultWindow}
	for _, opt := range opts {
		opt(&o)
	}
	if o.window < 1 || o.window > runner.LargestWindow {
		return nil, runner.NewError(runner.KindManifest, fmt.Sprintf("WithWindow takes 1 to %d items, not %d", runner.LargestWindow, o.window))
	}
	if ctx.Err() != nil {
		return nil, contextError(ctx)
	}
	call := &pending{client: c, since: time.Now(), header: outgoing(ctx), progress: progress.Of(ctx)}
	if err := checkHeader(call.header); err != nil {
		return nil, err
	}
	s := &Stream{
		client: c, call: call, window: o.window, log: inputLog{most: max(mostLogged, 4*o.window)},
		counts: make(map[string]int), states: make(chan arrival, 1), done: make(chan struct{}),
	}
	call.stream, s.caller = s, ctx
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	s.sender, s.receiver = sync.NewCond(&s.mu), sync.NewCond(&s.mu)
	go s.run()
	return s, nil
}

// Send puts the next item into the stream, and blocks while there is no room for it. The item
// must not be changed before the end of the stream. It fails as [runner.Stream.Send] does.
func (s *Stream) Send(v any) error {
	p, err := ipc.Encode("input", v)
	if err != nil {
		return wire.EncodeError(err)
	}
	s.sending.Lock()
	defer s.sending.Unlock()
	if err := s.awaitRoom(int64(p.Size())); err != nil {
		return err
	}
	a, stored, err := s.client.conn.packValue(s.ctx, 0, "", p)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.refusalLocked(); err != nil {
		if stored != "" {
			s.stale = append(s.stale, a)
		}
		return err
	}
	s.log.add(input{payload: p, packed: a, size: int64(p.Size())})
	s.pumpLocked()
	return nil
}

// awaitRoom waits until the machine takes an item of the given size, and the log has room.
func (s *Stream) awaitRoom(size int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		if err := s.refusalLocked(); err != nil {
			return err
		}
		if s.lane != nil && s.lane.mayLocked() && s.log.isSent() && s.log.hasRoom(size) {
			return nil
		}
		s.sender.Wait()
	}
}

// refusalLocked returns the reason why the stream takes no more items.
func (s *Stream) refusalLocked() error {
	switch {
	case s.log.closed:
		return runner.NewError(runner.KindOther, "Send after CloseSend: the stream takes no more items")
	case s.err == io.EOF: //nolint:errorlint // it is set here
		return runner.NewError(runner.KindOther, "the stream has ended")
	}
	return s.err
}

// pumpLocked sends the items of the log that the machine takes now.
func (s *Stream) pumpLocked() {
	l := s.lane
	for l != nil && l.mayLocked() {
		a, ok := s.log.next()
		if !ok {
			break
		}
		l.sendLocked(a)
	}
	if l != nil && s.log.closed && s.log.isSent() && !s.log.ended {
		s.log.ended = true
		l.sendLocked(arrival{flags: flagEnd})
	}
}

// CloseSend ends the input. Calls after the first one have no effect. It cannot fail: if the
// stream has failed, Recv returns the failure.
func (s *Stream) CloseSend() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log.closed = true
	s.pumpLocked()
	s.sender.Broadcast()
}

// Recv returns the next item, and blocks until there is one. It fails as [runner.Stream.Recv]
// does: its error is [io.EOF] at the end of the stream, and otherwise a [*runner.Error] whose
// metadata has the machine, and the number of items that were "delivered".
func (s *Stream) Recv() (runner.Item, error) {
	s.mu.Lock()
	for len(s.queue) == 0 && s.err == nil {
		s.receiver.Wait()
	}
	if len(s.queue) == 0 {
		defer s.mu.Unlock()
		if s.err == io.EOF { //nolint:errorlint // it is set here
			return runner.Item{}, io.EOF
		}
		return runner.Item{}, runner.AsError(s.err).WithMetadata("delivered", fmt.Sprint(s.returned))
	}
	next := s.queue[0]
	s.queue[0] = received{}
	s.queue = s.queue[1:]
	s.returned++
	next.lane.takenLocked()
	if len(s.queue) > 0 || s.err != nil {
		s.receiver.Signal() // for concurrent calls of Recv
	}
	s.mu.Unlock()
	v, err := s.value(next.arrival)
	if err != nil {
		s.cancel(err)
		<-s.done
		return runner.Item{}, err
	}
	return runner.Item{Value: v, Node: next.sink}, nil
}

// value decodes an item.
func (s *Stream) value(a arrival) (any, error) {
	content, err := s.client.conn.unpack(s.caller, a)
	if err != nil {
		return nil, err
	}
	cur := cursor{rest: content}
	p, err := cur.payload()
	if err != nil {
		return nil, runner.Wrap(err, runner.KindTransport, "read an item")
	}
	v, err := p.Decode("result", ipc.DefaultLimits())
	if err != nil {
		return nil, runner.AsError(wire.EncodeError(err)).WithNode(a.sink)
	}
	return v, nil
}

// All receives to the end. If the stream fails, the error is the last element of the sequence.
// Breaking out of the loop closes the stream.
func (s *Stream) All() iter.Seq2[runner.Item, error] {
	return func(yield func(runner.Item, error) bool) {
		defer func() { _ = s.Close() }()
		for {
			item, err := s.Recv()
			if err == io.EOF || !yield(item, err) || err != nil { //nolint:errorlint // Recv returns it as it is
				return
			}
		}
	}
}

// errStreamClosed is the failure of a stream that its user has closed.
var errStreamClosed = runner.NewError(runner.KindOther, "the stream is closed")

// Close ends the stream at once, and drops the items that were not received. Its machine is told
// to cancel the calls in progress, and Close does not wait for that. It may be called several
// times, and after the end of the stream.
//
// The error is always nil. It makes a Stream an [io.Closer].
func (s *Stream) Close() error {
	s.cancel(errStreamClosed)
	<-s.done
	s.mu.Lock()
	var left []arrival
	for _, r := range s.queue {
		left = append(left, r.arrival)
	}
	s.queue = nil
	s.mu.Unlock()
	s.client.conn.dropAll(left)
	return nil
}

// run takes the stream to a machine, and to another one when that is lost, until it ends.
func (s *Stream) run() {
	defer close(s.done)
	var err error
	for err == nil {
		var a *attempt
		if a, err = s.call.next(s.ctx); err == nil {
			err = s.on(a)
		}
	}
	if s.ctx.Err() != nil && err != io.EOF { //nolint:errorlint // it is returned as it is
		err = s.stopped()
	}
	s.mu.Lock()
	s.err = err
	stale := slices.Concat(s.stale, s.log.claimed())
	s.stale = nil
	s.sender.Broadcast()
	s.receiver.Broadcast()
	s.mu.Unlock()
	s.cancel(err)
	s.client.conn.dropAll(stale)
}

// stopped returns the failure of a stream whose context has ended.
func (s *Stream) stopped() error {
	cause := context.Cause(s.ctx)
	if e, ok := cause.(*runner.Error); ok { //nolint:errorlint // that of Close or Recv
		return e
	}
	return runner.Wrap(cause, runner.KindOther, "")
}
