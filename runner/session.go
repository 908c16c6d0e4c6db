package runner

import (
	"context"
	"fmt"
	"slices"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner/internal/flow"
	"github.com/gophersnake/gophersnake/runner/internal/pool"
	"github.com/gophersnake/gophersnake/runner/internal/tracing"
)

// checkpointItems is the number of items after which a session takes a checkpoint of
// a node that can restore its state.
const checkpointItems = 16

// session is the part of a stateful Python node that belongs to one stream: a
// session of its pool, and the checkpoint and items from which that can be opened again.
//
// The state of a node without snapshot and restore is lost with its worker, and
// uncertain after a failure, so the stream ends. A node that has them is restored from
// its last checkpoint and called with the items since then again. Their values have
// been emitted already and are dropped, so no value is emitted twice.
type session struct {
	node     *node
	restores bool          // the state can be restored; as at the start of the stream
	open     *pool.Session // nil before the first item and after a failure
	alone    bool          // a worker has ended under this operation, so it runs alone in one

	checkpoint *ipc.Payload  // the state at the last checkpoint; nil for the initial one
	since      []flow.Inputs // the items since then
	bytes      int64         // of their payloads

	taken, emitted int // items and values
}

// Open returns the session of one stream. The session of the pool is opened when the
// first item arrives.
func (n *node) Open(state []byte) flow.Session {
	// A replay calls the node a second time for the same items.
	restores := n.description.Load().Restores && n.entry.settings.Load().idempotent
	s := &session{node: n, restores: restores}
	if state != nil {
		s.checkpoint = &ipc.Payload{Body: state}
	}
	return s
}

// Item calls the node with an item and emits the values that it yields.
func (s *session) Item(ctx context.Context, in flow.Inputs, emit flow.Emit) error {
	if len(s.since) >= checkpointItems {
		if err := s.takeCheckpoint(ctx); err != nil {
			in.Release()
			return err
		}
	}
	started := s.node.noteStarted()
	callCtx, c := s.node.begin(ctx, "call", &in)
	values := replay{emit: emit}
	err := s.attempt(callCtx, c, ipc.StageCall, func(ctx context.Context, attempt int) error {
		s.open.ReportTo(c.Report())
		return s.open.Call(ctx, c.Args(s.node.args(&in).WithAttempt(attempt)), values.attempt())
	})
	c.EndMany(values.emitted, err)
	s.node.noteFinished(started, err)
	s.emitted += values.emitted
	if err != nil {
		in.Release()
		return s.withLoss(err)
	}
	s.taken++
	if err := s.keep(ctx, in); err != nil || !s.alone {
		return err
	}
	if s.alone = s.open != nil && s.open.InQuarantine(); s.alone {
		return s.takeCheckpoint(ctx) // it goes on in a worker that others may use
	}
	return nil
}

// Finish makes the node yield its last values.
func (s *session) Finish(ctx context.Context, emit flow.Emit) error {
	ctx, c := s.node.begin(ctx, "finish", &flow.Inputs{})
	values := replay{emit: emit}
	err := s.attempt(ctx, c, ipc.StageFinish, func(ctx context.Context, attempt int) error {
		s.open.ReportTo(c.Report())
		return s.open.Finish(ctx, c.Args(ipc.Args{}.WithAttempt(attempt)), values.attempt())
	})
	c.EndMany(values.emitted, err)
	s.emitted += values.emitted
	return s.withLoss(err)
}

// keep keeps an item until the next checkpoint if it may be needed again, and
// releases it otherwise.
func (s *session) keep(ctx context.Context, in flow.Inputs) error {
	if !s.restores {
		in.Release()
		return nil
	}
	in.Rest = slices.Clone(in.Rest) // the stage uses its array for the next item
	s.since = append(s.since, in)
	s.bytes += in.Size()
	if s.bytes <= s.node.replayBytes {
		return nil
	}
	return s.takeCheckpoint(ctx) // the items hold memory that other nodes may wait for
}

// takeCheckpoint saves the state of the node and releases the items before.
func (s *session) takeCheckpoint(ctx context.Context) error {
	var state ipc.Payload
	ctx, c := s.node.watch.BeginStage(ctx, ipc.StageSnapshot)
	err := s.attempt(ctx, c, ipc.StageSnapshot, func(ctx context.Context, _ int) (err error) {
		s.open.ReportTo(c.Report())
		state, err = s.open.Snapshot(ctx)
		return err
	})
	c.End(state.Size(), err)
	if err != nil {
		return err
	}
	s.releaseKept()
	s.checkpoint = &state
	if s.open.InQuarantine() {
		s.leave()
	}
	s.alone = false
	return nil
}

