package cluster

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/cluster/internal/wire"
)

// servedStream is a stream that a machine has taken or queued. It has a goroutine that puts
// items into the stream of the runner, and one that takes values out.
type servedStream struct {
	call *served
	conn *Conn

	mu      sync.Mutex
	changed *sync.Cond // an item has arrived, there is more credit, or the stream is over
	lane    *lane      // nil until the stream begins
	heard   time.Time  // when the client has last sent something
	queue   []arrival  // items that are not in the stream of the runner yet
	over    bool       // nothing more is put into the stream, or taken out
	broken  error      // an item could not be put into the stream
	emitted int        // values that were sent
	state   *arrival   // a checkpoint that is not sent yet
	stateAt int        // how many values are sent before it
}

func newServedStream(call *served) *servedStream {
	st := &servedStream{call: call, conn: call.target.machine.conn}
	st.changed = sync.NewCond(&st.mu)
	return st
}

// resumesHow returns how a stream of a pipeline continues on another machine, and its sinks.
func resumesHow(r *runner.Runner, all []ipc.Description) (how string, sinks []string) {
	p := r.Pipeline()
	isFollowed := make(map[string]bool)
	for _, c := range p.Connections {
		isFollowed[c.From] = true
	}
	how = resumesEach
	for i := range p.Nodes {
		if !isFollowed[p.Nodes[i].ID] || p.Nodes[i].Output {
			sinks = append(sinks, p.Nodes[i].ID)
		}
		if all[i].Many || all[i].Stateful {
			how = resumesState
		}
	}
	if !r.Resumes() {
		how = resumesNot
	}
	return how, sinks
}

// stream runs a stream that has a slot, and answers it.
func (t *target) stream(call *served) error {
	st := call.stream
	ctx, stopReports := t.reporting(call)
	defer stopReports()
	s, err := t.openStream(ctx, call)
	if err != nil {
		t.fail(call, err)
		return err
	}
	defer t.forget(call)
	stop := context.AfterFunc(call.ctx, st.wake)
	defer stop()
	var feeding sync.WaitGroup
	feeding.Go(func() { st.feed(s) })
	err = st.drain(s)
	_ = s.Close()
	st.mu.Lock()
	st.over = true
	st.changed.Broadcast()
	st.mu.Unlock()
	feeding.Wait()
	stopReports()
	st.finish(err)
	return err
}

// openStream opens the stream of the runner, and lets the client send.
func (t *target) openStream(ctx context.Context, call *served) (*runner.Stream, error) {
	st, frame := call.stream, call.frame
	call.frame = cursor{}
	content, err := st.conn.unpack(call.ctx, arrival{flags: call.flags, content: frame.rest})
	if err != nil {
		return nil, err
	}
	var o opening
	if err := (&cursor{rest: content}).document(&o); err != nil {
		return nil, runner.Wrap(err, runner.KindTransport, "open the stream")
	}
	s, err := t.pipeline.runner.Stream(ctx,
		runner.WithWindow(o.Window), runner.WithCheckpoint(runner.Checkpoint{States: o.States}))
	if err != nil {
		return nil, err
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	st.lane = newLane(&st.mu, o.Window, func(frame []byte) { t.publish(call.reply, frame) }, func(a arrival) {
		st.queue = append(st.queue, a)
		st.changed.Broadcast()
	})
	st.lane.changed = st.changed
	st.lane.flowLocked(0)
	return s, nil
}

// wake wakes the goroutines of the stream, because its context has ended.
func (st *servedStream) wake() {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.changed.Broadcast()
}

// handle processes a frame of the client.
func (st *servedStream) handle(kind frameKind, flags byte, c *cursor) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.heard = time.Now()
	if st.lane != nil {
		st.lane.handleLocked(kind, flags, c)
	}
}

// streamSilent is the time after which a machine gives up a stream of which its client says
// nothing, although it lives: it has taken the stream to another machine, because this one did
// not answer.
var streamSilent = 10 * time.Second

// isSilent reports whether the client has said nothing of the stream for too long. If the silence
// means nothing, because this machine could not hear, it counts from now on.
func (st *servedStream) isSilent(now time.Time, couldHear bool) bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	if !couldHear || st.lane == nil {
		st.heard = now
	}
	return now.Sub(st.heard) > streamSilent
}

// feed puts items into the stream of the runner, until no item follows or the stream is over.
func (st *servedStream) feed(s *runner.Stream) {
	defer s.CloseSend()
	for {
		a, ok := st.next()
		if !ok || a.flags&flagEnd != 0 {
			return
		}
		v, err := st.value(a)
		if err == nil {
			err = s.Send(v)
		}
		if err != nil {
			st.mu.Lock()
			st.broken = err // the failure of the stream, if that has failed
			st.mu.Unlock()
			return
		}
		if a.flags&flagSave != 0 {
			st.save(s)
		}
	}
}

