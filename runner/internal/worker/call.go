package worker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gophersnake/gophersnake/ipc"
)

// Op is the operation that a call requests.
type Op struct {
	// Kind is [ipc.TypeCall] for a call of the node, [ipc.TypeOpen],
	// [ipc.TypeSnapshot] or [ipc.TypeFinish] for an operation of a session.
	Kind ipc.Type
	// Session is the number of the session, 0 for a call outside of sessions.
	Session uint32
}

// BrokenError says that the connection to a worker broke although its process
// lived; the process has been ended.
type BrokenError struct {
	Cause error
	Exit  *Exit
}

func (e *BrokenError) Error() string { return fmt.Sprintf("the connection broke: %v", e.Cause) }

// Unwrap returns the cause.
func (e *BrokenError) Unwrap() error { return e.Cause }

// CanceledError says that the caller's context ended before the call did.
type CanceledError struct {
	// Cause is the context's cause.
	Cause error
	// Remote is the node's answer to the cancellation; its frames are those of
	// the node when it was canceled. It is nil if the call had not begun, or if the node did not stop
	// by itself.
	Remote *ipc.RemoteError
	// Exit is set if the interpreter ended, most often because the node ignored the
	// cancellation.
	Exit *Exit
}

func (e *CanceledError) Error() string {
	switch {
	case e.Exit != nil:
		return fmt.Sprintf("%v; %v", e.Cause, e.Exit)
	case e.Remote != nil:
		return e.Cause.Error() + location(e.Remote.Frames)
	}
	return e.Cause.Error()
}

// Unwrap returns the context's cause.
func (e *CanceledError) Unwrap() error { return e.Cause }

// DeadlineError says that a call passed its deadline and was canceled. The worker
// lives on, with the other calls that it has under way.
type DeadlineError struct {
	Limit time.Duration
	PID   int
	// Remote is the node's answer to the cancellation; its frames are those of
	// the node when it was canceled.
	Remote *ipc.RemoteError
}

func (e *DeadlineError) Error() string {
	return fmt.Sprintf("no answer within %s; the call was canceled%s", e.Limit, location(e.Remote.Frames))
}

// UnbegunError says that a worker ended before it began a call that it had been
// sent. The call can be repeated safely, whatever the node does.
type UnbegunError struct{ Exit *Exit }

func (e *UnbegunError) Error() string {
	return fmt.Sprintf("the worker ended before it began the call: %v", e.Exit)
}

// Unwrap returns the exit.
func (e *UnbegunError) Unwrap() error { return e.Exit }

// Call sends a call to the worker and waits for its encoded result, which the
// caller must release. When Call returns, the node is idle or the worker has ended:
// Call ends the interpreter if the call passes its deadline or ignores its
// cancellation. The exceptions are calls that are canceled in a batch or behind
// others: Call abandons them, and the worker skips them.
//
// Its error is
//   - a *[ipc.RemoteError] if the node failed and the worker lives on,
//   - a *[LimitError] if the result is larger than Limits.Result,
//   - a *[ipc.ValueError] if a value cannot be carried for another reason,
//   - a *[DeadlineError] if the call passed its deadline and the worker lives on,
//   - a *[CanceledError] if the context ended first,
//   - a *[Exit] if the interpreter ended, an *[UnbegunError] if it ended before it
//     began this call,
//   - a *[BrokenError] if the connection broke.
func (w *Worker) Call(ctx context.Context, op Op, args ipc.Args) (ipc.Payload, error) {
	if ctx.Err() != nil {
		return ipc.Payload{}, &CanceledError{Cause: context.Cause(ctx)}
	}
	call := w.conn.NewSessionCall(op.Kind, op.Session)
	g := w.watchdog.begin(ctx, w, call)
	result, err := call.Do(args)
	overdue, exclusive := w.watchdog.finish(g)
	if err == nil {
		err = w.check(op.Kind, result)
	}
	if err != nil {
		result.Release()
		return ipc.Payload{}, w.callError(ctx, call, overdue, err)
	}
	if exclusive {
		call.Free()
	}
	return result.Checked(), nil
}

