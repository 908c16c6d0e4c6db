package worker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gophersnake/gophersnake/ipc"
)

// Call hands the arguments to the node and returns its encoded result. When
// Call returns, the node is at rest or the worker has ended: a call that passes
// its deadline or ignores its cancellation takes the interpreter with it. Only a
// call that is cancelled behind others, or in a batch, is left to the worker, which
// will skip it.
//
// Its error is a *[ipc.RemoteError] where the node failed and the worker lives
// on, a *[LimitError] where its result is larger than it may be, a *[ipc.ValueError]
// where a value cannot be carried otherwise, a *[DeadlineError]
// where only the call had to be ended, a *[Exit] where the interpreter ended, an
// *[UnbegunError] where it ended before it came to this call, a *[BrokenError]
// where the connection broke, and a *[CanceledError] where the context ended first.
func (w *Worker) Call(ctx context.Context, args ipc.Args) (ipc.Payload, error) {
	return w.one(ctx, ipc.FrameCall, 0, args)
}

// Items is Call for a node that gives many values: it hands each to emit, which
// owes it a release and may block, which holds the worker up. Where emit fails, the
// call is cancelled, and its error is Items'.
func (w *Worker) Items(ctx context.Context, args ipc.Args, emit func(ipc.Payload) error) error {
	return w.many(ctx, ipc.FrameCall, 0, args, emit)
}

// Open begins a session of a stateful node, from the state that another one gave
// by Snapshot, or from its beginning. The caller chooses its number, which is not 0.
func (w *Worker) Open(ctx context.Context, session uint32, state *ipc.Payload) error {
	var args ipc.Args
	if state != nil {
		args = ipc.OneArg(*state)
	}
	result, err := w.one(ctx, ipc.FrameOpen, session, args)
	result.Release()
	return err
}

// CallIn is Items in a session.
func (w *Worker) CallIn(ctx context.Context, session uint32, args ipc.Args, emit func(ipc.Payload) error) error {
	return w.many(ctx, ipc.FrameCall, session, args, emit)
}

// Snapshot returns the state of a session.
func (w *Worker) Snapshot(ctx context.Context, session uint32) (ipc.Payload, error) {
	return w.one(ctx, ipc.FrameSnapshot, session, ipc.Args{})
}

// Finish says that a session has no more input, and hands on what the node still
// gives. The session is over then, whether that fails or not.
func (w *Worker) Finish(ctx context.Context, session uint32, emit func(ipc.Payload) error) error {
	return w.many(ctx, ipc.FrameFinish, session, ipc.Args{}, emit)
}

// Drop ends a session without a word of its node.
func (w *Worker) Drop(session uint32) { _ = w.conn.Drop(session) } // with the connection, it has ended too

func (w *Worker) one(ctx context.Context, kind ipc.FrameType, session uint32, args ipc.Args) (ipc.Payload, error) {
	if ctx.Err() != nil {
		return ipc.Payload{}, &CanceledError{Cause: context.Cause(ctx)}
	}
	call := w.conn.NewCall(kind, session)
	g := w.guard(ctx, call)
	result, err := call.Do(args)
	overdue, alone := g.release()
	if err == nil {
		err = w.check(kind, result)
	}
	if err != nil {
		result.Release()
		return ipc.Payload{}, w.callError(ctx, call, overdue, err)
	}
	if alone {
		call.Free()
	}
	return result.Checked(), nil
}