// Save returns a copy of the state after the last item, for a session of another runner.
func (s *session) Save(ctx context.Context) ([]byte, error) {
	if len(s.since) > 0 {
		if err := s.takeCheckpoint(ctx); err != nil {
			return nil, err
		}
	}
	if s.checkpoint == nil {
		return nil, nil
	}
	state, err := s.checkpoint.Inline("snapshot", ipc.DefaultLimits())
	if err != nil {
		return nil, classify(err).WithNode(s.node.id).WithOperation(ipc.StageSnapshot)
	}
	return slices.Clone(state), nil
}

// releaseKept releases the checkpoint and the items since then.
func (s *session) releaseKept() {
	if s.checkpoint != nil {
		s.checkpoint.Release()
	}
	for i := range s.since {
		s.since[i].Release()
	}
	s.checkpoint, s.since, s.bytes = nil, nil, 0
}

// attempt runs an operation in the session, which it opens if needed. If the state can
// be restored, it retries the opening and the operation under the policy of the node.
// Otherwise it retries only the opening. The stage is that of the operation; an error names it.
// The call watches the operation, and may be nil.
func (s *session) attempt(ctx context.Context, c *tracing.Call, stage string, do operation) error {
	inSession := func(ctx context.Context, attempt int) error {
		if err := s.try(ctx, attempt, stage, do); err != nil {
			return s.node.fault(err)
		}
		return nil
	}
	if s.restores {
		return s.node.entry.execute(ctx, c, inSession)
	}
	if s.open == nil { // no state can be lost yet
		open := func(ctx context.Context, _ int) error {
			if err := s.ensureOpen(ctx); err != nil {
				return s.node.fault(err)
			}
			return nil
		}
		if err := s.node.entry.execute(ctx, nil, open); err != nil {
			return err
		}
	}
	return s.node.entry.executeOnce(ctx, c, inSession)
}

// maxMoves bounds how often an operation moves on to another worker because the session's
// worker ended without it.
const maxMoves = 16

// try makes one attempt of an operation. If the state can be restored, the end of a worker
// that did not run the operation, or also ran others, costs the policy nothing: the session
// moves to another worker, or to one in which it is alone; see package pool.
func (s *session) try(ctx context.Context, attempt int, stage string, do operation) error {
	for moves := 0; ; moves++ {
		fate, err := s.tryOnce(ctx, attempt, stage, do)
		suspect := fate == pool.FateTogether && !s.alone
		s.alone = s.alone || fate.EndedWorker()
		again := suspect || fate == pool.FateInnocent && moves < maxMoves
		if err == nil || !s.restores || !again {
			return err
		}
		if suspect {
			s.node.pool.NoteSuspect()
		}
	}
}

// tryOnce runs an operation in the session, which it opens if needed and leaves after a
// failure: the state is uncertain then.
func (s *session) tryOnce(ctx context.Context, attempt int, stage string, do operation) (pool.Fate, error) {
	err := s.ensureOpen(ctx)
	if err == nil {
		if err = do(ctx, attempt); err != nil {
			err = &stageError{stage, err}
		}
	}
	fate := pool.FateOther
	switch {
	case err == nil:
		return fate, nil
	case s.open == nil:
		fate = pool.FateOf(err)
	default:
		fate = s.open.Fate(err)
	}
	s.leave()
	return fate, err
}

// ensureOpen opens the session if it is not open, and replays the items since the
// last checkpoint.
func (s *session) ensureOpen(ctx context.Context) error {
	if s.open != nil {
		return nil
	}
	stage := ipc.StageBegin
	if s.checkpoint != nil {
		stage = ipc.StageRestore
	}
	ctx, c := s.node.watch.BeginStage(ctx, stage)
	err := s.reopen(ctx, stage, c.Report())
	if err == nil {
		c.EndOpen(len(s.since), nil)
		return nil
	}
	c.EndOpen(len(s.since), classify(err))
	return err
}