// Items is Call for a node that yields any number of values. It passes each of them
// to emit, which must release it. While emit blocks, the worker waits and the
// deadline does not count. If emit fails, Items cancels the call and returns emit's
// error.
func (w *Worker) Items(ctx context.Context, op Op, args ipc.Args, emit func(ipc.Payload) error) error {
	if ctx.Err() != nil {
		return &CanceledError{Cause: context.Cause(ctx)}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	call := w.conn.NewSessionCall(op.Kind, op.Session)
	g := w.watchdog.begin(ctx, w, call)
	var failed error // of an item's check, or of emit
	arrived := false
	err := call.Items(args, func(item ipc.Payload) {
		arrived = true
		if failed == nil {
			failed = w.check(op.Kind, item)
		}
		if failed != nil {
			item.Release()
			return
		}
		g.pause()
		failed = emit(item.Checked())
		g.resume()
		if failed != nil {
			cancel(failed)
		}
	})
	overdue, _ := w.watchdog.finish(g)
	if err != nil {
		err = w.callError(ctx, call, overdue, err)
	}
	if failed != nil {
		return failed
	}
	if unbegun, ok := errors.AsType[*UnbegunError](err); ok && arrived {
		return unbegun.Exit // the item proves that the call was begun
	}
	return err
}

// Open begins a session of a stateful node under a number that the caller chooses,
// which is not 0. The session starts from the given state, which an operation
// [ipc.TypeSnapshot] returned, or from the node's initial state if that is nil. Its
// errors are those of [Worker.Call].
func (w *Worker) Open(ctx context.Context, session uint32, state *ipc.Payload) error {
	var args ipc.Args
	if state != nil {
		args = ipc.One(*state)
	}
	result, err := w.Call(ctx, Op{ipc.TypeOpen, session}, args)
	result.Release()
	return err
}

// Drop ends a session without giving its node a chance to finish.
func (w *Worker) Drop(session uint32) {
	_ = w.conn.Drop(session) // if the connection has failed, the session has ended with it
}

// check validates a value that the worker sent. A session's state is not a result,
// so Limits.Result does not apply to it.
func (w *Worker) check(kind ipc.Type, value ipc.Payload) error {
	if limit := w.config.Limits.Result; limit > 0 && kind != ipc.TypeSnapshot && int64(value.Size()) > limit {
		return w.oversizeError(int64(value.Size()), &ipc.ValueError{
			Path:   "result",
			Reason: fmt.Sprintf("it takes %d bytes, more than the %d that limits.result allows", value.Size(), limit),
		})
	}
	return value.Check("result", w.config.Setup.Limits.Limits)
}

func (w *Worker) oversizeError(size int64, cause error) *LimitError {
	return &LimitError{Breach: Breach{LimitResult, formatBytes(size), formatBytes(w.config.Limits.Result)}, Cause: cause}
}

// callError converts the error of a failed call into one of those that Call documents.
// If the worker is ending, callError returns once it has ended.
func (w *Worker) callError(ctx context.Context, call *ipc.Call, overdue bool, err error) error {
	remote, isRemote := errors.AsType[*ipc.RemoteError](err)
	switch {
	case isRemote && !remote.Fatal:
		return w.remoteError(ctx, overdue, remote)
	case errors.Is(err, ipc.ErrAbandoned):
		return &CanceledError{Cause: context.Cause(ctx)}
	case !isRemote && !errors.Is(err, ipc.ErrClosed):
		return err // a *ipc.ValueError or *LimitError
	}
	w.process.waitOrEnd(ReasonBroken)
	<-w.done
	reason := w.exit.Reason
	switch {
	case ctx.Err() != nil && (reason == ReasonCancel || reason == ReasonSelf):
		// ReasonSelf: a node that resets the handler of the cancellation's signal dies of it.
		return &CanceledError{Cause: context.Cause(ctx), Exit: w.exit}
	case !w.mayHaveBegun(call):
		return &UnbegunError{Exit: w.exit}
	case reason == ReasonBroken:
		if found := w.exit.protocolError(); found != "" {
			err = fmt.Errorf("%w, which found: %s", err, found)
		}
		return &BrokenError{Cause: err, Exit: w.exit}
	}
	return w.exit
}

// remoteError converts an error that the node raised into one of those that Call
// documents.
func (w *Worker) remoteError(ctx context.Context, overdue bool, remote *ipc.RemoteError) error {
	if remote.Oversize > 0 {
		return w.oversizeError(remote.Oversize, remote)
	}
	if remote.Kind != ipc.FailureCanceled {
		return remote
	}
	own := *remote
	switch {
	case ctx.Err() != nil:
		own.Frames = w.trimWorkerFrames(remote.Frames)
		return &CanceledError{Cause: context.Cause(ctx), Remote: &own}
	case overdue:
		own.Frames = w.trimWorkerFrames(remote.Frames)
		return &DeadlineError{Limit: w.config.Timeout, PID: w.PID(), Remote: &own}
	}
	// The node raised this by itself: it was not canceled.
	own.Kind = ipc.FailureExecution
	return &own
}

// trimWorkerFrames removes the worker's own frames at the end of a traceback. A
// cancellation is raised by the worker's signal handler, which runs on top of the
// node's frames.
func (w *Worker) trimWorkerFrames(frames []ipc.TracebackFrame) []ipc.TracebackFrame {
	for len(frames) > 0 && inFolder(frames[len(frames)-1].File, w.config.Package) {
		frames = frames[:len(frames)-1]
	}
	return frames
}

// mayHaveBegun reports whether a worker that has ended may have begun a call.
func (w *Worker) mayHaveBegun(call *ipc.Call) bool {
	order := call.Order()
	return order != 0 && (!w.exit.Counted || order <= w.exit.Begun)
}
