package worker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner/internal/progress"
)

// Op is the operation that a call requests.
type Op struct {
	// Kind is [ipc.FrameCall] for a call of the node, [ipc.FrameOpen],
	// [ipc.FrameSnapshot] or [ipc.FrameFinish] for an operation of a session.
	Kind ipc.FrameType
	// Session is the number of the session, 0 for a call outside of sessions. In a fused chain it
	// is that of the member to call, counted from 1; 0 for all of them.
	Session uint32
}

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
//   - a *[BrokenError] if the connection broke,
//   - a *[SuspectError] that wraps one of these two if other calls were under way.
func (w *Worker) Call(ctx context.Context, op Op, args ipc.Args) (ipc.Payload, error) {
	if ctx.Err() != nil {
		return ipc.Payload{}, &CanceledError{Cause: context.Cause(ctx)}
	}
	call := w.conn.NewCall(op.Kind, op.Session)
	call.Deadline, _ = ctx.Deadline()
	call.OnProgress = progress.Hook(ctx, &w.config.Setup)
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
	call := w.conn.NewCall(op.Kind, op.Session)
	call.Deadline, _ = ctx.Deadline()
	call.OnProgress = progress.Hook(ctx, &w.config.Setup)
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
// [ipc.FrameSnapshot] returned, or from the node's initial state if that is nil. Its
// errors are those of [Worker.Call].
func (w *Worker) Open(ctx context.Context, session uint32, state *ipc.Payload) error {
	var args ipc.Args
	if state != nil {
		args = ipc.OneArg(*state)
	}
	result, err := w.Call(ctx, Op{ipc.FrameOpen, session}, args)
	result.Release()
	return err
}

// Drop ends a session without calling the node's finish.
func (w *Worker) Drop(session uint32) {
	_ = w.conn.Drop(session) // if the connection has failed, the session has ended with it
}

// check validates a value that the worker sent. A session's state is not a result,
// so Limits.Result does not apply to it.
func (w *Worker) check(kind ipc.FrameType, value ipc.Payload) error {
	if limit := w.config.Limits.Result; limit > 0 && kind != ipc.FrameSnapshot && int64(value.Size()) > limit {
		return w.oversizeError(int64(value.Size()), &ipc.ValueError{
			Path:   "result",
			Reason: fmt.Sprintf("it takes %d bytes, more than the %d that limits.result allows", value.Size(), limit),
		})
	}
	root := "result"
	if kind == ipc.FrameSnapshot {
		root = ipc.StageSnapshot
	}
	return value.Check(root, w.config.Setup.Limits.Limits)
}

func (w *Worker) oversizeError(size int64, cause error) *LimitError {
	return &LimitError{Breach: Breach{LimitResult, formatBytes(size), formatBytes(w.config.Limits.Result)}, Cause: cause}
}

// watchAfter is how long a call runs before its guard is armed.
const watchAfter = 2 * time.Millisecond

// watchdog counts the calls of a worker and arms the guards of those that run for
// longer than watchAfter. Most calls return before that. For these a guard costs no
// more than its place in a list, and one timer serves all of them.
type watchdog struct {
	mu             sync.Mutex // guards the fields below
	oldest, newest *callGuard // the list of guards that are not armed, in the order of their calls
	begun, ended   uint64     // how many calls have begun, and ended
	timer          *time.Timer
	isTimed        bool // the timer is set, or its function runs
}

// begin registers a call and returns its guard. Every guard must be passed to
// finish.
func (d *watchdog) begin(ctx context.Context, w *Worker, call *ipc.Call) *callGuard {
	g := guardPool.Get().(*callGuard)
	g.worker, g.call, g.ctx, g.begun = w, call, ctx, w.age()
	g.deadlineFrom = g.begun
	call.OnCancelSent = g.onCancelSent
	d.mu.Lock()
	defer d.mu.Unlock()
	d.begun++
	g.listed, g.older = true, d.newest
	if g.older != nil {
		g.older.newer = g
	} else {
		d.oldest = g
	}
	d.newest = g
	switch {
	case d.isTimed:
	case d.timer == nil:
		d.timer = time.AfterFunc(watchAfter, d.armDue)
	default:
		d.timer.Reset(watchAfter)
	}
	d.isTimed = true
	return g
}

// finish ends the guard of a call that has returned. It reports whether the call
// was canceled for passing its deadline, and whether the caller has the call
// exclusively: functions of a guard that was armed may still hold it.
func (d *watchdog) finish(g *callGuard) (overdue, exclusive bool) {
	d.mu.Lock()
	d.ended++
	exclusive = g.listed
	if exclusive {
		d.unlistLocked(g)
	}
	d.mu.Unlock()
	if !exclusive {
		return g.settle(), false
	}
	g.worker, g.call, g.ctx, g.paused = nil, nil, nil, false
	guardPool.Put(g)
	return false, true
}

// counts returns how many calls have begun, and ended.
func (d *watchdog) counts() (begun, ended uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.begun, d.ended
}

// armDue arms all guards that are due. The timer calls it.
func (d *watchdog) armDue() {
	for g := d.takeDue(); g != nil; g = d.takeDue() {
		g.arm()
	}
}

// takeDue takes a guard that is due off the list. If there is none, it sets the
// timer for the oldest one.
func (d *watchdog) takeDue() *callGuard {
	d.mu.Lock()
	defer d.mu.Unlock()
	g := d.oldest
	if g == nil {
		d.isTimed = false
		return nil
	}
	if left := watchAfter - (g.worker.age() - g.begun); left > 0 {
		d.timer.Reset(left)
		return nil
	}
	d.unlistLocked(g)
	return g
}

func (d *watchdog) unlistLocked(g *callGuard) {
	if g.older != nil {
		g.older.newer = g.newer
	} else {
		d.oldest = g.newer
	}
	if g.newer != nil {
		g.newer.older = g.older
	} else {
		d.newest = g.older
	}
	g.listed, g.older, g.newer = false, nil, nil
}