// reopen is ensureOpen for a session that is not open.
func (s *session) reopen(ctx context.Context, stage string, report *pool.Report) error {
	open, err := s.node.pool.Open(ctx, s.checkpoint, s.alone, report)
	if err != nil {
		return &stageError{stage, err}
	}
	s.open = open
	drop := func(payload ipc.Payload) error {
		payload.Release()
		return nil
	}
	for i := range s.since {
		if err := open.Call(ctx, s.node.args(&s.since[i]), drop); err != nil {
			return err
		}
	}
	return nil
}

// stageError is the error of an operation of a session. What would be the failure of a call,
// such as the death of the worker, is that of the operation.
type stageError struct {
	stage string
	err   error
}

func (e *stageError) Error() string { return e.err.Error() }
func (e *stageError) Unwrap() error { return e.err }

// classify returns the error with the stage as its operation, unless it has another one.
func (e *stageError) classify() *Error {
	inner := classify(e.err)
	if e.stage == ipc.StageCall || inner.Operation != ipc.StageCall && inner.Operation != "" {
		return inner
	}
	return inner.with(func(inner *Error) { inner.Operation = e.stage })
}

// withLoss adds to the error of a dead worker that the state is lost with it, unless
// it can be restored.
func (s *session) withLoss(err error) error {
	if err == nil || s.restores || s.taken+s.emitted == 0 || KindOf(err) != KindPythonVM && KindOf(err) != KindTransport {
		return err
	}
	return AsError(err).with(func(e *Error) {
		e.Message += fmt.Sprintf("; the state of the stream is lost with it: %d items had gone in, %d come out", s.taken, s.emitted)
	}).WithHint("a node that has snapshot() and restore() goes on elsewhere")
}

// leave closes the session of the pool; the next attempt opens another one.
func (s *session) leave() {
	if s.open != nil {
		s.open.Close()
		s.open = nil
	}
}

// Close ends the session of the pool and releases the checkpoint and the items.
func (s *session) Close() {
	s.leave()
	s.releaseKept()
}

// replay emits the values that a node yields for one item, each of them once,
// however many attempts that takes.
type replay struct {
	emit    flow.Emit
	emitted int
}

// attempt returns the function that emits the values of the next attempt. It drops as
// many of them as earlier attempts have emitted.
func (r *replay) attempt() func(ipc.Payload) error {
	seen := 0
	return func(payload ipc.Payload) error {
		seen++
		if seen <= r.emitted {
			payload.Release()
			return nil
		}
		r.emitted++
		return r.emit(payload)
	}
}

// Checkpoint is the state of a stream between two items, from which a stream of another
// runner of the same pipeline can continue; see [Stream.Checkpoint].
type Checkpoint struct {
	// States are those of the stateful nodes, by their ids, as msgpack. A node that is not in
	// the map has its initial state.
	States map[string][]byte
	// Emitted is how many values each sink has returned for the items before, by its id.
	// Values that were not received are among them.
	Emitted map[string]int
}

// WithCheckpoint makes a stream begin with the states of a checkpoint in place of the initial
// ones. Its first item is the one after the checkpoint.
func WithCheckpoint(c Checkpoint) StreamOption {
	return func(o *streamOptions) error {
		o.states = c.States
		return nil
	}
}

// Resumes reports whether the streams of a started runner can be continued from a
// [Checkpoint]: all nodes are idempotent, those that keep a state can snapshot and restore it,
// none merges its inputs, and none joins the values of nodes that may yield any number of them.
func (r *Runner) Resumes() bool {
	for _, n := range r.order {
		d := n.description.Load()
		if !n.entry.settings.Load().idempotent || d != nil && d.Stateful && !d.Restores {
			return false
		}
	}
	return r.plan.Checkpoints()
}

// Checkpoint saves the state of the stream after the items that were sent so far. It waits
// until the nodes have finished with them, so their values must be received meanwhile. It is
// meant for the goroutine that sends: the stream takes no item before it returns.
//
// The error is of kind [KindOther] if the pipeline has no checkpoints; see [Runner.Resumes]. If
// the stream has failed, it is the failure.
func (s *Stream) Checkpoint() (Checkpoint, error) {
	if !s.runner.Resumes() {
		return Checkpoint{}, NewError(KindOther, "a stream of this pipeline has no checkpoints").
			WithHint("all nodes must be idempotent, and those that keep a state need snapshot() and restore()")
	}
	c, err := s.flow.Checkpoint()
	if err != nil {
		return Checkpoint{}, flowError(err)
	}
	return Checkpoint(c), nil
}