func (w *Worker) many(ctx context.Context, kind ipc.FrameType, session uint32, args ipc.Args, emit func(ipc.Payload) error) error {
	if ctx.Err() != nil {
		return &CanceledError{Cause: context.Cause(ctx)}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	call := w.conn.NewCall(kind, session)
	g := w.guard(ctx, call)
	var failed error // of a value, or of emit
	arrived := false
	err := call.Items(args, func(item ipc.Payload) {
		arrived = true
		if failed == nil {
			failed = w.check(kind, item)
		}
		if failed != nil {
			item.Release()
			return
		}
		g.pause() // the node waits for the caller now
		failed = emit(item.Checked())
		g.resume()
		if failed != nil {
			cancel(failed)
		}
	})
	overdue, _ := g.release()
	if err != nil {
		err = w.callError(ctx, call, overdue, err)
	}
	switch unbegun, ok := err.(*UnbegunError); {
	case failed != nil:
		return failed
	case ok && arrived: // whatever the worker counted
		return unbegun.Exit
	}
	return err
}

// check looks at a value that the worker sent. A state of a session is nobody's
// result.
func (w *Worker) check(kind ipc.FrameType, value ipc.Payload) error {
	if most := w.config.Limits.Result; most > 0 && kind != ipc.FrameSnapshot && int64(value.Size()) > most {
		return w.oversize(int64(value.Size()), &ipc.ValueError{
			Path:   "result",
			Reason: fmt.Sprintf("it takes %d bytes, more than the %d that limits.result allows", value.Size(), most),
		})
	}
	return value.Check("result", w.config.Setup.Limits.Limits)
}

func (w *Worker) oversize(size int64, cause error) *LimitError {
	return &LimitError{Breach: Breach{LimitResult, inBytes(size), inBytes(w.config.Limits.Result)}, Cause: cause}
}

// callError says what a failed call means for the worker, and does not return
// before a worker that is ending has ended.
func (w *Worker) callError(ctx context.Context, call *ipc.Call, overdue bool, err error) error {
	var remote *ipc.RemoteError
	switch {
	case errors.As(err, &remote) && !remote.Fatal:
		return w.remoteError(ctx, overdue, remote)
	case err == ipc.ErrAbandoned:
		return &CanceledError{Cause: context.Cause(ctx)}
	case remote == nil && !errors.Is(err, ipc.ErrClosed):
		return err // a *ipc.ValueError
	}
	w.process.endUnlessDying(ReasonBroken)
	<-w.done
	switch {
	case w.exit.Reason == ReasonCancel && ctx.Err() != nil, w.exit.Reason == ReasonSelf && ctx.Err() != nil:
		// A node that does not handle the signal of a cancellation dies of it.
		return &CanceledError{Cause: context.Cause(ctx), Exit: w.exit}
	case !w.begun(call):
		return &UnbegunError{Exit: w.exit}
	case w.exit.Reason == ReasonBroken:
		if found := w.exit.outOfProtocol(); found != "" {
			err = fmt.Errorf("%w, which found: %s", err, found)
		}
		return &BrokenError{Cause: err, Exit: w.exit}
	}
	return w.exit
}

func (w *Worker) remoteError(ctx context.Context, overdue bool, remote *ipc.RemoteError) error {
	if remote.Oversize > 0 {
		return w.oversize(remote.Oversize, remote)
	}
	if remote.Kind != ipc.FailureCanceled {
		return remote
	}
	own := *remote
	switch {
	case ctx.Err() != nil:
		own.Frames = w.withoutOwn(remote.Frames)
		return &CanceledError{Cause: context.Cause(ctx), Where: &own}
	case overdue:
		own.Frames = w.withoutOwn(remote.Frames)
		return &DeadlineError{Limit: w.config.Timeout, PID: w.PID(), Where: &own}
	}
	// The node raised Cancelled, though nobody had cancelled it.
	own.Kind = ipc.FailureExecution
	return &own
}

// begun reports whether a worker that has ended may have begun a call.
func (w *Worker) begun(call *ipc.Call) bool {
	order := call.Order()
	return order != 0 && (!w.exit.Counted || order <= w.exit.Begun)
}

// inOrder reports whether the worker takes its calls one after the other.
func (w *Worker) inOrder() bool { return w.description.Concurrency <= 1 }

// owed is the time that a call still has whose deadline, counted from when it was
// sent, has passed: it counts from when the worker came to it. Behind others that
// wait, it is theirs that matters; nobody watches over those that were given up.
func (w *Worker) owed(call *ipc.Call) time.Duration {
	if !w.inOrder() {
		return 0
	}
	if call.HasEarlierPending() {
		return w.config.Timeout
	}
	return w.config.Timeout - w.conn.SinceAnswer()
}