// next takes an item, after waiting for it. It returns false if the stream is over.
func (st *servedStream) next() (arrival, bool) {
	st.mu.Lock()
	defer st.mu.Unlock()
	for len(st.queue) == 0 && !st.over {
		st.changed.Wait()
	}
	if st.over {
		return arrival{}, false
	}
	a := st.queue[0]
	st.queue[0] = arrival{}
	st.queue = st.queue[1:]
	st.lane.takenLocked()
	return a, true
}

// value decodes an item.
func (st *servedStream) value(a arrival) (any, error) {
	content, err := st.conn.unpack(st.call.ctx, a)
	if err != nil {
		return nil, err
	}
	p, err := (&cursor{rest: content}).payload()
	if err != nil {
		return nil, runner.Wrap(err, runner.KindTransport, "read an item")
	}
	return p.Ordered().Decode("input", ipc.DefaultLimits())
}

// save takes a checkpoint, and sends it behind the values that belong to it. If there is none,
// the stream has failed, which its client learns by itself.
func (st *servedStream) save(s *runner.Stream) {
	c, err := s.Checkpoint()
	if err != nil {
		return
	}
	total := 0
	for _, n := range c.Emitted {
		total += n
	}
	content, err := appendDocument(nil, c)
	if err != nil {
		return
	}
	packed, _, err := st.conn.pack(st.call.ctx, flagState, "", content, wire.PayloadRoom)
	if err != nil {
		return
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	st.state, st.stateAt = &packed, total
	st.sendStateLocked()
}

// sendStateLocked sends a checkpoint if all values before it were sent.
func (st *servedStream) sendStateLocked() {
	if st.state != nil && st.emitted == st.stateAt && !st.over {
		st.lane.sendLocked(*st.state)
		st.state = nil
	}
}

// drain sends the values of the stream until it ends, and returns its failure.
func (st *servedStream) drain(s *runner.Stream) error {
	for {
		err := s.RecvView(st.emit)
		if err == io.EOF { //nolint:errorlint // Recv returns it as it is
			st.mu.Lock()
			defer st.mu.Unlock()
			return st.broken
		}
		if err != nil {
			return err
		}
	}
}

// emit sends a value, after waiting for credit.
func (st *servedStream) emit(item runner.Item) error {
	p, err := ipc.Encode("result", item.Value)
	if err != nil {
		return err
	}
	ctx := st.call.ctx
	packed, stored, err := st.conn.packValue(ctx, 0, item.Node, p)
	if err != nil {
		return err
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	for !st.lane.mayLocked() && ctx.Err() == nil {
		st.changed.Wait()
	}
	if ctx.Err() != nil {
		if stored != "" {
			st.queue = append(st.queue, packed) // finish deletes it
		}
		return context.Cause(ctx)
	}
	st.lane.sendLocked(packed)
	st.emitted++
	st.sendStateLocked()
	return nil
}

// finish tells the client how the stream has ended, and waits until it knows.
func (st *servedStream) finish(err error) {
	cause := context.Cause(st.call.ctx)
	isKnown := st.isLeft()
	switch t := st.call.target; {
	case isKnown:
	case errors.Is(cause, errMachineLeaves) && t.pipeline.code.Load().resumes != resumesNot:
		t.refuse(st.call, refusedLeaving)
	default:
		isKnown = st.tell(st.last(err))
	}
	st.mu.Lock()
	left := append(st.lane.endLocked(), st.queue...)
	st.queue = nil
	if st.state != nil {
		left = append(left, *st.state)
	}
	st.mu.Unlock()
	if err != nil || !isKnown {
		st.conn.dropAll(left)
	}
}

// last returns the last frame of a stream.
func (st *servedStream) last(err error) arrival {
	if err == nil {
		return arrival{flags: flagEnd}
	}
	t := st.call.target
	if errors.Is(context.Cause(st.call.ctx), errMachineLeaves) {
		err = runner.Wrap(err, runner.KindTransport, "the machine was stopped during the stream")
	}
	doc, encodeErr := appendDocument(nil, wire.NewFailure(t.located(err)))
	if encodeErr == nil {
		var packed arrival
		if packed, _, encodeErr = st.conn.pack(context.Background(), flagFault, "", doc, wire.PayloadRoom); encodeErr == nil {
			return packed
		}
	}
	e := runner.AsError(err) // it is too large for a message, and cannot be stored
	doc, _ = appendDocument(nil, wire.NewFailure(t.located(runner.NewError(e.Kind, e.Error()))))
	return arrival{flags: flagFault, content: doc}
}

// tell sends the last frame, and reports whether the client has acknowledged it in time.
func (st *servedStream) tell(last arrival) bool {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(st.call.ctx), callerSilent)
	defer cancel()
	defer context.AfterFunc(ctx, st.wake)()
	st.mu.Lock()
	defer st.mu.Unlock()
	st.lane.sendLocked(last)
	for st.lane.acked < st.lane.sent && ctx.Err() == nil && !st.isLeft() {
		st.changed.Wait()
	}
	return st.lane.acked == st.lane.sent
}

// isLeft reports whether the client has left.
func (st *servedStream) isLeft() bool {
	cause := context.Cause(st.call.ctx)
	return errors.Is(cause, errCallerLeft) || errors.Is(cause, errCallerDied)
}
